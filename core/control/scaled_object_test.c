/* ScaledObjects on a real store and a clock of the test's: figures in, replicas, conditions and
 * Events out. Answers from elsewhere come from an HTTP server in this process. */
#include "core/control/scaled_object.h"

#include <pthread.h>

#include "core/control/fixture_test.h"
#include "core/control/http_get.h"
#include "core/http_client_test.h"

static const char WEB[] =
    "{\"metadata\":{\"name\":\"web\"},\"spec\":{\"replicas\":2,\"selector\":{\"matchLabels\":{"
    "\"app\":\"web\"}},\"template\":{\"metadata\":{\"labels\":{\"app\":\"web\"}},\"spec\":{"
    "\"containers\":[{\"name\":\"c\",\"image\":\"host\",\"command\":[\"sleep\"],\"resources\":{"
    "\"requests\":{\"cpu\":\"100m\"}}}]}}}}";

#define SCALED(fields, triggers)                                                                   \
    "{\"metadata\":{\"name\":\"so\"},\"spec\":{\"scaleTargetRef\":{\"name\":\"web\"}," fields      \
    "\"triggers\":[" triggers "]}}"
#define QUERY                                                                                      \
    "{\"type\":\"prometheus\",\"metadata\":{\"query\":\"sum(queue)\",\"threshold\":\"10\"}}"

struct env {
    struct fixture *f;
    struct series_source *source;
    struct http_server *server;
    char *url;
    _Atomic int status, num_asked; /* of the server */
    pthread_mutex_t lock;
    char seen[1024]; /* what it was asked last; under the lock */
};
static struct env env;

static void serve(struct http_exchange *x, void *user) {
    const char *auth = http_header(x, "Authorization"), *query = http_query(x, "query");
    const char *tenant = http_header(x, "X-Tenant");
    static const char vector[] = "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\","
                                 "\"result\":[{\"metric\":{},\"value\":[1,\"55\"]}]}}";
    static const char stats[] = "{\"load\":{\"now\":\"25\"}}";
    pthread_mutex_lock(&env.lock);
    snprintf(env.seen, sizeof(env.seen), "%s query=%s auth=%s tenant=%s", http_path(x),
             query ? query : "", auth ? auth : "", tenant ? tenant : "");
    pthread_mutex_unlock(&env.lock);
    const char *body = strstr(http_path(x), "stats") ? stats : vector;
    env.num_asked++;
    http_reply(x, env.status, "application/json", body, strlen(body));
}

static int setup(void **state) {
    struct error err = ERROR_INIT;
    const struct http_server_options opt = {.listen = "127.0.0.1:0", .handler = serve};
    int rc = fixture_setup(state);
    struct fixture *f = *state;
    memset(&env, 0, sizeof(env));
    pthread_mutex_init(&env.lock, NULL);
    env.f = f;
    env.status = 200;
    fixture_end_daemon(f);
    f->usage = usage_create();
    f->series = series_create(NULL);
    env.source = series_source_open(f->series);
    if (http_server_start(&opt, &env.server, &err) || http_getter_create(&f->getter, &err))
        fail_msg("%s", err.text);
    env.url = mem_printf("http://%s", http_server_address(env.server));
    fixture_start_daemon(f);
    fixture_create(f, KIND_DEPLOYMENT, WEB);
    fixture_pass(f);
    return rc;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    struct usage *usage = f->usage;
    struct series *series = f->series;
    http_getter_destroy(steal(f->getter)); /* before the controllers, as the daemon does */
    int rc = fixture_teardown(state);
    http_server_stop(env.server);
    pthread_mutex_destroy(&env.lock);
    series_source_close(env.source, 0);
    series_destroy(series);
    usage_destroy(usage);
    free(env.url);
    return rc;
}

static void put_queue(double value) {
    const struct label labels[] = {{LABEL_NAME, "queue"}};
    struct error err = ERROR_INIT;
    assert_int_equal(series_put(env.source, labels, 1, env.f->wall_ms, value, &err), OK);
}

/* So long, with this value every 5 s. */
static void run_with(double value, int64_t seconds) {
    for (int64_t i = 0; i < seconds; i += 5) {
        put_queue(value);
        fixture_advance(env.f, 5000);
    }
}

static int64_t replicas(void) {
    json_t *d = fixture_get(env.f, KIND_DEPLOYMENT, "web");
    int64_t n = object_int(d, "spec.replicas", -1);
    json_decref(d);
    return n;
}

