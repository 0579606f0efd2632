/* The gateway between raw clients and fake replicas: HTTP servers in this process, one on a Unix
 * socket, as `inferd engine` is, and one on a port. */
#include "api/gateway.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/http_client_test.h"

enum { REPLICAS = 2, STREAMS_MAX = 256 };

/* ---- fake replicas ---- */

struct fake {
    struct http_server *server;
    char *path, *address; /* path: of the socket; NULL: none */
    pthread_mutex_t lock;
    struct http_exchange *streams[STREAMS_MAX]; /* kept by /stream and /hang */
    int num_streams, num_requests, num_gone, num_drained;
};

static struct {
    char dir[64];
    struct traffic *traffic;
    struct gateway *gateway;
    struct traffic_replica *replicas[REPLICAS];
    struct fake fakes[REPLICAS];
} env;

static int read_counter(struct fake *f, const int *counter) {
    pthread_mutex_lock(&f->lock);
    int n = *counter;
    pthread_mutex_unlock(&f->lock);
    return n;
}

static void await(struct fake *f, const int *counter, int at_least) {
    int64_t until_ms = clock_mono_ms() + WAIT_MS;
    while (read_counter(f, counter) < at_least) {
        if (clock_mono_ms() > until_ms)
            fail_msg("waited in vain: %d of %d", read_counter(f, counter), at_least);
        usleep(1000);
    }
}

static void bump(struct fake *f, int *counter) {
    pthread_mutex_lock(&f->lock);
    ++*counter;
    pthread_mutex_unlock(&f->lock);
}

static void fake_gone(struct http_exchange *x, void *user) {
    struct fake *f = user;
    bump(f, &f->num_gone);
}

static void fake_drained(struct http_exchange *x, void *user) {
    struct fake *f = user;
    bump(f, &f->num_drained);
}

static void keep(struct fake *f, struct http_exchange *x) {
    pthread_mutex_lock(&f->lock);
    f->streams[f->num_streams++] = x;
    pthread_mutex_unlock(&f->lock);
}

static void append_header(void *user, const char *name, const char *value) {
    buf_printf(user, "[%s: %s]\n", name, value);
}

/* Says what it was asked. */
static void fake_echo(struct fake *f, struct http_exchange *x) {
    AUTO_BUF b = BUF_INIT;
    size_t len;
    const char *body = http_body(x, &len);
    buf_printf(&b, "replica=%d %s %s?%s\n", (int)(f - env.fakes), http_method(x), http_raw_path(x),
               http_raw_query(x));
    http_each_header(x, append_header, &b);
    buf_append(&b, body, len);
    http_set_header(x, "X-Replica", "yes");
    http_add_header(x, "Set-Cookie", "a=1");
    http_add_header(x, "Set-Cookie", "b=2");
    http_reply(x, 200, "text/plain", b.data, b.len);
}

static void fake_handle(struct http_exchange *x, void *user) {
    struct fake *f = user;
    const char *path = http_path(x);
    struct http_stream_callbacks cb = {.on_gone = fake_gone, .on_drained = fake_drained, .user = f};
    bump(f, &f->num_requests);
    if (!strcmp(path, "/stream")) {
        http_stream_begin(x, 200, "text/event-stream; charset=utf-8", &cb);
        http_stream_write(x, "data: first\n\n", 13);
        keep(f, x);
    } else if (!strcmp(path, "/head-only") && f == &env.fakes[0]) {
        http_set_header(x, "X-From", "the one that fails");
        http_stream_begin(x, 200, "text/event-stream", &cb);
        http_stream_abort(x);
    } else if (!strcmp(path, "/hang")) {
        http_on_gone(x, fake_gone, f);
        keep(f, x);
    } else if (!strcmp(path, "/empty")) {
        http_reply(x, 204, NULL, "", 0);
    } else if (!strcmp(path, "/sized")) {
        http_set_stream_length(x, 10);
        http_stream_begin(x, 201, "text/plain", &cb);
        http_stream_write(x, "0123456789", 10);
        http_stream_end(x);
    } else {
        fake_echo(f, x);
    }
}

static void fake_start(int i) {
    struct fake *f = &env.fakes[i];
    f->path = i ? NULL : mem_printf("%s/%d.sock", env.dir, i);
    AUTO_FREE char *listen_on = i ? mem_strdup("127.0.0.1:0") : mem_printf("unix:%s", f->path);
    struct http_server_options opt = {.listen = listen_on, .handler = fake_handle, .user = f};
    struct error err = ERROR_INIT;
    pthread_mutex_init(&f->lock, NULL);
    if (http_server_start(&opt, &f->server, &err))
        fail_msg("%s", err.text);
    f->address = mem_strdup(i ? http_server_address(f->server) : f->path);
}

