/* inferd: one program, several commands. This file alone sees every folder; it wires and decides
 * nothing. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/engine_command.h"
#include "api/gateway.h"
#include "core/auth.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/config.h"
#include "core/decision_log.h"
#include "core/control/admission.h"
#include "core/control/control.h"
#include "core/control/preview.h"
#include "core/http.h"
#include "core/model/model_command.h"
#include "core/node/usage.h"
#include "core/node/orphans.h"
#include "core/node/running.h"
#include "core/notify.h"
#include "core/seal.h"
#include "core/series/series.h"
#include "core/store.h"
#include "core/tls.h"
#include "kube-compat/audit.h"
#include "kube-compat/kube.h"
#include "engine/bench_command.h"
#include "engine/generate_command.h"
#include "engine/memory_need.h"
#include "engine/tokenize_command.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
};

/* ---- inferd serve ---- */

enum {
    KUBE_BODY_BYTES_MAX = 3 << 20, /* as the reference API server */
    DRAIN_POLL_MS = 20,
};

struct daemon {
    struct config config;
    struct auth *auth;
    struct tls *tls, *gateway_tls;
    struct seal *seal;
    struct store *store;
    struct podlog *podlog;
    struct usage *usage;
    struct decision_log *decisions; /* of the autoscalers */
    struct running_table *running;
    struct memory_gauge *memory_gauge;
    struct preview *preview; /* of dry runs */
    struct traffic *traffic;
    struct metrics *metrics; /* of gateway and control */
    struct series *series;   /* what they, the API server and replicas said lately */
    struct kube *kube;
    struct http_server *http;
    struct gateway *gateway;
    struct control *control;
    char *kube_url, *gateway_url;
    char *gateway_tls_url; /* NULL: no TLS there */
    int reaper_fd;         /* open as long as the daemon lives; -1: no reaper */
};

static enum errc make_dir(const char *path, mode_t mode, struct error *err) {
    return mkdir(path, mode) && errno != EEXIST ? err_errno(err, "make folder %s", path) : OK;
}

/* The data folder with its parents; nobody else looks into it. */
static enum errc make_folders(struct config *c, struct error *err) {
    static const char *const below[] = {"run", "logs", "models", "pki", "pki/keys"};
    AUTO_FREE char *path = mem_strdup(c->data_dir);
    for (char *p = path + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        mkdir(path, 0755); /* the last one tells whether it worked */
        *p = '/';
    }
    enum errc rc = make_dir(c->data_dir, 0700, err);
    for (size_t i = 0; i < ARRAY_LEN(below) && !rc; i++) {
        AUTO_FREE char *sub = mem_printf("%s/%s", c->data_dir, below[i]);
        rc = make_dir(sub, 0700, err);
    }
    return rc;
}

/* Paths that the configuration leaves open, made absolute: replicas have no working folder. */
static enum errc settle_paths(struct config *c, struct error *err) {
    enum errc rc = make_folders(c, err);
    if (rc)
        return rc;
    char *full = realpath(c->data_dir, NULL);
    if (!full)
        return err_errno(err, "find folder %s", c->data_dir);
    free(c->data_dir);
    c->data_dir = full;
    if (!*c->models_dir) {
        free(c->models_dir);
        c->models_dir = mem_printf("%s/models", c->data_dir);
    }
    if (!*c->host_pods_dir) {
        free(c->host_pods_dir);
        c->host_pods_dir = mem_printf("%s-pods", c->data_dir);
    }
    if (c->serve_port_first > c->serve_port_last)
        return err_field(err, ERR_INVALID, "servePortFirst",
                         "servePortFirst: %lld is above servePortLast (%lld)",
                         (long long)c->serve_port_first, (long long)c->serve_port_last);
    const char *secret = c->gateway_api_key_secret, *slash = strchr(secret, '/');
    if (*secret && (!slash || slash == secret || !slash[1] || strchr(slash + 1, '/')))
        return err_field(err, ERR_INVALID, "gatewayApiKeySecret",
                         "gatewayApiKeySecret: \"%.100s\" is not NAMESPACE/NAME", secret);
    if (c->host_user_first > c->host_user_last)
        return err_field(err, ERR_INVALID, "hostUserFirst",
                         "hostUserFirst: %lld is above hostUserLast (%lld)",
                         (long long)c->host_user_first, (long long)c->host_user_last);
    return OK;
}