static json_t *object(void) {
    return fixture_get(env.f, KIND_SCALED_OBJECT, "so");
}

static void zero_and_back_by_own_series(void **state) {
    struct fixture *f = *state;
    put_queue(0);
    fixture_create(
        f, KIND_SCALED_OBJECT,
        SCALED("\"cooldownPeriod\":60,\"pollingInterval\":10,\"maxReplicaCount\":5,", QUERY));
    assert_condition(object(), "Ready", "True", "ScaledObjectReady", "ready for scaling");
    assert_condition(object(), "Active", "False", "ScalerNotActive", NULL);
    assert_condition(object(), "Fallback", "False", "NoFallbackFound", NULL);
    assert_condition(object(), "Paused", "Unknown", NULL, NULL);
    assert_field(object(), "status.scaleTargetKind", "apps/v1.Deployment");
    assert_field(object(), "status.scaleTargetGVKR.resource", "deployments");
    assert_field(object(), "status.externalMetricNames.0", "s0-prometheus");
    assert_field(object(), "status.triggersTypes", "prometheus");
    assert_int_field(object(), "status.originalReplicaCount", 2);
    assert_int_equal(fixture_events(f, "ScaledObjectReady", ""), 1);
    assert_int_equal(fixture_events(f, "KEDAScalersStarted", ""), 1);
    assert_int_equal(replicas(), 2);
    run_with(0, 50);
    assert_int_equal(replicas(), 2); /* within the cooldown */
    run_with(0, 30);
    assert_int_equal(replicas(), 0);
    assert_int_equal(fixture_events(f, "KEDAScaleTargetDeactivated", "from 2 to 0"), 1);
    run_with(25, 15);
    assert_int_equal(replicas(), 3); /* 25 / 10 */
    assert_condition(object(), "Active", "True", "ScalerActive", NULL);
    assert_int_equal(fixture_events(f, "KEDAScaleTargetActivated", "from 0 to 3"), 1);
    run_with(1000, 60);
    assert_int_equal(replicas(), 5); /* the maximum */
    run_with(12, 60);
    assert_int_equal(replicas(), 5); /* held by the window of the HPA's rule */
    run_with(12, 360);
    assert_int_equal(replicas(), 2);
    assert_int_equal(fixture_events(f, "ScaledObjectReady", ""), 1); /* said once */
}

static void behavior_paces_what_is_above_one(void **state) {
    struct fixture *f = *state;
    put_queue(1000);
    fixture_create(
        f, KIND_SCALED_OBJECT,
        SCALED("\"pollingInterval\":10,\"maxReplicaCount\":50,\"advanced\":{"
               "\"horizontalPodAutoscalerConfig\":{\"behavior\":{\"scaleUp\":{"
               "\"policies\":[{\"type\":\"Pods\",\"value\":1,\"periodSeconds\":60}]}}}},",
               QUERY));
    run_with(1000, 30);
    assert_int_equal(replicas(), 3);
    run_with(1000, 60);
    assert_int_equal(replicas(), 4);
}

static void idle_count_is_where_it_rests(void **state) {
    struct fixture *f = *state;
    put_queue(0);
    fixture_create(f, KIND_SCALED_OBJECT,
                   SCALED("\"cooldownPeriod\":10,\"pollingInterval\":5,\"idleReplicaCount\":0,"
                          "\"minReplicaCount\":2,",
                          QUERY));
    run_with(0, 40);
    assert_int_equal(replicas(), 0);
    run_with(1, 15);
    assert_int_equal(replicas(), 2);
}

static void activation_is_another_bound(void **state) {
    struct fixture *f = *state;
    put_queue(5);
    fixture_create(f, KIND_SCALED_OBJECT,
                   SCALED("\"cooldownPeriod\":10,\"pollingInterval\":5,",
                          "{\"type\":\"prometheus\",\"metadata\":{\"query\":\"sum(queue)\","
                          "\"threshold\":\"10\",\"activationThreshold\":\"5\"}}"));
    run_with(5, 40);
    assert_int_equal(replicas(), 0); /* not above it */
    run_with(6, 15);
    assert_int_equal(replicas(), 1);
}