/* ---- the table ---- */

struct table_options {
    int num_ready; /* replicas of demo */
    bool waiting;  /* others are starting */
    uint32_t concurrency;
    bool absent; /* no service at all */
};

static void publish(struct table_options o) {
    struct traffic_table *t = traffic_table_create();
    struct traffic_service *s = arena_alloc(t->arena, sizeof(*s));
    static const char *const hosts[] = {"demo.default.example.com", NULL};
    static const char *const models[] = {"demo", "org/demo", NULL};
    *s = (struct traffic_service){.ns = "default",
                                  .name = "demo",
                                  .hosts = hosts,
                                  .models = models,
                                  .container_concurrency = o.concurrency,
                                  .waiting_may_help = o.waiting,
                                  .num_revisions = 1};
    if (!o.num_ready)
        s->not_ready_reason = "the model is missing";
    s->turn = o.absent ? NULL : traffic_turn_create();
    s->revisions = arena_alloc(t->arena, sizeof(*s->revisions));
    s->revisions->name = "demo-predictor-00001";
    s->revisions->percent = 100;
    s->revisions->replicas = arena_alloc(t->arena, REPLICAS * sizeof(*s->revisions->replicas));
    for (int i = 0; i < o.num_ready; i++)
        s->revisions->replicas[s->revisions->num_replicas++] = traffic_replica_ref(env.replicas[i]);
    t->services = s;
    t->num_services = o.absent ? 0 : 1;
    traffic_publish(env.traffic, t);
}

static void start_gateway(int64_t queue_max, int64_t hold_ms) {
    struct gateway_options opt = {.listen = "127.0.0.1:0",
                                  .traffic = env.traffic,
                                  .queue_max = queue_max,
                                  .hold_ms = hold_ms};
    struct error err = ERROR_INIT;
    if (gateway_start(&opt, &env.gateway, &err))
        fail_msg("%s", err.text);
}

static int set_up(void **state) {
    memset(&env, 0, sizeof(env));
    strcpy(env.dir, "/tmp/inferd-gateway-test-XXXXXX");
    assert_non_null(mkdtemp(env.dir));
    env.traffic = traffic_create();
    for (int i = 0; i < REPLICAS; i++) {
        fake_start(i);
        env.replicas[i] = traffic_replica_create(i ? "pod-1" : "pod-0", env.fakes[i].address);
    }
    start_gateway(3, 400);
    publish((struct table_options){.num_ready = 1});
    return 0;
}

/* What a test left open ends here; a test that keeps a plain exchange answers it itself. */
static void fake_stop(struct fake *f) {
    for (int k = 0; k < f->num_streams; k++)
        if (f->streams[k])
            http_stream_end(f->streams[k]);
    http_server_stop(f->server);
    pthread_mutex_destroy(&f->lock);
    free(f->path);
    free(f->address);
}

static int tear_down(void **state) {
    gateway_stop(env.gateway);
    for (int i = 0; i < REPLICAS; i++) {
        fake_stop(&env.fakes[i]);
        assert_int_equal(env.replicas[i]->in_flight, 0); /* whatever happened, none is left */
        traffic_replica_unref(env.replicas[i]);
    }
    traffic_destroy(env.traffic);
    rmdir(env.dir);
    return 0;
}

/* ---- clients ---- */

static int ask_begin(const char *method, const char *path, const char *headers, const char *body) {
    int fd = dial_address(gateway_address(env.gateway));
    AUTO_FREE char *request =
        mem_printf("%s %s HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\nConnection: close\r\n"
                   "%s\r\n%s",
                   method, path, strlen(body), headers, body);
    assert_true(send_text(fd, request));
    return fd;
}

static char *ask_end(int fd) {
    AUTO_BUF in = BUF_INIT;
    receive_end(fd, &in);
    close(fd);
    return buf_steal(&in);
}

static char *ask(const char *method, const char *path, const char *headers, const char *body) {
    return ask_end(ask_begin(method, path, headers, body));
}

static int status_of(const char *response) {
    return !strncmp(response, "HTTP/1.1 ", 9) ? atoi(response + 9) : -1;
}

#define assert_has(text, part)                                                                     \
    do {                                                                                           \
        if (!strstr(text, part))                                                                   \
            fail_msg("no \"%s\" in: %s", part, text);                                              \
    } while (0)

/* ---- passing on ---- */