/* Writes a file whole or not at all. */
static enum errc write_file(const char *path, const char *text, struct error *err) {
    AUTO_FREE char *fresh = mem_printf("%s.new", path);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t len = strlen(text);
    bool ok = fd >= 0 && write(fd, text, len) == (ssize_t)len;
    if (fd >= 0)
        close(fd);
    if (!ok || rename(fresh, path))
        return err_errno(err, "write %s", path);
    return OK;
}

/* admin.kubeconfig for people, run/serve.json for scripts that start us. */
static enum errc publish_addresses(struct daemon *d, struct error *err) {
    AUTO_FREE char *kubeconfig = NULL;
    AUTO_FREE char *path = mem_printf("%s/admin.kubeconfig", d->config.data_dir);
    AUTO_FREE char *ready = mem_printf("%s/run/serve.json", d->config.data_dir);
    enum errc rc = auth_kubeconfig(d->auth, d->kube_url, "admin", NULL, &kubeconfig, err);
    if (!rc)
        rc = write_file(path, kubeconfig, err);
    if (rc)
        return rc;
    json_t *o =
        json_pack("{s:i, s:s, s:s, s:s*, s:s}", "pid", (int)getpid(), "kube", d->kube_url,
                  "gateway", d->gateway_url, "gateway_tls", d->gateway_tls_url, "kubeconfig", path);
    AUTO_FREE char *text = json_dumps(o, 0);
    json_decref(o);
    return write_file(ready, text, err);
}

static enum errc start_store(struct daemon *d, struct error *err) {
    const struct config *c = &d->config;
    AUTO_FREE char *db = mem_printf("%s/state.db", c->data_dir);
    AUTO_FREE char *logs = mem_printf("%s/logs", c->data_dir);
    AUTO_FREE char *keys = *c->secret_keys_file
                               ? mem_strdup(c->secret_keys_file)
                               : mem_printf("%s/pki/keys/secrets.keys", c->data_dir);
    struct seal_options seal = {.key_path = keys, .resources = c->encrypted_resources};
    enum errc rc = seal_open(&seal, &d->seal, err);
    if (rc)
        return rc;
    struct store_options store = {
        .path = db, .seal = d->seal, .history_events_max = (uint32_t)c->history_events_max};
    struct podlog_options podlog = {.dir = logs,
                                    .file_bytes_max = (uint64_t)c->log_file_bytes_max,
                                    .num_files_max = (uint32_t)c->log_files_max};
    d->usage = usage_create();
    d->decisions = decision_log_create();
    rc = store_open(&store, &d->store, err);
    return rc ? rc : podlog_create(&podlog, &d->podlog, err);
}

/* "a,b" into a NULL-terminated array over the same memory. */
static void split_commas(char *text, const char **list, size_t max) {
    size_t n = 0;
    for (char *rest = text, *word; n + 1 < max && (word = strsep(&rest, ","));) {
        if (*word)
            list[n++] = word;
    }
    list[n] = NULL;
}

