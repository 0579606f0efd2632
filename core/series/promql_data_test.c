/* Every expression of tests/promql/vectors.json against what a real Prometheus answered. */
#include <math.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <cmocka.h>

#include "core/series/promql.h"

static uint32_t labels_from(const json_t *o, struct label *out) {
    const char *key;
    json_t *value;
    uint32_t num = 0;
    json_object_foreach ((json_t *)(uintptr_t)o, key, value) {
        out[num++] = (struct label){key, json_string_value(value)};
    }
    return num;
}

static void put_all(struct series_source *source, const json_t *list) {
    size_t i, k;
    json_t *item, *sample;
    json_array_foreach (list, i, item) {
        struct label labels[LABELS_MAX];
        struct error err = ERROR_INIT;
        uint32_t num = labels_from(json_object_get(item, "labels"), labels);
        json_array_foreach (json_object_get(item, "samples"), k, sample) {
            if (series_put(source, labels, num, json_integer_value(json_array_get(sample, 0)),
                           json_number_value(json_array_get(sample, 1)), &err))
                fail_msg("%s", err.text);
        }
    }
}

/* Numbers as numbers: the order of additions may differ in the last place. */
static bool same_point(const json_t *a, const json_t *b) {
    double x = strtod(json_string_value(json_array_get(a, 1)), NULL);
    double y = strtod(json_string_value(json_array_get(b, 1)), NULL);
    bool time = json_number_value(json_array_get(a, 0)) == json_number_value(json_array_get(b, 0));
    return time && (x == y || (isnan(x) && isnan(y)) || fabs(x - y) <= 1e-12 * fabs(x));
}

static bool same_item(const json_t *a, const json_t *b) {
    const json_t *x = json_object_get(a, "values"), *y = json_object_get(b, "values");
    if (!json_equal(json_object_get(a, "metric"), json_object_get(b, "metric")))
        return false;
    if (!x)
        return same_point(json_object_get(a, "value"), json_object_get(b, "value"));
    bool same = json_array_size(x) == json_array_size(y);
    for (size_t i = 0; same && i < json_array_size(x); i++)
        same = same_point(json_array_get(x, i), json_array_get(y, i));
    return same;
}

/* In any order, but for topk and bottomk. */
static bool same_result(const json_t *expect, const json_t *has, bool ordered) {
    const json_t *a = json_object_get(expect, "result"), *b = json_object_get(has, "result");
    const char *type = json_string_value(json_object_get(expect, "resultType"));
    if (strcmp(type, json_string_value(json_object_get(has, "resultType"))) != 0)
        return false;
    if (!strcmp(type, "scalar"))
        return same_point(a, b);
    bool same = json_array_size(a) == json_array_size(b);
    for (size_t i = 0; same && i < json_array_size(a); i++) {
        same = false;
        for (size_t k = 0; k < json_array_size(b) && !same; k++)
            same = (!ordered || i == k) && same_item(json_array_get(a, i), json_array_get(b, k));
    }
    return same;
}

/* False: what it gives is not what is expected. */
static bool check(struct series *s, const json_t *query) {
    const char *text = json_string_value(json_object_get(query, "expr"));
    const json_t *expect = json_object_get(query, "data");
    int64_t at_ms = json_integer_value(json_object_get(query, "at_ms"));
    struct error err = ERROR_INIT;
    AUTO(promql) q = NULL;
    AUTO_PROMQL_VALUE v = {0};
    enum errc rc = promql_parse(text, &q, &err);
    if (!rc)
        rc = promql_eval(q, s, at_ms, &v, &err);
    if (!expect) {
        if (rc != ERR_INVALID)
            print_message("%s: is not refused as it is by Prometheus\n", text);
        return rc == ERR_INVALID;
    }
    if (rc) {
        print_message("%s: %s\n", text, err.text);
        return false;
    }
    json_t *has = promql_value_json(&v, at_ms);
    bool same = same_result(expect, has, strstr(text, "topk") || strstr(text, "bottomk"));
    if (!same) {
        AUTO_FREE char *a = json_dumps(expect, JSON_SORT_KEYS),
                       *b = json_dumps(has, JSON_SORT_KEYS);
        print_message("%s at %lld:\n  is   %s\n  not  %s\n", text, (long long)at_ms, b, a);
    }
    json_decref(has);
    return same;
}

static void prometheus_answers_alike(void **state) {
    json_error_t why;
    json_t *doc = json_load_file("tests/promql/vectors.json", 0, &why), *query;
    if (!doc)
        fail_msg("tests/promql/vectors.json: %s", why.text);
    AUTO(series) s = series_create(NULL);
    struct series_source *source = series_source_open(s);
    size_t i, num_wrong = 0;
    put_all(source, json_object_get(doc, "series"));
    json_array_foreach (json_object_get(doc, "queries"), i, query) {
        num_wrong += !check(s, query);
    }
    print_message("%zu expressions, %s\n", i, json_string_value(json_object_get(doc, "made_with")));
    assert_true(i > 150);
    assert_int_equal(num_wrong, 0);
    series_source_close(source, 0);
    json_decref(doc);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(prometheus_answers_alike)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
