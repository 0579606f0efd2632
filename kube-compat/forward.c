/* port-forward: many connections to ports of one pod, through one connection of the client's.
 *
 *   client ══ tunnel ══ [WebSocket] ══ SPDY ══ pair: error stream, data stream ◀─▶ socket
 *
 * Older kubectls speak SPDY at once; newer ones put the very same bytes into the binary messages of
 * a WebSocket, whose borders mean nothing. Clients in other languages know neither: theirs is
 * v4.channel.k8s.io, one connection for each port that the query names, with two channels, whose
 * first message is the port; it has no ends but that of all.
 *
 * In SPDY the client opens two streams for each connection, which have the header `requestid` in
 * common. When both are there the target is dialled; what goes wrong is told as text on the error
 * stream. Each direction of a pair ends by itself, as it does in TCP.
 *
 * One loop on the tunnel's thread owns everything. What waits for a target is bounded; when it is
 * there the client is not read, which holds up the other pairs of the same tunnel, too. */
#include "kube-compat/forward.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/spdy.h"
#include "core/websocket.h"
#include "kube-compat/reach.h"
#include "kube-compat/rest.h"
#include "kube-compat/tunnel.h"
#include "kube-compat/upgrade.h"

enum { REQUEST_ID_BYTES_MAX = 64, FORWARD_PORTS_MAX = 32, WHY_BYTES_MAX = 128 };

static const char *const websocket_protocols[] = {"SPDY/3.1+portforward.k8s.io",
                                                  "v4.channel.k8s.io", NULL};
static const char *const spdy_protocols[] = {"portforward.k8s.io", NULL};

/* One connection. A slot is free when it has no stream. */
struct pair {
    char request_id[REQUEST_ID_BYTES_MAX];
    uint32_t error_stream, data_stream; /* 0: not open */
    uint16_t port;
    int fd;           /* the target's; -1: not dialled yet, or through */
    struct buf input; /* for the target */
    size_t input_sent;
    bool connected;                  /* before that nothing is sent, not even an end */
    bool client_ended, target_ended; /* sends nothing more */
    bool shut;                       /* the target knows that the client has ended */
};

struct forward {
    struct reach *reach;
    bool in_websocket;
    bool in_channels; /* of the WebSocket; stream N of a pair is channel N - 1 then */
    struct websocket_reader websocket;
    struct spdy_reader *spdy;
    struct spdy_writer writer;
    struct buf out; /* SPDY, before it is put into messages; in_channels: messages */
    uint32_t last_stream;
    struct pair pairs[FORWARD_PAIRS_MAX];
    bool closing; /* the client is through */
};

/* ---- pairs ---- */

static bool is_free(const struct pair *p) {
    return !p->error_stream && !p->data_stream;
}

static void pair_free(struct pair *p) {
    if (p->fd >= 0)
        close(p->fd);
    buf_deinit(&p->input);
    *p = (struct pair){.fd = -1};
}

static struct pair *find_pair(struct forward *f, const char *request_id) {
    struct pair *unused = NULL;
    for (size_t i = 0; i < FORWARD_PAIRS_MAX; i++) {
        struct pair *p = &f->pairs[i];
        if (!is_free(p) && !strcmp(p->request_id, request_id))
            return p;
        if (is_free(p) && !unused)
            unused = p;
    }
    return unused;
}

static struct pair *pair_of_stream(struct forward *f, uint32_t stream) {
    for (size_t i = 0; stream && i < FORWARD_PAIRS_MAX; i++) {
        if (f->pairs[i].error_stream == stream || f->pairs[i].data_stream == stream)
            return &f->pairs[i];
    }
    return NULL;
}

static size_t input_waiting(const struct pair *p) {
    return p->input.len - p->input_sent;
}

static void write_stream(struct forward *f, uint32_t stream, const void *data, size_t len,
                         bool fin) {
    if (!f->in_channels) {
        spdy_write_data(&f->out, stream, data, len, fin);
    } else if (len) {
        websocket_write_head(&f->out, WEBSOCKET_BINARY, len + 1);
        buf_putc(&f->out, (char)(stream - 1));
        buf_append(&f->out, data, len);
    }
}

/* We send nothing more on either stream. Clients wait for the end of both. */
static void end_output(struct forward *f, struct pair *p) {
    if (p->target_ended)
        return;
    p->target_ended = true;
    if (p->data_stream)
        write_stream(f, p->data_stream, "", 0, true);
    if (p->error_stream)
        write_stream(f, p->error_stream, "", 0, true);
}

/* why: what went wrong, if the client can still be told; NULL: nothing. */
static void end_pair(struct forward *f, struct pair *p, const char *why) {
    if (why && !p->target_ended)
        write_stream(f, p->error_stream, why, strlen(why), false);
    end_output(f, p);
    pair_free(p);
}

