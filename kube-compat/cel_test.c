/* CEL by a table of expressions (cel_test.yaml), its bounds, and the rules of real definitions. */
#include "kube-compat/cel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "core/base/yaml.h"
#include "core/object.h"
#include "kube-compat/schema_json.h"
#include "kube-compat/test_data.h"

static const char table[] = "kube-compat/cel_test.yaml";

static json_t *read_table(void) {
    FILE *f = fopen(table, "r");
    assert_non_null(f);
    AUTO_BUF text = BUF_INIT;
    for (int c; (c = fgetc(f)) != EOF;)
        buf_putc(&text, (char)c);
    fclose(f);
    json_t *doc = NULL;
    struct error err = ERROR_INIT;
    if (yaml_parse(text.data, text.len, &doc, &err))
        fail_msg("%s", err.text);
    return doc;
}

/* Reads a schema as that of a field of an object. */
static const struct schema *read_schema(struct schema_pool *pool, json_t *schema) {
    json_t *root = json_pack("{s:s, s:{s:O}}", "type", "object", "properties", "self", schema);
    json_t *causes = json_array(), *warnings = json_array();
    struct schema_json_options opt = {.name = "t", .path = "schema", .metadata = &schema_any};
    struct error err = ERROR_INIT;
    const struct schema *s = NULL;
    if (schema_json_read(pool, root, &opt, causes, warnings, &s, &err))
        fail_msg("%s: %s", err.text, json_dumps(causes, 0));
    json_decref(root);
    json_decref(causes);
    json_decref(warnings);
    return schema_property(s, "self")->schema;
}

/* What an expression gives, as text: "true", "false", or what is wrong. */
static void outcome_of(const char *text, const struct schema *s, const json_t *self,
                       const json_t *old, char out[ERROR_TEXT_BYTES_MAX], bool *ret_refused) {
    struct cel_options opt = {.self = s, .has_old = true, .want = CEL_BOOL};
    struct error err = ERROR_INIT;
    AUTO(cel_program) program = NULL;
    *ret_refused = cel_compile(text, &opt, &program, &err);
    if (*ret_refused) {
        snprintf(out, ERROR_TEXT_BYTES_MAX, "%s", err.text);
        return;
    }
    AUTO(arena) arena = arena_create();
    int64_t cost = CEL_COST_MAX;
    struct cel_value v = cel_run(program, self, old, arena, &cost);
    assert_true(cost < CEL_COST_MAX);
    if (v.kind == CEL_BOOL)
        snprintf(out, ERROR_TEXT_BYTES_MAX, "%s", v.truth ? "true" : "false");
    else
        snprintf(out, ERROR_TEXT_BYTES_MAX, "%s", v.kind == CEL_ERROR ? v.text.data : "no bool");
}

static int num_wrong;

static int check_list(const json_t *list, const struct schema *s, const json_t *one,
                      const char *want, bool want_refused) {
    size_t i;
    json_t *text;
    int num = 0;
    json_array_foreach ((json_t *)(uintptr_t)list, i, text) {
        char got[ERROR_TEXT_BYTES_MAX];
        bool refused;
        outcome_of(json_string_value(text), s, json_object_get(one, "self"),
                   json_object_get(one, "old"), got, &refused);
        num++;
        if (refused == want_refused && strstr(got, want))
            continue;
        print_message("%s: got \"%s\", want \"%s\"\n", json_string_value(text), got, want);
        num_wrong++;
    }
    return num;
}

static void expressions_give_what_the_table_says(void **state) {
    json_t *sections = read_table(), *section, *one;
    size_t i, k;
    int num = 0;
    json_array_foreach (sections, i, section) {
        AUTO(schema_pool) pool = schema_pool_create();
        const struct schema *s = read_schema(pool, json_object_get(section, "schema"));
        json_array_foreach (json_object_get(section, "cases"), k, one) {
            const char *error = object_str(one, "error"), *refused = object_str(one, "refused");
            num += check_list(json_object_get(one, "true"), s, one, "true", false);
            num += check_list(json_object_get(one, "false"), s, one, "false", false);
            if (error || refused)
                num += check_list(json_object_get(one, "of"), s, one, error ? error : refused,
                                  refused);
        }
    }
    json_decref(sections);
    print_message("%d expressions\n", num);
    assert_int_equal(num_wrong, 0);
    assert_true(num > 200);
}

