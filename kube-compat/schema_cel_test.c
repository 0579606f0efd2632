/* x-kubernetes-validations: which rules a definition may have, where they are asked of objects,
 * what they say; and the rules of KServe's, KEDA's and the Gateway API's own definitions. */
#include "kube-compat/schema_cel.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "core/base/yaml.h"
#include "core/object.h"
#include "kube-compat/schema_json.h"
#include "kube-compat/test_data.h"

static json_t *parse(const char *yaml) {
    json_t *doc = NULL;
    struct error err = ERROR_INIT;
    if (yaml_parse(yaml, strlen(yaml), &doc, &err))
        fail_msg("%s: %s", yaml, err.text);
    return doc;
}

/* Reads a root schema; NULL when it is refused. Causes: gives them. */
static const struct schema *read_schema(struct schema_pool *pool, json_t *root,
                                        json_t **ret_causes) {
    struct schema_json_options opt = {.name = "t", .path = "s", .metadata = &schema_any};
    struct error err = ERROR_INIT;
    const struct schema *s = NULL;
    json_t *warnings = json_array();
    *ret_causes = json_array();
    if (schema_json_read(pool, root, &opt, *ret_causes, warnings, &s, &err))
        assert_true(json_array_size(*ret_causes) > 0);
    json_decref(warnings);
    return s;
}

/* The causes as one text: "FIELD REASON MESSAGE" a line. */
static char *text_of(json_t *causes) {
    struct buf out = BUF_INIT;
    size_t i;
    json_t *cause;
    json_array_foreach (causes, i, cause) {
        buf_printf(&out, "%s %s %s\n", object_str(cause, "field"), object_str(cause, "reason"),
                   object_str(cause, "message"));
    }
    json_decref(causes);
    return buf_steal(&out);
}

/* Checks {spec: ...} against a schema of spec with one rule; gives the causes as text. */
static char *judge(const char *schema, const char *spec, const char *old_spec) {
    AUTO(schema_pool) pool = schema_pool_create();
    AUTO_FREE char *text = mem_printf("{type: object, properties: {spec: %s}}", schema);
    json_t *root = parse(text), *causes;
    const struct schema *s = read_schema(pool, root, &causes);
    json_decref(root);
    if (!s)
        return text_of(causes);
    AUTO_FREE char *now = mem_printf("{spec: %s}", spec);
    AUTO_FREE char *was = mem_printf("{spec: %s}", old_spec ? old_spec : "null");
    json_t *value = parse(now), *old = old_spec ? parse(was) : NULL;
    schema_cel_check(s, value, old, causes);
    json_decref(value);
    json_decref(old);
    return text_of(causes);
}

