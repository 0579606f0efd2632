/* The control thread with everything real: store, supervisor, processes. The replica is this test
 * program itself, called as `PROGRAM engine ... --uds PATH`, which is how control starts replicas.
 */
#include "core/control/control.h"

#include <stddef.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/object.h"

enum { WAIT_MS_MAX = 20000 };

/* The replica: answers every request with 200 until SIGTERM ends it. */
static int fake_engine(int argc, char **argv) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    for (int i = 1; i + 1 < argc; i++) {
        if (!strcmp(argv[i], "--uds"))
            snprintf(address.sun_path, sizeof(address.sun_path), "%s", argv[i + 1]);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 8))
        return 2;
    for (;;) {
        char request[1024];
        static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        int client = accept(fd, NULL, NULL);
        if (client >= 0 && read(client, request, sizeof(request)) > 0 &&
            write(client, answer, sizeof(answer) - 1) < 0)
            return 3;
        close(client);
    }
}

struct site {
    char dir[64];
    struct config config;
    struct store *store;
    struct podlog *podlog;
    struct traffic *traffic;
    struct control *control;
};

static void start_site(struct site *s) {
    struct error err = ERROR_INIT;
    AUTO_FREE char *db = mem_printf("%s/state.db", s->dir);
    AUTO_FREE char *logs = mem_printf("%s/logs", s->dir);
    struct store_options store = {.path = db};
    struct podlog_options podlog = {.dir = logs, .file_bytes_max = 1 << 20, .num_files_max = 2};
    mkdir(logs, 0700);
    if (store_open(&store, &s->store, &err) || podlog_create(&podlog, &s->podlog, &err))
        fail_msg("%s", err.text);
    s->traffic = traffic_create();
    struct control_options control = {.store = s->store,
                                      .podlog = s->podlog,
                                      .traffic = s->traffic,
                                      .config = &s->config,
                                      .gateway_url = "http://127.0.0.1:8080",
                                      .kube_address = "127.0.0.1:6443",
                                      .ca_pem = ""};
    if (control_start(&control, &s->control, &err))
        fail_msg("%s", err.text);
}

static void stop_site(struct site *s) {
    control_stop(steal(s->control));
    podlog_destroy(steal(s->podlog));
    traffic_destroy(steal(s->traffic));
    store_close(steal(s->store));
}

static int setup(void **state) {
    struct site *s = mem_alloc(sizeof(*s));
    struct error err = ERROR_INIT;
    snprintf(s->dir, sizeof(s->dir), "/tmp/inferd-thread-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    if (config_load(NULL, &s->config, &err))
        fail_msg("%s", err.text);
    free(s->config.data_dir);
    s->config.data_dir = mem_strdup(s->dir);
    log_set_level(LOG_LEVEL_ERROR);
    start_site(s);
    *state = s;
    return 0;
}

static int teardown(void **state) {
    struct site *s = *state;
    stop_site(s);
    config_deinit(&s->config);
    AUTO_FREE char *command = mem_printf("rm -rf '%s'", s->dir);
    int rc = system(command);
    free(s);
    return rc;
}

static void wake(void *user) {
    uint64_t one = 1;
    ssize_t n = write(*(int *)user, &one, sizeof(one));
    assert_int_equal(n, sizeof(one));
}

/* Waits until some object under prefix satisfies the condition; gives a copy of it. */
static json_t *wait_for(struct site *s, const char *prefix, bool (*holds)(const json_t *o)) {
    struct error err = ERROR_INIT;
    struct store_watch *w = NULL;
    struct store_event e;
    int64_t progress, end = clock_mono_ms() + WAIT_MS_MAX;
    enum errc rc;
    json_t *found = NULL;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_int_equal(store_watch_open(s->store, prefix, 1, wake, &fd, &w, &err), OK);
    while (!found && clock_mono_ms() < end) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        uint64_t count;
        while (store_watch_next(w, &e, &progress, &rc)) {}
        AUTO_STORE_LIST now = {0};
        store_list(s->store, prefix, &now);
        for (size_t i = 0; i < now.num_items && !found; i++) {
            if (holds(now.items[i]->json))
                found = json_deep_copy(now.items[i]->json);
        }
        if (!found && poll(&p, 1, 1000) > 0 && read(fd, &count, sizeof(count)) < 0)
            fail_msg("eventfd");
    }
    store_watch_close(w);
    close(fd);
    if (!found)
        fail_msg("nothing under %s became what it should within %d ms", prefix, WAIT_MS_MAX);
    return found;
}

