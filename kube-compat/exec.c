/* exec: a command beside a container, its streams over the client's connection.
 *
 *   client ══ tunnel ══ channels ──stdin──▶ input ──▶ pipe ──▶ command
 *                          ◀────────── stdout, stderr, in the end a Status
 *
 * One loop on the tunnel's thread moves what moves. Each direction holds a bounded number of bytes;
 * when they are there, its source is not read, so that a slow command slows its client and a slow
 * client its command. The command is killed when the client goes, when the container ends and when
 * the server stops; whichever way the loop ends, exec_end() leaves no process and no descriptor. */
#include "kube-compat/exec.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/node/exec.h"
#include "core/object.h"
#include "kube-compat/authz.h"
#include "kube-compat/exec_target.h"
#include "kube-compat/upgrade.h"

enum {
    INPUT_BYTES_MAX = 256 << 10, /* for the command; then the client is not read */
    OPEN_MS = 30000,             /* for a client to open its channels */
    RESIZE_BYTES_MAX = 256,
    PIPE_BYTES_MAX = 1 << 20, /* the most that a pipe holds, if nobody raised the system's bound */
    END_OF_INPUT = 4,         /* Ctrl-D, which a terminal has instead of an end */
};

struct exec_tunnel {
    struct channels *channels;
    struct running container;
    struct exec_wish wish;
    char **argv;
    struct exec exec;
    struct buf input; /* on its way to the command */
    size_t input_sent;
    bool input_ended; /* the client sends no more of it */
};

/* ---- agreeing ---- */

static struct channels *spdy_channels_of(const struct exec_wish *w) {
    const bool expected[CHANNEL_COUNT] = {
        [CHANNEL_STDIN] = w->stdin_open,   [CHANNEL_STDOUT] = w->stdout_open,
        [CHANNEL_STDERR] = w->stderr_open, [CHANNEL_ERROR] = true,
        [CHANNEL_RESIZE] = w->tty,
    };
    return channels_spdy_create(expected);
}

enum errc exec_agree(struct request *rq, struct exec_wish *ret_wish, struct error *err) {
    struct http_exchange *x = rq->x;
    const char *protocol;
    *ret_wish = (struct exec_wish){
        .stdin_open = http_query_bool(x, "stdin"),
        .stdout_open = http_query_bool(x, "stdout"),
        .stderr_open = http_query_bool(x, "stderr"),
        .tty = http_query_bool(x, "tty"),
    };
    if (ret_wish->tty)
        ret_wish->stderr_open = false; /* a terminal has one output */
    if (!ret_wish->stdin_open && !ret_wish->stdout_open && !ret_wish->stderr_open)
        return err_set(err, ERR_MALFORMED, "you must specify at least 1 of stdin, stdout, stderr");
    switch (upgrade_wanted(x)) {
    case UPGRADE_WEBSOCKET:
        if (upgrade_websocket(x, channels_websocket_protocols, false, &protocol, err))
            return err->code;
        ret_wish->upgrade = UPGRADE_WEBSOCKET_NAME;
        ret_wish->channels = channels_websocket_create(protocol);
        return OK;
    case UPGRADE_SPDY:
        if (upgrade_spdy(x, channels_spdy_protocols, &protocol, err))
            return err->code;
        ret_wish->upgrade = UPGRADE_SPDY_NAME;
        ret_wish->channels = spdy_channels_of(ret_wish);
        return OK;
    default:
        return err_set(err, ERR_MALFORMED, "Upgrade request required");
    }
}

/* ---- what both end with ---- */

