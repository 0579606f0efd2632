/* Watches over a WebSocket, as browsers have them: a text message for each event. */
#include "kube-compat/stream.h"

#include "core/object.h"
#include "core/websocket.h"
#include "kube-compat/tunnel_fixture_test.h"

/* Opens a watch of pods; gives the head of the answer. */
static char *open_watch(struct client *c, const char *query, const char *headers) {
    client_dial(c);
    AUTO_FREE char *request =
        mem_printf("GET /api/v1/namespaces/default/pods?watch=true%s HTTP/1.1\r\nHost: h\r\n"
                   "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
                   "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                   "%s\r\n",
                   query, headers);
    client_send(c, request, strlen(request));
    char *end;
    while (!c->in.data || !(end = strstr(c->in.data, "\r\n\r\n")))
        assert_true(client_read(c));
    char *head = mem_strndup(c->in.data, (size_t)(end - c->in.data) + 4);
    buf_consume(&c->in, strlen(head));
    return head;
}

static void send_frame(struct client *c, unsigned first, const char *data, size_t len) {
    AUTO_BUF frame = BUF_INIT;
    websocket_write_head(&frame, first & 0x0f, len);
    frame.data[0] = (char)first;
    frame.data[1] = (char)(frame.data[1] | 0x80);
    buf_append(&frame, "\0\0\0\0", 4); /* a mask that changes nothing */
    buf_append(&frame, data, len);
    client_send(c, frame.data, frame.len);
}

/* The next frame's first byte, and its payload. 0: the connection has ended. */
static unsigned next_frame(struct client *c, struct buf *ret_payload) {
    buf_clear(ret_payload);
    for (;;) {
        const unsigned char *p = (const unsigned char *)c->in.data;
        size_t have = c->in.len;
        size_t extra = have < 2 ? 0 : p[1] == 126 ? 2 : p[1] == 127 ? 8 : 0;
        if (have >= 2 + extra) {
            size_t len = extra ? 0 : p[1];
            for (size_t i = 0; i < extra; i++)
                len = len << 8 | p[2 + i];
            if (have >= 2 + extra + len) {
                unsigned first = p[0];
                buf_append(ret_payload, p + 2 + extra, len);
                buf_consume(&c->in, 2 + extra + len);
                return first;
            }
        }
        if (!client_read(c))
            return 0;
    }
}

/* "ADDED p": type and name of the next event. */
static char *next_event(struct client *c) {
    AUTO_BUF payload = BUF_INIT;
    assert_int_equal(next_frame(c, &payload), 0x81);
    assert_null(memchr(payload.data, '\n', payload.len));
    json_t *event = json_loadb(payload.data, payload.len, 0, NULL);
    assert_non_null(event);
    const char *name = object_str(event, "object.metadata.name");
    char *text = mem_printf("%s %s", object_str(event, "type"), name ? name : "-");
    json_decref(event);
    return text;
}

static void expect_event(struct client *c, const char *want) {
    AUTO_FREE char *got = next_event(c);
    assert_string_equal(got, want);
}

static void each_event_is_a_text_message(void **state) {
    AUTO_CLIENT c;
    AUTO_BUF payload = BUF_INIT;
    AUTO_FREE char *head = open_watch(&c, "", "");
    assert_memory_equal(head, "HTTP/1.1 101 ", 13);
    assert_null(strstr(head, "Sec-WebSocket-Protocol"));
    assert_non_null(strstr(head, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    expect_event(&c, "ADDED p");
    expect_event(&c, "ADDED replica");
    expect_event(&c, "ADDED stopped");
    put_pod("later", "host");
    expect_event(&c, "ADDED later");
    send_frame(&c, 0x81, "hello", 5); /* means nothing */
    send_frame(&c, 0x89, "there?", 6);
    assert_int_equal(next_frame(&c, &payload), 0x8a);
    assert_string_equal(payload.data, "there?");
    put_pod("later", "host2");
    expect_event(&c, "MODIFIED later");
    send_frame(&c, 0x88, "\x03\xe8", 2);
    assert_int_equal(next_frame(&c, &payload), 0x88);
    assert_int_equal(next_frame(&c, &payload), 0);
}

static void browsers_get_their_protocol_echoed(void **state) {
    AUTO_CLIENT c;
    AUTO_FREE char *head =
        open_watch(&c, "", "Sec-WebSocket-Protocol: other, base64.binary.k8s.io\r\n");
    assert_non_null(strstr(head, "Sec-WebSocket-Protocol: base64.binary.k8s.io\r\n"));
    AUTO_CLIENT unknown;
    AUTO_FREE char *refused = open_watch(&unknown, "", "Sec-WebSocket-Protocol: other\r\n");
    assert_memory_equal(refused, "HTTP/1.1 400 ", 13);
    AUTO_CLIENT selector; /* what is wrong with the watch is an ordinary answer */
    AUTO_FREE char *wrong = open_watch(&selector, "&labelSelector=%3D%3D", "");
    assert_memory_equal(wrong, "HTTP/1.1 400 ", 13);
}

static void a_watch_that_ends_closes(void **state) {
    AUTO_CLIENT c;
    AUTO_BUF payload = BUF_INIT;
    AUTO_FREE char *head = open_watch(&c, "&timeoutSeconds=1&fieldSelector=metadata.name%3Dp", "");
    expect_event(&c, "ADDED p");
    assert_int_equal(next_frame(&c, &payload), 0x88);
    assert_int_equal((unsigned char)payload.data[0] << 8 | (unsigned char)payload.data[1],
                     WEBSOCKET_NORMAL);
}

/* A client that reads nothing stops the pump, and gets everything once it reads. */
static void a_slow_reader_misses_nothing(void **state) {
    enum { NUM_CHANGES = 300, BYTES = 20000 };
    AUTO_CLIENT c;
    AUTO_FREE char *head = open_watch(&c, "&fieldSelector=metadata.name%3Dlarge", "");
    AUTO_FREE char *image = mem_alloc(BYTES + 16);
    memset(image, 'x', BYTES);
    for (int i = 0; i < NUM_CHANGES; i++) {
        snprintf(image + BYTES, 16, "%d", i);
        put_pod("large", image);
    }
    int last = -1, num = 0;
    while (last < NUM_CHANGES - 1) { /* the history is short: events may go, but not get lost in
                                        silence */
        AUTO_BUF payload = BUF_INIT;
        assert_int_equal(next_frame(&c, &payload), 0x81);
        json_t *event = json_loadb(payload.data, payload.len, 0, NULL);
        const char *text = object_str(event, "object.spec.containers.0.image");
        if (!text) {
            assert_string_equal(object_str(event, "type"), "ERROR");
            assert_int_equal(object_int(event, "object.code", 0), 410);
            json_decref(event);
            break;
        }
        int now = (int)strtol(text + BYTES, NULL, 10);
        assert_int_equal(now, last + 1);
        last = now;
        num++;
        json_decref(event);
    }
    assert_true(num > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_event_is_a_text_message),
        cmocka_unit_test(browsers_get_their_protocol_echoed),
        cmocka_unit_test(a_watch_that_ends_closes),
        cmocka_unit_test(a_slow_reader_misses_nothing),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