static void request_arrives_as_it_was_sent(void **state) {
    AUTO_FREE char *r = ask("POST", "/v1/chat/completions?a=%20b",
                            "X-Request-Id: my-id\r\ntraceparent: 00-11-22-01\r\nX-Custom: 1\r\n"
                            "TE: trailers\r\nKeep-Alive: 5\r\nContent-Type: application/json\r\n",
                            "{\"model\":\"demo\",\"x\":1}");
    assert_int_equal(status_of(r), 200);
    assert_has(r, "replica=0 POST /v1/chat/completions?a=%20b\n");
    assert_has(r, "[X-Request-Id: my-id]");
    assert_has(r, "X-Request-Id: my-id\r\n");
    assert_has(r, "[traceparent: 00-11-22-01]");
    assert_has(r, "[X-Custom: 1]");
    assert_has(r, "[Host: h]");
    assert_has(r, "[Content-Type: application/json]");
    assert_has(r, "{\"model\":\"demo\",\"x\":1}");
    assert_has(r, "X-Replica: yes\r\n");
    assert_has(r, "Set-Cookie: a=1\r\n");
    assert_has(r, "Set-Cookie: b=2\r\n");
    static const char *const dropped[] = {
        "[TE:", "[Keep-Alive:", "[Connection:", "[Accept:", "[Expect:", "[Transfer-Encoding:"};
    for (size_t i = 0; i < ARRAY_LEN(dropped); i++)
        assert_null(strstr(r, dropped[i]));
}

static void every_way_of_routing_reaches_the_replica(void **state) {
    AUTO_FREE char *path = ask("GET", "/serving/default/demo/some/path?q", "", "");
    assert_has(path, "replica=0 GET /some/path?q\n");
    AUTO_FREE char *model = ask("POST", "/v2/models/org/demo/infer", "", "{}");
    assert_has(model, "replica=0 POST /v2/models/org/demo/infer?\n");
    int fd = dial_address(gateway_address(env.gateway));
    assert_true(send_text(fd, "DELETE /metrics HTTP/1.1\r\nHost: demo.default.example.com:80\r\n"
                              "Connection: close\r\n\r\n"));
    AUTO_FREE char *host = ask_end(fd);
    assert_has(host, "replica=0 DELETE /metrics?\n");
}

static void sizes_and_empty_answers_survive(void **state) {
    AUTO_FREE char *empty = ask("GET", "/serving/default/demo/empty", "", "");
    assert_int_equal(status_of(empty), 204);
    AUTO_FREE char *sized = ask("GET", "/serving/default/demo/sized", "", "");
    assert_int_equal(status_of(sized), 201);
    assert_has(sized, "Content-Length: 10\r\n");
    assert_has(sized, "\r\n\r\n0123456789");
    AUTO_FREE char *head = ask("HEAD", "/serving/default/demo/sized", "", "");
    assert_int_equal(status_of(head), 201);
    assert_has(head, "Content-Length: 10\r\n");
    assert_null(strstr(head, "0123456789"));
}

static void pipelined_requests_are_answered_in_order(void **state) {
    int fd = dial_address(gateway_address(env.gateway));
    AUTO_BUF in = BUF_INIT;
    assert_true(send_text(fd, "GET /serving/default/demo/one HTTP/1.1\r\nHost: h\r\n\r\n"
                              "POST /serving/default/demo/two HTTP/1.1\r\nHost: h\r\n"
                              "Content-Length: 4\r\n\r\nbody"
                              "GET /serving/default/demo/three HTTP/1.1\r\nHost: h\r\n"
                              "Connection: close\r\n\r\n"));
    receive_end(fd, &in);
    close(fd);
    const char *at = in.data;
    static const char *const paths[] = {"GET /one?", "POST /two?", "GET /three?"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        at = strstr(at, paths[i]);
        assert_non_null(at);
    }
    assert_has(in.data, "\nbody");
}

