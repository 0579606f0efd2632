/* The control thread. It sleeps in epoll on three things: the store (an eventfd that the store's
 * thread writes when something changed), the supervisor's processes, and the end. Timers are the
 * timeout of that sleep. */
#include "core/control/control.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/control/controllers.h"
#include "core/control/node.h"
#include "core/control/replica_figures.h"
#include "core/control/series_feed.h"
#include "core/control/world.h"
#include "core/node/device_reader.h"
#include "core/node/park.h"

enum { PATH_BYTES_MAX = 4096 };

struct control {
    struct controllers *controllers;
    struct park *park;
    struct supervisor *supervisor;
    struct device_reader *device_reader;
    struct models *models;
    struct figure_reader *figures; /* NULL likewise */
    struct series_feed *feed;      /* NULL: no metrics are kept */
    struct traffic *traffic;       /* borrowed; NULL: does not wake us yet */
    int epoll_fd;
    int wake_fd; /* the store changed, or the end has come */
    _Atomic bool stopping;
    int64_t drain_ms;
    pthread_t thread;
    bool thread_started;
    char *program, *run_dir, *models_dir, *node_name, *node_ip;
};

static void wake(void *user) {
    struct control *c = user;
    uint64_t one = 1;
    ssize_t n = write(c->wake_fd, &one, sizeof(one));
    ASSERT(n == sizeof(one) || errno == EAGAIN); /* EAGAIN: it is awake for long */
}

static void replica_changed(void *user, const char *uid) {
    struct control *c = user;
    controllers_replica_changed(c->controllers, uid);
}

static int64_t earlier(int64_t a, int64_t b) {
    return a < 0 ? b : b < 0 ? a : a < b ? a : b;
}

static void *control_thread(void *user) {
    struct control *c = user;
    pthread_setname_np(pthread_self(), "control");
    while (!atomic_load(&c->stopping)) {
        controllers_run(c->controllers, clock_wall_ms(), clock_mono_ms());
        int64_t wait = supervisor_poll(c->supervisor, clock_mono_ms()); /* may queue keys */
        wait = earlier(wait, controllers_wait_ms(c->controllers, clock_mono_ms()));
        struct epoll_event events[2];
        int n = epoll_wait(c->epoll_fd, events, 2, wait > INT_MAX ? INT_MAX : (int)wait);
        for (int i = 0; i < n; i++) {
            uint64_t count;
            if (events[i].data.fd == c->wake_fd && read(c->wake_fd, &count, sizeof(count)) < 0)
                log_debug("woken for nothing", "fd=%d", c->wake_fd);
        }
    }
    /* Here, not in control_stop(): the processes are this thread's children. */
    supervisor_destroy(steal(c->supervisor), c->drain_ms);
    return NULL;
}

static enum errc own_path(char **ret_path, struct error *err) {
    char path[PATH_BYTES_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (n < 0)
        return err_errno(err, "read /proc/self/exe");
    *ret_path = mem_strndup(path, (size_t)n);
    return OK;
}

static char *host_name(void) {
    char name[256];
    if (gethostname(name, sizeof(name)))
        return mem_strdup("localhost");
    name[sizeof(name) - 1] = '\0';
    for (char *p = name; *p; p++) /* a Kubernetes name is lower case */
        *p = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p == '_' ? '-' : *p;
    return mem_strdup(name);
}

static enum errc find_places(struct control *c, const struct config *config, struct error *err) {
    c->run_dir = mem_printf("%s/run", config->data_dir);
    c->models_dir = *config->models_dir ? mem_strdup(config->models_dir)
                                        : mem_printf("%s/models", config->data_dir);
    c->node_name = *config->node_name ? mem_strdup(config->node_name) : host_name();
    c->node_ip = node_find_ip();
    if (mkdir(c->run_dir, 0700) && errno != EEXIST)
        return err_errno(err, "make directory %s", c->run_dir);
    return own_path(&c->program, err);
}

static enum errc make_sleep(struct control *c, struct error *err) {
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (c->wake_fd < 0 || c->epoll_fd < 0)
        return err_errno(err, "make the control thread's epoll");
    return OK;
}

static enum errc watch_fd(struct control *c, int fd, struct error *err) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, fd, &event))
        return err_errno(err, "watch descriptor %d", fd);
    return OK;
}

static bool pod_is_there(void *user, const char *ns, const char *pod, const char *uid) {
    const struct control_options *opt = user;
    const struct kind_row *row = kind_row(KIND_POD);
    struct object_key key;
    struct error none = ERROR_INIT;
    AUTO(store_object) o = NULL;
    object_key(&key, row->group, row->resource, ns, pod);
    return !store_get(opt->store, key.text, &o, &none) && object_uid(o->json) &&
           !strcmp(object_uid(o->json), uid);
}