static void an_expression_is_bounded(void **state) {
    static const struct schema any = {.type = SCHEMA_ANY};
    char got[ERROR_TEXT_BYTES_MAX];
    bool refused;
    struct {
        const char *before, *piece, *after, *want;
        int num;
    } cases[] = {
        {"", "(", "", "nested deeper than 64", CEL_DEPTH_MAX + 1},
        {"", "[", "", "nested deeper than 64", CEL_DEPTH_MAX + 1},
        {"true", "? true : true", "", "nested deeper", CEL_DEPTH_MAX + 1},
        {"0", " + 1", " > 0", "more than 256 steps in a row", CEL_HEIGHT_MAX + 1},
        {"", " ", "true", "more than 16384 bytes", CEL_TEXT_BYTES_MAX},
        {"[0", ",0", "] == []", "more than 64 items", 64},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_BUF text = BUF_INIT;
        buf_puts(&text, cases[i].before);
        for (int n = 0; n < cases[i].num; n++)
            buf_puts(&text, cases[i].piece);
        buf_puts(&text, cases[i].after);
        outcome_of(text.data, &any, NULL, NULL, got, &refused);
        if (!refused || !strstr(got, cases[i].want))
            fail_msg("%zu: %s", i, got);
    }
    AUTO_BUF many = BUF_INIT; /* wide, not deep */
    buf_puts(&many, "[");
    for (int i = 0; i < 60; i++) {
        buf_puts(&many, i ? ",[" : "[");
        for (int k = 0; k < 60; k++)
            buf_puts(&many, k ? ",[0]" : "[0]");
        buf_puts(&many, "]");
    }
    buf_puts(&many, "] == []");
    outcome_of(many.data, &any, NULL, NULL, got, &refused);
    assert_true(refused && strstr(got, "more than 4096 parts"));
}

/* A list of 2000 read three times within itself would take 8e9 steps. */
static void a_run_that_costs_too_much_ends(void **state) {
    AUTO(schema_pool) pool = schema_pool_create();
    json_t *schema = json_pack("{s:s, s:{s:s}}", "type", "array", "items", "type", "integer");
    const struct schema *s = read_schema(pool, schema);
    json_t *self = json_array();
    for (int i = 0; i < 2000; i++)
        json_array_append_new(self, json_integer(i));
    static const char *const costly[] = {
        "self.all(x, self.all(y, self.all(z, x + y + z >= 0)))",
        "self.map(x, self.map(y, x)).size() == 0",
        "self.map(x, self.filter(y, y / 0 == 1 || true)).size() == 0",
        "self.all(x, self + self != self + [x])",
    };
    for (size_t i = 0; i < ARRAY_LEN(costly); i++) {
        char got[ERROR_TEXT_BYTES_MAX];
        bool refused;
        outcome_of(costly[i], s, self, NULL, got, &refused);
        assert_false(refused);
        assert_string_equal(got, cel_cost_exceeded);
    }
    json_decref(self);
    json_decref(schema);
}

static void an_optional_old_self_may_be_absent(void **state) {
    static const struct schema text = {.type = SCHEMA_STRING};
    struct cel_options opt = {
        .self = &text, .has_old = true, .old_is_optional = true, .want = CEL_BOOL};
    struct error err = ERROR_INIT;
    AUTO(cel_program) program = NULL;
    if (cel_compile("oldSelf.hasValue() ? oldSelf.value() == self : "
                    "oldSelf.orValue('none') == 'none' && !oldSelf.optMap(o, o + '!').hasValue()",
                    &opt, &program, &err))
        fail_msg("%s", err.text);
    assert_true(cel_uses_old(program));
    json_t *a = json_string("a"), *b = json_string("b");
    const json_t *old[] = {NULL, a, b};
    for (size_t i = 0; i < ARRAY_LEN(old); i++) {
        AUTO(arena) arena = arena_create();
        int64_t cost = CEL_COST_MAX;
        struct cel_value v = cel_run(program, a, old[i], arena, &cost);
        assert_int_equal(v.kind, CEL_BOOL);
        assert_int_equal(v.truth, old[i] != b);
    }
    json_decref(a);
    json_decref(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expressions_give_what_the_table_says),
        cmocka_unit_test(an_expression_is_bounded),
        cmocka_unit_test(a_run_that_costs_too_much_ends),
        cmocka_unit_test(an_optional_old_self_may_be_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