static void chunked_body_comes_when_it_is_asked_for(void **state) {
    int fd = dial_address(gateway_address(env.gateway));
    AUTO_BUF in = BUF_INIT;
    assert_true(send_text(fd, "POST /v1/completions HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
                              "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"));
    receive_until(fd, &in, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_true(send_text(fd, "8\r\n{\"model\"\r\n8;x=y\r\n:\"demo\"}\r\n0\r\n\r\n"));
    receive_end(fd, &in);
    close(fd);
    assert_has(in.data, "HTTP/1.1 200 OK\r\n");
    assert_has(in.data, "[Content-Length: 16]");
    assert_has(in.data, "{\"model\":\"demo\"}");
    assert_null(strstr(in.data, "[Expect"));
    assert_null(strstr(in.data, "[Transfer-Encoding"));
}

static void bounds_of_requests_are_named(void **state) {
    AUTO_BUF big = BUF_INIT;
    int fd = dial_address(gateway_address(env.gateway));
    assert_true(send_text(fd, "POST /v1/completions HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
                              "Content-Length: 5000000\r\n\r\n"));
    receive_end(fd, &big);
    close(fd);
    assert_int_equal(status_of(big.data), 413);
    assert_has(big.data, "request body of 5000000 bytes is above the bound of 4194304");
    assert_has(big.data, "\"code\":\"request_too_large\"");
    AUTO_BUF wide = BUF_INIT;
    AUTO_BUF request = BUF_INIT;
    buf_puts(&request, "GET /healthz HTTP/1.1\r\nHost: h\r\nX-Wide: ");
    for (int i = 0; i < HTTP_HEADER_BYTES_MAX; i++)
        buf_putc(&request, 'w');
    buf_puts(&request, "\r\n\r\n");
    fd = dial_address(gateway_address(env.gateway));
    send_all(fd, request.data, request.len);
    receive_end(fd, &wide);
    close(fd);
    assert_int_equal(status_of(wide.data), 431);
    AUTO_FREE char *after = ask("GET", "/healthz", "", "");
    assert_int_equal(status_of(after), 200);
}

static void events_leave_as_they_come(void **state) {
    struct fake *f = &env.fakes[0];
    AUTO_BUF in = BUF_INIT;
    int fd = ask_begin("GET", "/serving/default/demo/stream", "", "");
    receive_until(fd, &in, "data: first\n\n"); /* the second is not even written yet */
    assert_has(in.data, "Content-Type: text/event-stream; charset=utf-8\r\n");
    await(f, &f->num_streams, 1);
    assert_true(http_stream_write(f->streams[0], "data: second\n\n", 14));
    receive_until(fd, &in, "data: second\n\n");
    http_stream_end(steal(f->streams[0]));
    receive_until(fd, &in, "\r\n0\r\n\r\n");
    close(fd);
}

static void client_that_leaves_ends_the_request_at_the_replica(void **state) {
    struct fake *f = &env.fakes[0];
    static const char *const paths[] = {"/serving/default/demo/stream",
                                        "/serving/default/demo/hang"};
    for (int i = 0; i < 2; i++) {
        int fd = ask_begin("GET", paths[i], "", "");
        await(f, &f->num_streams, i + 1);
        int64_t left_ms = clock_mono_ms();
        close(fd);
        await(f, &f->num_gone, i + 1);
        assert_true(clock_mono_ms() - left_ms < 1000);
    }
    http_reply_text(steal(f->streams[1]), 200, "");
}

static void slow_client_slows_its_replica_only(void **state) {
    struct fake *f = &env.fakes[0];
    int slow = ask_begin("GET", "/serving/default/demo/stream", "", "");
    await(f, &f->num_streams, 1);
    AUTO_FREE char *block = mem_alloc(64 << 10);
    memset(block, 'x', 64 << 10);
    size_t sent = 0;
    int64_t quiet_since_ms = clock_mono_ms();
    while (clock_mono_ms() - quiet_since_ms < 300) { /* until nothing moves any more */
        if (http_stream_write(f->streams[0], block, 64 << 10)) {
            sent += 64 << 10;
            quiet_since_ms = clock_mono_ms();
            if (sent > 256u << 20)
                fail_msg(
                    "the gateway takes everything from the replica of a client that reads nothing");
        } else {
            usleep(1000);
        }
    }
    AUTO_FREE char *other = ask("GET", "/serving/default/demo/x", "", "");
    assert_int_equal(status_of(other), 200);
    /* And it all arrives once the client reads. */
    size_t got = 0;
    char data[65536];
    bool ended = false;
    for (ssize_t n; (n = recv(slow, data, sizeof(data), 0)) > 0;) {
        for (ssize_t i = 0; i < n; i++)
            got += data[i] == 'x';
        if (!ended && got > sent / 2) {
            http_stream_end(steal(f->streams[0]));
            ended = true;
        }
    }
    close(slow);
    assert_true(got >= sent);
}

/* ---- shares ---- */

/* Two services that take turns, each with a canary of 20 %: neither disturbs the other's count. */
static void publish_canaries(struct traffic_turn *turns[2]) {
    static const char *const names[] = {"one", "two"};
    static const char *const none[] = {NULL};
    struct traffic_table *t = traffic_table_create();
    t->services = arena_alloc(t->arena, 2 * sizeof(*t->services));
    for (int i = 0; i < 2; i++) {
        struct traffic_service *s = &t->services[t->num_services++];
        *s = (struct traffic_service){.ns = "default",
                                      .name = names[i],
                                      .hosts = none,
                                      .models = none,
                                      .turn = traffic_turn_ref(turns[i]),
                                      .num_revisions = 2};
        s->revisions = arena_alloc(t->arena, 2 * sizeof(*s->revisions));
        for (int k = 0; k < 2; k++) {
            s->revisions[k] = (struct traffic_revision){
                .name = k ? "new-00002" : "old-00001", .percent = k ? 20 : 80, .num_replicas = 1};
            s->revisions[k].replicas = arena_alloc(t->arena, sizeof(*s->revisions->replicas));
            s->revisions[k].replicas[0] = traffic_replica_ref(env.replicas[k]);
        }
    }
    traffic_publish(env.traffic, t);
}

static void each_service_splits_exactly_and_the_answer_names_its_revision(void **state) {
    struct traffic_turn *turns[2] = {traffic_turn_create(), traffic_turn_create()};
    for (int i = 0; i < 100; i++) {
        publish_canaries(turns); /* a new table before every pair of requests */
        AUTO_FREE char *one = ask("GET", "/serving/default/one/x", "", "");
        AUTO_FREE char *two = ask("GET", "/serving/default/two/x", "", "");
        assert_int_equal(status_of(one), 200);
        bool canary = strstr(one, "replica=1");
        assert_has(one, canary ? "X-Inferd-Revision: new-00002\r\n"
                               : "X-Inferd-Revision: old-00001\r\n");
        assert_int_equal(status_of(two), 200);
    }
    AUTO_FREE char *metrics = ask("GET", "/metrics", "", "");
    static const char *const names[] = {"one", "two"};
    for (int i = 0; i < 2; i++) {
        AUTO_FREE char *canary =
            mem_printf("inferd_gateway_revision_answers_total{namespace=\"default\","
                       "inferenceservice=\"%s\",revision=\"new-00002\"} 20\n",
                       names[i]);
        assert_has(metrics, canary);
        traffic_turn_unref(turns[i]);
    }
}

static void a_revision_that_is_asked_for_answers_without_taking_a_turn(void **state) {
    struct traffic_turn *turns[2] = {traffic_turn_create(), traffic_turn_create()};
    publish_canaries(turns);
    for (int i = 0; i < 30; i++) {
        AUTO_FREE char *r =
            ask("GET", "/serving/default/one/x", "X-Inferd-Revision: new-00002\r\n", "");
        assert_int_equal(status_of(r), 200);
        assert_has(r, "replica=1");
    }
    assert_int_equal(turns[0]->next_ticket, 0);
    AUTO_FREE char *none =
        ask("GET", "/serving/default/one/x", "X-Inferd-Revision: new-00003\r\n", "");
    assert_int_equal(status_of(none), 404);
    assert_has(none, "new-00003");
    for (int i = 0; i < 2; i++)
        traffic_turn_unref(turns[i]);
}

/* ---- failures ---- */

static void unreachable_replica_is_left_for_another(void **state) {
    publish((struct table_options){.num_ready = 2});
    http_server_stop(steal(env.fakes[0].server)); /* its socket file is gone */
    for (int i = 0; i < 6; i++) {
        AUTO_FREE char *r = ask("GET", "/serving/default/demo/x", "", "");
        assert_int_equal(status_of(r), 200);
        assert_has(r, "replica=1");
    }
    AUTO_FREE char *metrics = ask("GET", "/metrics", "", "");
    assert_has(metrics, "inferd_gateway_requests_total{namespace=\"default\","
                        "inferenceservice=\"demo\",code=\"200\"} 6\n");
    assert_has(metrics, "inferd_gateway_retries_total{namespace=\"default\"");
}

static void draining_replica_is_left_without_a_failure(void **state) {
    AUTO_FREE char *first = ask("GET", "/serving/default/demo/x", "", "");
    assert_has(first, "replica=0"); /* over a connection that is kept */
    http_server_drain(env.fakes[0].server);
    publish((struct table_options){.num_ready = 2}); /* the table does not know yet */
    for (int i = 0; i < 6; i++) {
        AUTO_FREE char *r = ask("GET", "/serving/default/demo/x", "", "");
        assert_int_equal(status_of(r), 200);
        assert_has(r, "replica=1");
    }
    assert_true(env.replicas[0]->draining);
    AUTO_FREE char *metrics = ask("GET", "/metrics", "", "");
    assert_null(strstr(metrics, "inferd_gateway_retries_total{")); /* and it is not tried twice */
}

static void request_that_only_a_draining_replica_could_take_is_held(void **state) {
    gateway_stop(steal(env.gateway));
    start_gateway(3, WAIT_MS);
    AUTO_FREE char *first = ask("GET", "/serving/default/demo/x", "", "");
    assert_has(first, "replica=0");
    http_server_drain(env.fakes[0].server);
    int fd = ask_begin("GET", "/serving/default/demo/x", "", "");
    int64_t until_ms = clock_mono_ms() + WAIT_MS;
    while (!env.replicas[0]->draining && clock_mono_ms() < until_ms)
        usleep(1000);
    publish((struct table_options){.num_ready = 2});
    AUTO_FREE char *r = ask_end(fd);
    assert_int_equal(status_of(r), 200);
    assert_has(r, "replica=1");
}

/* A replica that takes the request and dies: the listener closes what it accepts. */
static void *accept_and_close(void *user) {
    int listener = *(int *)user;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            return NULL;
        char data[4096];
        ssize_t n = recv(fd, data, sizeof(data), 0);
        (void)n;
        close(fd);
    }
}

