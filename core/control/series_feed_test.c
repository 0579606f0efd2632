/* The feed and its getter against HTTP servers in this process. The test runs the getter by hand
 * and moves the clock; nothing waits for a fixed time. */
#include "core/control/series_feed.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/http_client_test.h"

enum { PODS = 2 };

struct pod {
    struct http_server *server;
    struct traffic_replica *replica;
    _Atomic int status; /* 0: keeps the exchange and says nothing */
    pthread_mutex_t lock;
    struct http_exchange *kept; /* under the lock, like closing */
    bool closing;               /* nothing is kept any more */
};

static struct {
    char dir[64];
    struct traffic *traffic;
    struct metrics *metrics;
    struct series *series;
    struct series_feed *feed;
    struct pod pods[PODS];
} env;

/* False: it has to be answered now. */
static bool keep(struct pod *p, struct http_exchange *x) {
    pthread_mutex_lock(&p->lock);
    bool kept = !p->closing && !p->kept;
    if (kept)
        p->kept = x;
    pthread_mutex_unlock(&p->lock);
    return kept;
}

static void let_go(struct pod *p) {
    pthread_mutex_lock(&p->lock);
    struct http_exchange *x = steal(p->kept);
    p->closing = true;
    pthread_mutex_unlock(&p->lock);
    if (x)
        http_reply_text(x, 503, "late");
}

static void serve(struct http_exchange *x, void *user) {
    struct pod *p = user;
    if (!strcmp(http_path(x), "/echo")) {
        size_t len;
        const char *body = http_body(x, &len), *auth = http_header(x, "Authorization");
        AUTO_FREE char *text = mem_printf(
            "%s %s auth=%s x=%s body=%.*s", http_method(x), http_raw_query(x), auth ? auth : "",
            http_header(x, "X-A") ? http_header(x, "X-A") : "", (int)len, len ? body : "");
        http_reply(x, 200, "text/plain", text, strlen(text));
        return;
    }
    static const char page[] = "# TYPE vllm:num_requests_running gauge\n"
                               "vllm:num_requests_running{engine=\"0\",pod=\"mine\"} 3\n";
    static const char broken[] = "vllm:num_requests_running 1\nbroken\n";
    int status = p->status;
    if (!status && keep(p, x))
        return;
    if (status == 299)
        http_reply(x, 200, "text/plain", broken, strlen(broken));
    else
        http_reply(x, status ? status : 503, "text/plain", page, strlen(page));
}

static void publish(int num) {
    struct traffic_table *t = traffic_table_create();
    struct traffic_service *s = arena_alloc(t->arena, sizeof(*s));
    *s = (struct traffic_service){.ns = "default", .name = "demo", .num_revisions = 1};
    s->revisions = arena_alloc(t->arena, sizeof(*s->revisions));
    s->revisions->name = "demo-predictor-00001";
    s->revisions->replicas = arena_alloc(t->arena, PODS * sizeof(*s->revisions->replicas));
    for (int i = 0; i < num; i++)
        s->revisions->replicas[s->revisions->num_replicas++] =
            traffic_replica_ref(env.pods[i].replica);
    t->services = s;
    t->num_services = 1;
    traffic_publish(env.traffic, t);
}

static int set_up(void **state) {
    struct error err = ERROR_INIT;
    memset(&env, 0, sizeof(env));
    log_set_level(LOG_LEVEL_ERROR);
    strcpy(env.dir, "/tmp/inferd-feed-test-XXXXXX");
    assert_non_null(mkdtemp(env.dir));
    env.traffic = traffic_create();
    env.metrics = metrics_create();
    env.series = series_create(NULL);
    for (int i = 0; i < PODS; i++) {
        AUTO_FREE char *listen_on = mem_printf("unix:%s/%d.sock", env.dir, i);
        struct http_server_options opt = {
            .listen = listen_on, .handler = serve, .user = &env.pods[i]};
        env.pods[i].status = 200;
        pthread_mutex_init(&env.pods[i].lock, NULL);
        if (http_server_start(&opt, &env.pods[i].server, &err))
            fail_msg("%s", err.text);
        env.pods[i].replica =
            traffic_replica_create(i ? "pod-1" : "pod-0", listen_on + strlen("unix:"));
    }
    const struct series_feed_options opt = {.series = env.series,
                                            .traffic = env.traffic,
                                            .metrics = env.metrics,
                                            .timeout_ms = WAIT_MS};
    if (series_feed_create(&opt, &env.feed, &err))
        fail_msg("%s", err.text);
    return 0;
}

