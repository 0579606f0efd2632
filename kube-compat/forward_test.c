/* port-forward as a client of sockets sees it: SPDY frames, raw and inside a WebSocket, targets
 * that answer, refuse and end, and streams that make no sense. */
#include "kube-compat/forward.h"

#include "core/object.h"
#include "core/spdy.h"
#include "core/websocket.h"
#include "kube-compat/tunnel_fixture_test.h"

/* ---- a target: a listener of the test's own user, which is the pod's ---- */

static int listen_somewhere(uint16_t *ret_port) {
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(any);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (void *)&any, sizeof(any)), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (void *)&any, &len), 0);
    *ret_port = ntohs(any.sin_port);
    return fd;
}

/* ---- a client ---- */

struct spdy_client {
    struct client c;
    bool in_websocket, opened;
    struct spdy_reader *reader;
    struct buf seen; /* "1+data|": what came on a stream, and its end */
};

static void spdy_client_end(struct spdy_client *s) {
    client_end(&s->c);
    spdy_reader_destroy(s->reader);
    buf_deinit(&s->seen);
}
#define AUTO_SPDY_CLIENT __attribute__((cleanup(spdy_client_end))) struct spdy_client

static void send_frames(struct spdy_client *s, const struct buf *frames) {
    AUTO_BUF out = BUF_INIT;
    if (!s->in_websocket) {
        client_send(&s->c, frames->data, frames->len);
        return;
    }
    websocket_write_head(&out, WEBSOCKET_BINARY, frames->len);
    out.data[1] = (char)(out.data[1] | 0x80);
    buf_append(&out, "\0\0\0\0", 4); /* a mask that changes nothing */
    buf_append(&out, frames->data, frames->len);
    client_send(&s->c, out.data, out.len);
}

static void put_u32(struct buf *out, uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8)
        buf_putc(out, (char)(value >> shift));
}

static void put_text(struct buf *out, const char *text) {
    put_u32(out, (uint32_t)strlen(text));
    buf_puts(out, text);
}

/* A SYN_STREAM whose headers are a stored block. */
static void open_stream(struct spdy_client *s, uint32_t stream, const char *type, unsigned port,
                        const char *id) {
    AUTO_BUF block = BUF_INIT;
    AUTO_BUF body = BUF_INIT;
    AUTO_BUF frame = BUF_INIT;
    AUTO_FREE char *number = mem_printf("%u", port);
    put_u32(&block, 3);
    put_text(&block, "streamtype");
    put_text(&block, type);
    put_text(&block, "port");
    put_text(&block, number);
    put_text(&block, "requestid");
    put_text(&block, id);
    put_u32(&body, stream);
    put_u32(&body, 0);
    buf_append(&body, "\0\0", 2);
    if (!s->opened)
        buf_append(&body, "\x78\x01", 2);
    s->opened = true;
    buf_putc(&body, 0);
    buf_putc(&body, (char)block.len);
    buf_putc(&body, (char)(block.len >> 8));
    buf_putc(&body, (char)~block.len);
    buf_putc(&body, (char)(~block.len >> 8));
    buf_append(&body, block.data, block.len);
    buf_append(&body, "\0\0\0\xff\xff", 5);
    put_u32(&frame, 0x80030001u);
    put_u32(&frame, (uint32_t)body.len);
    buf_append(&frame, body.data, body.len);
    send_frames(s, &frame);
}

static void send_data(struct spdy_client *s, uint32_t stream, const char *text, bool fin) {
    AUTO_BUF frame = BUF_INIT;
    spdy_write_data(&frame, stream, text, strlen(text), fin);
    send_frames(s, &frame);
}

static void dial_forward(struct spdy_client *s, bool in_websocket) {
    *s = (struct spdy_client){.in_websocket = in_websocket, .reader = spdy_reader_create()};
    client_dial(&s->c);
    AUTO_FREE char *request =
        mem_printf("%s /api/v1/namespaces/default/pods/p/portforward HTTP/1.1\r\nHost: "
                   "h\r\nConnection: Upgrade\r\n%s\r\n",
                   in_websocket ? "GET" : "POST",
                   in_websocket ? "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                                  "Sec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io\r\n"
                                : "Upgrade: SPDY/3.1\r\nContent-Length: 0\r\n"
                                  "X-Stream-Protocol-Version: portforward.k8s.io\r\n");
    client_send(&s->c, request, strlen(request));
    char *end;
    while (!s->c.in.data || !(end = strstr(s->c.in.data, "\r\n\r\n")))
        assert_true(client_read(&s->c));
    assert_memory_equal(s->c.in.data, "HTTP/1.1 101 ", 13);
    buf_consume(&s->c.in, (size_t)(end + 4 - s->c.in.data));
}