static bool is_ready(const json_t *o) {
    const char *status = object_condition(o, "Ready");
    return status && !strcmp(status, "True");
}

static bool is_ready_again(const json_t *o) {
    return is_ready(o) && object_int(o, "status.containerStatuses.0.restartCount", 0) == 1;
}

/* Waits until the gateway would find a replica. */
static void wait_for_traffic(struct site *s) {
    int64_t end = clock_mono_ms() + WAIT_MS_MAX;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool found = false;
    traffic_on_change(s->traffic, wake, &fd);
    while (!found && clock_mono_ms() < end) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        uint64_t count;
        AUTO(traffic_table) t = traffic_current(s->traffic);
        found = t->num_services == 1 && traffic_num_ready(&t->services[0]) == 1;
        if (!found && poll(&p, 1, 1000) > 0 && read(fd, &count, sizeof(count)) < 0)
            fail_msg("eventfd");
    }
    traffic_off_change(s->traffic, &fd);
    close(fd);
    assert_true(found);
}

static void create_service(struct site *s) {
    struct error err = ERROR_INIT;
    json_t *o = json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:{s:{s:{s:s}, s:s}}}}", "apiVersion",
                          "serving.kserve.io/v1beta1", "kind", "InferenceService", "metadata",
                          "name", "demo", "namespace", "default", "spec", "predictor", "model",
                          "modelFormat", "name", "gguf", "storageUri", "embedded://demo-chat");
    object_stamp_new(o, true, clock_wall_ms());
    assert_int_equal(store_put(s->store, "serving.kserve.io/inferenceservices/default/demo", o,
                               STORE_EXPECT_ABSENT, NULL, &err),
                     OK);
}

/* The pid of the process whose pid file the supervisor keeps for this pod's container. */
static int pid_of(struct site *s, const json_t *pod) {
    AUTO_FREE char *path = mem_printf("%s/run/%s_%s.pid", s->dir, object_uid(pod),
                                      object_str(pod, "spec.containers.0.name"));
    FILE *f = fopen(path, "re");
    int pid = 0;
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%d", &pid), 1);
    fclose(f);
    return pid;
}

static void a_service_runs_and_survives_the_death_of_its_process(void **state) {
    struct site *s = *state;
    create_service(s);
    wait_for_traffic(s);
    json_decref(wait_for(s, "serving.kserve.io/inferenceservices/", is_ready));
    json_t *pod = wait_for(s, "core/pods/default/", is_ready);
    int pid = pid_of(s, pod);
    assert_int_equal(kill(pid, SIGKILL), 0);
    json_t *again = wait_for(s, "core/pods/default/", is_ready_again);
    assert_string_equal(object_uid(again), object_uid(pod));
    assert_int_equal(
        object_int(again, "status.containerStatuses.0.lastState.terminated.exitCode", 0), 137);
    int second = pid_of(s, again);
    assert_int_not_equal(second, pid);
    json_decref(again);
    json_decref(pod);

    /* The daemon ends its processes; the next one starts them again. */
    stop_site(s);
    assert_int_equal(kill(second, 0), -1);
    start_site(s);
    wait_for_traffic(s);
    again = wait_for(s, "core/pods/default/", is_ready_again); /* with the count it had */
    assert_int_equal(kill(pid_of(s, again), 0), 0);
    json_decref(again);
}

static void starting_and_stopping_an_empty_site_is_clean(void **state) {
    struct site *s = *state;
    for (int i = 0; i < 3; i++) {
        stop_site(s);
        start_site(s);
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "engine"))
        return fake_engine(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(starting_and_stopping_an_empty_site_is_clean, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_service_runs_and_survives_the_death_of_its_process, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