bool exec_channels_open(struct tunnel *t, struct channels *c) {
    int64_t until_ms = clock_mono_ms() + OPEN_MS;
    while (!c->ops->ready(c)) {
        char data[TUNNEL_READ_BYTES_MAX];
        struct channel_event event;
        struct error err = ERROR_INIT;
        size_t n = tunnel_read(t, data);
        int64_t left_ms = until_ms - clock_mono_ms();
        c->ops->feed(c, data, n);
        bool fine = c->ops->next(c, &t->out, &event, &err) == CHANNELS_MORE;
        tunnel_send(t);
        if (!fine || t->client_ended || left_ms <= 0)
            return false; /* it says something before all is open, or leaves, or is too slow */
        if (n)
            continue;
        struct pollfd p[TUNNEL_POLLS];
        tunnel_poll(t, p, true);
        poll(p, TUNNEL_POLLS, (int)left_ms);
        if (!tunnel_polled(t, p))
            return false;
    }
    return true;
}

static json_t *end_status(int exit_code, const char *message) {
    if (!exit_code)
        return json_pack("{s:{}, s:s}", "metadata", "status", "Success");
    if (exit_code < 0)
        return json_pack("{s:{}, s:s, s:s, s:o, s:i}", "metadata", "status", "Failure", "reason",
                         "InternalError", "message", object_text(message), "code", 500);
    char code[16];
    snprintf(code, sizeof(code), "%d", exit_code);
    return json_pack(
        "{s:{}, s:s, s:s, s:o, s:{s:[{s:s, s:s}]}}", "metadata", "status", "Failure", "reason",
        "NonZeroExitCode", "message",
        json_sprintf("command terminated with non-zero exit code: exit status %d", exit_code),
        "details", "causes", "reason", "ExitCode", "message", code);
}

void exec_say_end(struct tunnel *t, struct channels *c, int exit_code, const char *message) {
    json_t *status = end_status(exit_code, message ? message : "");
    AUTO_FREE char *text = json_dumps(status, JSON_COMPACT);
    json_decref(status);
    c->ops->write(c, &t->out, CHANNEL_ERROR, text, strlen(text));
    c->ops->close(c, &t->out);
    tunnel_finish(t);
}

/* ---- from the client ---- */

static size_t input_waiting(const struct exec_tunnel *e) {
    return e->input.len - e->input_sent;
}

static void close_input(struct exec_tunnel *e) {
    if (e->exec.stdin_fd >= 0)
        close(e->exec.stdin_fd);
    e->exec.stdin_fd = -1;
    e->input_ended = true;
    buf_deinit(&e->input);
    e->input_sent = 0;
}

static int input_fd(const struct exec_tunnel *e) {
    return e->wish.tty ? e->exec.stdout_fd : e->exec.stdin_fd;
}

static void take_input(struct exec_tunnel *e, const struct channel_event *event) {
    if (e->input_ended || input_fd(e) < 0)
        return; /* nobody reads it any more */
    if (event->end && e->wish.tty)
        buf_putc(&e->input, END_OF_INPUT);
    else
        buf_append(&e->input, event->data, event->len);
    e->input_ended = event->end;
}

/* {"Width":80,"Height":24} */
static void take_size(const struct exec_tunnel *e, const struct channel_event *event) {
    json_t *size =
        event->len <= RESIZE_BYTES_MAX ? json_loadb(event->data, event->len, 0, NULL) : NULL;
    int64_t columns = object_int(size, "Width", 0), rows = object_int(size, "Height", 0);
    json_decref(size);
    if (e->wish.tty && columns > 0 && columns <= UINT16_MAX && rows > 0 && rows <= UINT16_MAX)
        exec_resize(&e->exec,
                    (struct exec_size){.rows = (uint16_t)rows, .columns = (uint16_t)columns});
}

/* Reads the client, if there is room for what it sends; of what is read, all is taken. False: it
 * has gone. */