static void dial(struct forward *f, struct pair *p) {
    struct error err = ERROR_INIT;
    if (!reach_connect(f->reach, p->port, &p->fd, &err))
        return;
    end_pair(f, p, err.text);
}

/* ---- from the client ---- */

static void open_stream(struct forward *f, const struct spdy_event *e) {
    const char *type = spdy_header(e, "streamtype"), *port = spdy_header(e, "port");
    const char *id = spdy_header(e, "requestid");
    bool error = type && !strcmp(type, "error"), data = type && !strcmp(type, "data");
    long number = port ? strtol(port, NULL, 10) : 0;
    struct pair *p = id && strlen(id) < REQUEST_ID_BYTES_MAX ? find_pair(f, id) : NULL;
    f->last_stream = e->stream;
    if (!p || (!error && !data) || (error ? p->error_stream : p->data_stream) || number <= 0 ||
        number > UINT16_MAX || (!is_free(p) && p->port != number)) {
        spdy_write_reset(&f->out, e->stream, SPDY_REFUSED_STREAM);
        return;
    }
    spdy_write_reply(&f->writer, &f->out, e->stream);
    p->port = (uint16_t)number;
    snprintf(p->request_id, sizeof(p->request_id), "%s", id);
    *(error ? &p->error_stream : &p->data_stream) = e->stream;
    if (data && e->fin)
        p->client_ended = true;
    if (p->error_stream && p->data_stream)
        dial(f, p);
}

static void take_data(struct forward *f, uint32_t stream, const char *data, size_t len, bool fin) {
    struct pair *p = pair_of_stream(f, stream);
    if (!p || stream != p->data_stream || p->client_ended)
        return; /* the error stream, or a pair that is through */
    buf_append(&p->input, data, len);
    p->client_ended = fin;
}

static void take_event(struct forward *f, const struct spdy_event *e) {
    struct pair *p;
    switch (e->type) {
    case SPDY_OPEN:
        open_stream(f, e);
        break;
    case SPDY_DATA:
        take_data(f, e->stream, e->data, e->len, e->fin);
        break;
    case SPDY_RESET:
        p = pair_of_stream(f, e->stream);
        if (p && e->stream == p->data_stream)
            end_pair(f, p, NULL);
        break;
    case SPDY_PING:
        spdy_write_ping(&f->out, e->ping_id);
        break;
    case SPDY_GOAWAY:
        f->closing = true;
        break;
    }
}

/* Everything that is in the SPDY reader. False: the client broke the protocol. */
static bool read_spdy(struct forward *f) {
    struct spdy_event e;
    struct error err = ERROR_INIT;
    for (;;) {
        switch (spdy_next(f->spdy, &e, &err)) {
        case SPDY_MORE:
            return true;
        case SPDY_FAILED:
            spdy_write_goaway(&f->out, f->last_stream);
            return false;
        case SPDY_EVENT:
            take_event(f, &e);
        }
    }
}

/* Everything that is in the WebSocket reader. False: the client is through, or broke it. */
static bool read_websocket(struct tunnel *t, struct forward *f) {
    for (;;) {
        struct websocket_message m;
        enum websocket_code code;
        struct error err = ERROR_INIT;
        switch (websocket_next(&f->websocket, &m, &code, &err)) {
        case WEBSOCKET_MORE:
            return true;
        case WEBSOCKET_FAILED:
            websocket_write_close(&t->out, code, err.text);
            return false;
        case WEBSOCKET_MESSAGE:
            break;
        }
        if (m.opcode == WEBSOCKET_CLOSE) {
            websocket_write_close(&t->out, WEBSOCKET_NORMAL, "");
            return false;
        }
        if (m.opcode == WEBSOCKET_PING)
            websocket_write(&t->out, WEBSOCKET_PONG, m.data, m.len);
        if (m.opcode == WEBSOCKET_BINARY && m.len && f->in_channels)
            take_data(f, (unsigned char)m.data[0] + 1u, m.data + 1, m.len - 1, false);
        if (m.opcode != WEBSOCKET_BINARY || f->in_channels)
            continue;
        spdy_feed(f->spdy, m.data, m.len);
        if (!read_spdy(f))
            return false;
    }
}

static bool wants_client(const struct forward *f) {
    for (size_t i = 0; i < FORWARD_PAIRS_MAX; i++) {
        if (input_waiting(&f->pairs[i]) >= FORWARD_INPUT_BYTES_MAX)
            return false;
    }
    return true;
}