static void a_broken_rule_is_a_cause_in_upstreams_words(void **state) {
    static const char *const cases[][4] = {
        /* the members of a rule, spec, old spec, the cause ("" : none) */
        {"rule: 'self.a < self.b'", "{a: 1, b: 2}", NULL, ""},
        {"rule: 'self.a < self.b'", "{a: 2, b: 1}", NULL,
         "spec FieldValueInvalid Invalid value: \"object\": failed rule: self.a < self.b\n"},
        {"rule: 'self.a < self.b', message: a is too big", "{a: 2, b: 1}", NULL,
         "spec FieldValueInvalid Invalid value: \"object\": a is too big\n"},
        {"rule: 'self.a < self.b', message: m, messageExpression: '\"a is %d\".format([self.a])'",
         "{a: 2, b: 1}", NULL, "spec FieldValueInvalid Invalid value: \"object\": a is 2\n"},
        {"rule: 'false', message: m, messageExpression: 'self.c'", "{a: 2}", NULL,
         "spec FieldValueInvalid Invalid value: \"object\": m\n"},
        {"rule: 'false', message: m, reason: FieldValueForbidden, fieldPath: .a", "{a: 2}", NULL,
         "spec.a FieldValueForbidden Forbidden: m\n"},
        {"rule: 'has(self.a)', message: m, reason: FieldValueRequired, fieldPath: .a", "{}", NULL,
         "spec.a FieldValueRequired Required value: m\n"},
        {"rule: 'false', reason: FieldValueDuplicate", "{}", NULL,
         "spec FieldValueDuplicate Duplicate value: \"object\"\n"},
        {"rule: 'self.a == oldSelf.a', message: is immutable", "{a: 1}", NULL, ""},
        {"rule: 'self.a == oldSelf.a', message: is immutable", "{a: 1}", "{a: 1}", ""},
        {"rule: 'self.a == oldSelf.a', message: is immutable", "{a: 2}", "{a: 1}",
         "spec FieldValueInvalid Invalid value: \"object\": is immutable\n"},
        {"rule: 'self.a < 2'", "{a: 2}", "{a: 2}", ""}, /* was so before the rule */
        {"rule: 'self.a < 2', message: m", "{a: 2, b: 1}", "{a: 2}",
         "spec FieldValueInvalid Invalid value: \"object\": m\n"},
        {"rule: '!oldSelf.hasValue()', message: once, optionalOldSelf: true", "{}", NULL, ""},
        {"rule: '!oldSelf.hasValue()', message: once, optionalOldSelf: true", "{}", "{}",
         "spec FieldValueInvalid Invalid value: \"object\": once\n"},
        {"rule: 'self.a > 0'", "{}", NULL,
         "spec FieldValueInvalid Invalid value: \"object\": no such key: a evaluating rule: "
         "failed rule: self.a > 0\n"},
        {"rule: 'self.any > 0', message: m", "{any: x}", NULL,
         "spec FieldValueInvalid Invalid value: \"object\": 'no such overload': call arguments did "
         "not match a supported operator, function or macro signature for rule: m\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *schema =
            mem_printf("{type: object, x-kubernetes-validations: [{%s}], properties: {a: {type: "
                       "integer}, b: {type: integer}, c: {type: string}, any: "
                       "{x-kubernetes-int-or-string: true}}}",
                       cases[i][0]);
        AUTO_FREE char *got = judge(schema, cases[i][1], cases[i][2]);
        assert_string_equal(got, cases[i][3]);
    }
}

static void rules_are_asked_where_they_stand(void **state) {
    static const char field[] =
        "{type: integer, x-kubernetes-validations: [{rule: self >= oldSelf, "
        "message: shrinks}, {rule: self < 9, message: big}]}";
    AUTO_FREE char *schema = mem_printf(
        "{type: object, properties: {n: %s, m: {type: object, additionalProperties: %s}, "
        "l: {type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [k], items: "
        "{type: object, properties: {k: {type: string}, v: %s}}}}}",
        field, field, field);
    AUTO_FREE char *got = judge(
        schema, "{n: 1, m: {a: 1, b: 9, c: null}, l: [{k: y, v: 1}, {k: x, v: 3}, {k: z, v: 0}]}",
        "{n: 2, m: {a: 2}, l: [{k: x, v: 2}, {k: y, v: 2}]}");
    assert_string_equal(got, "spec.n FieldValueInvalid Invalid value: \"integer\": shrinks\n"
                             "spec.m[a] FieldValueInvalid Invalid value: \"integer\": shrinks\n"
                             "spec.m[b] FieldValueInvalid Invalid value: \"integer\": big\n"
                             "spec.l[0].v FieldValueInvalid Invalid value: \"integer\": shrinks\n");
}

static void a_definition_with_a_wrong_rule_is_refused(void **state) {
    static const char *const cases[][2] = {
        {"{type: object, x-kubernetes-validations: [{rule: 'self.z > 1'}]}",
         "s.properties[spec].x-kubernetes-validations[0].rule FieldValueInvalid Invalid value: "
         "\"self.z > 1\": compilation failed: ERROR: <input>:1:5: undefined field 'z'\n"},
        {"{type: object, x-kubernetes-validations: [{rule: 'isSemver(self)'}]}",
         "compilation failed: ERROR: <input>:1:1: undeclared reference to 'isSemver' (in container "
         "'')"},
        {"{type: object, x-kubernetes-validations: [{rule: '1'}]}", "must evaluate to a bool"},
        {"{type: object, x-kubernetes-validations: [{message: m}]}",
         ".rule FieldValueRequired Required value: rule is not specified"},
        {"{type: object, x-kubernetes-validations: [{rule: 'true', messageExpression: '1'}]}",
         ".messageExpression FieldValueInvalid"},
        {"{type: object, x-kubernetes-validations: [{rule: 'true', reason: Because}]}",
         ".reason FieldValueNotSupported"},
        {"{type: object, x-kubernetes-validations: [{rule: 'true', fieldPath: .z}]}",
         ".fieldPath FieldValueInvalid"},
        {"{type: array, items: {type: string, x-kubernetes-validations: [{rule: self == "
         "oldSelf}]}}",
         ".items.x-kubernetes-validations[0].rule FieldValueForbidden Forbidden: oldSelf"},
        {"{type: object, not: {x-kubernetes-validations: [{rule: 'true'}]}}",
         ".not.x-kubernetes-validations FieldValueForbidden"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *got = judge(cases[i][0], "{}", NULL);
        if (!strstr(got, cases[i][1]))
            fail_msg("%s: %s", cases[i][0], got);
    }
}

static void an_object_that_costs_too_much_is_refused_once(void **state) {
    AUTO_BUF list = BUF_INIT;
    for (int i = 0; i < 3000; i++)
        buf_printf(&list, "%s%d", i ? "," : "[", i);
    buf_putc(&list, ']');
    AUTO_FREE char *got =
        judge("{type: array, items: {type: integer}, x-kubernetes-validations: [{rule: "
              "'self.all(x, self.all(y, self.all(z, x + y + z >= 0)))', message: slow}, "
              "{rule: 'false', message: later}]}",
              list.data, NULL);
    assert_non_null(strstr(got, "no further validation rules will be run due to call cost exceeds "
                                "limit for rule: slow"));
    assert_null(strstr(got, "later"));
}

/* Every rule of the definitions in a folder compiles; gives how many schemas have rules. */
static int read_folder(const char *folder) {
    char path[1024];
    DIR *dir = opendir(test_data_path(folder, path));
    if (!dir) {
        print_message("skipped: %s is not here\n", path);
        skip();
    }
    int num = 0;
    for (const struct dirent *e; (e = readdir(dir));) {
        char file[2048];
        snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
        FILE *f = strstr(e->d_name, ".yaml") ? fopen(file, "r") : NULL;
        if (!f)
            continue;
        AUTO_BUF text = BUF_INIT;
        for (int c; (c = fgetc(f)) != EOF;)
            buf_putc(&text, (char)c);
        fclose(f);
        for (char *doc = text.data; doc && *doc;) {
            char *end = strstr(doc, "\n---");
            if (end)
                *end = '\0';
            json_t *definition = strstr(doc, "x-kubernetes-validations") ? parse(doc) : NULL;
            const json_t *versions = object_at(definition, "spec.versions");
            for (size_t i = 0; i < json_array_size(versions); i++) {
                AUTO(schema_pool) pool = schema_pool_create();
                json_t *causes,
                    *root = object_at(json_array_get(versions, i), "schema.openAPIV3Schema");
                const struct schema *s = read_schema(pool, root, &causes);
                AUTO_FREE char *wrong = text_of(causes);
                if (!s)
                    fail_msg("%s: %s", file, wrong);
                num += s->has_cel;
            }
            json_decref(definition);
            doc = end ? strchr(end + 1, '\n') : NULL;
        }
    }
    closedir(dir);
    return num;
}

static void rules_of_real_definitions_compile(void **state) {
    static const char *const folders[] = {"data/manifests/keda-crd", "data/kserve/crd"};
    for (size_t i = 0; i < ARRAY_LEN(folders); i++)
        print_message("%s: %d\n", folders[i], read_folder(folders[i]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_broken_rule_is_a_cause_in_upstreams_words),
        cmocka_unit_test(rules_are_asked_where_they_stand),
        cmocka_unit_test(a_definition_with_a_wrong_rule_is_refused),
        cmocka_unit_test(an_object_that_costs_too_much_is_refused_once),
        cmocka_unit_test(rules_of_real_definitions_compile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