static bool read_client(struct tunnel *t, struct exec_tunnel *e) {
    const struct channels_ops *ops = e->channels->ops;
    char data[TUNNEL_READ_BYTES_MAX];
    struct channel_event event;
    struct error err = ERROR_INIT;
    for (;;) {
        enum channels_result result;
        while ((result = ops->next(e->channels, &t->out, &event, &err)) == CHANNELS_EVENT) {
            if (event.channel == CHANNEL_RESIZE && !event.end)
                take_size(e, &event);
            else if (event.channel == CHANNEL_STDIN)
                take_input(e, &event);
        }
        if (result != CHANNELS_MORE)
            return false;
        size_t n = input_waiting(e) < INPUT_BYTES_MAX ? tunnel_read(t, data) : 0;
        if (!n)
            return !t->client_ended;
        ops->feed(e->channels, data, n);
    }
}

/* ---- to and from the command ---- */

static void write_input(struct exec_tunnel *e) {
    int fd = input_fd(e);
    while (fd >= 0 && input_waiting(e)) {
        ssize_t n = write(fd, e->input.data + e->input_sent, input_waiting(e));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) { /* the command reads no more */
            close_input(e);
            return;
        }
        e->input_sent += (size_t)n;
    }
    if (!input_waiting(e)) {
        buf_clear(&e->input);
        e->input_sent = 0;
        if (e->input_ended)
            close_input(e);
    }
}

/* Copies what the command has written, while there is room, or what is left of it when it has ended
 * (bounded: what has left its group may go on writing). False: its end. */
static bool copy_output(struct tunnel *t, struct exec_tunnel *e, int fd, enum channel channel,
                        bool left) {
    bool wanted = channel == CHANNEL_STDOUT ? e->wish.stdout_open : e->wish.stderr_open;
    char data[TUNNEL_READ_BYTES_MAX];
    size_t copied = 0;
    while (left ? copied < PIPE_BYTES_MAX : tunnel_has_room(t)) {
        ssize_t n = read(fd, data, sizeof(data));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n <= 0) /* EIO: nobody has the terminal open any more */
            return false;
        copied += (size_t)n;
        if (wanted)
            e->channels->ops->write(e->channels, &t->out, channel, data, (size_t)n);
    }
    return true;
}

static void copy_outputs(struct tunnel *t, struct exec_tunnel *e, bool left) {
    int *fds[] = {&e->exec.stdout_fd, &e->exec.stderr_fd};
    static const enum channel channels[] = {CHANNEL_STDOUT, CHANNEL_STDERR};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (*fds[i] < 0 || copy_output(t, e, *fds[i], channels[i], left))
            continue;
        close(*fds[i]);
        *fds[i] = -1;
    }
}

/* ---- the loop ---- */

enum { POLL_IN = TUNNEL_POLLS, POLL_OUT, POLL_ERROR, POLL_COMMAND, POLL_CONTAINER, POLLS };

static void fill_polls(struct tunnel *t, const struct exec_tunnel *e, struct pollfd p[POLLS]) {
    bool room = tunnel_has_room(t);
    tunnel_poll(t, p, input_waiting(e) < INPUT_BYTES_MAX);
    p[POLL_IN] = (struct pollfd){.fd = input_waiting(e) ? input_fd(e) : -1, .events = POLLOUT};
    p[POLL_OUT] = (struct pollfd){.fd = room ? e->exec.stdout_fd : -1, .events = POLLIN};
    p[POLL_ERROR] = (struct pollfd){.fd = room ? e->exec.stderr_fd : -1, .events = POLLIN};
    p[POLL_COMMAND] = (struct pollfd){.fd = e->exec.pidfd, .events = POLLIN};
    p[POLL_CONTAINER] = (struct pollfd){.fd = e->container.pidfd, .events = POLLIN};
}

/* Until the command has ended (true), or must end (false). */
static bool run_command(struct tunnel *t, struct exec_tunnel *e) {
    for (;;) {
        if (!read_client(t, e))
            return false;
        write_input(e);
        copy_outputs(t, e, false);
        if (tunnel_ping_due(t))
            e->channels->ops->ping(e->channels, &t->out);
        struct pollfd p[POLLS];
        fill_polls(t, e, p);
        poll(p, POLLS, TUNNEL_PING_MS);
        if (!tunnel_polled(t, p))
            return false;
        if (p[POLL_COMMAND].revents)
            return true;
        if (p[POLL_CONTAINER].revents)
            return true; /* its commands end with it */
    }
}