static enum errc start_kube(struct daemon *d, struct error *err) {
    const struct config *c = &d->config;
    AUTO_FREE char *sans = mem_strdup(c->tls_sans);
    const char *list[32];
    split_commas(sans, list, ARRAY_LEN(list));
    struct auth_options auth = {.data_dir = c->data_dir,
                                .extra_sans = list,
                                .token_file = c->token_auth_file,
                                .issuer = c->service_account_issuer,
                                .store = d->store};
    enum errc rc = auth_open(&auth, &d->auth, err);
    struct tls_options tls = {.auth = d->auth, .ask_clients = true};
    if (!rc)
        rc = tls_start(&tls, &d->tls, err);
    AUTO_FREE char *audit_log = *c->audit_log_file ? mem_strdup(c->audit_log_file)
                                                   : mem_printf("%s/audit/audit.log", c->data_dir);
    struct audit_options audit = {.policy_path = c->audit_policy_file,
                                  .log_path = audit_log,
                                  .file_bytes_max = c->audit_file_bytes_max,
                                  .files_max = c->audit_files_max,
                                  .days_max = c->audit_days_max};
    struct kube_options kube = {.store = d->store,
                                .audit = *c->audit_policy_file ? &audit : NULL,
                                .concurrency_max = (uint32_t)c->api_concurrency_max,
                                .queue_max = (uint32_t)c->api_queue_max,
                                .watches_max = (uint32_t)c->api_watches_max,
                                .podlog = d->podlog,
                                .usage = d->usage,
                                .decisions = d->decisions,
                                .running = d->running,
                                .auth = d->auth,
                                .admit = control_admit,
                                .assign = admission_assign,
                                .charge = admission_charge,
                                .evict = admission_evict,
                                .preview = preview_tell,
                                .preview_self = d->preview,
                                .server_address = c->kube_listen};
    if (!rc)
        rc = kube_create(&kube, &d->kube, err);
    struct http_server_options http = {.listen = c->kube_listen,
                                       .tls = d->tls,
                                       .auth = d->auth,
                                       .body_bytes_max = KUBE_BODY_BYTES_MAX,
                                       .handler = kube_handle,
                                       .user = d->kube,
                                       .error_body = kube_error_body,
                                       .refused = kube_refused};
    if (!rc)
        rc = http_server_start(&http, &d->http, err);
    if (!rc)
        d->kube_url = mem_printf("https://%s", http_server_address(d->http));
    return rc;
}

static enum errc start_gateway(struct daemon *d, struct error *err) {
    const struct config *c = &d->config;
    struct tls_options tls = {.auth = d->auth,
                              .cert_file = c->gateway_tls_cert_file,
                              .key_file = c->gateway_tls_key_file,
                              .cert_option = "gatewayTlsCertFile",
                              .key_option = "gatewayTlsKeyFile"};
    struct gateway_options gateway = {.listen = c->gateway_listen,
                                      .tls_listen = c->gateway_tls_listen,
                                      .traffic = d->traffic,
                                      .metrics = d->metrics,
                                      .series = d->series,
                                      .hold_bytes_max = c->gateway_hold_bytes_max,
                                      .queue_max = c->gateway_queue_max,
                                      .hold_ms = c->gateway_hold_seconds * 1000,
                                      .body_bytes_max = c->body_bytes_max};
    enum errc rc = *c->gateway_tls_listen ? tls_start(&tls, &d->gateway_tls, err) : OK;
    gateway.tls = d->gateway_tls;
    rc = rc ? rc : gateway_start(&gateway, &d->gateway, err);
    if (rc)
        return rc;
    const char *plain = gateway_address(d->gateway), *secure = gateway_tls_address(d->gateway);
    d->gateway_tls_url = secure ? mem_printf("https://%s", secure) : NULL;
    d->gateway_url = plain ? mem_printf("http://%s", plain) : mem_strdup(d->gateway_tls_url);
    return OK;
}

static enum errc start(struct daemon *d, struct error *err) {
    const struct config *c = &d->config;
    enum errc rc = start_store(d, err);
    d->running = running_table_create();
    d->memory_gauge = memory_gauge_create();
    d->preview = preview_create();
    if (!rc)
        rc = start_kube(d, err);
    d->traffic = traffic_create();
    d->metrics = metrics_create();
    d->series = series_create(NULL);
    if (!rc)
        rc = start_gateway(d, err);
    if (rc)
        return rc;
    struct control_options control = {.store = d->store,
                                      .podlog = d->podlog,
                                      .usage = d->usage,
                                      .decisions = d->decisions,
                                      .running = d->running,
                                      .memory_need = memory_gauge_need,
                                      .memory_gauge = d->memory_gauge,
                                      .preview = d->preview,
                                      .traffic = d->traffic,
                                      .metrics = d->metrics,
                                      .api_metrics = kube_metrics(d->kube),
                                      .series = d->series,
                                      .config = c,
                                      .gateway_url = d->gateway_url,
                                      .kube_address = http_server_address(d->http),
                                      .ca_pem = auth_ca_pem(d->auth),
                                      .auth = d->auth};
    rc = control_start(&control, &d->control, err);
    return rc ? rc : publish_addresses(d, err);
}