static enum errc open_models(struct control *c, const struct config *config, struct error *err) {
    AUTO_FREE char *dir = *config->model_store_dir ? mem_strdup(config->model_store_dir)
                                                   : mem_printf("%s/model-store", config->data_dir);
    const struct models_options opt = {.dir = dir,
                                       .bytes_max = (uint64_t)config->model_store_bytes_max,
                                       .on_change = wake,
                                       .user = c};
    return models_open(&opt, &c->models, err);
}

static void after_look(void *user, int64_t wall_ms) {
    struct control *c = user;
    figure_reader_update(c->figures, wall_ms);
}

static enum errc start(struct control *c, const struct control_options *opt, struct error *err) {
    const struct config *config = opt->config;
    const struct park_options park = {.budget_bytes = (uint64_t)config->parked_models_bytes_max,
                                      .metrics = opt->metrics};
    if (park_create(&park, &c->park, err))
        return err->code;
    struct supervisor_options sup = {.run_dir = c->run_dir,
                                     .homes_dir = config->host_pods_dir,
                                     .podlog = opt->podlog,
                                     .usage = opt->usage,
                                     .usage_interval_ms = config->metrics_interval_seconds * 1000,
                                     .running = opt->running,
                                     .park = c->park,
                                     .on_change = replica_changed,
                                     .user = c};
    if (opt->podlog)
        podlog_sweep(opt->podlog, pod_is_there, (void *)(uintptr_t)opt);
    const struct device_reader_options devices = {.fake_file = config->fake_devices,
                                                  .sharing_file = config->device_plugin_config};
    if (device_reader_open(&devices, &c->device_reader, err) ||
        supervisor_create(&sup, &c->supervisor, err) || open_models(c, config, err))
        return err->code;
    const struct series_feed_options feed = {.series = opt->series,
                                             .traffic = opt->traffic,
                                             .metrics = opt->metrics,
                                             .api_metrics = opt->api_metrics,
                                             .after_look = after_look,
                                             .user = c};
    c->figures = opt->series ? figure_reader_create(opt->series) : NULL;
    if (opt->series && series_feed_create(&feed, &c->feed, err))
        return err->code;
    struct world w = {
        .store = opt->store,
        .config = config,
        .podlog = opt->podlog,
        .traffic = opt->traffic,
        .metrics = opt->metrics,
        .decisions = opt->decisions,
        .figures = c->figures,
        .series = opt->series,
        .getter = c->feed ? series_feed_getter(c->feed) : NULL,
        .driver = supervisor_driver(c->supervisor),
        .usage = opt->usage,
        .models = models_driver(c->models),
        .device_reader = c->device_reader,
        .memory_need = opt->memory_need,
        .memory_gauge = opt->memory_gauge,
        .preview = opt->preview,
        .gateway_url = opt->gateway_url,
        .kube_address = opt->kube_address,
        .ca_pem = opt->ca_pem,
        .auth = opt->auth,
        .node_name = c->node_name,
        .node_ip = c->node_ip,
        .program = c->program,
        .run_dir = c->run_dir,
        .models_dir = c->models_dir,
        .hf_cache_dir = *config->hf_cache_dir ? config->hf_cache_dir : NULL,
        .wall_ms = clock_wall_ms(),
        .mono_ms = clock_mono_ms(),
    };
    if (controllers_create(&w, wake, c, &c->controllers, err) || watch_fd(c, c->wake_fd, err) ||
        watch_fd(c, supervisor_fd(c->supervisor), err))
        return err->code;
    traffic_on_ask(opt->traffic, wake, c);
    c->traffic = opt->traffic;
    if (c->feed && series_feed_start(c->feed, err))
        return err->code;
    if (pthread_create(&c->thread, NULL, control_thread, c))
        return err_set(err, ERR_INTERNAL, "start the control thread");
    c->thread_started = true;
    return OK;
}

enum errc control_start(const struct control_options *opt, struct control **ret_c,
                        struct error *err) {
    AUTO(control) c = mem_alloc(sizeof(*c));
    c->wake_fd = c->epoll_fd = -1;
    c->drain_ms = opt->config->drain_seconds * 1000;
    if (find_places(c, opt->config, err) || make_sleep(c, err) || start(c, opt, err))
        return err->code;
    *ret_c = steal(c);
    return OK;
}

void control_stop(struct control *c) {
    if (!c)
        return;
    if (c->thread_started) {
        atomic_store(&c->stopping, true);
        wake(c);
        pthread_join(c->thread, NULL);
    }
    if (c->traffic)
        traffic_on_ask(c->traffic, NULL, NULL);
    supervisor_destroy(c->supervisor, 0);
    series_feed_destroy(c->feed); /* answers what controllers asked, before they go */
    park_destroy(c->park);
    controllers_destroy(c->controllers);
    models_close(c->models);
    figure_reader_destroy(c->figures);
    device_reader_close(c->device_reader);
    if (c->wake_fd >= 0)
        close(c->wake_fd);
    if (c->epoll_fd >= 0)
        close(c->epoll_fd);
    free(c->program);
    free(c->run_dir);
    free(c->models_dir);
    free(c->node_name);
    free(c->node_ip);
    free(c);
}
