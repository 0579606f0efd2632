/* The HTTP server as clients see it: raw sockets on loopback, so that every byte is ours. */
#include "core/http.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/http_client_test.h"

/* ---- a client ---- */

/* One request on its own connection, everything that comes back. */
static char *ask(const struct http_server *s, const char *request) {
    AUTO_BUF in = BUF_INIT;
    int fd = dial(s);
    send_text(fd, request);
    shutdown(fd, SHUT_WR);
    receive_end(fd, &in);
    close(fd);
    return buf_steal(&in);
}

static int status_of(const char *response) {
    return response && !strncmp(response, "HTTP/1.1 ", 9) ? atoi(response + 9) : -1;
}

/* ---- a server ---- */

struct fixture {
    struct http_server *server;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct http_exchange *kept; /* the last exchange that a handler kept */
    int num_gone, num_ticks, num_drained, num_handled;
};

static void note(struct fixture *f, int *counter) {
    pthread_mutex_lock(&f->lock);
    ++*counter;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static int seen(struct fixture *f, const int *counter) {
    pthread_mutex_lock(&f->lock);
    int n = *counter;
    pthread_mutex_unlock(&f->lock);
    return n;
}

static void await(struct fixture *f, const int *counter, int at_least) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_MS / 1000;
    pthread_mutex_lock(&f->lock);
    while (*counter < at_least)
        if (pthread_cond_timedwait(&f->changed, &f->lock, &until) == ETIMEDOUT)
            fail_msg("waited in vain: %d of %d", *counter, at_least);
    pthread_mutex_unlock(&f->lock);
}

static void on_gone(struct http_exchange *x, void *user) {
    struct fixture *f = user;
    note(f, &f->num_gone);
}

static void on_gone_end(struct http_exchange *x, void *user) {
    struct fixture *f = user;
    note(f, &f->num_gone);
    http_stream_end(x);
}

static void on_tick(struct http_exchange *x, void *user) {
    struct fixture *f = user;
    http_stream_write(x, ": ping\n\n", 8);
    note(f, &f->num_ticks);
}

static void on_drained(struct http_exchange *x, void *user) {
    struct fixture *f = user;
    note(f, &f->num_drained);
}

static void *count_to_five(void *user) {
    struct http_exchange *x = user;
    for (int i = 0; i < 5; i++) {
        char line[32];
        int n = snprintf(line, sizeof(line), "data: %d\n\n", i);
        http_stream_write(x, line, (size_t)n);
        usleep(1000);
    }
    http_stream_end(x);
    return NULL;
}

static void *reply_later(void *user) {
    http_reply_text(user, 200, "later");
    return NULL;
}

static void spawn(void *(*fn)(void *), void *arg) {
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, fn, arg), 0);
    pthread_detach(t);
}

static void keep(struct fixture *f, struct http_exchange *x) {
    pthread_mutex_lock(&f->lock);
    f->kept = x;
    pthread_mutex_unlock(&f->lock);
    note(f, &f->num_handled);
}

static void echo(struct http_exchange *x) {
    size_t len;
    const char *body = http_body(x, &len);
    AUTO_BUF out = BUF_INIT;
    buf_printf(&out, "%s %s q=%s raw=%s?%s body=", http_method(x), http_path(x),
               http_query(x, "q") ? http_query(x, "q") : "(none)", http_raw_path(x),
               http_raw_query(x));
    buf_append(&out, body, len);
    http_reply(x, 200, "text/plain", out.data, out.len);
}