/* Before there are threads. */
static enum errc watch_orphans(struct daemon *d, struct error *err) {
    AUTO_FREE char *run = mem_printf("%s/run", d->config.data_dir);
    return orphans_watch(run, &d->reaper_fd, err);
}

/* New requests are refused, those that run get the grace that a replica gets. */
static void drain(struct daemon *d) {
    int64_t deadline = clock_mono_ms() + d->config.drain_seconds * 1000;
    gateway_drain(d->gateway);
    while (gateway_num_open(d->gateway) && clock_mono_ms() < deadline)
        poll(NULL, 0, DRAIN_POLL_MS);
}

/* Clients first, then what they wait for, the store last. */
static void stop(struct daemon *d) {
    gateway_stop(d->gateway);
    control_stop(d->control);
    http_server_stop(d->http);
    kube_destroy(d->kube);
    tls_stop(d->tls);
    tls_stop(d->gateway_tls);
    auth_close(d->auth);
    traffic_destroy(d->traffic);
    metrics_destroy(d->metrics);
    series_destroy(d->series);
    decision_log_destroy(d->decisions);
    running_table_destroy(d->running);
    preview_destroy(d->preview);
    memory_gauge_destroy(d->memory_gauge);
    podlog_destroy(d->podlog);
    usage_destroy(d->usage);
    store_close(d->store);
    seal_close(d->seal);
    if (d->reaper_fd >= 0)
        close(d->reaper_fd);
    free(d->kube_url);
    free(d->gateway_url);
    free(d->gateway_tls_url);
    config_deinit(&d->config);
}

/* --config FILE, then "--key value" or "--key=value" over it. */
static enum errc read_options(int argc, char **argv, struct config *c, struct error *err) {
    const char *file = NULL;
    for (int i = 1; i + 1 < argc; i++) {
        if (!strcmp(argv[i], "--config"))
            file = argv[i + 1];
    }
    enum errc rc = config_load(file, c, err);
    for (int i = 1; i < argc && !rc; i++) {
        if (strncmp(argv[i], "--", 2) != 0)
            return err_set(err, ERR_INVALID, "\"%s\" is not an option", argv[i]);
        AUTO_FREE char *key = mem_strdup(argv[i] + 2);
        char *equals = strchr(key, '=');
        if (equals)
            *equals++ = '\0';
        const char *value = equals ? equals : argv[++i];
        if (!value)
            return err_set(err, ERR_INVALID, "--%s wants a value", key);
        if (strcmp(key, "config") != 0)
            rc = config_set(c, key, value, err);
    }
    return rc;
}

static void serve_help(FILE *out) {
    AUTO_BUF help = BUF_INIT;
    config_help(&help);
    fprintf(out,
            "usage: inferd serve [--config FILE] [--KEY VALUE]...\n\n"
            "Keys of the configuration file, and with dashes of the command line\n"
            "(dataDir: /srv/inferd, --data-dir /srv/inferd):\n%s",
            help.data);
}

/* Until SIGTERM or SIGINT; the watchdog is fed meanwhile. */
static void wait_for_end(int signal_fd) {
    int watchdog_ms = notify_watchdog_ms();
    struct pollfd p = {.fd = signal_fd, .events = POLLIN};
    while (poll(&p, 1, watchdog_ms) == 0)
        notify_send("WATCHDOG=1");
    struct signalfd_siginfo signal;
    ssize_t n = read(signal_fd, &signal, sizeof(signal));
    log_info("stopping", "signal=%u", n > 0 ? signal.ssi_signo : 0);
}

static int serve_command(int argc, char **argv) {
    struct daemon d = {.reaper_fd = -1};
    struct error err = ERROR_INIT;
    enum log_level level;
    int64_t start_ms = clock_mono_ms();
    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        serve_help(stdout);
        return 0;
    }
    sigset_t signals; /* blocked before any thread starts: only the signalfd sees them */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (read_options(argc, argv, &d.config, &err) ||
        log_level_parse(d.config.log_level, &level, &err)) {
        fprintf(stderr, "inferd serve: %s\n", err.text);
        config_deinit(&d.config);
        return 2;
    }
    log_set_level(level);
    if (settle_paths(&d.config, &err) || watch_orphans(&d, &err) || start(&d, &err)) {
        fprintf(stderr, "inferd serve: %s\n", err.text);
        stop(&d);
        return 1;
    }
    log_info("ready", "version=%s kube=%s gateway=%s gateway_tls=%s data_dir=%s start_ms=%lld",
             INFERD_VERSION, d.kube_url, d.gateway_url, d.gateway_tls_url ? d.gateway_tls_url : "",
             d.config.data_dir, (long long)(clock_mono_ms() - start_ms));
    notify_send("READY=1");
    int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
    wait_for_end(signal_fd);
    close(signal_fd);
    notify_send("STOPPING=1");
    /* From here a second signal ends the process at once, as it would any program. */
    sigprocmask(SIG_UNBLOCK, &signals, NULL);
    drain(&d);
    stop(&d);
    return 0;
}

