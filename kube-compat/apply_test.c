/* Server-side apply on its own: field sets, merging, pruning, conflicts, the bookkeeping of owners.
 * The kinds are the served ones; the answers are those that a Kubernetes API server gives. */
#include "kube-compat/apply.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "core/object.h"
#include "kube-compat/field_set.h"
#include "kube-compat/kinds.h"

static struct kinds *kinds;

static int start(void **state) {
    struct error err = ERROR_INIT;
    if (kinds_create(&kinds, &err))
        fail_msg("%s", err.text);
    return 0;
}

static int stop(void **state) {
    kinds_unref(kinds);
    return 0;
}

static const struct schema *schema_of(const char *group, const char *version, const char *plural) {
    const struct kind *k = kinds_find(kinds, group, version, plural);
    assert_non_null(k);
    return k->schema;
}

/* Parses JSON in which ' stands for ", to be readable in C. */
static json_t *parse(const char *text) {
    char *copy = strdup(text);
    for (char *p = copy; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    json_error_t bad;
    json_t *v = json_loads(copy, JSON_DECODE_ANY, &bad);
    if (!v)
        fail_msg("%s: %s", copy, bad.text);
    free(copy);
    return v;
}

/* Takes got. */
static void expect(json_t *got, const char *want_text) {
    json_t *want = parse(want_text);
    if (!json_equal(got, want)) {
        char *g = json_dumps(got, JSON_ENCODE_ANY | JSON_SORT_KEYS | JSON_COMPACT);
        char *w = json_dumps(want, JSON_ENCODE_ANY | JSON_SORT_KEYS | JSON_COMPACT);
        fail_msg("\n got  %s\n want %s", g, w);
    }
    json_decref(want);
    json_decref(got);
}

static void a_configuration_owns_leaves_items_and_map_keys(void **state) {
    json_t *config = parse(
        "{'apiVersion': 'apps/v1', 'kind': 'Deployment', 'metadata': {'name': 'x', 'namespace':"
        " 'n', 'labels': {'app': 'x'}, 'finalizers': ['a/b']}, 'spec': {'selector': {'matchLabels':"
        " {'app': 'x'}}, 'template': {'spec': {'nodeSelector': {'a': 'b'}, 'containers':"
        " [{'name': 'c', 'args': ['a'], 'resources': {}, 'env': [{'name': 'E', 'valueFrom':"
        " {'secretKeyRef': {'name': 's', 'key': 'k'}}}], 'ports': [{'containerPort': 80}]}]}}}}");
    expect(field_set_of(schema_of("apps", "v1", "deployments"), config),
           "{'f:metadata': {'f:labels': {'f:app': {}}, 'f:finalizers': {'v:\\'a/b\\'': {}}},"
           " 'f:spec': {'f:selector': {}, 'f:template': {'f:spec': {'f:nodeSelector': {},"
           " 'f:containers': {'k:{\\'name\\':\\'c\\'}': {'.': {}, 'f:name': {}, 'f:args': {},"
           " 'f:resources': {}, 'f:env': {'k:{\\'name\\':\\'E\\'}': {'.': {}, 'f:name': {},"
           " 'f:valueFrom': {'f:secretKeyRef': {}}}}, 'f:ports':"
           " {'k:{\\'containerPort\\':80,\\'protocol\\':\\'TCP\\'}': {'.': {},"
           " 'f:containerPort': {}}}}}}}}}");
    json_decref(config);
}

static void a_write_owns_what_it_changes(void **state) {
    const struct schema *s = schema_of("", "v1", "configmaps");
    json_t *a = parse("{'metadata': {'name': 'x', 'uid': '1'}, 'data': {'k': '1', 'l': '1'}}");
    json_t *b = parse("{'metadata': {'name': 'x', 'uid': '2', 'labels': {'a': 'b'}},"
                      " 'data': {'k': '2', 'm': '1'}, 'immutable': true}");
    expect(field_set_changed(s, a, b),
           "{'f:metadata': {'f:labels': {'.': {}, 'f:a': {}}}, 'f:data':"
           " {'f:k': {}, 'f:m': {}}, 'f:immutable': {}}");
    expect(field_set_removed(s, a, b), "{'f:data': {'f:l': {}}}");
    expect(field_set_changed(s, a, a), "{}");
    expect(field_set_changed(s, NULL, a), "{'f:data': {'.': {}, 'f:k': {}, 'f:l': {}}}");
    json_decref(a);
    json_decref(b);
}

static void sets_combine(void **state) {
    json_t *a = parse("{'f:a': {}, 'f:b': {'.': {}, 'f:c': {}, 'f:d': {}}}");
    json_t *b = parse("{'f:b': {'f:c': {}}, 'f:e': {}}"), *empty = json_object();
    expect(field_set_union(a, b), "{'f:a': {}, 'f:b': {'.': {}, 'f:c': {}, 'f:d': {}}, 'f:e': {}}");
    expect(field_set_intersection(a, b), "{'f:b': {'f:c': {}}}");
    expect(field_set_difference(a, b), "{'f:a': {}, 'f:b': {'.': {}, 'f:d': {}}}");
    expect(field_set_difference(b, a), "{'f:e': {}}");
    expect(field_set_union(empty, b), "{'f:b': {'f:c': {}}, 'f:e': {}}");
    expect(field_set_difference(a, empty), "{'f:a': {}, 'f:b': {'.': {}, 'f:c': {}, 'f:d': {}}}");
    expect(field_set_difference(a, a), "{}");
    expect(field_set_paths(a), "['.a', '.b', '.b.c', '.b.d']");
    json_t *keys = parse("{'f:ports': {'k:{\\'port\\':80,\\'protocol\\':\\'TCP\\'}': {}},"
                         " 'f:set': {'v:\\'x\\'': {}}}");
    expect(field_set_paths(keys), "['.ports[port=80,protocol=\\'TCP\\']', '.set[=\\'x\\']']");
    assert_true(field_set_valid(a));
    json_t *bad = parse("{'f:a': {'b': {}}}"), *scalar = parse("{'f:a': 1}");
    assert_false(field_set_valid(bad));
    assert_false(field_set_valid(scalar));
    json_decref(keys);
    json_decref(bad);
    json_decref(scalar);
    json_decref(empty);
    json_decref(a);
    json_decref(b);
}

static void merging_keeps_the_others_in_their_places(void **state) {
    const struct schema *s = schema_of("", "v1", "pods");
    json_t *live = parse("{'spec': {'containers': [{'name': 'a', 'image': '1'}, {'name': 'x'},"
                         " {'name': 'b', 'tty': true}], 'tolerations': [{'key': 'k'}]}}");
    json_t *config = parse("{'spec': {'containers': [{'name': 'b', 'image': '2'}, {'name': 'n'}],"
                           " 'tolerations': []}}");
    expect(apply_merge(s, live, config),
           "{'spec': {'containers': [{'name': 'a', 'image': '1'}, {'name': 'x'}, {'name': 'b',"
           " 'tty': true, 'image': '2'}, {'name': 'n'}], 'tolerations': []}}");
    json_decref(live);
    json_decref(config);
}

struct session {
    const struct schema *schema;
    json_t *object; /* stored form, NULL: none */
    json_t *causes;
    int64_t wall_ms;
};

static void session_deinit(struct session *t) {
    json_decref(t->object);
    json_decref(t->causes);
}

static enum errc apply(struct session *t, const char *manager, const char *config_text, bool force,
                       struct error *err) {
    json_t *config = parse(config_text), *object = NULL, *entries = NULL;
    json_decref(t->causes);
    t->causes = json_array();
    const struct apply_request rq = {
        .schema = t->schema,
        .live = t->object,
        .config = config,
        .writer = {.manager = manager, .api_version = "v1", .wall_ms = t->wall_ms += 1000},
        .force = force,
    };
    *err = ERROR_INIT;
    enum errc code = apply_config(&rq, &object, &entries, t->causes, err);
    if (!code) {
        managed_close(object, entries);
        json_decref(t->object);
        t->object = object;
    }
    json_decref(config);
    return code;
}

static void update(struct session *t, const char *manager, const char *text) {
    const struct managed_writer writer = {
        .manager = manager, .api_version = "v1", .wall_ms = t->wall_ms += 1000};
    json_t *object = parse(text);
    json_t *entries =
        managed_update(t->schema, managed_entries(t->object), t->object, object, &writer);
    managed_close(object, entries);
    json_decref(t->object);
    t->object = object;
}

/* What a manager owns, new. */
static json_t *owned(const struct session *t, const char *manager, const char *operation) {
    json_t *entries = managed_entries(t->object), *set = NULL;
    const struct managed_writer writer = {.manager = manager};
    for (size_t i = 0; i < json_array_size(entries); i++) {
        if (managed_is(json_array_get(entries, i), &writer, operation))
            set = json_incref(json_object_get(json_array_get(entries, i), "fieldsV1"));
    }
    json_decref(entries);
    return set ? set : json_null();
}

static json_t *data_of(const struct session *t) {
    json_t *data = json_object_get(t->object, "data");
    return data ? json_incref(data) : json_null();
}

#define CM(data)                                                                                   \
    "{'apiVersion': 'v1', 'kind': 'ConfigMap', 'metadata': {'name': 'x'}, 'data': " data "}"

static void owners_conflict_share_force_and_release(void **state) {
    struct session t = {.schema = schema_of("", "v1", "configmaps")};
    struct error err;
    assert_int_equal(apply(&t, "one", CM("{'a': '1', 'b': '1'}"), false, &err), OK);
    assert_int_equal(apply(&t, "two", CM("{'a': '2', 'c': '1'}"), false, &err), ERR_CONFLICT);
    assert_string_equal(err.text,
                        "Apply failed with 1 conflict: conflict with \"one\" using v1: .data.a");
    expect(json_incref(t.causes), "[{'reason': 'FieldManagerConflict', 'field': '.data.a',"
                                  " 'message': 'conflict with \\'one\\' using v1'}]");
    assert_int_equal(apply(&t, "two", CM("{'a': '2', 'b': '2'}"), false, &err), ERR_CONFLICT);
    assert_string_equal(err.text, "Apply failed with 2 conflicts: conflicts with \"one\" using v1:"
                                  "\n- .data.a\n- .data.b");
    assert_int_equal(apply(&t, "two", CM("{'a': '1', 'c': '1'}"), false, &err), OK); /* shared */
    expect(owned(&t, "one", "Apply"), "{'f:data': {'f:a': {}, 'f:b': {}}}");
    expect(owned(&t, "two", "Apply"), "{'f:data': {'f:a': {}, 'f:c': {}}}");
    assert_int_equal(apply(&t, "one", CM("{'b': '1'}"), false, &err), OK);
    expect(data_of(&t), "{'a': '1', 'b': '1', 'c': '1'}"); /* `a` is two's, too */
    assert_int_equal(apply(&t, "one", CM("{'c': '9'}"), true, &err), OK);
    expect(data_of(&t), "{'a': '1', 'c': '9'}");
    expect(owned(&t, "two", "Apply"), "{'f:data': {'f:a': {}}}");
    assert_int_equal(apply(&t, "two", "{'metadata': {'name': 'x'}}", false, &err), OK);
    expect(data_of(&t), "{'c': '9'}");
    expect(owned(&t, "two", "Apply"), "null");
    assert_int_equal(apply(&t, "one", "{'metadata': {'name': 'x'}}", false, &err), OK);
    expect(data_of(&t), "null");
    session_deinit(&t);
}

static void a_conflict_too_long_to_tell_is_counted(void **state) {
    struct session t = {.schema = schema_of("", "v1", "configmaps")};
    struct error err;
    json_t *a = parse(CM("{}")), *b = parse(CM("{}"));
    for (int i = 0; i < 200; i++) {
        char name[32];
        snprintf(name, sizeof(name), "a-field-with-a-name-%03d", i);
        json_object_set_new(json_object_get(a, "data"), name, json_string("1"));
        json_object_set_new(json_object_get(b, "data"), name, json_string("2"));
    }
    char *one = json_dumps(a, 0), *two = json_dumps(b, 0);
    assert_int_equal(apply(&t, "one", one, false, &err), OK);
    assert_int_equal(apply(&t, "two", two, false, &err), ERR_CONFLICT);
    assert_non_null(strstr(err.text, "Apply failed with 200 conflicts: "));
    assert_non_null(strstr(err.text, "-000\n"));
    assert_non_null(strstr(err.text, " more fields"));
    assert_int_equal(json_array_size(t.causes), SCHEMA_FINDINGS_MAX);
    free(one);
    free(two);
    json_decref(a);
    json_decref(b);
    session_deinit(&t);
}

static void updates_take_and_lose_fields(void **state) {
    struct session t = {.schema = schema_of("", "v1", "configmaps")};
    struct error err;
    assert_int_equal(apply(&t, "one", CM("{'a': '1', 'b': '1'}"), false, &err), OK);
    update(&t, "editor", CM("{'a': '2', 'b': '1'}"));
    expect(owned(&t, "one", "Apply"), "{'f:data': {'f:b': {}}}");
    expect(owned(&t, "editor", "Update"), "{'f:data': {'f:a': {}}}");
    assert_int_equal(apply(&t, "one", CM("{'a': '1', 'b': '1'}"), false, &err), ERR_CONFLICT);
    assert_int_equal(apply(&t, "one", CM("{'a': '1', 'b': '1'}"), true, &err), OK);
    expect(owned(&t, "editor", "Update"), "null");
    update(&t, "editor", CM("{'b': '1'}"));
    expect(owned(&t, "one", "Apply"), "{'f:data': {'f:b': {}}}");
    expect(owned(&t, "editor", "Update"), "null");
    /* A client that updates and a client of the same name that applies are two. */
    update(&t, "one", CM("{'b': '2'}"));
    expect(owned(&t, "one", "Apply"), "null");
    expect(owned(&t, "one", "Update"), "{'f:data': {'f:b': {}}}");
    session_deinit(&t);
}

static void repeating_an_apply_changes_nothing(void **state) {
    struct session t = {.schema = schema_of("", "v1", "configmaps")};
    struct error err;
    assert_int_equal(apply(&t, "one", CM("{'a': '1'}"), false, &err), OK);
    json_t *before = json_deep_copy(t.object);
    assert_int_equal(apply(&t, "one", CM("{'a': '1'}"), false, &err), OK);
    assert_true(json_equal(before, t.object)); /* the time of the entry, too */
    update(&t, "two", CM("{'a': '1'}"));
    expect(json_copy(json_object_get(before, "data")), "{'a': '1'}");
    expect(owned(&t, "two", "Update"), "null");
    json_decref(before);
    session_deinit(&t);
}

static void what_nobody_recorded_is_not_the_first_appliers(void **state) {
    struct session t = {.schema = schema_of("", "v1", "configmaps")};
    struct error err;
    t.object = parse(CM("{'a': '1', 'b': '1'}"));
    assert_int_equal(apply(&t, "one", CM("{'c': '1'}"), false, &err), OK);
    expect(owned(&t, "before-first-apply", "Update"), "{'f:data': {'f:a': {}, 'f:b': {}}}");
    assert_int_equal(apply(&t, "one", "{'metadata': {'name': 'x'}}", false, &err), OK);
    expect(data_of(&t), "{'a': '1', 'b': '1'}");
    assert_int_equal(apply(&t, "one", CM("{'a': '2'}"), false, &err), ERR_CONFLICT);
    session_deinit(&t);
}

static void a_struct_goes_with_its_last_owned_field(void **state) {
    struct session t = {.schema = schema_of("", "v1", "pods")};
    struct error err;
    const char *with = "{'metadata': {'name': 'x'}, 'spec': {'containers': [{'name': 'c',"
                       " 'livenessProbe': {'httpGet': {'port': 80}}}, {'name': 'd'}]}}";
    assert_int_equal(apply(&t, "one", with, false, &err), OK);
    /* What defaults add is nobody's. */
    object_set(t.object, "spec.containers.0.livenessProbe",
               parse("{'httpGet': {'port': 80},"
                     " 'periodSeconds': 10}"));
    const char *without = "{'metadata': {'name': 'x'}, 'spec': {'containers': [{'name': 'c'}]}}";
    assert_int_equal(apply(&t, "one", without, false, &err), OK);
    expect(json_incref(object_at(t.object, "spec")), "{'containers': [{'name': 'c'}]}");
    session_deinit(&t);
}

static void items_shared_with_others_stay(void **state) {
    struct session t = {.schema = schema_of("", "v1", "pods")};
    struct error err;
    assert_int_equal(apply(&t, "one",
                           "{'metadata': {'name': 'x'}, 'spec': {'containers': [{'name': 'c',"
                           " 'image': 'i', 'tty': true}]}}",
                           false, &err),
                     OK);
    assert_int_equal(apply(&t, "two",
                           "{'metadata': {'name': 'x'}, 'spec': {'containers': [{'name': 'c',"
                           " 'stdin': true}]}}",
                           false, &err),
                     OK);
    assert_int_equal(apply(&t, "one", "{'metadata': {'name': 'x'}}", false, &err), OK);
    expect(json_incref(object_at(t.object, "spec")),
           "{'containers': [{'name': 'c', 'stdin': true}]}");
    session_deinit(&t);
}

static void kubectl_is_at_peace_with_its_own_annotation(void **state) {
    struct session t = {.schema = schema_of("", "v1", "configmaps")};
    struct error err;
    update(&t, "kubectl-client-side-apply",
           "{'apiVersion': 'v1', 'kind': 'ConfigMap', 'metadata': {'name': 'x', 'annotations':"
           " {'kubectl.kubernetes.io/last-applied-configuration':"
           " '{\\'metadata\\':{\\'name\\':\\'x\\'},\\'data\\':{\\'a\\':\\'1\\'}}'}},"
           " 'data': {'a': '1', 'b': '1'}}");
    assert_int_equal(apply(&t, "other", CM("{'a': '2'}"), false, &err), ERR_CONFLICT);
    assert_int_equal(apply(&t, "kubectl", CM("{'b': '2'}"), false, &err), ERR_CONFLICT);
    assert_int_equal(apply(&t, "kubectl", CM("{'a': '2'}"), false, &err), OK);
    const char *annotation =
        object_annotation(t.object, "kubectl.kubernetes.io/last-applied-configuration");
    assert_non_null(strstr(annotation, "\"data\":{\"a\":\"2\"}"));
    session_deinit(&t);
}

static void list_items_need_their_keys_once(void **state) {
    struct session t = {.schema = schema_of("", "v1", "pods")};
    struct error err;
    assert_int_equal(apply(&t, "one",
                           "{'metadata': {'name': 'x'}, 'spec': {'containers': [{'image': 'i'}]}}",
                           false, &err),
                     ERR_INVALID);
    assert_string_equal(object_str(t.causes, "0.field"), "spec.containers[0]");
    assert_int_equal(apply(&t, "one",
                           "{'metadata': {'name': 'x'}, 'spec': {'containers': [{'name': 'c'},"
                           " {'name': 'c'}]}}",
                           false, &err),
                     ERR_INVALID);
    assert_string_equal(object_str(t.causes, "0.reason"), CAUSE_DUPLICATE);
    assert_string_equal(object_str(t.causes, "0.field"), "spec.containers[1]");
    session_deinit(&t);
}

static void the_oldest_updaters_become_one(void **state) {
    struct session t = {.schema = schema_of("", "v1", "configmaps")};
    struct error err;
    assert_int_equal(apply(&t, "one", CM("{'keep': '1'}"), false, &err), OK);
    json_t *data = parse("{'keep': '1'}");
    for (int i = 0; i < MANAGED_UPDATERS_MAX + 5; i++) {
        char name[16];
        snprintf(name, sizeof(name), "w%02d", i);
        json_object_set_new(data, name, json_string("1"));
        json_t *object = json_pack("{s:{s:s}, s:O}", "metadata", "name", "x", "data", data);
        char *text = json_dumps(object, 0);
        update(&t, name, text);
        free(text);
        json_decref(object);
    }
    json_t *entries = managed_entries(t.object), *all = managed_union(entries);
    assert_int_equal(json_array_size(entries), MANAGED_UPDATERS_MAX + 1);
    assert_string_equal(object_str(json_array_get(entries, 0), "manager"), "one");
    assert_string_equal(object_str(json_array_get(entries, 1), "manager"), "ancient-changes");
    assert_int_equal(json_object_size(json_object_get(all, "f:data")), MANAGED_UPDATERS_MAX + 6);
    json_decref(all);
    json_decref(entries);
    json_decref(data);
    session_deinit(&t);
}

static void clients_may_write_managed_fields(void **state) {
    json_t *stored =
        parse("{'metadata': {'name': 'x', 'managedFields': '[{\\'manager\\':\\'m\\'}]'}}");
    json_t *sound = parse("[{'manager': 'n', 'operation': 'Apply', 'apiVersion': 'v1',"
                          " 'fieldsType': 'FieldsV1', 'fieldsV1': {'f:data': {'f:a': {}}}}]");
    json_t *broken = parse("[{'manager': 'n', 'operation': 'Apply', 'fieldsType': 'FieldsV1',"
                           " 'fieldsV1': {'data': {}}}]");
    json_t *empty = json_array(), *reset = parse("[{}]");
    expect(managed_basis(NULL, stored), "[{'manager': 'm'}]");
    expect(managed_basis(empty, stored), "[]");
    expect(managed_basis(reset, stored), "[]");
    expect(managed_basis(broken, stored), "[{'manager': 'm'}]");
    json_t *got = managed_basis(sound, stored);
    assert_true(json_equal(got, sound));
    /* What readers see is the list again, and the stored object stays as it was. */
    json_t *shown = managed_open(json_incref(stored));
    assert_true(json_is_array(object_at(shown, "metadata.managedFields")));
    assert_true(json_is_string(object_at(stored, "metadata.managedFields")));
    json_decref(shown);
    json_decref(got);
    json_decref(reset);
    json_decref(empty);
    json_decref(broken);
    json_decref(sound);
    json_decref(stored);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_configuration_owns_leaves_items_and_map_keys),
        cmocka_unit_test(a_write_owns_what_it_changes),
        cmocka_unit_test(sets_combine),
        cmocka_unit_test(merging_keeps_the_others_in_their_places),
        cmocka_unit_test(owners_conflict_share_force_and_release),
        cmocka_unit_test(a_conflict_too_long_to_tell_is_counted),
        cmocka_unit_test(updates_take_and_lose_fields),
        cmocka_unit_test(repeating_an_apply_changes_nothing),
        cmocka_unit_test(what_nobody_recorded_is_not_the_first_appliers),
        cmocka_unit_test(a_struct_goes_with_its_last_owned_field),
        cmocka_unit_test(items_shared_with_others_stay),
        cmocka_unit_test(kubectl_is_at_peace_with_its_own_annotation),
        cmocka_unit_test(list_items_need_their_keys_once),
        cmocka_unit_test(the_oldest_updaters_become_one),
        cmocka_unit_test(clients_may_write_managed_fields),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
