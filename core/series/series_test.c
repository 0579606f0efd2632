/* Series: what is put is read, ends, is bounded, and never mixed up. */
#include "core/series/series.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <cmocka.h>

static void put(struct series_source *s, const char *name, const char *pod, int64_t at_ms,
                double value) {
    struct error err = ERROR_INIT;
    const struct label labels[] = {{LABEL_NAME, name}, {"pod", pod}};
    if (series_put(s, labels, 2, at_ms, value, &err))
        fail_msg("%s", err.text);
}

/* "pod=value pod=value": the instant vector of a metric, or the last samples of its range. */
static char *text_of(struct series_ranges *r) {
    static char text[4096];
    size_t len = 0;
    text[0] = '\0';
    for (size_t i = 0; i < r->num_items; i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s=", i ? " " : "",
                                labels_get(r->items[i].labels, "pod"));
        for (uint32_t k = 0; k < r->items[i].num_samples; k++)
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%g@%lld", k ? "," : "",
                                    r->items[i].samples[k].value,
                                    (long long)r->items[i].samples[k].at_ms);
    }
    series_ranges_deinit(r);
    return text;
}

static char *latest(struct series *s, const char *name, int64_t now_ms) {
    struct error err = ERROR_INIT;
    struct matcher m;
    struct series_ranges r;
    assert_int_equal(matcher_init(&m, LABEL_NAME, MATCHER_EQUAL, name, &err), OK);
    assert_int_equal(series_latest(s, &m, 1, now_ms, &r, &err), OK);
    matcher_deinit(&m);
    return text_of(&r);
}

static char *range(struct series *s, const char *name, int64_t from_ms, int64_t to_ms) {
    struct error err = ERROR_INIT;
    struct matcher m;
    struct series_ranges r;
    assert_int_equal(matcher_init(&m, LABEL_NAME, MATCHER_EQUAL, name, &err), OK);
    assert_int_equal(series_range(s, &m, 1, from_ms, to_ms, &r, &err), OK);
    matcher_deinit(&m);
    return text_of(&r);
}

static void an_instant_is_the_latest_sample_of_each(void **state) {
    AUTO(series) s = series_create(NULL);
    struct series_source *a = series_source_open(s);
    put(a, "m", "a", 1000, 1);
    put(a, "m", "b", 1000, 2);
    put(a, "other", "a", 1000, 9);
    put(a, "m", "a", 6000, 3);
    assert_string_equal(latest(s, "m", 999), "");
    assert_string_equal(latest(s, "m", 1000), "a=1@1000 b=2@1000");
    assert_string_equal(latest(s, "m", 5999), "a=1@1000 b=2@1000");
    assert_string_equal(latest(s, "m", 6000), "a=3@6000 b=2@1000");
    /* Too old: exactly SERIES_LOOKBACK_MS does not count any more. */
    assert_string_equal(latest(s, "m", 1000 + SERIES_LOOKBACK_MS), "a=3@6000");
    assert_string_equal(latest(s, "none", 6000), "");
    series_source_close(a, 7000);
}

static void a_range_is_open_at_its_beginning(void **state) {
    AUTO(series) s = series_create(NULL);
    struct series_source *a = series_source_open(s);
    for (int i = 1; i <= 4; i++)
        put(a, "m", "a", i * 1000, i);
    assert_string_equal(range(s, "m", 1000, 3000), "a=2@2000,3@3000");
    assert_string_equal(range(s, "m", 0, 1000), "a=1@1000");
    assert_string_equal(range(s, "m", 4000, 9000), "");
    series_source_close(a, 5000);
}