/* False: the client is through, or is not to be heard any more. */
static bool read_client(struct tunnel *t, struct forward *f) {
    char data[TUNNEL_READ_BYTES_MAX];
    while (wants_client(f)) {
        size_t n = tunnel_read(t, data);
        if (!n)
            return !t->client_ended && !f->closing;
        if (f->in_websocket)
            websocket_feed(&f->websocket, data, n);
        else
            spdy_feed(f->spdy, data, n);
        if (!(f->in_websocket ? read_websocket(t, f) : read_spdy(f)))
            return false;
    }
    return !f->closing;
}

/* ---- targets ---- */

/* verb: what did not work, for the reason in errno. */
static void fail_pair(struct forward *f, struct pair *p, const char *verb) {
    char why[WHY_BYTES_MAX];
    snprintf(why, sizeof(why), "%s port %u of the pod: %m", verb, p->port);
    end_pair(f, p, why);
}

/* Sees how the connection that is being made gets on. */
static void connect_target(struct forward *f, struct pair *p) {
    struct pollfd made = {.fd = p->fd, .events = POLLOUT};
    int error = 0;
    socklen_t len = sizeof(error);
    if (p->connected || poll(&made, 1, 0) <= 0)
        return;
    if (!getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &len))
        errno = error;
    p->connected = !errno;
    if (!p->connected)
        fail_pair(f, p, "connect to");
}

static void write_target(struct forward *f, struct pair *p) {
    while (input_waiting(p)) {
        ssize_t n = send(p->fd, p->input.data + p->input_sent, input_waiting(p), MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) {
            fail_pair(f, p, "write to");
            return;
        }
        p->input_sent += (size_t)n;
    }
    buf_clear(&p->input);
    p->input_sent = 0;
    if (p->client_ended && !p->shut) {
        shutdown(p->fd, SHUT_WR); /* fails when the target has cut the connection: reading tells */
        p->shut = true;
    }
    if (p->shut && p->target_ended)
        end_pair(f, p, NULL);
}

static bool has_room(const struct tunnel *t, const struct forward *f) {
    return tunnel_unsent(t) + f->out.len < TUNNEL_OUT_BYTES_MAX;
}

static void read_target(const struct tunnel *t, struct forward *f, struct pair *p) {
    char data[TUNNEL_READ_BYTES_MAX];
    while (!p->target_ended && has_room(t, f)) {
        ssize_t n = recv(p->fd, data, sizeof(data), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) {
            fail_pair(f, p, "read from");
            return;
        }
        if (n)
            write_stream(f, p->data_stream, data, (size_t)n, false);
        else
            end_output(f, p);
    }
    if (p->shut && p->target_ended)
        end_pair(f, p, NULL);
}

static void pump_targets(struct tunnel *t, struct forward *f) {
    for (size_t i = 0; i < FORWARD_PAIRS_MAX; i++) {
        struct pair *p = &f->pairs[i];
        if (p->fd >= 0)
            connect_target(f, p);
        if (p->connected)
            write_target(f, p);
        if (p->connected)
            read_target(t, f, p);
    }
}

/* ---- the loop ---- */

/* What was written as SPDY, on its way to the client. */
static void hand_over(struct tunnel *t, struct forward *f) {
    if (f->in_websocket && !f->in_channels && f->out.len)
        websocket_write_head(&t->out, WEBSOCKET_BINARY, f->out.len);
    buf_append(&t->out, f->out.data, f->out.len);
    buf_clear(&f->out);
}

static void ping(struct tunnel *t, struct forward *f) {
    if (f->in_websocket)
        websocket_write(&t->out, WEBSOCKET_PING, "", 0);
    else
        spdy_write_ping(&t->out, 2);
}

static bool wait(struct tunnel *t, struct forward *f) {
    struct pollfd polls[TUNNEL_POLLS + FORWARD_PAIRS_MAX];
    nfds_t num = TUNNEL_POLLS;
    bool room = has_room(t, f);
    tunnel_poll(t, polls, wants_client(f));
    for (size_t i = 0; i < FORWARD_PAIRS_MAX; i++) {
        const struct pair *p = &f->pairs[i];
        bool writes = input_waiting(p) || (p->client_ended && !p->shut);
        unsigned events =
            (writes || !p->connected ? POLLOUT : 0) | (room && !p->target_ended ? POLLIN : 0);
        if (p->fd >= 0 && events)
            polls[num++] = (struct pollfd){.fd = p->fd, .events = (short)events};
    }
    poll(polls, num, TUNNEL_PING_MS);
    return tunnel_polled(t, polls);
}

/* Channels say their port first, and are dialled at once. */
static void open_channels(struct forward *f) {
    for (size_t i = 0; i < FORWARD_PAIRS_MAX && !is_free(&f->pairs[i]); i++) {
        struct pair *p = &f->pairs[i];
        const char port[] = {(char)p->port, (char)(p->port >> 8)};
        write_stream(f, p->data_stream, port, sizeof(port), false);
        write_stream(f, p->error_stream, port, sizeof(port), false);
        dial(f, p);
    }
}

