/* Figures of replicas, from pages of metrics as replicas have them. */
#include "core/control/replica_figures.h"

#include <stdio.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { NOW_MS = 1000000, STEP_MS = 5000 };

struct replica {
    struct series_source *source;
    const char *service, *pod;
};

static void put(const struct replica *r, int64_t at_ms, const char *name, const char *le,
                double value) {
    struct error err = ERROR_INIT;
    const struct label labels[] = {{LABEL_NAME, name},
                                   {"namespace", "default"},
                                   {"inferenceservice", r->service},
                                   {"pod", r->pod},
                                   {"le", le}};
    assert_int_equal(series_put(r->source, labels, 5, at_ms, value, &err), OK);
}

/* A minute of looks at a replica that makes 20 tokens a second; 18 of 20 first tokens come within
 * 0.1 s, all within 1. */
static void fill(const struct replica *r, double kv, double queued) {
    for (int i = 0; i <= 12; i++) {
        int64_t at_ms = NOW_MS - (12 - i) * STEP_MS;
        put(r, at_ms, "up", "", 1);
        put(r, at_ms, "vllm:kv_cache_usage_perc", "", kv);
        put(r, at_ms, "inferd_queued_prompt_tokens", "", queued);
        put(r, at_ms, "vllm:generation_tokens_total", "", 100.0 * i);
        put(r, at_ms, "vllm:time_to_first_token_seconds_bucket", "0.1", 18.0 * i);
        put(r, at_ms, "vllm:time_to_first_token_seconds_bucket", "1", 20.0 * i);
        put(r, at_ms, "vllm:time_to_first_token_seconds_bucket", "+Inf", 20.0 * i);
    }
}

static void figures_of_replicas_are_put_together(void **state) {
    AUTO(series) s = series_create(NULL);
    AUTO(figure_reader) r = figure_reader_create(s);
    const struct replica a = {series_source_open(s), "a", "a-1"},
                         b = {series_source_open(s), "a", "a-2"},
                         other = {series_source_open(s), "b", "b-1"};
    assert_null(figure_reader_latest(r));
    fill(&a, 0.5, 100);
    fill(&b, 0.9, 300);
    put(&other, NOW_MS, "up", "", 0);
    figure_reader_update(r, NOW_MS);
    AUTO(replica_figures) f = figure_reader_latest(r);
    assert_int_equal(f->num_items, 2);
    const struct replica_figure *of_a = replica_figures_find(f, "default", "a");
    assert_float_equal(of_a->up, 1, 1e-9);
    assert_float_equal(of_a->kv_usage, 0.7, 1e-6);
    assert_float_equal(of_a->queued_tokens, 400, 1e-6);
    assert_float_equal(of_a->tokens_per_second, 40, 2);
    assert_true(of_a->ttft_p95_seconds > 0.1 && of_a->ttft_p95_seconds < 1);
    assert_true(of_a->itl_p95_seconds < 0); /* nobody said it */
    const struct replica_figure *of_b = replica_figures_find(f, "default", "b");
    assert_float_equal(of_b->up, 0, 1e-9);
    assert_true(of_b->kv_usage < 0 && of_b->queued_tokens < 0 && of_b->tokens_per_second < 0);
    assert_null(replica_figures_find(f, "default", "c"));
    assert_null(replica_figures_find(NULL, "default", "a"));
    series_source_close(a.source, NOW_MS + 1);
    series_source_close(b.source, NOW_MS + 1);
    series_source_close(other.source, NOW_MS + 1);
    figure_reader_update(r, NOW_MS + 2);
    AUTO(replica_figures) gone = figure_reader_latest(r);
    assert_int_equal(gone->num_items, 0);
    assert_float_equal(of_a->kv_usage, 0.7, 1e-6); /* a snapshot stays as it was */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_of_replicas_are_put_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
