/* `inferd engine`: starts from the bottom up (model, engine, text thread, HTTP server), waits for a
 * signal, stops from the top down.
 *
 * A failure to start is told twice: on stderr, and in $INFERD_TERMINATION_LOG, from where the
 * supervisor puts it into the Pod's status and events. */
#include "api/engine_command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "api/openai.h"
#include "api/openai_json.h"
#include "core/base/clock.h"
#include "core/base/engine_args.h"
#include "core/base/log.h"
#include "core/base/model_path.h"
#include "engine/engine_limits.h"
#include "engine/memory_need.h"
#include "engine/weights_share.h"

enum {
    DRAIN_MS_MAX = 30000,
    DRAIN_POLL_MS = 20,
    BODY_BYTES_MAX = 64 << 20,
    TEMPLATE_BYTES_MAX = 1 << 20,
};

struct replica {
    struct engine_args args;
    char *path;
    struct model *model;
    struct weights_share *share; /* NULL: none */
    struct chat_template *chat_template;
    struct engine *engine;
    struct engine_metrics *metrics;
    struct completion_service *completions;
    struct openai_server server;
    struct http_server *http;
    const char *names[ENGINE_ARGS_NAMES_MAX + 1];
};

/* The last words of a replica that cannot start. */
static void tell_failure(const struct error *err) {
    fprintf(stderr, "inferd engine: %s\n", err->text);
    const char *path = getenv("INFERD_TERMINATION_LOG");
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    if (fd < 0)
        return;
    dprintf(fd, "%s\n", err->text);
    close(fd);
}

static enum errc open_model(struct replica *r, struct error *err) {
    struct model_path_options where = {.models_dir = r->args.models_dir,
                                       .hf_cache_dir = r->args.hf_cache_dir};
    if (!r->args.model)
        return err_field(err, ERR_INVALID, "model",
                         "--model is required: a path, hf://ORG/NAME or "
                         "embedded://NAME");
    AUTO_FREE char *reference = r->args.revision
                                    ? mem_printf("%s:%s", r->args.model, r->args.revision)
                                    : mem_strdup(r->args.model);
    enum errc rc = model_path_resolve(reference, &where, &r->path, err);
    if (!rc)
        rc = model_open(r->path, &r->model, err);
    return rc ? err_wrap(err, "load model") : OK;
}

/* A file's text, or NULL when there is no such file. */
static char *read_template(const char *path) {
    FILE *f = fopen(path, "re");
    if (!f)
        return NULL;
    char *text = mem_alloc(TEMPLATE_BYTES_MAX + 1);
    size_t n = fread(text, 1, TEMPLATE_BYTES_MAX, f);
    text[n] = '\0';
    fclose(f);
    return text;
}

static enum errc compile_template(struct replica *r, struct error *err) {
    const char *given = r->args.chat_template;
    AUTO_FREE char *text = given ? read_template(given) : NULL;
    if (given && !text && !strchr(given, '{'))
        return err_field(err, ERR_INVALID, "chat-template",
                         "--chat-template: \"%.200s\" is neither a file nor a Jinja template",
                         given);
    const char *source =
        given ? (text ? text : given) : tokenizer_chat_template(model_tokenizer(r->model));
    if (!source)
        return OK;
    if (!chat_template_create(source, &r->chat_template, err))
        return OK;
    if (given)
        return err_wrap(err, "--chat-template");
    /* The model still serves completions. */
    struct log_quoted q;
    log_warn("the model's chat template is not usable, chat is not served", "error=%s",
             log_quote(&q, err->text));
    return OK;
}

static enum errc start_engine(struct replica *r, struct error *err) {
    struct engine_options opt;
    engine_options_of(&r->args, &opt);
    opt.share = r->share;
    if (engine_create(r->model, &opt, &r->engine, err))
        return err_wrap(err, "start engine");
    r->server.memory_bytes = memory_need_of_process(r->path, &opt, r->engine);
    return OK;
}

static void name_model(struct replica *r) {
    for (uint32_t i = 0; i < r->args.num_served_names; i++)
        r->names[i] = r->args.served_names[i];
    if (!r->args.num_served_names)
        r->names[0] = r->args.model;
}