static void what_is_not_put_again_ends_at_once(void **state) {
    AUTO(series) s = series_create(NULL);
    struct series_source *a = series_source_open(s), *b = series_source_open(s);
    put(a, "m", "a", 1000, 1);
    put(a, "m", "gone", 1000, 2);
    put(b, "m", "other", 1000, 3);
    series_source_end(a, 1000);
    put(a, "m", "a", 2000, 4);
    series_source_end(a, 2000);
    assert_string_equal(latest(s, "m", 1999), "a=1@1000 gone=2@1000 other=3@1000");
    assert_string_equal(latest(s, "m", 2000), "a=4@2000 other=3@1000");
    assert_string_equal(range(s, "m", 0, 9000), "a=1@1000,4@2000 gone=2@1000 other=3@1000");
    series_source_close(b, 3000);
    assert_string_equal(latest(s, "m", 3000), "a=4@2000");
    /* It comes back. */
    put(a, "m", "gone", 4000, 5);
    put(a, "m", "other", 4000, 6);
    assert_string_equal(latest(s, "m", 4000), "a=4@2000 gone=5@4000 other=6@4000");
    series_source_close(a, 5000);
    assert_string_equal(latest(s, "m", 5000), "");
}

static void a_series_moves_to_who_puts_it_now(void **state) {
    AUTO(series) s = series_create(NULL);
    struct series_source *a = series_source_open(s), *b = series_source_open(s);
    put(a, "m", "x", 1000, 1);
    put(b, "m", "x", 2000, 2);
    series_source_close(a, 3000); /* has nothing any more */
    assert_string_equal(latest(s, "m", 3000), "x=2@2000");
    series_source_close(b, 4000);
    assert_string_equal(latest(s, "m", 4000), "");
}

static void time_only_goes_forward_or_far_back(void **state) {
    AUTO(series) s = series_create(NULL);
    struct series_source *a = series_source_open(s);
    put(a, "m", "x", 50000, 1);
    put(a, "m", "x", 50000, 2);
    put(a, "m", "x", 45000, 3);
    assert_string_equal(range(s, "m", 0, 90000), "x=1@50000");
    put(a, "m", "x", 10000, 4); /* the clock was set back */
    put(a, "m", "x", 15000, 5);
    assert_string_equal(range(s, "m", 0, 90000), "x=4@10000,5@15000");
    series_source_close(a, 60000);
}

static void a_ring_keeps_the_latest(void **state) {
    const struct series_limits limits = {.samples_max = 20};
    AUTO(series) s = series_create(&limits);
    struct series_source *a = series_source_open(s);
    struct series_stats stats;
    for (int i = 1; i <= 50; i++)
        put(a, "m", "x", i * 1000, i);
    assert_string_equal(range(s, "m", 47000, 99000), "x=48@48000,49@49000,50@50000");
    assert_string_equal(range(s, "m", 0, 32000), "x=31@31000,32@32000");
    series_stats(s, &stats);
    assert_int_equal(stats.shortened, 30);
    series_source_close(a, 60000);
}

static void beyond_the_bounds_nothing_is_kept_and_it_is_counted(void **state) {
    static const struct series_limits rows[] = {{.series_max = 3}, {.bytes_max = 2200}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO(series) s = series_create(&rows[i]);
        struct series_source *a = series_source_open(s);
        struct series_stats stats;
        struct error err = ERROR_INIT;
        int kept = 0;
        for (char pod[2] = "a"; pod[0] < 'k'; pod[0]++) {
            const struct label labels[] = {{LABEL_NAME, "m"}, {"pod", pod}};
            enum errc rc = series_put(a, labels, 2, 1000, 1, &err);
            kept += rc == OK;
            assert_true(rc == OK || rc == ERR_EXHAUSTED);
        }
        series_stats(s, &stats);
        assert_true(kept > 0 && kept < 10);
        assert_int_equal(stats.num_series, kept);
        assert_int_equal(stats.refused, 10 - kept);
        assert_non_null(strstr(err.text, "no room for a new series"));
        assert_true(!rows[i].bytes_max || stats.bytes <= rows[i].bytes_max);
        /* Known ones go on; in bytes they do not grow. */
        for (int k = 2; k <= 100; k++)
            put(a, "m", "a", k * 1000, k);
        series_stats(s, &stats);
        assert_true(!rows[i].bytes_max || (stats.bytes <= rows[i].bytes_max && stats.shortened));
        assert_string_equal(range(s, "m", 98000, 100000), "a=99@99000,100@100000");
        series_source_close(a, 200000);
    }
}