static void a_metric_that_is_lost_never_scales_to_zero(void **state) {
    struct fixture *f = *state;
    const struct label up[] = {{LABEL_NAME, "up"}, {"namespace", "default"}, {"pod", "p"}};
    struct error err = ERROR_INIT;
    put_queue(20);
    fixture_create(f, KIND_SCALED_OBJECT,
                   SCALED("\"cooldownPeriod\":10,\"pollingInterval\":5,", QUERY));
    run_with(20, 20);
    for (int i = 0; i < 100; i++) { /* the queue is not put any more, nor can a replica be read */
        assert_int_equal(series_put(env.source, up, 3, f->wall_ms, 0, &err), OK);
        fixture_advance(f, 5000);
    }
    assert_int_equal(replicas(), 2);
    assert_condition(object(), "Ready", "False", "TriggerError", "not working correctly");
    assert_true(fixture_events(f, "KEDAScalerFailed", "the result is empty") > 0);
    /* It comes back. */
    run_with(20, 10);
    assert_condition(object(), "Ready", "True", "ScaledObjectReady", NULL);
    assert_int_equal(fixture_events(f, "KEDAScalersStarted", ""), 1);
}

static void the_fallback_votes_after_failures(void **state) {
    struct fixture *f = *state;
    AUTO_FREE char *text = mem_printf(
        SCALED("\"pollingInterval\":5,\"fallback\":{\"failureThreshold\":3,\"replicas\":7},",
               "{\"type\":\"prometheus\",\"metadata\":{\"query\":\"q\",\"threshold\":\"10\","
               "\"serverAddress\":\"http://127.0.0.1:1/\"}}"));
    fixture_create(f, KIND_SCALED_OBJECT, text);
    int64_t until_ms = clock_mono_ms() + WAIT_MS;
    while (replicas() != 7) { /* each poll wants an answer of the getter's */
        assert_true(clock_mono_ms() < until_ms);
        http_getter_run(f->getter, 1);
        fixture_advance(f, 1000);
    }
    assert_condition(object(), "Fallback", "True", "FallbackExists", NULL);
    json_t *so = object();
    assert_true(object_int(so, "status.health.s0-prometheus.numberOfFailures", 0) >= 3);
    json_decref(so);
    assert_field(object(), "status.health.s0-prometheus.status", "Failing");
}

static void paused_objects_hold_still(void **state) {
    struct fixture *f = *state;
    put_queue(0);
    fixture_create(f, KIND_SCALED_OBJECT,
                   SCALED("\"cooldownPeriod\":10,\"pollingInterval\":5,", QUERY));
    fixture_patch(f, KIND_SCALED_OBJECT, "so", "metadata.annotations",
                  "{\"autoscaling.keda.sh/paused\":\"true\"}");
    run_with(0, 60);
    assert_int_equal(replicas(), 2);
    assert_condition(object(), "Paused", "True", "ScaledObjectPaused", "ScaledObject is paused");
    fixture_patch(f, KIND_SCALED_OBJECT, "so", "metadata.annotations",
                  "{\"autoscaling.keda.sh/paused-replicas\":\"4\"}");
    fixture_pass(f);
    assert_int_equal(replicas(), 4);
    assert_int_field(object(), "status.pausedReplicaCount", 4);
    fixture_patch(f, KIND_SCALED_OBJECT, "so", "metadata.annotations", "{}");
    run_with(0, 30);
    assert_condition(object(), "Paused", "False", "ScaledObjectUnpaused", NULL);
    assert_int_equal(replicas(), 0);
}