static void replica_that_dies_before_it_answers_is_left_once(void **state) {
    http_server_stop(steal(env.fakes[0].server));
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    strcpy(sun.sun_path, env.fakes[0].path);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (void *)&sun, sizeof(sun)), 0);
    assert_int_equal(listen(listener, 16), 0);
    pthread_t t;
    pthread_create(&t, NULL, accept_and_close, &listener);
    publish((struct table_options){.num_ready = 2});
    for (int i = 0; i < 4; i++) {
        AUTO_FREE char *r = ask("POST", "/v1/completions", "", "{\"model\":\"demo\"}");
        assert_has(r, "replica=1 POST");
    }
    /* The only one there is: held for another, in vain. */
    publish((struct table_options){.num_ready = 1});
    AUTO_FREE char *alone = ask("GET", "/serving/default/demo/x", "", "");
    assert_int_equal(status_of(alone), 503);
    assert_has(alone, "Retry-After:");
    shutdown(listener, SHUT_RDWR);
    pthread_join(t, NULL);
    close(listener);
    unlink(env.fakes[0].path);
}

/* An engine sends its head before the first token; until that token nothing is lost. */
static void replica_that_dies_after_the_head_is_left_for_another(void **state) {
    publish((struct table_options){.num_ready = 2});
    for (int i = 0; i < 4; i++) {
        AUTO_FREE char *r = ask("GET", "/serving/default/demo/head-only", "", "");
        assert_has(r, "replica=1 GET /head-only");
        assert_null(strstr(r, "X-From"));
        assert_null(strstr(r, "event-stream"));
    }
}

