#include "core/owners.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "core/object.h"

static const struct owner scaler = {
    .manager = "m", .api_version = "apps/v1", .subresource = "scale", .wall_ms = 1000};

/* Gives an object with this record. */
static json_t *with_record(const char *text) {
    return json_pack("{s:{s:s}}", "metadata", "managedFields", text);
}

static void expect(const json_t *object, const char *want) {
    json_t *got = json_loads(object_str(object, "metadata.managedFields"), 0, NULL);
    json_t *wanted = json_loads(want, 0, NULL);
    assert_non_null(wanted);
    if (!json_equal(got, wanted))
        fail_msg("%s", object_str(object, "metadata.managedFields"));
    json_decref(got);
    json_decref(wanted);
}

#define SCALED                                                                                     \
    "{\"manager\":\"m\",\"operation\":\"Update\",\"subresource\":\"scale\",\"apiVersion\":"        \
    "\"apps/v1\",\"time\":\"1970-01-01T00:00:01Z\",\"fieldsType\":\"FieldsV1\",\"fieldsV1\":"      \
    "{\"f:spec\":{\"f:replicas\":{}}}}"

static void a_field_changes_hands(void **state) {
    json_t *o = with_record("[{\"manager\":\"user\",\"operation\":\"Apply\",\"fieldsV1\":{"
                            "\"f:spec\":{\"f:paused\":{},\"f:replicas\":{}}}},"
                            "{\"manager\":\"kubectl\",\"operation\":\"Update\",\"subresource\":"
                            "\"scale\",\"fieldsV1\":{\"f:spec\":{\"f:replicas\":{}}}}]");
    owners_take(o, "spec.replicas", &scaler);
    expect(o, "[{\"manager\":\"user\",\"operation\":\"Apply\",\"fieldsV1\":{\"f:spec\":{"
              "\"f:paused\":{}}}}," SCALED "]");
    owners_take(o, "spec.replicas", &scaler); /* it has it already */
    expect(o, "[{\"manager\":\"user\",\"operation\":\"Apply\",\"fieldsV1\":{\"f:spec\":{"
              "\"f:paused\":{}}}}," SCALED "]");
    json_decref(o);
}

static void the_rest_of_an_entry_stays(void **state) {
    json_t *o = with_record("[{\"manager\":\"a\",\"operation\":\"Update\",\"fieldsV1\":{"
                            "\"f:spec\":{}}},{\"manager\":\"b\",\"operation\":\"Update\","
                            "\"fieldsV1\":{\"f:spec\":{\".\":{},\"f:replicas\":{}}}}]");
    owners_take(o, "spec.replicas", &scaler);
    expect(
        o,
        "[{\"manager\":\"a\",\"operation\":\"Update\",\"fieldsV1\":{\"f:spec\":{}}},"
        "{\"manager\":\"b\",\"operation\":\"Update\",\"fieldsV1\":{\"f:spec\":{\".\":{}}}}," SCALED
        "]");
    json_decref(o);
}

static void what_has_no_record_gets_none(void **state) {
    json_t *o = json_pack("{s:{}}", "metadata");
    owners_take(o, "spec.replicas", &scaler);
    assert_null(object_at(o, "metadata.managedFields"));
    object_set(o, "metadata.managedFields", json_string("not JSON"));
    owners_take(o, "spec.replicas", &scaler);
    assert_string_equal(object_str(o, "metadata.managedFields"), "not JSON");
    json_decref(o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_field_changes_hands),
        cmocka_unit_test(the_rest_of_an_entry_stays),
        cmocka_unit_test(what_has_no_record_gets_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