static void handle(struct http_exchange *x, void *user) {
    struct fixture *f = user;
    const char *path = http_path(x);
    struct http_stream_callbacks cb = {.on_gone = on_gone, .on_drained = on_drained, .user = f};
    if (!strcmp(path, "/count")) {
        http_stream_begin(x, 200, "text/event-stream", NULL);
        spawn(count_to_five, x);
    } else if (!strcmp(path, "/at-once")) {
        http_stream_begin(x, 200, "text/event-stream", NULL);
        http_stream_write(x, "data: x\n\n", 9);
        http_stream_end(x);
    } else if (!strcmp(path, "/sized")) {
        http_set_stream_length(x, 5);
        http_stream_begin(x, 200, "text/plain", NULL);
        http_stream_write(x, "hello", 5);
        http_stream_end(x);
    } else if (!strcmp(path, "/cut")) {
        http_stream_begin(x, 200, "text/event-stream", NULL);
        http_stream_write(x, "data: half\n\n", 12);
        http_stream_abort(x);
    } else if (!strcmp(path, "/later")) {
        spawn(reply_later, x);
    } else if (!strcmp(path, "/keep")) {
        http_on_gone(x, on_gone, f);
        keep(f, x);
    } else if (!strcmp(path, "/stream")) {
        http_stream_begin(x, 200, "text/event-stream", &cb);
        keep(f, x);
    } else if (!strcmp(path, "/ticking")) {
        cb = (struct http_stream_callbacks){.on_gone = on_gone_end, .on_tick = on_tick, .user = f};
        http_stream_begin(x, 200, "text/event-stream", &cb);
    } else if (!strcmp(path, "/json")) {
        json_t *doc = json_pack("{s:i}", "answer", 42);
        http_set_header(x, "X-One", "1");
        http_set_header(x, "x-one", "2");
        http_add_warning(x, "a \"quoted\" \\ word\n");
        http_add_warning(x, "second");
        http_reply_json(x, 201, doc);
        json_decref(doc);
    } else {
        echo(x);
    }
}

static void start_with(struct fixture *f, struct http_server_options opt) {
    memset(f, 0, sizeof(*f));
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    opt.listen = opt.listen ? opt.listen : "127.0.0.1:0";
    opt.tick_ms = 50;
    opt.handler = handle;
    opt.user = f;
    struct error err = ERROR_INIT;
    if (http_server_start(&opt, &f->server, &err))
        fail_msg("%s", err.text);
}

static void start(struct fixture *f) {
    start_with(f, (struct http_server_options){.body_bytes_max = 100000});
}

static void stop(struct fixture *f) {
    http_server_stop(f->server);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->changed);
}

/* ---- requests ---- */

static void request_reaches_the_handler_decoded(void **state) {
    struct fixture f;
    start(&f);
    AUTO_FREE char *r = ask(f.server, "GET /a%20b/caf%C3%A9?q=x+y%26z&v HTTP/1.1\r\nHost: h\r\n"
                                      "X-Request-Id: abc-123\r\n\r\n");
    assert_int_equal(status_of(r), 200);
    assert_non_null(strstr(r, "GET /a b/caf\xc3\xa9 q=x y&z raw=/a%20b/caf%C3%A9?q=x+y%26z&v"));
    assert_non_null(strstr(r, "X-Request-Id: abc-123\r\n"));
    AUTO_FREE char *absolute = ask(f.server, "GET http://h:1/p?q=1 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_non_null(strstr(absolute, "GET /p q=1 raw=/p?q=1"));
    stop(&f);
}

static void request_id_is_made_when_missing_or_insane(void **state) {
    struct fixture f;
    start(&f);
    static const char *const ids[] = {"", "X-Request-Id: a b\r\n", "X-Request-Id: <script>\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        AUTO_FREE char *request = mem_printf("GET / HTTP/1.1\r\nHost: h\r\n%s\r\n", ids[i]);
        AUTO_FREE char *r = ask(f.server, request);
        const char *id = strstr(r, "X-Request-Id: ");
        assert_non_null(id);
        assert_int_equal(strspn(id + 14, "0123456789abcdef"), 16);
    }
    stop(&f);
}

static void bad_targets_are_refused(void **state) {
    struct fixture f;
    start(&f);
    static const char *const targets[] = {"/a/../b",  "/..",  "/a/%2e%2e/b", "/a%2f..%2fb", "/%00",
                                          "/%zz",     "/%4",  "/%ff",        "/%c0%af",     "a",
                                          "/?q=%00x", "/?%q", "/a/..",       "/%ed%a0%80"};
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        AUTO_FREE char *request = mem_printf("GET %s HTTP/1.1\r\nHost: h\r\n\r\n", targets[i]);
        AUTO_FREE char *r = ask(f.server, request);
        if (status_of(r) != 400)
            fail_msg("%s: %s", targets[i], r);
        assert_non_null(strstr(r, "{\"error\":{\"message\":"));
    }
    AUTO_FREE char *fine = ask(f.server, "GET /..a/b..?q=../x HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(status_of(fine), 200);
    stop(&f);
}

static void query_parameters_have_a_bound(void **state) {
    struct fixture f;
    start(&f);
    for (int i = 0; i < 2; i++) {
        AUTO_BUF request = BUF_INIT;
        buf_puts(&request, "GET /echo?q=last");
        for (int num = 1; num < HTTP_QUERIES_MAX + i; num++)
            buf_puts(&request, "&a=b");
        buf_puts(&request, " HTTP/1.1\r\nHost: h\r\n\r\n");
        AUTO_FREE char *r = ask(f.server, request.data);
        assert_int_equal(status_of(r), i ? 400 : 200);
        assert_non_null(strstr(r, i ? "more than 256 query parameters" : "q=last"));
    }
    stop(&f);
}

static void ambiguous_framing_is_refused(void **state) {
    struct fixture f;
    start(&f);
    static const char *const headers[] = {
        "Host: h\r\nContent-Length: 3\r\nContent-Length: 3\r\n",
        "Host: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Host: h\r\nTransfer-Encoding: gzip, chunked\r\n",
        "Host: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Host: h\r\nContent-Length: +3\r\n",
        "Host: h\r\nContent-Length: 3 3\r\n",
        "Host: h\r\nBad Name: 1\r\n",
        "Host: h\r\nName : 1\r\n",
        "Host: h\r\nX: a\x01z\r\n",
        "Host: h\r\nHost: i\r\n",
        "",
    };
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        AUTO_FREE char *request = mem_printf("POST / HTTP/1.1\r\n%s\r\nabc", headers[i]);
        AUTO_FREE char *r = ask(f.server, request);
        if (status_of(r) != 400)
            fail_msg("%s: %s", headers[i], r);
    }
    stop(&f);
}