static void stream_that_breaks_off_ends_with_an_error_event(void **state) {
    struct fake *f = &env.fakes[0];
    AUTO_BUF in = BUF_INIT;
    int fd = ask_begin("GET", "/serving/default/demo/stream", "X-Request-Id: id-7\r\n", "");
    receive_until(fd, &in, "data: first\n\n");
    await(f, &f->num_streams, 1);
    http_stream_abort(steal(f->streams[0]));
    while (receive(fd, &in)) {}
    close(fd);
    assert_has(in.data, "data: {\"error\":{\"message\":\"replica pod-0 ended in the middle of the "
                        "answer\"");
    assert_has(in.data, "id-7");
    assert_null(strstr(in.data, "\r\n0\r\n")); /* no proper end */

    AUTO_FREE char *metrics = ask("GET", "/metrics", "", "");
    assert_has(metrics, "inferd_gateway_answers_cut_total{namespace=\"default\","
                        "inferenceservice=\"demo\"} 1\n");

    AUTO_BUF half = BUF_INIT; /* in the middle of an event nothing can be said */
    fd = ask_begin("GET", "/serving/default/demo/stream", "", "");
    receive_until(fd, &half, "data: first\n\n");
    await(f, &f->num_streams, 2);
    http_stream_write(f->streams[1], "data: {\"half", 12);
    receive_until(fd, &half, "{\"half");
    http_stream_abort(steal(f->streams[1]));
    while (receive(fd, &half)) {}
    close(fd);
    assert_null(strstr(half.data, "error"));
}