static int tear_down(void **state) {
    series_feed_destroy(env.feed);
    for (int i = 0; i < PODS; i++) {
        let_go(&env.pods[i]);
        http_server_stop(env.pods[i].server);
        pthread_mutex_destroy(&env.pods[i].lock);
        traffic_replica_unref(env.pods[i].replica);
    }
    traffic_destroy(env.traffic);
    metrics_destroy(env.metrics);
    series_destroy(env.series);
    return rmdir(env.dir);
}

/* The instant vector of a metric as "pod=value ...". Gives text, valid until the next call. */
static const char *now(const char *name, int64_t at_ms) {
    static char text[512];
    struct error err = ERROR_INIT;
    struct matcher m;
    struct series_ranges r;
    size_t len = 0;
    text[0] = '\0';
    assert_int_equal(matcher_init(&m, LABEL_NAME, MATCHER_EQUAL, name, &err), OK);
    assert_int_equal(series_latest(env.series, &m, 1, at_ms, &r, &err), OK);
    for (size_t i = 0; i < r.num_items; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s=%g", i ? " " : "",
                                labels_get(r.items[i].labels, "pod"), r.items[i].samples->value);
    series_ranges_deinit(&r);
    matcher_deinit(&m);
    return text;
}

static void run_until(const char *name, int64_t at_ms, const char *expect) {
    int64_t until_ms = clock_mono_ms() + WAIT_MS;
    while (strcmp(now(name, at_ms), expect) != 0) {
        if (clock_mono_ms() > until_ms)
            fail_msg("%s is \"%s\", not \"%s\"", name, now(name, at_ms), expect);
        http_getter_run(series_feed_getter(env.feed), 20);
    }
}

static void replicas_become_series(void **state) {
    publish(2);
    series_feed_look(env.feed, 10000);
    run_until("up", 10000, "pod-0=1 pod-1=1");
    assert_string_equal(now("vllm:num_requests_running", 10000), "pod-0=3 pod-1=3");
    struct error err = ERROR_INIT;
    struct matcher m;
    AUTO_SERIES_RANGES r = {0};
    assert_int_equal(matcher_init(&m, LABEL_NAME, MATCHER_EQUAL, "vllm:num_requests_running", &err),
                     OK);
    assert_int_equal(series_latest(env.series, &m, 1, 10000, &r, &err), OK);
    matcher_deinit(&m);
    const struct labels *l = r.items[0].labels;
    assert_string_equal(labels_get(l, "namespace"), "default");
    assert_string_equal(labels_get(l, "inferenceservice"), "demo");
    assert_string_equal(labels_get(l, "revision"), "demo-predictor-00001");
    assert_string_equal(labels_get(l, "engine"), "0");
    assert_string_equal(labels_get(l, "exported_pod"), "mine");
}

static void a_replica_that_goes_or_fails_ends_its_series(void **state) {
    publish(2);
    series_feed_look(env.feed, 10000);
    run_until("up", 10000, "pod-0=1 pod-1=1");
    env.pods[1].status = 500;
    series_feed_look(env.feed, 15000);
    run_until("up", 15000, "pod-0=1 pod-1=0");
    assert_string_equal(now("vllm:num_requests_running", 15000), "pod-0=3");
    env.pods[1].status = 299; /* a page that breaks off */
    series_feed_look(env.feed, 20000);
    run_until("vllm:num_requests_running", 20000, "pod-0=3 pod-1=1");
    assert_string_equal(now("up", 20000), "pod-0=1 pod-1=0");
    publish(1);
    series_feed_look(env.feed, 25000);
    run_until("up", 25000, "pod-0=1");
    run_until("vllm:num_requests_running", 25000, "pod-0=3");
}

static void one_that_hangs_holds_up_nobody(void **state) {
    env.pods[1].status = 0;
    publish(2);
    series_feed_look(env.feed, 10000);
    run_until("up", 10000, "pod-0=1");
    series_feed_look(env.feed, 15000); /* the other is not asked twice */
    run_until("up", 15000, "pod-0=1");
    publish(1); /* it goes while its answer is awaited */
    series_feed_look(env.feed, 20000);
    run_until("up", 20000, "pod-0=1");
}

static void the_daemons_own_metrics_are_kept(void **state) {
    static const struct metric_family family = {
        .type = METRIC_COUNTER, .name = "inferd_x_total", .help = "x", .labels = {"pod"}};
    publish(0);
    metric_add(metrics_get(env.metrics, &family, (const char *[]){"a"}), 5);
    series_feed_look(env.feed, 10000);
    assert_string_equal(now("inferd_x_total", 10000), "a=5");
    series_feed_look(env.feed, 15000);
    assert_string_equal(now("inferd_series", 15000), "=5"); /* x, and the table's own four */
}

/* ---- the getter ---- */

