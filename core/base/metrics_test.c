/* Metrics: values, labels, buckets and the text that Prometheus reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>

#include "core/base/metrics.h"

static const struct metric_family requests = {.type = METRIC_COUNTER,
                                              .name = "requests_total",
                                              .help = "Requests.",
                                              .labels = {"name", "code"}};
static const struct metric_family latency = {
    .type = METRIC_HISTOGRAM, .name = "latency_seconds", .help = "Latency.", .buckets = {0.1, 1}};

static void the_text_is_what_prometheus_reads(void **state) {
    AUTO(metrics) m = metrics_create();
    const char *one[] = {"a\"\\\n", "200"}, *two[] = {"b", "404"};
    metric_add(metrics_get(m, &requests, one), 2);
    struct metric *h = metrics_get(m, &latency, NULL);
    metric_observe(h, 0.05);
    metric_observe(h, 0.1);
    metric_observe(h, 0.5);
    metric_observe(h, 7);
    metric_add(metrics_get(m, &requests, two), 1);
    metric_add(metrics_get(m, &requests, one), 1);
    AUTO_BUF out = BUF_INIT;
    metrics_write(m, &out);
    assert_string_equal(out.data, "# HELP requests_total Requests.\n"
                                  "# TYPE requests_total counter\n"
                                  "requests_total{name=\"a\\\"\\\\\\n\",code=\"200\"} 3\n"
                                  "requests_total{name=\"b\",code=\"404\"} 1\n"
                                  "# HELP latency_seconds Latency.\n"
                                  "# TYPE latency_seconds histogram\n"
                                  "latency_seconds_bucket{le=\"0.1\"} 2\n"
                                  "latency_seconds_bucket{le=\"1\"} 3\n"
                                  "latency_seconds_bucket{le=\"+Inf\"} 4\n"
                                  "latency_seconds_sum 7.65\n"
                                  "latency_seconds_count 4\n");
}

static void *add_many(void *metric) {
    for (int i = 0; i < 20000; i++)
        metric_add(metric, 1);
    return NULL;
}

static void concurrent_additions_are_all_counted(void **state) {
    AUTO(metrics) m = metrics_create();
    const char *values[] = {"x", "y"};
    struct metric *s = metrics_get(m, &requests, values);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, add_many, s);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_true(metric_value(s) == 80000);
}

static void the_number_of_series_is_bounded(void **state) {
    AUTO(metrics) m = metrics_create();
    struct metric *last = NULL;
    for (int i = 0; i < METRICS_SERIES_MAX + 2; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%d", i);
        const char *values[] = {name, "200"};
        struct metric *s = metrics_get(m, &requests, values);
        if (i > METRICS_SERIES_MAX)
            assert_ptr_equal(s, last);
        last = s;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_text_is_what_prometheus_reads),
        cmocka_unit_test(concurrent_additions_are_all_counted),
        cmocka_unit_test(the_number_of_series_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