/* ---- inferd kubeconfig ---- */

/* The address of the daemon on this data folder, as it wrote it down. Gives. */
static char *running_server(const char *data_dir) {
    AUTO_FREE char *path = mem_printf("%s/run/serve.json", data_dir);
    json_t *o = json_load_file(path, 0, NULL);
    char *url = mem_strdup(json_string_value(json_object_get(o, "kube")));
    json_decref(o);
    return url;
}

static int kubeconfig_command(int argc, char **argv) {
    struct config config;
    struct error err = ERROR_INIT;
    const char *user = "admin", *group = NULL, *server = NULL, *data_dir = NULL;
    for (int i = 1; i < argc; i++) {
        const char **to = !strcmp(argv[i], "--user")       ? &user
                          : !strcmp(argv[i], "--group")    ? &group
                          : !strcmp(argv[i], "--server")   ? &server
                          : !strcmp(argv[i], "--data-dir") ? &data_dir
                                                           : NULL;
        if (!to || !argv[i + 1]) {
            fprintf(stderr, "usage: inferd kubeconfig [--data-dir DIR] [--user NAME] "
                            "[--group NAME] [--server https://HOST:PORT]\n");
            return 2;
        }
        *to = argv[++i];
    }
    if (config_load(NULL, &config, &err)) {
        fprintf(stderr, "inferd kubeconfig: %s\n", err.text);
        return 1;
    }
    data_dir = data_dir ? data_dir : config.data_dir;
    AUTO_FREE char *running = running_server(data_dir);
    AUTO_FREE char *configured = mem_printf("https://%s", config.kube_listen);
    AUTO(auth) auth = NULL;
    AUTO_FREE char *yaml = NULL;
    struct auth_options opt = {.data_dir = data_dir, .existing_only = true};
    enum errc rc = auth_open(&opt, &auth, &err);
    if (!rc)
        rc = auth_kubeconfig(auth,
                             server    ? server
                             : running ? running
                                       : configured,
                             user, group, &yaml, &err);
    config_deinit(&config);
    if (rc)
        fprintf(stderr, "inferd kubeconfig: %s\n", err.text);
    else
        fputs(yaml, stdout);
    return rc ? 1 : 0;
}

static int version_command(int argc, char **argv) {
    printf("inferd %s\n", INFERD_VERSION);
    return 0;
}

static const struct command commands[] = {
    {"serve", serve_command, "the daemon: Kubernetes API, gateway, replicas"},
    {"engine", engine_command, "serve one model over HTTP (a replica)"},
    {"generate", generate_command, "continue a raw prompt"},
    {"tokenize", tokenize_command, "text on stdin to token ids, or back"},
    {"bench", bench_command, "measure how fast this machine runs a model"},
    {"model", model_command, "the model store: add, ls, rm, verify"},
    {"kubeconfig", kubeconfig_command, "print a kubeconfig for kubectl"},
    {"version", version_command, "print the version"},
};

static void usage(FILE *out) {
    fprintf(out, "usage: inferd COMMAND [OPTION...]\n\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        fprintf(out, "  %-11s %s\n", commands[i].name, commands[i].help);
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "";
    if (!strcmp(name, "--version"))
        name = "version";
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (!strcmp(commands[i].name, name))
            return commands[i].run(argc - 1, argv + 1);
    }
    bool help = !strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help");
    if (*name && !help)
        fprintf(stderr, "inferd: unknown command \"%s\"\n", name);
    usage(help ? stdout : stderr);
    return help ? 0 : 2;
}