struct got {
    bool done;
    int status;
    char text[512], error[256];
};

static void on_got(void *user, const struct http_got *g) {
    struct got *to = user;
    to->done = true;
    to->status = g->status;
    snprintf(to->text, sizeof(to->text), "%s", g->body);
    snprintf(to->error, sizeof(to->error), "%s", g->error ? g->error : "");
}

static void run_until_got(struct got *g) {
    int64_t until_ms = clock_mono_ms() + WAIT_MS;
    while (!g->done) {
        if (clock_mono_ms() > until_ms)
            fail_msg("no answer");
        http_getter_run(series_feed_getter(env.feed), 20);
    }
}

static void requests_carry_what_they_are_given(void **state) {
    static const struct {
        struct http_get get;
        const char *expect;
    } rows[] = {
        {{.url = "http://x/echo?a=1"}, "GET a=1 auth= x= body="},
        {{.url = "http://x/echo", .bearer = "tok"}, "GET  auth=Bearer tok x= body="},
        {{.url = "http://x/echo", .username = "u", .password = "p"},
         "GET  auth=Basic dTpw x= body="},
        {{.url = "http://x/echo", .headers = {"X-A: b"}, .body = "q=1"},
         "POST  auth= x=b body=q=1"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_get get = rows[i].get;
        struct got got = {0};
        struct error err = ERROR_INIT;
        get.uds_path = env.pods[0].replica->address;
        get.timeout_ms = WAIT_MS;
        assert_int_equal(http_getter_ask(series_feed_getter(env.feed), &get, on_got, &got, &err),
                         OK);
        run_until_got(&got);
        assert_int_equal(got.status, 200);
        assert_string_equal(got.text, rows[i].expect);
    }
}

static void errors_are_told(void **state) {
    struct http_getter *g = series_feed_getter(env.feed);
    struct error err = ERROR_INIT;
    struct got got = {0};
    const struct http_get file = {.url = "file:///etc/passwd", .timeout_ms = 1000};
    assert_int_equal(http_getter_ask(g, &file, on_got, &got, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "is not an http or https URL"));
    const struct http_get absent = {
        .url = "http://x/", .uds_path = "/nonexistent/socket", .timeout_ms = 1000};
    assert_int_equal(http_getter_ask(g, &absent, on_got, &got, &err), OK);
    run_until_got(&got);
    assert_int_equal(got.status, 0);
    assert_true(*got.error);
    env.pods[0].status = 0;
    struct got late = {0};
    const struct http_get hangs = {
        .url = "http://x/", .uds_path = env.pods[0].replica->address, .timeout_ms = 30};
    assert_int_equal(http_getter_ask(g, &hangs, on_got, &late, &err), OK);
    run_until_got(&late);
    assert_int_equal(late.status, 0);
    assert_string_equal(late.error, "Timeout was reached");
}

static void more_than_the_bound_is_refused_and_the_end_is_told(void **state) {
    struct http_getter *g = NULL;
    struct error err = ERROR_INIT;
    static struct got got[HTTP_GETS_MAX];
    const struct http_get get = {.url = "http://127.0.0.1:9/", .timeout_ms = 1000};
    memset(got, 0, sizeof(got));
    assert_int_equal(http_getter_create(&g, &err), OK);
    for (int i = 0; i < HTTP_GETS_MAX; i++)
        assert_int_equal(http_getter_ask(g, &get, on_got, &got[i], &err), OK);
    assert_int_equal(http_getter_ask(g, &get, on_got, &got[0], &err), ERR_EXHAUSTED);
    http_getter_destroy(g);
    for (int i = 0; i < HTTP_GETS_MAX; i++)
        assert_string_equal(got[i].error, "the daemon stops");
}

static void the_thread_looks_by_itself(void **state) {
    struct error err = ERROR_INIT;
    publish(1);
    assert_int_equal(series_feed_start(env.feed, &err), OK);
    int64_t until_ms = clock_mono_ms() + WAIT_MS;
    while (strcmp(now("up", clock_wall_ms()), "pod-0=1") != 0) {
        assert_true(clock_mono_ms() < until_ms);
        usleep(1000);
    }
}

#define FEED_TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        FEED_TEST(replicas_become_series),
        FEED_TEST(a_replica_that_goes_or_fails_ends_its_series),
        FEED_TEST(one_that_hangs_holds_up_nobody),
        FEED_TEST(the_daemons_own_metrics_are_kept),
        FEED_TEST(requests_carry_what_they_are_given),
        FEED_TEST(errors_are_told),
        FEED_TEST(more_than_the_bound_is_refused_and_the_end_is_told),
        FEED_TEST(the_thread_looks_by_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