static void what_is_not_done_is_refused_by_name(void **state) {
    static const char *const rows[][2] = {
        {SCALED("", "{\"type\":\"kafka\",\"metadata\":{}}"),
         "error getting scaler for trigger #0: no scaler found for type: kafka"},
        {SCALED("", QUERY ",{\"type\":\"rabbitmq\",\"metadata\":{}}"),
         "error getting scaler for trigger #1: no scaler found for type: rabbitmq"},
        {SCALED("\"advanced\":{\"scalingModifiers\":{\"formula\":\"a+b\"}},", QUERY),
         "spec.advanced.scalingModifiers is not supported"},
        {SCALED("\"minReplicaCount\":5,\"maxReplicaCount\":3,", QUERY),
         "MinReplicaCount=5 must be less than MaxReplicaCount=3"},
        {SCALED("\"minReplicaCount\":2,\"idleReplicaCount\":2,", QUERY),
         "IdleReplicaCount=2 must be less than MinReplicaCount=2"},
        {SCALED("\"fallback\":{\"failureThreshold\":1,\"replicas\":1,\"behavior\":"
                "\"scalingModifiers\"},",
                QUERY),
         "spec.fallback.behavior: \"scalingModifiers\" is not supported"},
        {SCALED("", "{\"type\":\"cpu\",\"metricType\":\"Utilization\",\"metadata\":{\"value\":"
                    "\"50\"}}"),
         "only cpu/memory triggers AND minReplica is 0"},
        {"{\"metadata\":{\"name\":\"so\"},\"spec\":{\"scaleTargetRef\":{\"name\":\"absent\"},"
         "\"triggers\":[" QUERY "]}}",
         "deployments.apps \"absent\" not found"},
        {"{\"metadata\":{\"name\":\"so\"},\"spec\":{\"scaleTargetRef\":{\"name\":\"web\",\"kind\":"
         "\"Job\",\"apiVersion\":\"batch/v1\"},\"triggers\":[" QUERY "]}}",
         "no matches for kind \"Job\""},
    };
    struct fixture *f = *state;
    put_queue(500);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        fixture_create(f, KIND_SCALED_OBJECT, rows[i][0]);
        fixture_pass(f);
        assert_condition(object(), "Ready", "False", "ScaledObjectCheckFailed", rows[i][1]);
        assert_condition(object(), "Active", "Unknown", NULL, NULL);
        assert_int_equal(replicas(), 2);
        fixture_delete(f, KIND_SCALED_OBJECT, "so", "Background", 0);
    }
    assert_true(fixture_events(f, "ScaledObjectCheckFailed", "kafka") > 0);
}

static void two_do_not_scale_one(void **state) {
    struct fixture *f = *state;
    put_queue(500);
    fixture_create(f, KIND_SCALED_OBJECT, SCALED("\"pollingInterval\":5,", QUERY));
    fixture_create(f, KIND_SCALED_OBJECT,
                   "{\"metadata\":{\"name\":\"two\"},\"spec\":{\"scaleTargetRef\":{\"name\":"
                   "\"web\"},\"triggers\":[" QUERY "]}}");
    assert_condition(fixture_get(f, KIND_SCALED_OBJECT, "two"), "Ready", "False",
                     "ScaledObjectCheckFailed", "is already managed by the ScaledObject 'so'");
    assert_condition(object(), "Ready", "True", NULL, NULL);
    fixture_delete(f, KIND_SCALED_OBJECT, "so", "Background", 0);
    run_with(500, 60); /* the other one takes over */
    assert_condition(fixture_get(f, KIND_SCALED_OBJECT, "two"), "Ready", "True", NULL, NULL);
}

static void cron_opens_and_closes(void **state) {
    struct fixture *f = *state; /* it is 16:00 UTC */
    fixture_create(f, KIND_SCALED_OBJECT,
                   SCALED("\"cooldownPeriod\":10,\"pollingInterval\":10,",
                          "{\"type\":\"cron\",\"metadata\":{\"timezone\":\"UTC\",\"start\":"
                          "\"10 16 * * *\",\"end\":\"20 16 * * *\",\"desiredReplicas\":\"6\"}}"));
    fixture_advance(f, 60000);
    assert_int_equal(replicas(), 0);
    fixture_advance(f, 9 * 60000);
    assert_int_equal(replicas(), 6);
    fixture_advance(f, 9 * 60000);
    assert_int_equal(replicas(), 6);
    fixture_advance(f, 60000);
    assert_int_equal(replicas(), 0);
    assert_field(object(), "status.externalMetricNames.0", "s0-cron-UTC-1016xxx-2016xxx");
}

static void publish_cpu(int64_t milli) {
    struct usage_snapshot *s = mem_alloc(sizeof(*s));
    s->refs = 1;
    s->wall_ms = env.f->wall_ms;
    s->containers = mem_array(FIXTURE_PROCESSES_MAX, sizeof(s->containers[0]));
    for (int i = 0; i < FIXTURE_PROCESSES_MAX; i++) {
        if (env.f->processes[i].used)
            s->containers[s->num_containers++] =
                (struct usage_container){mem_strdup(env.f->processes[i].uid),
                                         mem_strdup(env.f->processes[i].container),
                                         {10000, milli * 1000000, 1 << 20}};
    }
    usage_publish(env.f->usage, s);
}

static void cpu_is_measured_as_by_an_autoscaler(void **state) {
    struct fixture *f = *state;
    fixture_advance(f, 60000); /* longer than a measurement's window */
    publish_cpu(100);
    fixture_create(f, KIND_SCALED_OBJECT,
                   SCALED("\"minReplicaCount\":1,",
                          "{\"type\":\"cpu\",\"metricType\":\"Utilization\",\"metadata\":{"
                          "\"value\":\"50\"}}"));
    fixture_advance(f, 20000);
    assert_int_equal(replicas(), 4); /* 100 % of what is asked for, 50 wanted */
    assert_field(object(), "status.resourceMetricNames.0", "cpu");
    assert_condition(object(), "Active", "True", NULL, NULL);
}