static void what_is_old_is_forgotten(void **state) {
    AUTO(series) s = series_create(NULL);
    struct series_source *a = series_source_open(s);
    struct series_stats empty, stats;
    series_stats(s, &empty);
    put(a, "m", "x", 1000, 1);
    put(a, "m", "y", 2000, 1);
    series_sweep(s, 1000 + SERIES_KEEP_MS);
    series_stats(s, &stats);
    assert_int_equal(stats.num_series, 2);
    series_sweep(s, 2000 + SERIES_KEEP_MS);
    series_stats(s, &stats);
    assert_int_equal(stats.num_series, 1);
    series_source_close(a, 3000);
    series_sweep(s, 3001 + SERIES_KEEP_MS);
    series_stats(s, &stats);
    assert_int_equal(stats.num_series, 0);
    assert_int_equal(stats.bytes, empty.bytes);
}

static void matchers_select(void **state) {
    static const struct {
        const char *name;
        enum matcher_op op;
        const char *value, *expect;
    } rows[] = {
        {"pod", MATCHER_EQUAL, "web-1", "web-1=1@1000"},
        {"pod", MATCHER_NOT_EQUAL, "web-1", "web-2=1@1000 xweb-1=1@1000"},
        {"pod", MATCHER_REGEX, "web-.*", "web-1=1@1000 web-2=1@1000"},
        {"pod", MATCHER_REGEX, "web", ""}, /* the whole value */
        {"pod", MATCHER_REGEX, "web-1|xweb-1", "web-1=1@1000 xweb-1=1@1000"},
        {"pod", MATCHER_NOT_REGEX, ".*-1", "web-2=1@1000"},
        {"absent", MATCHER_EQUAL, "", "web-1=1@1000 web-2=1@1000 xweb-1=1@1000"},
        {"absent", MATCHER_REGEX, ".+", ""},
        {"absent", MATCHER_NOT_EQUAL, "a", "web-1=1@1000 web-2=1@1000 xweb-1=1@1000"},
        {LABEL_NAME, MATCHER_REGEX, "m.*", "web-1=1@1000 web-2=1@1000 xweb-1=1@1000"},
    };
    AUTO(series) s = series_create(NULL);
    struct series_source *a = series_source_open(s);
    put(a, "many", "web-1", 1000, 1);
    put(a, "many", "web-2", 1000, 1);
    put(a, "many", "xweb-1", 1000, 1);
    put(a, "other", "web-1", 1000, 1);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err = ERROR_INIT;
        struct matcher m[2];
        struct series_ranges r;
        assert_int_equal(matcher_init(&m[0], rows[i].name, rows[i].op, rows[i].value, &err), OK);
        assert_int_equal(matcher_init(&m[1], LABEL_NAME, MATCHER_NOT_EQUAL, "other", &err), OK);
        assert_int_equal(series_latest(s, m, 2, 1000, &r, &err), OK);
        assert_string_equal(text_of(&r), rows[i].expect);
        matcher_deinit(&m[0]);
        matcher_deinit(&m[1]);
    }
    series_source_close(a, 2000);
}

