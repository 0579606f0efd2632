/* exec and attach as a client of sockets sees them: handshakes, channels, broken frames, bounds,
 * and ends from either side. Commands run as the test's own user; what kubectl makes of it all is
 * in tests/it_streams.py. */
#include "kube-compat/exec.h"

#include "core/base/clock.h"
#include "core/object.h"
#include "core/websocket.h"
#include "kube-compat/tunnel_fixture_test.h"

static const char V5[] = "Sec-WebSocket-Protocol: v5.channel.k8s.io,v4.channel.k8s.io\r\n";
static const char V4[] = "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n";

/* Asks for an upgrade; gives the status, and leaves what follows the head in c->in. */
static int client_ask(struct client *c, const char *target, const char *headers, char **ret_head) {
    client_dial(c);
    AUTO_FREE char *request =
        mem_printf("GET /api/v1/namespaces/default/pods/%s HTTP/1.1\r\nHost: h\r\n"
                   "Connection: Upgrade\r\nUpgrade: websocket\r\n%s\r\n",
                   target, headers);
    client_send(c, request, strlen(request));
    char *end = NULL;
    while (!c->in.data || !(end = strstr(c->in.data, "\r\n\r\n")))
        assert_true(client_read(c));
    *ret_head = mem_strndup(c->in.data, (size_t)(end - c->in.data) + 4);
    buf_consume(&c->in, strlen(*ret_head));
    return (int)strtol(*ret_head + 9, NULL, 10);
}