/* ---- elsewhere ---- */

/* Until the server was asked so often and the answers were taken. */
static void answer(int num) {
    int64_t until_ms = clock_mono_ms() + WAIT_MS;
    while (env.num_asked < num) {
        assert_true(clock_mono_ms() < until_ms);
        http_getter_run(env.f->getter, 5);
    }
}

static void assert_seen(const char *expect) {
    char seen[sizeof(env.seen)];
    pthread_mutex_lock(&env.lock);
    memcpy(seen, env.seen, sizeof(seen));
    pthread_mutex_unlock(&env.lock);
    assert_string_equal(seen, expect);
}

static void wait_for_replicas(int64_t expect) {
    int64_t until_ms = clock_mono_ms() + WAIT_MS;
    while (replicas() != expect) {
        if (clock_mono_ms() > until_ms)
            fail_msg("%lld replicas, not %lld", (long long)replicas(), (long long)expect);
        http_getter_run(env.f->getter, 5);
        fixture_settle(env.f); /* answers are taken at the present time */
    }
}

static void a_remote_prometheus_is_asked_with_credentials(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_SECRET,
                   "{\"metadata\":{\"name\":\"creds\"},\"data\":{\"token\":\"c2VjcmV0\"}}");
    fixture_create(f, KIND_TRIGGER_AUTHENTICATION,
                   "{\"metadata\":{\"name\":\"auth\"},\"spec\":{\"secretTargetRef\":[{"
                   "\"parameter\":\"bearerToken\",\"name\":\"creds\",\"key\":\"token\"}]}}");
    AUTO_FREE char *text = mem_printf(
        SCALED("\"maxReplicaCount\":9,",
               "{\"type\":\"prometheus\",\"metadata\":{\"query\":\"sum(a{b=\\\"c d\\\"})\","
               "\"threshold\":\"10\",\"serverAddress\":\"%s/\",\"authModes\":\"bearer\","
               "\"customHeaders\":\"X-Tenant=t1\"},\"authenticationRef\":{\"name\":\"auth\"}}"),
        env.url);
    fixture_create(f, KIND_SCALED_OBJECT, text);
    wait_for_replicas(6); /* 55 / 10 */
    assert_seen("/api/v1/query query=sum(a{b=\"c d\"}) auth=Bearer secret tenant=t1");
    assert_condition(object(), "Ready", "True", NULL, NULL);
    /* Without the Secret nothing is asked, and nothing scales down. */
    fixture_delete(f, KIND_SECRET, "creds", "Background", 0);
    int asked = env.num_asked;
    fixture_advance(f, 120000);
    assert_int_equal(env.num_asked, asked);
    assert_int_equal(replicas(), 6);
    assert_condition(object(), "Ready", "False", "TriggerError", NULL);
    assert_true(fixture_events(f, "KEDAScalerFailed", "Secret default/creds has no text") > 0);
}

static void metrics_api_reads_a_number_in_a_document(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_SECRET,
                   "{\"metadata\":{\"name\":\"creds\"},\"data\":{\"u\":\"dXNlcg==\",\"p\":"
                   "\"cGFzcw==\"}}");
    fixture_create(f, KIND_TRIGGER_AUTHENTICATION,
                   "{\"metadata\":{\"name\":\"auth\"},\"spec\":{\"secretTargetRef\":["
                   "{\"parameter\":\"username\",\"name\":\"creds\",\"key\":\"u\"},"
                   "{\"parameter\":\"password\",\"name\":\"creds\",\"key\":\"p\"}]}}");
    AUTO_FREE char *text =
        mem_printf(SCALED("", "{\"type\":\"metrics-api\",\"metadata\":{\"url\":\"%s/stats\","
                              "\"targetValue\":\"5\",\"valueLocation\":\"load.now\",\"authMode\":"
                              "\"basic\"},\"authenticationRef\":{\"name\":\"auth\"}}"),
                   env.url);
    fixture_create(f, KIND_SCALED_OBJECT, text);
    wait_for_replicas(5);
    assert_seen("/stats query= auth=Basic dXNlcjpwYXNz tenant=");
    assert_field(object(), "status.externalMetricNames.0", "s0-metric-api-load-now");
}