static void expressions_that_do_not_compile_are_refused(void **state) {
    struct matcher m;
    struct error err = ERROR_INIT;
    assert_int_equal(matcher_init(&m, "pod", MATCHER_REGEX, "a(", &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "regular expression \"a(\", offset 2"));
    char long_one[MATCHER_REGEX_BYTES_MAX + 2];
    memset(long_one, 'a', sizeof(long_one));
    long_one[MATCHER_REGEX_BYTES_MAX + 1] = '\0';
    assert_int_equal(matcher_init(&m, "pod", MATCHER_REGEX, long_one, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "4097 bytes, at most 4096"));
    /* One that would take for ever gives up. */
    assert_int_equal(matcher_init(&m, "pod", MATCHER_REGEX, "(a+)+b", &err), OK);
    const struct label label = {"pod", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac"};
    AUTO(labels) labels = labels_create(&label, 1);
    assert_false(matcher_matches(&m, labels));
    matcher_deinit(&m);
}

static void a_select_is_bounded(void **state) {
    AUTO(series) s = series_create(NULL);
    struct series_source *a = series_source_open(s);
    struct error err = ERROR_INIT;
    struct matcher m;
    struct series_ranges r;
    char pod[16];
    for (int i = 0; i < SERIES_SELECT_SAMPLES_MAX / 500 + 1; i++) {
        snprintf(pod, sizeof(pod), "p%d", i);
        for (int k = 1; k <= 500; k++)
            put(a, "m", pod, k, 1);
    }
    assert_int_equal(matcher_init(&m, LABEL_NAME, MATCHER_EQUAL, "m", &err), OK);
    assert_int_equal(series_range(s, &m, 1, 0, 1000, &r, &err), ERR_EXHAUSTED);
    assert_int_equal(r.num_items, 0);
    assert_non_null(strstr(err.text, "more than 500000 samples"));
    assert_int_equal(series_latest(s, &m, 1, 1000, &r, &err), OK);
    assert_int_equal(r.num_items, 1001);
    series_ranges_deinit(&r);
    matcher_deinit(&m);
    series_source_close(a, 1000);
}

static void label_sets_have_one_form(void **state) {
    const struct label one[] = {{"b", "2"}, {"a", "1"}, {"c", ""}, {"b", "3"}};
    const struct label two[] = {{"a", "1"}, {"b", "3"}};
    AUTO(labels) x = labels_create(one, 4);
    AUTO(labels) y = labels_create(two, 2);
    assert_int_equal(x->num, 2);
    assert_true(labels_equal(x, y));
    assert_string_equal(labels_get(x, "b"), "3");
    assert_string_equal(labels_get(x, "c"), "");
    AUTO(labels) none = labels_create(NULL, 0);
    assert_false(labels_equal(x, none));
    assert_true(labels_compare(none, x) < 0);
}

/* Threads: one puts, one ends and opens sources, one reads. */

struct race {
    struct series *series;
    _Atomic bool stop;
};

static void *put_on(void *user) {
    struct race *r = user;
    for (int64_t i = 1; !r->stop; i++) {
        struct series_source *a = series_source_open(r->series);
        put(a, "m", "a", i * 10, 1);
        put(a, "m", i % 2 ? "b" : "c", i * 10, 2);
        series_source_end(a, i * 10 + 1);
        series_source_close(a, i * 10 + 2);
        series_sweep(r->series, i * 10 + (i % 50 ? 0 : SERIES_KEEP_MS));
    }
    return NULL;
}

static void readers_and_writers_meet(void **state) {
    struct race r = {.series = series_create(NULL)};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, put_on, &r), 0);
    for (int i = 0; i < 2000; i++) {
        struct error err = ERROR_INIT;
        struct matcher m;
        struct series_ranges found;
        assert_int_equal(matcher_init(&m, "pod", MATCHER_REGEX, "a|b", &err), OK);
        assert_int_equal(series_range(r.series, &m, 1, 0, INT64_MAX, &found, &err), OK);
        assert_true(found.num_items <= 2);
        series_ranges_deinit(&found);
        matcher_deinit(&m);
    }
    r.stop = true;
    pthread_join(thread, NULL);
    series_destroy(r.series);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_instant_is_the_latest_sample_of_each),
        cmocka_unit_test(a_range_is_open_at_its_beginning),
        cmocka_unit_test(what_is_not_put_again_ends_at_once),
        cmocka_unit_test(a_series_moves_to_who_puts_it_now),
        cmocka_unit_test(time_only_goes_forward_or_far_back),
        cmocka_unit_test(a_ring_keeps_the_latest),
        cmocka_unit_test(beyond_the_bounds_nothing_is_kept_and_it_is_counted),
        cmocka_unit_test(what_is_old_is_forgotten),
        cmocka_unit_test(matchers_select),
        cmocka_unit_test(expressions_that_do_not_compile_are_refused),
        cmocka_unit_test(a_select_is_bounded),
        cmocka_unit_test(label_sets_have_one_form),
        cmocka_unit_test(readers_and_writers_meet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