/* Moves what came into the SPDY reader, out of its messages if there are any. */
static void unwrap(struct spdy_client *s) {
    struct buf *in = &s->c.in;
    if (!s->in_websocket) {
        spdy_feed(s->reader, in->data, in->len);
        buf_clear(in);
        return;
    }
    while (in->len >= 2) {
        const unsigned char *p = (const unsigned char *)in->data;
        size_t extra = p[1] == 126 ? 2 : p[1] == 127 ? 8 : 0, len = extra ? 0 : p[1];
        if (in->len < 2 + extra)
            return;
        for (size_t i = 0; i < extra; i++)
            len = len << 8 | p[2 + i];
        if (in->len < 2 + extra + len)
            return;
        if (p[0] == 0x82)
            spdy_feed(s->reader, p + 2 + extra, len);
        buf_consume(in, 2 + extra + len);
    }
}

static void take_events(struct spdy_client *s) {
    struct spdy_event e;
    struct error err = ERROR_INIT;
    unwrap(s);
    while (spdy_next(s->reader, &e, &err) == SPDY_EVENT) {
        if (e.type == SPDY_DATA && e.len)
            buf_printf(&s->seen, "%u+%.*s", e.stream, (int)e.len, e.data);
        if (e.type == SPDY_DATA && e.fin)
            buf_printf(&s->seen, "%u|", e.stream);
        if (e.type == SPDY_RESET)
            buf_printf(&s->seen, "%u-", e.stream);
        if (e.type == SPDY_PING)
            buf_printf(&s->seen, "ping%u", e.ping_id);
    }
    assert_int_equal(err.code, OK);
}

static void read_seen(struct spdy_client *s, const char *text) {
    for (take_events(s); !s->seen.data || !strstr(s->seen.data, text); take_events(s))
        assert_true(client_read(&s->c));
}

/* ---- the promises ---- */

static void connections_carry_both_ways_and_end_by_halves(void **state) {
    uint16_t port;
    int listener = listen_somewhere(&port);
    for (int i = 0; i < 2; i++) {
        AUTO_SPDY_CLIENT s;
        char data[64] = "";
        dial_forward(&s, i == 1);
        open_stream(&s, 1, "error", port, "0");
        send_data(&s, 1, "", true);
        open_stream(&s, 3, "data", port, "0");
        open_stream(&s, 5, "error", port, "1"); /* a second one, through the same tunnel */
        open_stream(&s, 7, "data", port, "1");
        int first = accept(listener, NULL, NULL), second = accept(listener, NULL, NULL);
        send_data(&s, 7, "to the second", false);
        assert_int_equal(recv(second, data, 13, MSG_WAITALL), 13);
        assert_string_equal(data, "to the second");
        assert_int_equal(send(first, "from the first", 14, 0), 14);
        read_seen(&s, "3+from the first");
        send_data(&s, 3, "the end", true);
        memset(data, 0, sizeof(data));
        assert_int_equal(recv(first, data, 8, MSG_WAITALL), 7); /* and the end itself */
        assert_int_equal(send(first, "answer", 6, 0), 6);       /* its other half goes on */
        read_seen(&s, "3+answer");
        close(first);
        read_seen(&s, "3|1|");
        close(second);
        read_seen(&s, "7|5|");
        assert_null(strstr(s.seen.data, "5+"));
    }
    close(listener);
}

static void a_port_of_somebody_else_is_told_on_the_error_stream(void **state) {
    uint16_t port;
    close(listen_somewhere(&port)); /* nobody's now */
    AUTO_SPDY_CLIENT s;
    dial_forward(&s, false);
    open_stream(&s, 1, "error", port, "0");
    open_stream(&s, 3, "data", port, "0");
    AUTO_FREE char *want = mem_printf("1+no process of the pod listens on port %u3|1|", port);
    read_seen(&s, want);
}

static void streams_that_make_no_sense_are_refused(void **state) {
    AUTO_SPDY_CLIENT s;
    AUTO_BUF frames = BUF_INIT;
    AUTO_BUF large_id = BUF_INIT;
    for (int i = 0; i < 80; i++)
        buf_putc(&large_id, 'i');
    dial_forward(&s, true);
    open_stream(&s, 1, "stdin", 80, "0");
    open_stream(&s, 3, "data", 0, "0");
    open_stream(&s, 5, "data", 80000, "0");
    open_stream(&s, 7, "data", 80, large_id.data);
    open_stream(&s, 9, "data", 80, "0");
    open_stream(&s, 11, "data", 80, "0");  /* again */
    open_stream(&s, 13, "error", 81, "0"); /* another port */
    spdy_write_ping(&frames, 1);
    send_frames(&s, &frames);
    read_seen(&s, "ping1");
    assert_string_equal(s.seen.data, "1-3-5-7-11-13-ping1");
}

