#include "core/object.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static json_t *parse(const char *text) {
    json_error_t why;
    json_t *o = json_loads(text, 0, &why);
    if (!o)
        fail_msg("%s: %s", text, why.text);
    return o;
}

static void key_spells_group_resource_namespace_name(void **state) {
    struct object_key k;
    assert_string_equal(object_key(&k, "", "pods", "default", "a"), "core/pods/default/a");
    assert_string_equal(object_key(&k, "apps", "deployments", "ns", NULL), "apps/deployments/ns/");
    assert_string_equal(object_key(&k, NULL, "nodes", NULL, "n1"), "core/nodes/-/n1");
    assert_string_equal(object_key(&k, "core", "nodes", NULL, NULL), "core/nodes/");
}

static void paths_walk_objects_and_arrays_and_never_trust_the_shape(void **state) {
    json_t *o = parse("{\"spec\":{\"n\":3,\"b\":true,\"c\":[{\"name\":\"x\"}]},\"s\":\"t\"}");
    assert_string_equal(object_str(o, "spec.c.0.name"), "x");
    assert_null(object_at(o, "spec.c.1.name"));
    assert_null(object_at(o, "spec.c.name"));
    assert_null(object_at(o, "s.t.u"));
    assert_null(object_str(o, "spec.n"));
    assert_int_equal(object_int(o, "spec.n", -1), 3);
    assert_int_equal(object_int(o, "spec.b", -1), -1);
    assert_true(object_bool(o, "spec.b", false));
    assert_null(object_at(NULL, "a.b"));
    json_decref(o);
}

static void set_makes_objects_on_the_way(void **state) {
    json_t *o = parse("{\"a\":1,\"l\":[{\"x\":1},{\"x\":2}]}");
    object_set(o, "a.b.c", json_integer(5)); /* what was there and is no object is replaced */
    assert_int_equal(object_int(o, "a.b.c", 0), 5);
    object_set(o, "l.1.x", json_null());
    assert_true(json_is_null(object_at(o, "l.1.x")));
    object_delete(o, "a.b.c");
    object_delete(o, "not.there");
    assert_null(object_at(o, "a.b.c"));
    json_decref(o);
}

static void new_objects_get_uid_time_and_generation(void **state) {
    json_t *o = parse("{\"metadata\":{\"name\":\"a\"}}");
    object_stamp_new(o, true, 1764000000123);
    assert_int_equal(strlen(object_uid(o)), 36);
    assert_int_equal(object_uid(o)[14], '4');
    assert_string_equal(object_str(o, "metadata.creationTimestamp"), "2025-11-24T16:00:00Z");
    assert_int_equal(object_int(o, "metadata.generation", 0), 1);
    char uid[37];
    object_uid_make(uid);
    assert_string_not_equal(uid, object_uid(o));
    json_decref(o);
}

static void template_hash_ignores_key_order_and_uses_the_alphabet(void **state) {
    json_t *a = parse("{\"x\":1,\"y\":[1,2]}"), *b = parse("{\"y\":[1,2],\"x\":1}");
    json_t *c = parse("{\"y\":[2,1],\"x\":1}");
    char ha[11], hb[11], hc[11];
    object_hash_name(a, ha);
    object_hash_name(b, hb);
    object_hash_name(c, hc);
    assert_string_equal(ha, hb);
    assert_string_not_equal(ha, hc);
    assert_int_equal(strspn(ha, "bcdfghjklmnpqrstvwxz2456789"), strlen(ha));
    char suffix[6];
    object_name_suffix(suffix);
    assert_int_equal(strspn(suffix, "bcdfghjklmnpqrstvwxz2456789"), 5);
    json_decref(a);
    json_decref(b);
    json_decref(c);
}