static void bodies_arrive_whole(void **state) {
    struct fixture f;
    start(&f);
    AUTO_FREE char *sized =
        ask(f.server, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello");
    assert_non_null(strstr(sized, "body=hello"));
    AUTO_FREE char *chunked =
        ask(f.server, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                      "5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n");
    assert_non_null(strstr(chunked, "body=hello world"));
    stop(&f);
}

static void continue_is_sent_when_expected(void **state) {
    struct fixture f;
    start(&f);
    AUTO_BUF in = BUF_INIT;
    int fd = dial(f.server);
    send_text(fd, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    receive_until(fd, &in, "100 Continue\r\n\r\n");
    send_text(fd, "ok");
    receive_until(fd, &in, "body=ok");
    close(fd);
    stop(&f);
}

static void large_sized_body_is_refused_before_it_is_read(void **state) {
    struct fixture f;
    start(&f);
    AUTO_BUF in = BUF_INIT;
    int fd = dial(f.server);
    send_text(fd, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 100001\r\n"
                  "Expect: 100-continue\r\n\r\n");
    receive_end(fd, &in); /* no 100, and the server closes */
    close(fd);
    assert_int_equal(status_of(in.data), 413);
    assert_non_null(strstr(in.data, "Connection: close"));
    assert_non_null(strstr(in.data, "100001 bytes is above the bound of 100000"));
    assert_int_equal(f.num_handled, 0);
    stop(&f);
}

/* A client that does not ask but sends must still be able to read the answer. */
static void client_that_sends_a_large_body_anyway_reads_413(void **state) {
    struct fixture f;
    start(&f);
    AUTO_BUF in = BUF_INIT;
    int fd = dial(f.server);
    send_text(fd, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 8000000\r\n\r\n");
    AUTO_FREE char *block = mem_alloc(80000);
    for (int i = 0; i < 100; i++)
        send_all(fd, block, 80000);
    receive_end(fd, &in);
    close(fd);
    assert_int_equal(status_of(in.data), 413);
    stop(&f);
}

static void large_chunked_body_is_refused(void **state) {
    struct fixture f;
    start(&f);
    AUTO_BUF in = BUF_INIT;
    int fd = dial(f.server);
    send_text(fd, "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    char block[1000 + 7];
    memcpy(block, "3e8\r\n", 5);
    memset(block + 5, 'x', 1000);
    memcpy(block + 1005, "\r\n", 2);
    for (int i = 0; i < 3000; i++)
        send_all(fd, block, sizeof(block));
    receive_end(fd, &in);
    close(fd);
    assert_int_equal(status_of(in.data), 413);
    assert_non_null(strstr(in.data, "above the bound of 100000 bytes"));
    stop(&f);
}

static void connection_serves_pipelined_requests_in_order(void **state) {
    struct fixture f;
    start(&f);
    AUTO_BUF in = BUF_INIT;
    int fd = dial(f.server);
    send_text(fd, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /later HTTP/1.1\r\nHost: h\r\n\r\n"
                  "HEAD /3 HTTP/1.1\r\nHost: h\r\n\r\nOPTIONS /4 HTTP/1.1\r\nHost: h\r\n\r\n");
    receive_until(fd, &in, "OPTIONS /4");
    const char *first = strstr(in.data, "GET /1"), *second = strstr(in.data, "later");
    assert_true(first && second && first < second);
    assert_null(strstr(in.data, "HEAD /3")); /* no body for HEAD */
    close(fd);
    stop(&f);
}

static void json_reply_carries_headers_and_warnings(void **state) {
    struct fixture f;
    start(&f);
    AUTO_FREE char *r = ask(f.server, "GET /json HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(status_of(r), 201);
    assert_non_null(strstr(r, "Content-Type: application/json\r\n"));
    assert_non_null(strstr(r, "X-One: 2\r\n"));
    assert_null(strstr(r, "X-One: 1"));
    assert_non_null(strstr(r, "Warning: 299 - \"a \\\"quoted\\\" \\\\ word \"\r\n"));
    assert_non_null(strstr(r, "Warning: 299 - \"second\"\r\n"));
    assert_non_null(strstr(r, "{\"answer\":42}\n"));
    stop(&f);
}

/* ---- answers that come later ---- */

static void streams_arrive_in_pieces_and_end(void **state) {
    struct fixture f;
    start(&f);
    AUTO_BUF in = BUF_INIT;
    int fd = dial(f.server);
    send_text(fd, "GET /count HTTP/1.1\r\nHost: h\r\n\r\n");
    receive_until(fd, &in, "\r\n0\r\n\r\n");
    assert_non_null(strstr(in.data, "Transfer-Encoding: chunked"));
    for (int i = 0; i < 5; i++) {
        char line[16];
        snprintf(line, sizeof(line), "data: %d\n\n", i);
        assert_non_null(strstr(in.data, line));
    }
    send_text(fd, "GET /at-once HTTP/1.1\r\nHost: h\r\n\r\n"); /* the connection lives on */
    receive_until(fd, &in, "data: x\n\n\r\n0\r\n\r\n");
    send_text(fd, "GET /sized HTTP/1.1\r\nHost: h\r\n\r\n");
    receive_until(fd, &in, "Content-Length: 5\r\n");
    receive_until(fd, &in, "\r\n\r\nhello");
    close(fd);
    AUTO_BUF old = BUF_INIT;
    fd = dial(f.server);
    send_text(fd, "GET /count HTTP/1.0\r\n\r\n");
    receive_end(fd, &old);
    close(fd);
    assert_null(strstr(old.data, "chunked"));
    assert_non_null(strstr(old.data, "data: 4\n\n"));
    stop(&f);
}

static void headers_of_a_stream_go_out_before_its_first_byte(void **state) {
    struct fixture f;
    start(&f);
    AUTO_BUF in = BUF_INIT;
    int fd = dial(f.server);
    send_text(fd, "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    receive_until(fd, &in, "\r\n\r\n");
    await(&f, &f.num_handled, 1);
    http_stream_end(f.kept);
    receive_until(fd, &in, "0\r\n\r\n");
    close(fd);
    stop(&f);
}

static void aborted_stream_is_cut_without_its_end(void **state) {
    struct fixture f;
    start(&f);
    AUTO_BUF in = BUF_INIT;
    int fd = dial(f.server);
    send_text(fd, "GET /cut HTTP/1.1\r\nHost: h\r\n\r\n");
    receive_end(fd, &in);
    close(fd);
    assert_non_null(strstr(in.data, "data: half\n\n"));
    assert_null(strstr(in.data, "\r\n0\r\n"));
    stop(&f);
}

static void owner_learns_that_a_parked_client_left(void **state) {
    struct fixture f;
    start(&f);
    static const char *const paths[] = {"/keep", "/stream"};
    for (int i = 0; i < 2; i++) {
        AUTO_FREE char *request = mem_printf("GET %s HTTP/1.1\r\nHost: h\r\n\r\n", paths[i]);
        int fd = dial(f.server);
        send_text(fd, request);
        await(&f, &f.num_handled, i + 1);
        int64_t left_ms = clock_mono_ms();
        close(fd);
        await(&f, &f.num_gone, i + 1);
        assert_true(clock_mono_ms() - left_ms < 1000);
        if (i == 0) {
            http_reply_text(f.kept, 200, "to nobody");
        } else {
            assert_true(http_stream_gone(f.kept));
            assert_false(http_stream_write(f.kept, "x", 1));
            http_stream_end(f.kept);
        }
    }
    stop(&f);
    assert_int_equal(f.num_gone, 2);
}

/* The end may come in one packet with the last bytes, at any point of a request. */
static void half_a_request_and_the_end_frees_the_connection(void **state) {
    struct fixture f;
    start(&f);
    static const char *const parts[] = {"", "GET", "GET / HTTP/1.1\r\nHost: h\r\n",
                                        "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc",
                                        "GET / HTTP/1.1\r\nHost: h\r\n\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        AUTO_BUF in = BUF_INIT;
        int64_t start_ms = clock_mono_ms();
        int fd = dial(f.server);
        send_text(fd, parts[i]);
        shutdown(fd, SHUT_WR);
        receive_end(fd, &in);
        close(fd);
        assert_true(clock_mono_ms() - start_ms < 2000);
    }
    stop(&f);
}

static void streams_tick(void **state) {
    struct fixture f;
    start(&f);
    AUTO_BUF in = BUF_INIT;
    int fd = dial(f.server);
    send_text(fd, "GET /ticking HTTP/1.1\r\nHost: h\r\n\r\n");
    await(&f, &f.num_ticks, 3);
    receive_until(fd, &in, ": ping");
    close(fd);
    await(&f, &f.num_gone, 1);
    stop(&f);
}

static void slow_reader_is_refused_then_drained(void **state) {
    struct fixture f;
    start(&f);
    int fd = dial(f.server);
    send_text(fd, "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    await(&f, &f.num_handled, 1);
    AUTO_FREE char *block = mem_alloc(100000);
    memset(block, 'x', 100000);
    size_t taken = 0;
    while (http_stream_write(f.kept, block, 100000)) /* sockets take some, the bound the rest */
        taken += 100000;
    assert_false(http_stream_gone(f.kept));
    assert_true(taken >= HTTP_STREAM_BYTES_MAX - 100000);
    AUTO_BUF in = BUF_INIT;
    while (!seen(&f, &f.num_drained))
        receive(fd, &in);
    assert_true(http_stream_write(f.kept, "LAST", 4));
    http_stream_end(f.kept);
    receive_until(fd, &in, "LAST\r\n0\r\n\r\n");
    assert_true(in.len > taken);
    close(fd);
    stop(&f);
}

static void one_large_write_is_taken_when_nothing_waits(void **state) {
    struct fixture f;
    start(&f);
    int fd = dial(f.server);
    send_text(fd, "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    await(&f, &f.num_handled, 1);
    size_t len = 32u << 20; /* more than the sockets hold */
    AUTO_FREE char *block = mem_alloc(len);
    memset(block, 'y', len);
    assert_true(http_stream_write(f.kept, block, len));
    assert_false(http_stream_write(f.kept, "z", 1));
    http_stream_end(f.kept);
    AUTO_BUF in = BUF_INIT;
    receive_until(fd, &in, "\r\n0\r\n\r\n");
    assert_true(in.len > len);
    close(fd);
    stop(&f);
}

/* ---- life of the server ---- */

static void stop_ends_streams_and_tells_their_owners(void **state) {
    struct fixture f;
    start(&f);
    AUTO_BUF in = BUF_INIT;
    int fd = dial(f.server);
    send_text(fd, "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    await(&f, &f.num_handled, 1);
    int kept_fd = dial(f.server);
    struct http_exchange *stream = f.kept;
    send_text(kept_fd, "GET /keep HTTP/1.1\r\nHost: h\r\n\r\n");
    await(&f, &f.num_handled, 2);
    assert_int_equal(http_server_num_open(f.server), 2);
    http_server_stop(f.server);
    assert_int_equal(seen(&f, &f.num_gone), 2);
    receive_end(fd, &in);
    assert_false(http_stream_write(stream, "x", 1)); /* harmless afterwards */
    http_stream_end(stream);
    http_reply_text(f.kept, 200, "too late");
    close(fd);
    close(kept_fd);
    pthread_mutex_destroy(&f.lock);
    pthread_cond_destroy(&f.changed);
}

static void drain_refuses_new_work_and_lets_streams_go_on(void **state) {
    struct fixture f;
    start(&f);
    AUTO_BUF in = BUF_INIT;
    AUTO_BUF idle_in = BUF_INIT;
    int idle = dial(f.server);
    send_text(idle, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n");
    receive_until(idle, &idle_in, "GET /1");
    int fd = dial(f.server);
    send_text(fd, "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    await(&f, &f.num_handled, 1);
    http_server_drain(f.server);
    send_text(idle, "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n");
    receive_until(idle, &idle_in, "503 Service Unavailable");
    receive_end(idle, &idle_in);
    assert_non_null(strstr(idle_in.data, "Retry-After"));
    assert_true(http_stream_write(f.kept, "still here", 10));
    http_stream_end(f.kept);
    receive_until(fd, &in, "still here\r\n0\r\n\r\n");
    close(fd);
    close(idle);
    stop(&f);
}

static void connection_above_the_bound_is_answered_503(void **state) {
    struct fixture f;
    start_with(&f, (struct http_server_options){.connections_max = 2});
    AUTO_BUF in = BUF_INIT;
    int first = dial(f.server), second = dial(f.server);
    send_text(first, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n");
    receive_until(first, &in, "GET /1");
    buf_clear(&in);
    send_text(second, "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n");
    receive_until(second, &in, "GET /2");
    AUTO_FREE char *r = ask(f.server, "GET /3 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(status_of(r), 503);
    close(first);
    close(second);
    for (int i = 0; i < 200; i++) { /* the place is free again as soon as a client is seen to go */
        AUTO_FREE char *again = ask(f.server, "GET /4 HTTP/1.1\r\nHost: h\r\n\r\n");
        if (status_of(again) == 200) {
            stop(&f);
            return;
        }
        usleep(10000);
    }
    fail_msg("the closed connections still count");
}

static void unix_socket_is_private_and_a_stale_one_is_replaced(void **state) {
    char path[] = "/tmp/inferd-http-test-XXXXXX";
    int placeholder = mkstemp(path);
    assert_true(placeholder >= 0);
    close(placeholder);
    AUTO_FREE char *listen_on = mem_printf("unix:%s", path);
    struct error err = ERROR_INIT;
    struct http_server_options opt = {.listen = listen_on, .handler = handle};
    struct http_server *refused = NULL;
    assert_int_equal(http_server_start(&opt, &refused, &err), ERR_EXISTS); /* a plain file */
    unlink(path);

    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    strcpy(sun.sun_path, path);
    int dead = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(dead, (void *)&sun, sizeof(sun)), 0);
    close(dead); /* leaves the file behind */

    struct fixture f;
    start_with(&f, (struct http_server_options){.listen = listen_on});
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(http_server_start(&opt, &refused, &err), ERR_EXISTS); /* alive */
    AUTO_FREE char *r = ask(f.server, "GET /u HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_non_null(strstr(r, "GET /u"));
    stop(&f);
    assert_int_equal(stat(path, &st), -1);
}

static void bad_listen_addresses_are_named(void **state) {
    static const char *const bad[] = {"",
                                      "8080",
                                      "host",
                                      "1.2.3.4:x",
                                      "1.2.3.4:70000",
                                      "::1:80",
                                      "unix:",
                                      "no.such.host.invalid:80"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = ERROR_INIT;
        struct http_server_options opt = {.listen = bad[i], .handler = handle};
        struct http_server *s = NULL;
        assert_int_not_equal(http_server_start(&opt, &s, &err), OK);
        assert_non_null(strstr(err.text, bad[i]));
    }
}

/* ---- many at once ---- */

enum { NUM_STREAMS = 250, NUM_WRITERS = 4, NUM_EVENTS = 40 };

struct crowd {
    pthread_mutex_t lock;
    struct http_exchange *streams[NUM_STREAMS];
    int num_streams, num_gone;
};

static void crowd_gone(struct http_exchange *x, void *user) {
    struct crowd *c = user;
    pthread_mutex_lock(&c->lock);
    c->num_gone++;
    pthread_mutex_unlock(&c->lock);
}

static void crowd_handle(struct http_exchange *x, void *user) {
    struct crowd *c = user;
    struct http_stream_callbacks cb = {.on_gone = crowd_gone, .user = c};
    http_stream_begin(x, 200, "text/event-stream", &cb);
    pthread_mutex_lock(&c->lock);
    c->streams[c->num_streams++] = x;
    pthread_mutex_unlock(&c->lock);
}

struct writer {
    struct crowd *crowd;
    int first;
};

static void *crowd_write(void *user) {
    struct writer *w = user;
    for (int e = 0; e < NUM_EVENTS; e++) {
        for (int i = w->first; i < NUM_STREAMS; i += NUM_WRITERS) {
            char line[32];
            int n = snprintf(line, sizeof(line), "data: %d\n\n", e);
            http_stream_write(w->crowd->streams[i], line, (size_t)n);
        }
    }
    for (int i = w->first; i < NUM_STREAMS; i += NUM_WRITERS)
        http_stream_end(w->crowd->streams[i]);
    return NULL;
}

static void many_streams_and_writers_lose_nothing(void **state) {
    struct crowd c = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct http_server_options opt = {.listen = "127.0.0.1:0", .handler = crowd_handle, .user = &c};
    struct error err = ERROR_INIT;
    AUTO(http_server) s = NULL;
    assert_int_equal(http_server_start(&opt, &s, &err), OK);
    int fds[NUM_STREAMS];
    for (int i = 0; i < NUM_STREAMS; i++) {
        fds[i] = dial(s);
        send_text(fds[i], "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    for (int i = 0; i < NUM_STREAMS; i++) {
        AUTO_BUF in = BUF_INIT;
        receive_until(fds[i], &in, "\r\n\r\n");
    }
    pthread_mutex_lock(&c.lock);
    assert_int_equal(c.num_streams, NUM_STREAMS);
    pthread_mutex_unlock(&c.lock);
    for (int i = 0; i < NUM_STREAMS; i += 10) /* a tenth leaves in the middle of it */
        close(fds[i]);
    pthread_t threads[NUM_WRITERS];
    struct writer writers[NUM_WRITERS];
    for (int i = 0; i < NUM_WRITERS; i++) {
        writers[i] = (struct writer){.crowd = &c, .first = i};
        pthread_create(&threads[i], NULL, crowd_write, &writers[i]);
    }
    for (int i = 0; i < NUM_STREAMS; i++) {
        if (i % 10 == 0)
            continue;
        AUTO_BUF in = BUF_INIT;
        receive_until(fds[i], &in, "0\r\n\r\n");
        const char *at = in.data;
        for (int e = 0; e < NUM_EVENTS; e++) { /* each event once, in order */
            char line[32];
            snprintf(line, sizeof(line), "data: %d\n\n", e);
            at = strstr(at, line);
            assert_non_null(at);
        }
        close(fds[i]);
    }
    for (int i = 0; i < NUM_WRITERS; i++)
        pthread_join(threads[i], NULL);
}

/* Clients come, ask for anything, and leave at any time, while the server is stopped under them. */
static void *chaos_client(void *user) {
    struct fixture *f = user;
    static const char *const paths[] = {"/count", "/later", "/at-once", "/ticking", "/x", "/cut"};
    unsigned seed = (unsigned)(uintptr_t)pthread_self();
    for (int i = 0; i < 150; i++) {
        struct sockaddr_in sin = {
            .sin_family = AF_INET,
            .sin_port = htons((uint16_t)atoi(strrchr(http_server_address(f->server), ':') + 1)),
            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (!connect(fd, (void *)&sin, sizeof(sin))) {
            char request[128];
            int n = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: h\r\n\r\n",
                             paths[rand_r(&seed) % ARRAY_LEN(paths)]);
            send_all(fd, request, (size_t)n);
            struct pollfd p = {.fd = fd, .events = POLLIN};
            if (rand_r(&seed) % 2 && poll(&p, 1, 100) == 1) {
                ssize_t got = recv(fd, request, sizeof(request), 0);
                (void)got;
            }
        }
        close(fd);
    }
    return NULL;
}

static void chaos_breaks_nothing(void **state) {
    struct fixture f;
    start(&f);
    pthread_t clients[8];
    for (size_t i = 0; i < ARRAY_LEN(clients); i++)
        pthread_create(&clients[i], NULL, chaos_client, &f);
    for (size_t i = 0; i < ARRAY_LEN(clients); i++)
        pthread_join(clients[i], NULL);
    AUTO_FREE char *r = ask(f.server, "GET /alive HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(status_of(r), 200);
    for (int i = 0; http_server_num_open(f.server) && i < 500; i++)
        usleep(10000);
    assert_int_equal(http_server_num_open(f.server), 0); /* nothing leaks */
    stop(&f);
}

static void stop_under_load_is_clean(void **state) {
    for (int round = 0; round < 10; round++) {
        struct fixture f;
        start(&f);
        int fds[64];
        for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
            fds[i] = dial(f.server);
            send_text(fds[i], i % 2 ? "GET /count HTTP/1.1\r\nHost: h\r\n\r\n"
                                    : "GET /ticking HTTP/1.1\r\nHost: h\r\n\r\n");
        }
        usleep((useconds_t)(round * 700));
        http_server_stop(f.server);
        for (size_t i = 0; i < ARRAY_LEN(fds); i++)
            close(fds[i]);
        usleep(20000); /* the counting threads end; the server's memory is theirs until then */
        pthread_mutex_destroy(&f.lock);
        pthread_cond_destroy(&f.changed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_reaches_the_handler_decoded),
        cmocka_unit_test(request_id_is_made_when_missing_or_insane),
        cmocka_unit_test(bad_targets_are_refused),
        cmocka_unit_test(query_parameters_have_a_bound),
        cmocka_unit_test(ambiguous_framing_is_refused),
        cmocka_unit_test(bodies_arrive_whole),
        cmocka_unit_test(continue_is_sent_when_expected),
        cmocka_unit_test(large_sized_body_is_refused_before_it_is_read),
        cmocka_unit_test(client_that_sends_a_large_body_anyway_reads_413),
        cmocka_unit_test(large_chunked_body_is_refused),
        cmocka_unit_test(connection_serves_pipelined_requests_in_order),
        cmocka_unit_test(json_reply_carries_headers_and_warnings),
        cmocka_unit_test(streams_arrive_in_pieces_and_end),
        cmocka_unit_test(headers_of_a_stream_go_out_before_its_first_byte),
        cmocka_unit_test(aborted_stream_is_cut_without_its_end),
        cmocka_unit_test(owner_learns_that_a_parked_client_left),
        cmocka_unit_test(half_a_request_and_the_end_frees_the_connection),
        cmocka_unit_test(streams_tick),
        cmocka_unit_test(slow_reader_is_refused_then_drained),
        cmocka_unit_test(one_large_write_is_taken_when_nothing_waits),
        cmocka_unit_test(stop_ends_streams_and_tells_their_owners),
        cmocka_unit_test(drain_refuses_new_work_and_lets_streams_go_on),
        cmocka_unit_test(connection_above_the_bound_is_answered_503),
        cmocka_unit_test(unix_socket_is_private_and_a_stale_one_is_replaced),
        cmocka_unit_test(bad_listen_addresses_are_named),
        cmocka_unit_test(many_streams_and_writers_lose_nothing),
        cmocka_unit_test(chaos_breaks_nothing),
        cmocka_unit_test(stop_under_load_is_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
