/* attach: the output of the process that runs in a container, from now on.
 *
 * The daemon reads a container's pipes into its log (core/node/podlog.h), so attach follows the
 * log: whole lines, stdout and stderr in the order in which they were written, on the channel of
 * stdout. A container has no standard input here (it reads the end of file), so attaching one is
 * refused instead of sending a person's words nowhere. */
#include "kube-compat/exec.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "core/object.h"
#include "kube-compat/exec_target.h"

struct attach_tunnel {
    struct channels *channels;
    struct podlog_reader *reader;
    int more_fd; /* readable: the reader has more */
};

/* The podlog thread. */
static void note_more(void *user) {
    const struct attach_tunnel *a = user;
    uint64_t one = 1;
    ssize_t n = write(a->more_fd, &one, sizeof(one));
    (void)n; /* full: it is readable already */
}

/* False: the client has gone, or is not to be heard any more. */
static bool read_client(struct tunnel *t, struct attach_tunnel *a) {
    char data[TUNNEL_READ_BYTES_MAX];
    struct channel_event event;
    struct error err = ERROR_INIT;
    for (;;) {
        enum channels_result result;
        while ((result = a->channels->ops->next(a->channels, &t->out, &event, &err)) ==
               CHANNELS_EVENT) {} /* sizes of a terminal that is not there */
        if (result != CHANNELS_MORE)
            return false;
        size_t n = tunnel_read(t, data);
        if (!n)
            return !t->client_ended;
        a->channels->ops->feed(a->channels, data, n);
    }
}

/* Copies what the log has. False: the container has ended, and that was all. */
static bool copy_log(struct tunnel *t, struct attach_tunnel *a) {
    while (tunnel_has_room(t)) {
        AUTO_BUF text = BUF_INIT;
        bool more = podlog_reader_next(a->reader, TUNNEL_READ_BYTES_MAX, &text);
        if (text.len)
            a->channels->ops->write(a->channels, &t->out, CHANNEL_STDOUT, text.data, text.len);
        if (!more)
            return false;
        if (!text.len)
            return true;
    }
    return true;
}

static void run(struct tunnel *t, void *user) {
    struct attach_tunnel *a = user;
    if (!exec_channels_open(t, a->channels))
        return;
    for (;;) {
        uint64_t count;
        ssize_t got = read(a->more_fd, &count, sizeof(count)); /* before the log is read */
        (void)got;
        if (!read_client(t, a)) {
            tunnel_finish(t); /* why, if the client is to know */
            return;
        }
        if (!copy_log(t, a))
            break;
        if (tunnel_ping_due(t))
            a->channels->ops->ping(a->channels, &t->out);
        struct pollfd p[TUNNEL_POLLS + 1];
        tunnel_poll(t, p, true);
        p[TUNNEL_POLLS] =
            (struct pollfd){.fd = tunnel_has_room(t) ? a->more_fd : -1, .events = POLLIN};
        poll(p, TUNNEL_POLLS + 1, TUNNEL_PING_MS);
        if (!tunnel_polled(t, p))
            return;
    }
    exec_say_end(t, a->channels, 0, NULL);
}

static void destroy(void *user) {
    struct attach_tunnel *a = user;
    podlog_reader_close(a->reader); /* after it nobody notes more */
    channels_destroy(a->channels);
    if (a->more_fd >= 0)
        close(a->more_fd);
    free(a);
}

static enum errc open_log(struct request *rq, const struct exec_target *target,
                          struct attach_tunnel *a, struct error *err) {
    const struct running *r = &target->running;
    struct podlog_source source = {.ns = r->ns,
                                   .pod = r->pod,
                                   .uid = r->uid,
                                   .container = r->container,
                                   .restart = r->restart};
    struct podlog_read_options opt = {.tail_lines = 0, .limit_bytes = -1, .follow = true};
    a->more_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (a->more_fd < 0)
        return err_errno(err, "make an eventfd");
    if (podlog_reader_open(rq->kube->opt.podlog, &source, &opt, &a->reader, err))
        return err->code;
    podlog_reader_on_more(a->reader, note_more, a);
    return OK;
}

static enum errc begin(struct request *rq, struct attach_tunnel *a, struct error *err) {
    AUTO_EXEC_TARGET target = EXEC_TARGET_INIT;
    struct exec_wish wish;
    if (exec_target_read(rq, "attach", &target, err))
        return err->code;
    if (http_query_bool(rq->x, "stdin"))
        return err_set(
            err, ERR_MALFORMED,
            "container \"%s\" of pod \"%s\" has no standard input to attach to: "
            "inferd's containers read the end of file; attach without -i, or use exec -i",
            target.running.container, rq->name);
    if (open_log(rq, &target, a, err) || exec_agree(rq, &wish, err))
        return err->code;
    a->channels = wish.channels;
    struct tunnel_source source = {.run = run, .destroy = destroy, .user = a};
    return tunnel_start(rq->kube->tunnels, rq->x, wish.upgrade, &source, err);
}

void attach_begin(struct request *rq) {
    struct error err = ERROR_INIT;
    struct attach_tunnel *a = mem_alloc(sizeof(*a));
    a->more_fd = -1;
    if (!begin(rq, a, &err))
        return;
    destroy(a);
    request_fail(rq, &err);
}
