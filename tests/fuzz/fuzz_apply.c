/* Server-side apply: two configurations of a Deployment, a line each, by two managers.
 *
 * Promises: sets of fields follow the algebra of sets and come back from their text; applying the
 * same twice changes nothing; with force nobody is in conflict, and everything that was applied is
 * in the object; what is taken back is gone unless somebody else owns it. */
#include "kube-compat/apply.h"

#include "kube-compat/field_set.h"
#include "tests/fuzz/fuzz.h"

/* The members of two sets are the same, however the sets are written. */
static void expect_same_set(const json_t *got, const json_t *want, const char *promise) {
    json_t *g = field_set_paths(got), *w = field_set_paths(want);
    json_t *has = json_object(), *wanted = json_object(), *path;
    size_t i;
    json_array_foreach (g, i, path) {
        json_object_set_new(has, json_string_value(path), json_true());
    }
    json_array_foreach (w, i, path) {
        json_object_set_new(wanted, json_string_value(path), json_true());
    }
    fuzz_expect_same(has, wanted, promise);
    json_decref(wanted);
    json_decref(has);
    json_decref(w);
    json_decref(g);
}

static void check_algebra(const json_t *a, const json_t *b) {
    json_t *both = field_set_intersection(a, b), *only = field_set_difference(a, b);
    json_t *back = field_set_union(only, both), *none = field_set_difference(a, a);
    json_t *all = field_set_union(a, b), *other = field_set_union(b, a);
    json_t *rest = field_set_difference(all, b);
    expect_same_set(back, a, "(A - B) + (A & B) = A");
    expect_same_set(all, other, "A + B = B + A");
    expect_same_set(rest, only, "(A + B) - B = A - B");
    ASSERT(!json_object_size(none) && field_set_valid(a) && field_set_valid(all));
    fuzz_expect_text(all);
    json_decref(field_set_paths(all));
    json_decref(rest);
    json_decref(other);
    json_decref(all);
    json_decref(none);
    json_decref(back);
    json_decref(only);
    json_decref(both);
}

/* Applies config over *object, which becomes the result as it would be stored. */
static enum errc apply(json_t **object, const json_t *config, const char *manager, bool force) {
    const struct apply_request rq = {
        .schema = fuzz_schema("apps", "v1", "deployments"),
        .live = *object,
        .config = config,
        .writer = {.manager = manager, .api_version = "apps/v1", .wall_ms = 1},
        .force = force,
    };
    struct error err = ERROR_INIT;
    json_t *got = NULL, *entries = NULL, *causes = json_array();
    enum errc code = apply_config(&rq, &got, &entries, causes, &err);
    ASSERT(code == OK ||
           ((code == ERR_CONFLICT || code == ERR_INVALID) && json_array_size(causes)));
    json_decref(causes);
    if (code)
        return code;
    managed_close(got, entries);
    json_decref(*object);
    *object = got;
    return OK;
}

/* The object holds what the configuration says. */
static void expect_applied(const json_t *object, const json_t *config) {
    const struct schema *s = fuzz_schema("apps", "v1", "deployments");
    json_t *again = apply_merge(s, object, config), *differ = field_set_changed(s, object, again);
    json_t *nothing = json_object();
    fuzz_expect_same(differ, nothing, "what was applied is in the object");
    json_decref(nothing);
    json_decref(differ);
    json_decref(again);
}

static void two_managers(const json_t *a, const json_t *b) {
    json_t *object = NULL;
    if (apply(&object, a, "a", false))
        return;
    json_t *was = json_deep_copy(object);
    ASSERT(!apply(&object, a, "a", false));
    fuzz_expect_same(object, was, "applying the same twice changes nothing");
    json_decref(was);
    enum errc code = apply(&object, b, "b", true);
    ASSERT(code == OK || code == ERR_INVALID);
    if (!code) {
        expect_applied(object, b);
        ASSERT(!apply(&object, b, "b", false));
        json_t *nothing = json_object();
        ASSERT(!apply(&object, nothing, "b", false));
        json_decref(nothing);
    }
    fuzz_expect_text(object);
    json_decref(object);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct schema *s = fuzz_schema("apps", "v1", "deployments");
    struct fuzz_parts p;
    fuzz_parts_init(&p, 2, data, size);
    json_t *a = fuzz_json(p.text[0], p.len[0]), *b = fuzz_json(p.text[1], p.len[1]);
    if (json_is_object(a) && json_is_object(b)) {
        if (field_set_valid(a) && field_set_valid(b))
            check_algebra(a, b);
        /* As rest_apply.c has it: a configuration fits its schema and names no managers. */
        json_t *causes = json_array();
        struct schema_findings f = {.causes = causes};
        schema_prune(s, a, false);
        schema_prune(s, b, false);
        schema_check(s, a, &f);
        schema_check(s, b, &f);
        json_object_del(json_object_get(a, "metadata"), "managedFields");
        json_object_del(json_object_get(b, "metadata"), "managedFields");
        json_t *of_a = field_set_of(s, a), *of_b = field_set_of(s, b);
        if (!json_array_size(causes)) {
            check_algebra(of_a, of_b);
            two_managers(a, b);
        }
        json_decref(of_b);
        json_decref(of_a);
        json_decref(causes);
    }
    json_decref(b);
    json_decref(a);
    fuzz_parts_deinit(&p);
    return 0;
}