static void client_open(struct client *c, const char *target, const char *protocols) {
    AUTO_FREE char *head = NULL;
    AUTO_FREE char *headers = mem_printf("Sec-WebSocket-Version: 13\r\n"
                                         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s",
                                         protocols);
    assert_int_equal(client_ask(c, target, headers, &head), 101);
    assert_non_null(strstr(head, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    assert_non_null(strstr(head, protocols == V5
                                     ? "Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n"
                                     : "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n"));
}

static void client_frame(struct client *c, unsigned first, const char *data, size_t len) {
    static const unsigned char mask[4] = {1, 2, 3, 4};
    AUTO_BUF frame = BUF_INIT;
    websocket_write_head(&frame, first & 0x0f, len);
    frame.data[0] = (char)first;
    frame.data[1] = (char)(frame.data[1] | 0x80);
    buf_append(&frame, mask, sizeof(mask));
    for (size_t i = 0; i < len; i++)
        buf_putc(&frame, (char)((unsigned char)data[i] ^ mask[i % 4]));
    client_send(c, frame.data, frame.len);
}

/* What the server said, by channel, and how it closed (0: not at all). */
struct said {
    struct buf channels[CHANNEL_COUNT];
    unsigned close_code;
    size_t num_pongs;
};

static void said_deinit(struct said *s) {
    for (size_t i = 0; i < CHANNEL_COUNT; i++)
        buf_deinit(&s->channels[i]);
}
#define AUTO_SAID __attribute__((cleanup(said_deinit))) struct said

static const char *text_of(const struct said *s, enum channel c) {
    return s->channels[c].data ? s->channels[c].data : "";
}

/* Takes whole frames off c->in. */
static void take_frames(struct client *c, struct said *s) {
    for (;;) {
        const unsigned char *p = (const unsigned char *)c->in.data;
        if (c->in.len < 2)
            return;
        size_t extra = p[1] == 126 ? 2 : p[1] == 127 ? 8 : 0, len = extra ? 0 : p[1];
        if (c->in.len < 2 + extra)
            return;
        for (size_t i = 0; i < extra; i++)
            len = len << 8 | p[2 + i];
        if (c->in.len < 2 + extra + len)
            return;
        const unsigned char *data = p + 2 + extra;
        if (p[0] == 0x82) {
            assert_true(len && data[0] < CHANNEL_COUNT);
            buf_append(&s->channels[data[0]], data + 1, len - 1);
        } else if (p[0] == 0x88) {
            s->close_code = len >= 2 ? (unsigned)data[0] << 8 | data[1] : WEBSOCKET_NO_CODE;
        } else if (p[0] == 0x8a) {
            s->num_pongs++;
        }
        buf_consume(&c->in, 2 + extra + len);
    }
}

static void read_end(struct client *c, struct said *s) {
    do
        take_frames(c, s);
    while (client_read(c));
}

static void read_text(struct client *c, struct said *s, enum channel channel, const char *text) {
    for (take_frames(c, s); !strstr(text_of(s, channel), text); take_frames(c, s))
        assert_true(client_read(c));
}

#define SHELL "p/exec?stdout=true&stderr=true&stdin=true&command=sh&command=-c&command="

/* ---- the promises ---- */

static void channels_carry_streams_and_the_exit_code(void **state) {
    AUTO_CLIENT c;
    AUTO_SAID s = {0};
    client_open(&c, SHELL "echo+$WORD;echo+aside+%3E%262;cat;exit+3", V5);
    client_frame(&c, 0x82, "\0one ", 5);
    client_frame(&c, 0x02, "\0tw", 3); /* in fragments, with a ping between */
    client_frame(&c, 0x89, "?", 1);
    client_frame(&c, 0x80, "o\n", 2);
    client_frame(&c, 0x82, "\xff\x00", 2);
    read_end(&c, &s);
    assert_string_equal(text_of(&s, CHANNEL_STDOUT), "word\none two\n");
    assert_string_equal(text_of(&s, CHANNEL_STDERR), "aside\n");
    json_t *status = json_loads(text_of(&s, CHANNEL_ERROR), 0, NULL);
    assert_string_equal(object_str(status, "reason"), "NonZeroExitCode");
    assert_string_equal(object_str(status, "details.causes.0.reason"), "ExitCode");
    assert_string_equal(object_str(status, "details.causes.0.message"), "3");
    json_decref(status);
    assert_int_equal(s.close_code, WEBSOCKET_NORMAL);
    assert_int_equal(s.num_pongs, 1);
}

static void version_4_ends_with_success(void **state) {
    AUTO_CLIENT c;
    AUTO_SAID s = {0};
    client_open(&c, "p/exec?stdout=1&command=echo&command=hi", V4);
    read_end(&c, &s);
    assert_string_equal(text_of(&s, CHANNEL_STDOUT), "hi\n");
    assert_string_equal(text_of(&s, CHANNEL_ERROR), "{\"metadata\":{},\"status\":\"Success\"}");
    assert_int_equal(s.close_code, WEBSOCKET_NORMAL);
}

static void much_goes_both_ways(void **state) {
    enum { BYTES = 3 << 20, PIECE = 100000 };
    AUTO_CLIENT c;
    AUTO_SAID s = {0};
    AUTO_FREE char *piece = mem_alloc(PIECE + 1);
    memset(piece + 1, 'x', PIECE);
    client_open(&c, SHELL "cat", V5);
    for (size_t sent = 0; sent < BYTES; sent += PIECE) { /* cat's answer waits meanwhile */
        client_frame(&c, 0x82, piece, PIECE + 1);
        struct pollfd p = {.fd = c.fd, .events = POLLIN};
        while (poll(&p, 1, 0) == 1 && client_read(&c))
            take_frames(&c, &s);
    }
    client_frame(&c, 0x82, "\xff\x00", 2);
    read_end(&c, &s);
    assert_int_equal(s.channels[CHANNEL_STDOUT].len, (BYTES + PIECE - 1) / PIECE * PIECE);
}

static void a_terminal_takes_sizes(void **state) {
    AUTO_CLIENT c;
    AUTO_SAID s = {0};
    static const char resize[] = "\4{\"Width\":91,\"Height\":17}", nonsense[] = "\4{\"Width\":-1}";
    client_open(&c, "p/exec?stdin=1&stdout=1&tty=1&command=sh&command=-c&command=read+x;stty+size",
                V5);
    client_frame(&c, 0x82, resize, sizeof(resize) - 1);
    client_frame(&c, 0x82, nonsense, sizeof(nonsense) - 1);
    client_frame(&c, 0x82, "\0go\n", 4);
    read_end(&c, &s);
    assert_non_null(strstr(text_of(&s, CHANNEL_STDOUT), "17 91"));
}

static void handshakes_are_checked(void **state) {
    static const struct {
        const char *target, *headers;
        int status;
        const char *says;
    } cases[] = {
#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define V13 "Sec-WebSocket-Version: 13\r\n"
        {"p/exec?stdout=1&command=true", V13 KEY, 400, "Sec-WebSocket-Protocol"},
        {"p/exec?stdout=1&command=true", V13 KEY "Sec-WebSocket-Protocol: v3.channel.k8s.io\r\n",
         400, "v3.channel"},
        {"p/exec?stdout=1&command=true", V13 "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n", 400,
         "Sec-WebSocket-Key"},
        {"p/exec?stdout=1&command=true", KEY "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n", 400,
         "Sec-WebSocket-Version"},
        {"p/exec?command=true", V13 KEY "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n", 400,
         "at least 1 of stdin"},
        {"p/exec?stdout=1", V13 KEY "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n", 400,
         "at least one command"},
        {"p/exec?stdout=1&command=x&container=y", V13 KEY, 400, "container y is not valid"},
        {"replica/exec?stdout=1&command=x", V13 KEY, 405, "inference replica"},
        {"replica/attach?stdout=1", V13 KEY, 405, "inference replica"},
        {"p/attach?stdout=1&stdin=1", V13 KEY, 400, "no standard input"},
        {"stopped/exec?stdout=1&command=x", V13 KEY, 400, "does not run"},
        {"absent/exec?stdout=1&command=x", V13 KEY, 404, "not found"},
#undef KEY
#undef V13
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_CLIENT c;
        AUTO_FREE char *head = NULL;
        assert_int_equal(client_ask(&c, cases[i].target, cases[i].headers, &head), cases[i].status);
        while (!c.in.data || !strstr(c.in.data, "}\n"))
            assert_true(client_read(&c));
        assert_non_null(strstr(c.in.data, "\"kind\":\"Status\""));
        if (!strstr(c.in.data, cases[i].says))
            fail_msg("\"%s\" is not in %s", cases[i].says, c.in.data);
    }
}

static void broken_clients_are_told_and_left(void **state) {
    static const struct {
        unsigned first;
        const char *data;
        size_t len;
        unsigned code;
    } cases[] = {
        {0x81, "text", 4, WEBSOCKET_UNSUPPORTED_DATA},
        {0x82, "\1x", 2, WEBSOCKET_PROTOCOL_ERROR}, /* stdout is ours */
        {0x82, "\xffxyz", 4, WEBSOCKET_PROTOCOL_ERROR},
        {0x80, "x", 1, WEBSOCKET_PROTOCOL_ERROR},
        {0x88, "\x03\xe8", 2, WEBSOCKET_NORMAL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_CLIENT c;
        AUTO_SAID s = {0};
        client_open(&c, SHELL "echo+here;sleep+1000", V5);
        read_text(&c, &s, CHANNEL_STDOUT, "here\n");
        client_frame(&c, cases[i].first, cases[i].data, cases[i].len);
        read_end(&c, &s);
        assert_int_equal(s.close_code, cases[i].code);
    }
}

/* Its pipe shows that the command and its child are gone: nobody holds the other end. */
static void a_command_ends_with_its_client(void **state) {
    AUTO_FREE char *fifo = mem_printf("%s/fifo", env.dir);
    AUTO_FREE char *make = mem_printf("mkfifo '%s'", fifo);
    assert_int_equal(system(make), 0);
    AUTO_CLIENT c;
    AUTO_FREE char *target =
        mem_printf(SHELL "exec+3%%3E%s;sleep+1000+%%26+echo+on+%%3E%%263;wait", fifo);
    client_open(&c, target, V5);
    FILE *f = fopen(fifo, "re");
    assert_non_null(f);
    char line[16];
    assert_non_null(fgets(line, sizeof(line), f));
    close(c.fd);
    c.fd = -1;
    assert_null(fgets(line, sizeof(line), f)); /* the end */
    fclose(f);
}

/* It has left the command's process group, has its output, and never stops. */
static void what_a_command_leaves_behind_is_not_waited_for(void **state) {
    AUTO_CLIENT c;
    AUTO_SAID s = {0};
    client_open(&c, SHELL "setsid+yes+%26+read+x;exit+3", V5);
    read_text(&c, &s, CHANNEL_STDOUT, "y\n");
    client_frame(&c, 0x82, "\0go\n", 4);
    read_end(&c, &s);
    json_t *status = json_loads(text_of(&s, CHANNEL_ERROR), 0, NULL);
    assert_string_equal(object_str(status, "details.causes.0.message"), "3");
    json_decref(status);
}

static void attach_follows_the_output(void **state) {
    AUTO_CLIENT c;
    AUTO_SAID s = {0};
    client_open(&c, "p/attach?stdout=1&stderr=1", V5);
    assert_int_equal(write(env.output[1], "a line\n", 7), 7);
    read_text(&c, &s, CHANNEL_STDOUT, "a line\n");
    assert_string_equal(text_of(&s, CHANNEL_STDOUT), "a line\n");
    client_frame(&c, 0x88, "\x03\xe8", 2);
    read_end(&c, &s);
    assert_int_equal(s.close_code, WEBSOCKET_NORMAL);
}

static void tunnels_are_bounded(void **state) {
    struct client *clients = mem_array(TUNNELS_MAX, sizeof(clients[0]));
    static const char headers[] = "Sec-WebSocket-Version: 13\r\n"
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                                  "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n";
    size_t num = 0;
    for (int64_t until_ms = clock_mono_ms() + PATIENCE_MS; num < TUNNELS_MAX;) {
        AUTO_FREE char *head = NULL;
        int status = client_ask(&clients[num], "p/attach?stdout=1", headers, &head);
        if (status == 101) {
            num++;
            continue;
        }
        client_end(&clients[num]); /* those of the tests before are on their way out */
        assert_true(clock_mono_ms() < until_ms);
    }
    AUTO_CLIENT one_more;
    AUTO_FREE char *head = NULL;
    assert_int_equal(client_ask(&one_more, "p/attach?stdout=1", headers, &head), 429);
    assert_non_null(strstr(head, "Retry-After: 1\r\n"));
    for (size_t i = 0; i < num; i++)
        client_end(&clients[i]);
    free(clients);
}

/* The container's end ends its commands; the others run until the server stops (in stop()). */
static void ends_come_from_the_other_side_too(void **state) {
    AUTO_CLIENT c;
    AUTO_SAID s = {0};
    client_open(&c, SHELL "echo+here;sleep+1000", V5);
    read_text(&c, &s, CHANNEL_STDOUT, "here\n");
    close(env.container[1]);
    env.container[1] = -1;
    read_end(&c, &s);
    json_t *status = json_loads(text_of(&s, CHANNEL_ERROR), 0, NULL);
    assert_string_equal(object_str(status, "details.causes.0.message"), "137");
    json_decref(status);

    int ends[2];
    assert_int_equal(pipe(ends), 0);
    static const char *const variables[] = {NULL};
    const struct replica_spec spec = {
        .ns = "default", .pod = "p", .uid = "p", .container = "main", .env = variables};
    running_table_remove(env.running, "p", "main");
    running_table_put(env.running, &spec, ends[0]);
    AUTO_CLIENT last;
    AUTO_SAID said = {0};
    client_open(&last, SHELL "echo+here;sleep+1000", V5);
    read_text(&last, &said, CHANNEL_STDOUT, "here\n");
    http_server_stop(steal(env.server));
    kube_destroy(steal(env.kube));
    while (client_read(&last)) {}
    close(ends[0]);
    close(ends[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(channels_carry_streams_and_the_exit_code),
        cmocka_unit_test(version_4_ends_with_success),
        cmocka_unit_test(much_goes_both_ways),
        cmocka_unit_test(a_terminal_takes_sizes),
        cmocka_unit_test(handshakes_are_checked),
        cmocka_unit_test(broken_clients_are_told_and_left),
        cmocka_unit_test(a_command_ends_with_its_client),
        cmocka_unit_test(what_a_command_leaves_behind_is_not_waited_for),
        cmocka_unit_test(attach_follows_the_output),
        cmocka_unit_test(tunnels_are_bounded),
        cmocka_unit_test(ends_come_from_the_other_side_too),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
