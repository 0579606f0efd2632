#include "core/control/revision.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/object.h"

static json_t *parse(const char *text) {
    json_t *o = json_loads(text, 0, NULL);
    if (!o)
        fail_msg("not JSON: %s", text);
    return o;
}

static json_t *make_set(const char *name, const char *number, const char *history, int replicas,
                        int available) {
    json_t *set =
        json_pack("{s:{s:s, s:{s:s}}, s:{s:i}, s:{s:i, s:i}}", "metadata", "name", name,
                  "annotations", REVISION_ANNOTATION, number, "spec", "replicas", replicas,
                  "status", "availableReplicas", available, "readyReplicas", available);
    if (history)
        json_object_set_new(object_at(set, "metadata.annotations"), REVISION_HISTORY_ANNOTATION,
                            json_string(history));
    return set;
}

static void a_set_answers_to_its_number_and_to_those_it_had(void **state) {
    json_t *set = make_set("demo-predictor-abc", "12", "1,7", 1, 1);
    AUTO_FREE char *name = revision_name(set, "demo-predictor");
    assert_string_equal(name, "demo-predictor-00012");
    static const char *const yes[] = {"demo-predictor-00012", "demo-predictor-00001",
                                      "demo-predictor-00007"};
    static const char *const no[] = {
        "demo-predictor-00002", "demo-predictor-00000", "demo-predictor-", "demo", "", NULL};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++)
        assert_true(revision_is_named(set, yes[i]));
    for (size_t i = 0; i < ARRAY_LEN(no); i++)
        assert_false(revision_is_named(set, no[i]));
    assert_false(revision_is_named(NULL, "demo-predictor-00001"));
    json_decref(set);
}

static void the_field_asks_for_a_split_below_a_hundred(void **state) {
    static const struct {
        const char *predictor;
        int64_t percent;
    } rows[] = {{"{}", -1},
                {"{\"canaryTrafficPercent\":null}", -1},
                {"{\"canaryTrafficPercent\":100}", -1},
                {"{\"canaryTrafficPercent\":0}", 0},
                {"{\"canaryTrafficPercent\":99}", 99}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO_FREE char *text = mem_printf("{\"spec\":{\"predictor\":%s}}", rows[i].predictor);
        json_t *isvc = parse(text);
        assert_int_equal(revision_canary_percent(isvc), rows[i].percent);
        json_decref(isvc);
    }
}

static void the_stable_set_is_the_one_rolled_out_last(void **state) {
    json_t *one = make_set("d-a", "1", NULL, 1, 1), *two = make_set("d-b", "2", NULL, 1, 1);
    const json_t *sets[] = {one, two};
    json_t *isvc = parse("{\"status\":{\"components\":{\"predictor\":{}}}}");
    assert_null(revision_rolled_out_set(isvc, sets, 2));
    object_set(isvc, "status.components.predictor.latestRolledoutRevision", json_string("d-00001"));
    assert_ptr_equal(revision_rolled_out_set(isvc, sets, 2), one);
    object_set(isvc, "status.components.predictor.latestRolledoutRevision", json_string("d-00003"));
    assert_null(revision_rolled_out_set(isvc, sets, 2));

    json_t *deployment = parse("{\"metadata\":{\"annotations\":{}}}");
    assert_null(revision_stable_set(deployment, two, sets, 2));
    json_object_set_new(object_at(deployment, "metadata.annotations"), REVISION_STABLE_ANNOTATION,
                        json_string("d-a"));
    assert_ptr_equal(revision_stable_set(deployment, two, sets, 2), one);
    assert_null(revision_stable_set(deployment, one, sets, 2)); /* it is the newest itself */
    object_set(one, "metadata.deletionTimestamp", json_string("2026-01-01T00:00:00Z"));
    assert_null(revision_stable_set(deployment, two, sets, 2));
    json_decref(one);
    json_decref(two);
    json_decref(isvc);
    json_decref(deployment);
}

static void a_canary_takes_its_share_when_whole_and_keeps_it_while_one_is_left(void **state) {
    static const struct {
        int replicas, available;
        const char *latest_ready;
        bool takes;
    } rows[] = {{1, 0, NULL, false},     {1, 1, NULL, true},      {3, 2, "d-00001", false},
                {3, 3, "d-00001", true}, {3, 1, "d-00002", true}, {3, 0, "d-00002", false},
                {0, 0, "d-00001", false}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *set = make_set("d-b", "2", NULL, rows[i].replicas, rows[i].available);
        assert_int_equal(revision_takes_share(set, rows[i].latest_ready, "d"), rows[i].takes);
        json_decref(set);
    }
}

static void traffic_reads_as_kserve_writes_it(void **state) {
    static const struct {
        const char *latest, *stable, *expect;
        int64_t percent;
        uint32_t shares[2]; /* of revisions 1 and 2 */
    } rows[] = {
        {"d-00001",
         NULL,
         "[{\"latestRevision\":true,\"percent\":100,\"revisionName\":\"d-00001\"}]",
         0,
         {100, 0}},
        {"d-00002",
         "d-00001",
         "[{\"latestRevision\":true,\"percent\":20,\"revisionName\":\"d-00002\"},"
         "{\"latestRevision\":false,\"percent\":80,\"revisionName\":\"d-00001\",\"tag\":\"prev\"}]",
         20,
         {80, 20}},
        {"d-00002",
         "d-00001",
         "[{\"latestRevision\":true,\"percent\":0,\"revisionName\":\"d-00002\"},"
         "{\"latestRevision\":false,\"percent\":100,\"revisionName\":\"d-00001\",\"tag\":\"prev\"}"
         "]",
         0,
         {100, 0}},
        {"d-00001",
         "d-00001", /* the canary is not ready */
         "[{\"latestRevision\":true,\"percent\":20,\"revisionName\":\"d-00001\"},"
         "{\"latestRevision\":false,\"percent\":80,\"revisionName\":\"d-00001\",\"tag\":\"prev\"}]",
         20,
         {100, 0}},
    };
    json_t *one = make_set("d-a", "1", NULL, 1, 1), *two = make_set("d-b", "2", NULL, 1, 1);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *traffic = revision_traffic(rows[i].latest, rows[i].percent, rows[i].stable);
        json_t *expect = parse(rows[i].expect);
        assert_true(json_equal(traffic, expect));
        assert_int_equal(revision_share(traffic, one), rows[i].shares[0]);
        assert_int_equal(revision_share(traffic, two), rows[i].shares[1]);
        json_decref(traffic);
        json_decref(expect);
    }
    assert_int_equal(revision_share(NULL, one), 0);
    json_decref(one);
    json_decref(two);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_set_answers_to_its_number_and_to_those_it_had),
        cmocka_unit_test(the_field_asks_for_a_split_below_a_hundred),
        cmocka_unit_test(the_stable_set_is_the_one_rolled_out_last),
        cmocka_unit_test(a_canary_takes_its_share_when_whole_and_keeps_it_while_one_is_left),
        cmocka_unit_test(traffic_reads_as_kserve_writes_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