static void pairs_are_bounded(void **state) {
    AUTO_SPDY_CLIENT s;
    dial_forward(&s, false);
    for (uint32_t i = 0; i <= FORWARD_PAIRS_MAX; i++) {
        AUTO_FREE char *id = mem_printf("%u", i);
        open_stream(&s, 2 * i + 1, "data", 80, id);
    }
    AUTO_FREE char *refused = mem_printf("%d-", 2 * FORWARD_PAIRS_MAX + 1);
    read_seen(&s, refused);
    assert_string_equal(s.seen.data, refused);
}

/* The target sees the end when the client goes, whatever was open. */
static void targets_end_with_the_client(void **state) {
    uint16_t port;
    int listener = listen_somewhere(&port);
    for (int i = 0; i < 2; i++) {
        AUTO_SPDY_CLIENT s;
        char byte;
        dial_forward(&s, i == 1);
        open_stream(&s, 1, "error", port, "0");
        open_stream(&s, 3, "data", port, "0");
        int target = accept(listener, NULL, NULL);
        if (i == 1) /* a reset of the stream alone */
            open_stream(&s, 5, "error", port, "1");
        close(s.c.fd);
        s.c.fd = -1;
        assert_true(recv(target, &byte, 1, 0) <= 0);
        close(target);
    }
    close(listener);
}

static void a_reset_ends_one_connection(void **state) {
    uint16_t port;
    char byte;
    int listener = listen_somewhere(&port);
    AUTO_SPDY_CLIENT s;
    AUTO_BUF frames = BUF_INIT;
    dial_forward(&s, true);
    open_stream(&s, 1, "error", port, "0");
    open_stream(&s, 3, "data", port, "0");
    int target = accept(listener, NULL, NULL);
    spdy_write_reset(&frames, 3, SPDY_CANCEL);
    send_frames(&s, &frames);
    assert_true(recv(target, &byte, 1, 0) <= 0);
    read_seen(&s, "3|1|"); /* clients wait for the end of the error stream */
    close(target);
    close(listener);
}

/* An end that comes while the target is still being dialled: its queue is full, so that takes until
 * the kernel asks a second time. */