static void unknown_models_and_paths_are_told(void **state) {
    AUTO_FREE char *model = ask("POST", "/v1/chat/completions", "", "{\"model\":\"nope\"}");
    assert_int_equal(status_of(model), 404);
    assert_has(model, "\"code\":\"model_not_found\"");
    assert_has(model, "The model `nope` does not exist. Known models: `demo`, `org/demo`");
    AUTO_FREE char *none = ask("POST", "/v1/chat/completions", "", "{\"messages\":[]}");
    assert_int_equal(status_of(none), 400);
    assert_has(none, "\"param\":\"model\"");
    AUTO_FREE char *garbage = ask("POST", "/v1/chat/completions", "", "garbage");
    assert_int_equal(status_of(garbage), 400);
    AUTO_FREE char *path = ask("GET", "/nowhere", "", "");
    assert_int_equal(status_of(path), 404);
    AUTO_FREE char *metrics = ask("GET", "/metrics", "", "");
    assert_has(metrics, "inferd_gateway_requests_total{namespace=\"\",inferenceservice=\"\","
                        "code=\"404\"} 2\n");
}

/* ---- holding ---- */

static void request_is_held_until_a_replica_is_ready(void **state) {
    publish((struct table_options){.waiting = true});
    int fds[3];
    for (int i = 0; i < 3; i++)
        fds[i] = ask_begin("GET", "/serving/default/demo/x", "", "");
    for (;;) {
        AUTO_FREE char *metrics = ask("GET", "/metrics", "", "");
        if (strstr(metrics, "inferd_gateway_requests_held{namespace=\"default\","
                            "inferenceservice=\"demo\"} 3\n"))
            break;
    }
    AUTO_FREE char *full = ask("GET", "/serving/default/demo/x", "", "");
    assert_int_equal(status_of(full), 429);
    assert_has(full, "Retry-After:");
    assert_has(full, "3 requests wait for replicas of InferenceService demo in namespace default");
    publish((struct table_options){.num_ready = 1});
    for (int i = 0; i < 3; i++) {
        AUTO_FREE char *r = ask_end(fds[i]);
        assert_int_equal(status_of(r), 200);
    }
}

static void held_request_gives_up_after_the_bound(void **state) {
    publish((struct table_options){.waiting = true});
    int64_t start_ms = clock_mono_ms();
    AUTO_FREE char *r = ask("GET", "/serving/default/demo/x", "", "");
    int64_t took_ms = clock_mono_ms() - start_ms;
    assert_int_equal(status_of(r), 503);
    assert_has(r, "Retry-After:");
    assert_true(took_ms >= 400 && took_ms < 5000);
}

static void hopeless_requests_are_not_held(void **state) {
    publish((struct table_options){0});
    AUTO_FREE char *r = ask("GET", "/serving/default/demo/x", "", "");
    assert_int_equal(status_of(r), 503);
    assert_has(r, "is not ready: the model is missing");
    publish((struct table_options){.waiting = true});
    int fd = ask_begin("GET", "/serving/default/demo/x", "", "");
    usleep(50000);
    publish((struct table_options){.absent = true}); /* deleted while it waits */
    AUTO_FREE char *gone = ask_end(fd);
    assert_int_equal(status_of(gone), 404);
}

static void container_concurrency_holds_the_next_request(void **state) {
    struct fake *f = &env.fakes[0];
    publish((struct table_options){.num_ready = 1, .concurrency = 1});
    int first = ask_begin("GET", "/serving/default/demo/hang", "", "");
    await(f, &f->num_streams, 1);
    int second = ask_begin("GET", "/serving/default/demo/x", "", "");
    struct pollfd p = {.fd = second, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 100), 0);
    assert_int_equal(read_counter(f, &f->num_requests), 1);
    http_reply_text(steal(f->streams[0]), 200, "done");
    AUTO_FREE char *one = ask_end(first);
    AUTO_FREE char *two = ask_end(second);
    assert_has(one, "done");
    assert_int_equal(status_of(two), 200);
}

/* ---- its own answers ---- */

static void own_endpoints_answer(void **state) {
    AUTO_FREE char *healthz = ask("GET", "/healthz", "", "");
    assert_has(healthz, "\r\n\r\nok");
    AUTO_FREE char *readyz = ask("GET", "/readyz", "", "");
    assert_int_equal(status_of(readyz), 200);
    AUTO_FREE char *models = ask("GET", "/v1/models", "", "");
    assert_has(models, "{\"object\":\"list\",\"data\":[{\"id\":\"demo\",\"object\":\"model\"");
    assert_has(models, "\"id\":\"org/demo\"");
    AUTO_FREE char *live = ask("GET", "/v2/health/live", "", "");
    assert_has(live, "{\"live\":true}");
    AUTO_FREE char *meta = ask("GET", "/v2", "", "");
    assert_has(meta, "\"name\":\"inferd\"");
    publish((struct table_options){.waiting = true});
    AUTO_FREE char *none = ask("GET", "/v1/models", "", "");
    assert_has(none, "\"data\":[]");
}