static void answers_of_a_spec_that_is_gone_do_not_count(void **state) {
    struct fixture *f = *state;
    AUTO_FREE char *text =
        mem_printf(SCALED("", "{\"type\":\"metrics-api\",\"metadata\":{\"url\":\"%s/stats\","
                              "\"targetValue\":\"5\",\"valueLocation\":\"load.now\"}}"),
                   env.url);
    fixture_create(f, KIND_SCALED_OBJECT, text);
    answer(1);
    fixture_delete(f, KIND_SCALED_OBJECT, "so", "Background", 0); /* its answer is on the way */
    answer(1);
    fixture_pass(f);
    assert_int_equal(replicas(), 2);
}

/* ---- services ---- */

static void a_request_wakes_a_service_at_zero(void **state) {
    struct fixture *f = *state;
    fixture_create(f, KIND_INFERENCE_SERVICE,
                   "{\"metadata\":{\"name\":\"demo\",\"annotations\":{"
                   "\"serving.kserve.io/autoscalerClass\":\"external\"}},\"spec\":{\"predictor\":{"
                   "\"minReplicas\":0,\"model\":{\"modelFormat\":{\"name\":\"huggingface\"},"
                   "\"storageUri\":\"embedded://demo-chat\"}}}}");
    put_queue(0);
    fixture_create(f, KIND_SCALED_OBJECT,
                   "{\"metadata\":{\"name\":\"so\"},\"spec\":{\"scaleTargetRef\":{\"kind\":"
                   "\"InferenceService\",\"apiVersion\":\"serving.kserve.io/v1beta1\",\"name\":"
                   "\"demo\"},\"cooldownPeriod\":20,\"pollingInterval\":5,\"triggers\":[" QUERY
                   "]}}");
    run_with(0, 60);
    assert_int_field(fixture_get(f, KIND_DEPLOYMENT, "demo-predictor"), "spec.replicas", 0);
    AUTO(traffic_table) table = traffic_current(f->traffic);
    const struct traffic_service *s = traffic_find(table, "default", "demo");
    assert_non_null(s);
    assert_true(s->waiting_may_help);
    traffic_ask(f->traffic, s->turn);
    fixture_settle(f);
    assert_int_field(fixture_get(f, KIND_DEPLOYMENT, "demo-predictor"), "spec.replicas", 1);
    assert_int_equal(fixture_events(f, "KEDAScaleTargetActivated", "a request that waits"), 1);
    run_with(0, 15);
    assert_int_field(fixture_get(f, KIND_DEPLOYMENT, "demo-predictor"), "spec.replicas", 1);
    run_with(0, 30); /* nobody asked since */
    assert_int_field(fixture_get(f, KIND_DEPLOYMENT, "demo-predictor"), "spec.replicas", 0);
}

static void a_restart_remembers_who_was_active(void **state) {
    struct fixture *f = *state;
    put_queue(20);
    fixture_create(f, KIND_SCALED_OBJECT,
                   SCALED("\"cooldownPeriod\":100,\"pollingInterval\":5,", QUERY));
    run_with(20, 10);
    fixture_end_daemon(f);
    fixture_start_daemon(f);
    run_with(0, 80);
    assert_int_equal(replicas(), 2);
    run_with(0, 40);
    assert_int_equal(replicas(), 0);
}

#define SCALED_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        SCALED_TEST(zero_and_back_by_own_series),
        SCALED_TEST(behavior_paces_what_is_above_one),
        SCALED_TEST(idle_count_is_where_it_rests),
        SCALED_TEST(activation_is_another_bound),
        SCALED_TEST(a_metric_that_is_lost_never_scales_to_zero),
        SCALED_TEST(the_fallback_votes_after_failures),
        SCALED_TEST(paused_objects_hold_still),
        SCALED_TEST(what_is_not_done_is_refused_by_name),
        SCALED_TEST(two_do_not_scale_one),
        SCALED_TEST(cron_opens_and_closes),
        SCALED_TEST(cpu_is_measured_as_by_an_autoscaler),
        SCALED_TEST(a_remote_prometheus_is_asked_with_credentials),
        SCALED_TEST(metrics_api_reads_a_number_in_a_document),
        SCALED_TEST(answers_of_a_spec_that_is_gone_do_not_count),
        SCALED_TEST(a_request_wakes_a_service_at_zero),
        SCALED_TEST(a_restart_remembers_who_was_active),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