static void transition_time_moves_only_with_the_status(void **state) {
    json_t *o = parse("{}");
    assert_true(object_set_condition(o, "Ready", "False", "Starting", "wait", 1000));
    assert_false(object_set_condition(o, "Ready", "False", "Starting", "wait", 2000));
    assert_true(object_set_condition(o, "Ready", "False", "Failed", NULL, 3000));
    assert_string_equal(object_str(o, "status.conditions.0.lastTransitionTime"),
                        "1970-01-01T00:00:01Z");
    assert_null(object_str(o, "status.conditions.0.message"));
    assert_true(object_set_condition(o, "Ready", "True", NULL, NULL, 4000));
    assert_string_equal(object_str(o, "status.conditions.0.lastTransitionTime"),
                        "1970-01-01T00:00:04Z");
    assert_string_equal(object_condition(o, "Ready"), "True");
    assert_null(object_condition(o, "Other"));
    assert_int_equal(json_array_size(object_at(o, "status.conditions")), 1);
    json_decref(o);
}

static void owner_references_name_the_controller(void **state) {
    json_t *owner = parse("{\"apiVersion\":\"apps/v1\",\"kind\":\"ReplicaSet\",\"metadata\":"
                          "{\"name\":\"rs\",\"uid\":\"u1\"}}");
    json_t *o = parse("{\"metadata\":{\"ownerReferences\":[{\"kind\":\"X\",\"uid\":\"u0\"}]}}");
    assert_null(object_controller_of(o));
    json_array_append_new(object_at(o, "metadata.ownerReferences"), object_owner_ref(owner));
    const json_t *ref = object_controller_of(o);
    assert_string_equal(object_str(ref, "uid"), "u1");
    assert_true(object_bool(ref, "blockOwnerDeletion", false));
    json_decref(owner);
    json_decref(o);
}

static void labels_match_when_all_pairs_are_there(void **state) {
    json_t *sel = parse("{\"a\":\"1\"}"), *yes = parse("{\"a\":\"1\",\"b\":\"2\"}");
    json_t *no = parse("{\"a\":\"2\"}"), *all = parse("{}");
    assert_true(object_labels_match(sel, yes));
    assert_false(object_labels_match(sel, no));
    assert_false(object_labels_match(sel, NULL));
    assert_true(object_labels_match(all, NULL));
    assert_false(object_labels_match(NULL, yes));
    json_decref(sel);
    json_decref(yes);
    json_decref(no);
    json_decref(all);
}

static void text_from_outside_is_made_utf8(void **state) {
    static const char *const rows[][2] = {
        {"plain", "plain"},
        {"gr\xC3\xBC\xC3\x9F", "gr\xC3\xBC\xC3\x9F"},
        {"a\xFF\xC3", "a\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}, /* a surrogate */
        {"\xC0\x80x", "\xEF\xBF\xBD\xEF\xBF\xBDx"},               /* overlong */
        {"\xF0\x9F\x98\x80", "\xF0\x9F\x98\x80"},
        {"cut \xF0\x9F\x98", "cut \xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *s = object_text(rows[i][0]);
        assert_string_equal(json_string_value(s), rows[i][1]);
        json_decref(s);
    }
    json_t *o = parse("{}");
    assert_true(object_set_condition(o, "Ready", "False", "X", "bad \xFF", 1000));
    assert_false(object_set_condition(o, "Ready", "False", "X", "bad \xFF", 2000));
    json_decref(o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(key_spells_group_resource_namespace_name),
        cmocka_unit_test(paths_walk_objects_and_arrays_and_never_trust_the_shape),
        cmocka_unit_test(set_makes_objects_on_the_way),
        cmocka_unit_test(new_objects_get_uid_time_and_generation),
        cmocka_unit_test(template_hash_ignores_key_order_and_uses_the_alphabet),
        cmocka_unit_test(transition_time_moves_only_with_the_status),
        cmocka_unit_test(owner_references_name_the_controller),
        cmocka_unit_test(labels_match_when_all_pairs_are_there),
        cmocka_unit_test(text_from_outside_is_made_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