static void run(struct tunnel *t, void *user) {
    struct exec_tunnel *e = user;
    struct exec_options opt = {.container = &e->container,
                               .argv = (const char *const *)e->argv,
                               .stdin_open = e->wish.stdin_open,
                               .tty = e->wish.tty};
    struct error err = ERROR_INIT;
    if (!exec_channels_open(t, e->channels))
        return;
    if (exec_start(&opt, &e->exec, &err)) {
        e->exec = (struct exec){.pidfd = -1, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
        exec_say_end(t, e->channels, -1, err.text);
        return;
    }
    bool ended = run_command(t, e);
    int code = exec_stop(&e->exec);
    if (!ended) {
        tunnel_finish(t); /* why, if the client is to know */
        return;
    }
    copy_outputs(t, e, true); /* what it wrote before it ended is in the pipes */
    exec_say_end(t, e->channels, code, NULL);
}

static void destroy(void *user) {
    struct exec_tunnel *e = user;
    exec_end(&e->exec);
    channels_destroy(e->channels);
    running_deinit(&e->container);
    for (char **a = e->argv; a && *a; a++)
        free(*a);
    free(e->argv);
    buf_deinit(&e->input);
    free(e);
}

/* ---- the request ---- */

/* Choosing a command for this machine is what `use hostprocesses` is about (ADR 14, 15). */
static enum errc may_choose_command(struct request *rq, struct error *err) {
    if (authz_may_use_host_processes(rq->kube->authz, rq->who, rq->ns))
        return OK;
    return err_set(err, ERR_FORBIDDEN,
                   "pods \"%s\" is forbidden: User \"%s\" cannot use resource \"hostprocesses\" in "
                   "API group \"inferd.io\" in the namespace \"%s\", which running a command in a "
                   "pod with the image \"host\" takes",
                   rq->name, rq->who->name, rq->ns);
}

static enum errc read_command(struct request *rq, char ***ret_argv, struct error *err) {
    const char *words[HTTP_QUERIES_MAX];
    size_t num = http_query_all(rq->x, "command", words, ARRAY_LEN(words));
    if (!num || !*words[0])
        return err_set(err, ERR_MALFORMED, "you must specify at least one command");
    char **argv = mem_array(num + 1, sizeof(argv[0]));
    for (size_t i = 0; i < num; i++)
        argv[i] = mem_strdup(words[i]);
    *ret_argv = argv;
    return OK;
}

static enum errc begin(struct request *rq, struct exec_tunnel *e, struct error *err) {
    AUTO_EXEC_TARGET target = EXEC_TARGET_INIT;
    enum errc rc = exec_target_read(rq, "exec", &target, err);
    if (!rc)
        rc = may_choose_command(rq, err);
    if (!rc)
        rc = read_command(rq, &e->argv, err);
    if (!rc)
        rc = exec_agree(rq, &e->wish, err);
    if (rc)
        return rc;
    e->channels = e->wish.channels;
    e->container = target.running;
    target.running = (struct running){.pidfd = -1};
    struct tunnel_source source = {.run = run, .destroy = destroy, .user = e};
    return tunnel_start(rq->kube->tunnels, rq->x, e->wish.upgrade, &source, err);
}

void exec_begin(struct request *rq) {
    struct error err = ERROR_INIT;
    struct exec_tunnel *e = mem_alloc(sizeof(*e));
    e->container.pidfd = -1;
    e->exec = (struct exec){.pidfd = -1, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    if (!begin(rq, e, &err))
        return;
    destroy(e);
    request_fail(rq, &err);
}