static enum errc start_http(struct replica *r, struct error *err) {
    struct openai_server *s = &r->server;
    s->model = r->model;
    s->engine = r->engine;
    s->completions = r->completions;
    s->metrics = r->metrics;
    s->chat_template = r->chat_template;
    s->generation = r->args.ignore_generation_config ? NULL : model_generation(r->model);
    s->names = r->names;
    s->api_key = r->args.api_key;
    s->max_logprobs = r->args.max_logprobs;
    s->created_seconds = clock_wall_ms() / 1000;
    AUTO_FREE char *listen =
        r->args.uds ? mem_printf("unix:%s", r->args.uds)
                    : mem_printf("%s:%d", r->args.host ? r->args.host : "0.0.0.0", r->args.port);
    struct http_server_options opt = {.listen = listen,
                                      .body_bytes_max = BODY_BYTES_MAX,
                                      .handler = openai_handle,
                                      .user = s,
                                      .error_body = openai_http_error_body};
    return http_server_start(&opt, &r->http, err);
}

static enum errc start(struct replica *r, struct error *err) {
    enum errc rc = open_model(r, err);
    if (!rc)
        rc = compile_template(r, err);
    if (!rc)
        rc = start_engine(r, err);
    if (rc)
        return rc;
    name_model(r);
    r->metrics = engine_metrics_create(r->names[0]);
    struct completion_service_options opt = {
        .engine = r->engine, .tokenizer = model_tokenizer(r->model), .metrics = r->metrics};
    rc = completion_service_start(&opt, &r->completions, err);
    return rc ? rc : start_http(r, err);
}

static void stop(struct replica *r) {
    http_server_stop(r->http); /* completions learn that their clients are gone */
    completion_service_stop(r->completions);
    engine_destroy(r->engine);
    weights_share_close(r->share);
    engine_metrics_destroy(r->metrics);
    chat_template_destroy(r->chat_template);
    model_close(r->model);
    free(r->path);
    engine_args_deinit(&r->args);
}

/* Waits for a signal; true when one came within timeout_ms (-1: for ever). */
static bool wait_signal(int signal_fd, int timeout_ms) {
    struct pollfd p = {.fd = signal_fd, .events = POLLIN};
    struct signalfd_siginfo signal;
    return poll(&p, 1, timeout_ms) == 1 && read(signal_fd, &signal, sizeof(signal)) > 0;
}

/* New requests are refused, those that run are finished, until the deadline or a second signal. */
static void drain(struct replica *r, int signal_fd) {
    atomic_store(&r->server.draining, true);
    http_server_drain(r->http);
    int64_t deadline = clock_mono_ms() + DRAIN_MS_MAX;
    log_info("draining", "running=%u", completion_service_num_running(r->completions));
    while (completion_service_num_running(r->completions) && clock_mono_ms() < deadline) {
        if (wait_signal(signal_fd, DRAIN_POLL_MS))
            return;
    }
}

static void log_start(const struct replica *r, int64_t start_ns) {
    const struct model_config *c = model_config(r->model);
    struct log_quoted q;
    log_info("replica is ready",
             "model=%s architecture=%s parameters=%llu weights=%s max_model_len=%u "
             "max_num_seqs=%u listen=%s start_ms=%.1f",
             log_quote(&q, r->names[0]), c->arch_name, (unsigned long long)c->num_parameters,
             c->weights_type, engine_max_model_len(r->engine), engine_max_num_seqs(r->engine),
             http_server_address(r->http), (double)(clock_mono_ns() - start_ns) / 1e6);
    for (uint32_t i = 0; i < r->args.num_warnings; i++)
        log_warn("option without effect", "option=%s", log_quote(&q, r->args.warnings[i]));
}

static int usage(void) {
    AUTO_BUF help = BUF_INIT;
    engine_args_help(&help);
    fprintf(stderr,
            "usage: inferd engine --model PATH|hf://ORG/NAME|embedded://NAME [OPTION...]\n%s",
            help.data);
    return 2;
}

int engine_command(int argc, char **argv) {
    struct replica r = {0};
    struct error err = ERROR_INIT;
    int64_t start_ns = clock_mono_ns();
    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        usage();
        return 0;
    }
    sigset_t signals; /* blocked before any thread starts: only the signalfd sees them */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
    r.share = weights_share_inherited();
    bool bad_usage = engine_args_parse((const char *const *)argv + 1, &r.args, &err) != OK;
    if (bad_usage || start(&r, &err)) {
        tell_failure(&err);
        stop(&r);
        close(signal_fd);
        return bad_usage ? 2 : 1;
    }
    log_start(&r, start_ns);
    wait_signal(signal_fd, -1);
    drain(&r, signal_fd);
    stop(&r);
    close(signal_fd);
    return 0;
}