/* ---- many at once ---- */

enum { NUM_STREAMS = 200, NUM_EVENTS = 20 };

static void two_hundred_streams_at_once(void **state) {
    publish((struct table_options){.num_ready = 2});
    int fds[NUM_STREAMS];
    for (int i = 0; i < NUM_STREAMS; i++)
        fds[i] = ask_begin("GET", "/serving/default/demo/stream", "", "");
    for (int i = 0; i < REPLICAS; i++) /* least in flight: exactly half each */
        await(&env.fakes[i], &env.fakes[i].num_streams, NUM_STREAMS / 2);
    for (int e = 0; e < NUM_EVENTS; e++) {
        char line[32];
        int n = snprintf(line, sizeof(line), "data: %d\n\n", e);
        for (int i = 0; i < NUM_STREAMS; i++)
            http_stream_write(env.fakes[i % 2].streams[i / 2], line, (size_t)n);
    }
    for (int i = 0; i < NUM_STREAMS; i++)
        http_stream_end(steal(env.fakes[i % 2].streams[i / 2]));
    for (int i = 0; i < NUM_STREAMS; i++) {
        AUTO_FREE char *r = ask_end(fds[i]);
        const char *at = r;
        for (int e = 0; e < NUM_EVENTS; e++) {
            char line[32];
            snprintf(line, sizeof(line), "data: %d\n\n", e);
            at = strstr(at, line);
            assert_non_null(at);
        }
        assert_has(at, "\r\n0\r\n\r\n");
    }
}

static void stop_with_open_requests_is_clean(void **state) {
    struct fake *f = &env.fakes[0];
    int fds[40];
    publish((struct table_options){.num_ready = 1});
    for (int i = 0; i < 20; i++)
        fds[i] = ask_begin("GET", "/serving/default/demo/stream", "", "");
    await(f, &f->num_streams, 20);
    publish((struct table_options){.waiting = true});
    for (int i = 20; i < 40; i++) /* three are held, the others refused */
        fds[i] = ask_begin("GET", "/serving/default/demo/x", "", "");
    gateway_stop(env.gateway);
    await(f, &f->num_gone, 20);
    for (int i = 0; i < 40; i++)
        close(fds[i]);
    start_gateway(3, 400); /* for the tear-down */
}

int main(void) {
    log_set_level(LOG_LEVEL_ERROR);
#define gateway_unit_test(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        gateway_unit_test(request_arrives_as_it_was_sent),
        gateway_unit_test(every_way_of_routing_reaches_the_replica),
        gateway_unit_test(sizes_and_empty_answers_survive),
        gateway_unit_test(pipelined_requests_are_answered_in_order),
        gateway_unit_test(chunked_body_comes_when_it_is_asked_for),
        gateway_unit_test(bounds_of_requests_are_named),
        gateway_unit_test(events_leave_as_they_come),
        gateway_unit_test(client_that_leaves_ends_the_request_at_the_replica),
        gateway_unit_test(slow_client_slows_its_replica_only),
        gateway_unit_test(each_service_splits_exactly_and_the_answer_names_its_revision),
        gateway_unit_test(a_revision_that_is_asked_for_answers_without_taking_a_turn),
        gateway_unit_test(unreachable_replica_is_left_for_another),
        gateway_unit_test(draining_replica_is_left_without_a_failure),
        gateway_unit_test(request_that_only_a_draining_replica_could_take_is_held),
        gateway_unit_test(replica_that_dies_before_it_answers_is_left_once),
        gateway_unit_test(replica_that_dies_after_the_head_is_left_for_another),
        gateway_unit_test(stream_that_breaks_off_ends_with_an_error_event),
        gateway_unit_test(unknown_models_and_paths_are_told),
        gateway_unit_test(request_is_held_until_a_replica_is_ready),
        gateway_unit_test(held_request_gives_up_after_the_bound),
        gateway_unit_test(hopeless_requests_are_not_held),
        gateway_unit_test(container_concurrency_holds_the_next_request),
        gateway_unit_test(own_endpoints_answer),
        gateway_unit_test(two_hundred_streams_at_once),
        gateway_unit_test(stop_with_open_requests_is_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