static void an_end_waits_for_the_connection(void **state) {
    uint16_t port;
    char byte;
    int listener = listen_somewhere(&port);
    assert_int_equal(listen(listener, 0), 0);
    AUTO_CLIENT first;
    client_dial_port(&first, port);
    AUTO_SPDY_CLIENT s;
    AUTO_BUF ping = BUF_INIT;
    dial_forward(&s, false);
    open_stream(&s, 1, "error", port, "0");
    open_stream(&s, 3, "data", port, "0");
    send_data(&s, 3, "", true);
    spdy_write_ping(&ping, 1);
    send_frames(&s, &ping);
    read_seen(&s, "ping1");
    close(accept(listener, NULL, NULL));
    struct pollfd p = {.fd = listener, .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    int target = accept(listener, NULL, NULL);
    assert_int_equal(recv(target, &byte, 1, 0), 0);
    assert_int_equal(send(target, "late", 4, 0), 4);
    read_seen(&s, "3+late");
    close(target);
    read_seen(&s, "3|1|");
    close(listener);
}

static void much_arrives_whole(void **state) {
    enum { BYTES = 8 << 20 };
    uint16_t port;
    int listener = listen_somewhere(&port);
    AUTO_SPDY_CLIENT s;
    dial_forward(&s, true);
    open_stream(&s, 1, "error", port, "0");
    open_stream(&s, 3, "data", port, "0");
    int target = accept(listener, NULL, NULL);
    AUTO_FREE char *data = mem_alloc(BYTES);
    size_t sent = 0, got = 0;
    struct spdy_event e;
    struct error err = ERROR_INIT;
    bool fin = false;
    while (!fin) {
        ssize_t n = send(target, data, sent < BYTES ? 65536 : 0, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        if (sent >= BYTES)
            shutdown(target, SHUT_WR);
        struct pollfd p = {.fd = s.c.fd, .events = POLLIN};
        if (sent < BYTES && !poll(&p, 1, 0))
            continue;
        assert_true(client_read(&s.c));
        unwrap(&s);
        while (spdy_next(s.reader, &e, &err) == SPDY_EVENT) {
            got += e.type == SPDY_DATA && e.stream == 3 ? e.len : 0;
            fin = fin || (e.type == SPDY_DATA && e.stream == 3 && e.fin);
        }
    }
    assert_int_equal(got, sent);
    close(target);
    close(listener);
}

/* ---- channels, as clients in other languages have them ---- */

/* The next binary message; its channel. -1: the WebSocket was closed. */
static int next_message(struct client *c, struct buf *ret_data) {
    buf_clear(ret_data);
    for (;;) {
        const unsigned char *p = (const unsigned char *)c->in.data;
        size_t have = c->in.len;
        if (have >= 2 && p[1] < 126 && have >= 2u + p[1]) {
            int channel = p[0] == 0x82 ? p[2] : -1;
            if (channel >= 0)
                buf_append(ret_data, p + 3, p[1] - 1u);
            buf_consume(&c->in, 2u + p[1]);
            return channel;
        }
        assert_true(client_read(c));
    }
}

static int dial_channels(struct client *c, const char *query) {
    client_dial(c);
    AUTO_FREE char *request =
        mem_printf("GET /api/v1/namespaces/default/pods/p/portforward%s HTTP/1.1\r\nHost: h\r\n"
                   "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                   "Sec-WebSocket-Protocol: v5.channel.k8s.io, v4.channel.k8s.io\r\n\r\n",
                   query);
    client_send(c, request, strlen(request));
    char *end;
    while (!c->in.data || !(end = strstr(c->in.data, "\r\n\r\n")))
        assert_true(client_read(c));
    int status = (int)strtol(c->in.data + 9, NULL, 10);
    buf_consume(&c->in, (size_t)(end + 4 - c->in.data));
    return status;
}

static void channels_carry_one_connection_for_each_port(void **state) {
    uint16_t port, nobodys;
    int listener = listen_somewhere(&port);
    close(listen_somewhere(&nobodys));
    AUTO_CLIENT c;
    AUTO_BUF data = BUF_INIT;
    AUTO_FREE char *query = mem_printf("?ports=%u&ports=%u", port, nobodys);
    assert_int_equal(dial_channels(&c, query), 101);
    for (int channel = 0; channel < 4; channel++) { /* each says its port; the second one's error */
        if (next_message(&c, &data) != channel)
            fail_msg("channel %d does not say its port", channel);
        unsigned said = (unsigned char)data.data[0] | (unsigned)(unsigned char)data.data[1] << 8;
        assert_int_equal(said, channel < 2 ? port : nobodys);
    }
    assert_int_equal(next_message(&c, &data), 3);
    assert_non_null(strstr(data.data, "no process of the pod listens"));
    int target = accept(listener, NULL, NULL);
    static const char masked[] = "\x82\x86\0\0\0\0\0hello";
    client_send(&c, masked, sizeof(masked) - 1);
    char got[8] = "";
    assert_int_equal(recv(target, got, 5, MSG_WAITALL), 5);
    assert_string_equal(got, "hello");
    assert_int_equal(send(target, "answer", 6, 0), 6);
    assert_int_equal(next_message(&c, &data), 0);
    assert_string_equal(data.data, "answer");
    close(target); /* the last one: nothing is to come */
    assert_int_equal(next_message(&c, &data), -1);
    close(listener);
}

static void channels_need_ports(void **state) {
    static const char *const bad[] = {"",         "?ports=",         "?ports=x",
                                      "?ports=0", "?ports=80,65536", "?ports=80;81"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        AUTO_CLIENT c;
        assert_int_equal(dial_channels(&c, bad[i]), 400);
    }
    AUTO_BUF many = BUF_INIT;
    for (int i = 1; i <= 40; i++)
        buf_printf(&many, "%s%d", i == 1 ? "?ports=" : ",", i);
    AUTO_CLIENT c;
    assert_int_equal(dial_channels(&c, many.data), 413);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_carry_both_ways_and_end_by_halves),
        cmocka_unit_test(a_port_of_somebody_else_is_told_on_the_error_stream),
        cmocka_unit_test(streams_that_make_no_sense_are_refused),
        cmocka_unit_test(pairs_are_bounded),
        cmocka_unit_test(targets_end_with_the_client),
        cmocka_unit_test(a_reset_ends_one_connection),
        cmocka_unit_test(an_end_waits_for_the_connection),
        cmocka_unit_test(much_arrives_whole),
        cmocka_unit_test(channels_carry_one_connection_for_each_port),
        cmocka_unit_test(channels_need_ports),
    };
    container_user = getuid(); /* whose listeners are the pod's */
    return cmocka_run_group_tests(tests, start, stop);
}