/* No channel is left: there is nothing to come. */
static bool channels_ended(const struct forward *f) {
    for (size_t i = 0; i < FORWARD_PAIRS_MAX; i++) {
        if (!is_free(&f->pairs[i]) && !f->pairs[i].target_ended)
            return false;
    }
    return true;
}

static void run(struct tunnel *t, void *user) {
    struct forward *f = user;
    bool go_on = true;
    if (f->in_channels)
        open_channels(f);
    while (go_on) {
        go_on = read_client(t, f);
        pump_targets(t, f);
        if (tunnel_ping_due(t))
            ping(t, f);
        hand_over(t, f);
        if (go_on && f->in_channels && channels_ended(f)) {
            websocket_write_close(&t->out, WEBSOCKET_NORMAL, "");
            break;
        }
        tunnel_send(t);
        go_on = go_on && wait(t, f);
    }
    for (size_t i = 0; i < FORWARD_PAIRS_MAX; i++)
        pair_free(&f->pairs[i]);
    tunnel_finish(t);
}

static void destroy(void *user) {
    struct forward *f = user;
    for (size_t i = 0; i < FORWARD_PAIRS_MAX; i++)
        pair_free(&f->pairs[i]);
    reach_destroy(f->reach);
    websocket_reader_deinit(&f->websocket);
    spdy_reader_destroy(f->spdy);
    buf_deinit(&f->out);
    free(f);
}

/* ---- the request ---- */

/* ports=80&ports=81, or ports=80,81: two channels each. */
static enum errc read_ports(struct request *rq, struct forward *f, struct error *err) {
    const char *values[FORWARD_PORTS_MAX];
    size_t num_values = http_query_all(rq->x, "ports", values, FORWARD_PORTS_MAX), num = 0;
    for (size_t i = 0; i < num_values && i < FORWARD_PORTS_MAX; i++) {
        for (const char *at = values[i]; *at;) {
            char *end;
            long port = strtol(at, &end, 10);
            if (end == at || (*end && *end != ',') || port <= 0 || port > UINT16_MAX)
                return err_set(err, ERR_MALFORMED, "ports: \"%.64s\" is no port", at);
            if (num == FORWARD_PORTS_MAX)
                break;
            struct pair *p = &f->pairs[num];
            p->port = (uint16_t)port;
            p->data_stream = (uint32_t)(2 * num + 1);
            p->error_stream = (uint32_t)(2 * num + 2);
            num++;
            at = *end ? end + 1 : end;
        }
    }
    if (!num)
        return err_set(err, ERR_MALFORMED, "query parameter \"ports\" is required");
    if (num == FORWARD_PORTS_MAX)
        return err_set(err, ERR_TOO_LARGE, "%d ports or more", FORWARD_PORTS_MAX);
    return OK;
}

static enum errc agree(struct request *rq, struct forward *f, const char **ret_upgrade,
                       struct error *err) {
    const char *protocol;
    switch (upgrade_wanted(rq->x)) {
    case UPGRADE_WEBSOCKET:
        f->in_websocket = true;
        *ret_upgrade = UPGRADE_WEBSOCKET_NAME;
        if (upgrade_websocket(rq->x, websocket_protocols, false, &protocol, err))
            return err->code;
        f->in_channels = protocol == websocket_protocols[1];
        return f->in_channels ? read_ports(rq, f, err) : OK;
    case UPGRADE_SPDY:
        *ret_upgrade = UPGRADE_SPDY_NAME;
        return upgrade_spdy(rq->x, spdy_protocols, &protocol, err);
    default:
        return err_set(err, ERR_MALFORMED, "Upgrade request required");
    }
}

static enum errc begin(struct request *rq, struct forward *f, struct error *err) {
    AUTO(store_object) pod = NULL;
    const char *upgrade = NULL;
    enum errc rc = rest_read(rq, &pod, err);
    if (!rc)
        rc = reach_create(rq->kube->opt.running, steal(pod), &f->reach, err);
    if (!rc)
        rc = agree(rq, f, &upgrade, err);
    if (rc)
        return rc;
    struct tunnel_source source = {.run = run, .destroy = destroy, .user = f};
    return tunnel_start(rq->kube->tunnels, rq->x, upgrade, &source, err);
}

void forward_begin(struct request *rq) {
    struct error err = ERROR_INIT;
    struct forward *f = mem_alloc(sizeof(*f));
    f->spdy = spdy_reader_create();
    for (size_t i = 0; i < FORWARD_PAIRS_MAX; i++)
        f->pairs[i].fd = -1;
    if (!begin(rq, f, &err))
        return;
    destroy(f);
    request_fail(rq, &err);
}
