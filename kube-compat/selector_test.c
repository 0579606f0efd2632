/* Selectors and names against the reference's own cases, and the edges by hand. */
#include "kube-compat/selector.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "kube-compat/names.h"
#include "kube-compat/test_data.h"

static const char *value_of(const void *subject, const char *key) {
    return json_string_value(json_object_get(subject, key));
}

static const char *field_of(const void *subject, const char *key) {
    const char *v = value_of(subject, key);
    return v ? v : "";
}

typedef enum errc parse_fn(const char *text, struct selector **ret_s, struct error *err);

static void run_file(const char *name, parse_fn *parse, const char *subject_key,
                     selector_value_fn *value) {
    json_t *cases = test_data_json(name);
    size_t i;
    json_t *c;
    json_array_foreach (cases, i, c) {
        const char *text = json_string_value(json_object_get(c, "selector"));
        const json_t *parses = json_object_get(c, "parses");
        AUTO(selector) s = NULL;
        struct error err = ERROR_INIT;
        enum errc code = parse(text, &s, &err);
        if (parses) {
            if ((code == OK) != json_is_true(parses))
                fail_msg("\"%s\" %s", text, code ? err.text : "parses");
            continue;
        }
        if (code)
            fail_msg("\"%s\": %s", text, err.text);
        if (selector_match(s, value, json_object_get(c, subject_key)) !=
            json_is_true(json_object_get(c, "matches")))
            fail_msg("\"%s\": case %zu matches the other way", text, i);
    }
    assert_true(i > 5);
    json_decref(cases);
}

static void labels_follow_the_reference_cases(void **state) {
    run_file("data/api/kubernetes/label-selectors.json", selector_parse_labels, "labels", value_of);
}

static void fields_follow_the_reference_cases(void **state) {
    run_file("data/api/kubernetes/field-selectors.json", selector_parse_fields, "fields", field_of);
}

static bool matches(const char *text, const json_t *labels) {
    AUTO(selector) s = NULL;
    struct error err = ERROR_INIT;
    if (selector_parse_labels(text, &s, &err))
        fail_msg("%s: %s", text, err.text);
    return selector_match(s, value_of, labels);
}

static void sets_and_absence(void **state) {
    json_t *labels = json_pack("{s:s, s:s}", "app", "web", "n", "5");
    assert_true(matches("app in (web, db)", labels));
    assert_false(matches("app notin (web,db)", labels));
    assert_true(matches("tier notin (web)", labels)); /* absent matches a negation */
    assert_true(matches("tier!=x", labels));
    assert_true(matches(" app , !tier , n>4 ", labels));
    assert_false(matches("app>4", labels));
    json_decref(labels);
}

static void nonsense_is_refused(void **state) {
    static const char *const bad[] = {"a,",    "a in", "a in (x", "a in x", "=x",     "a b",
                                      "a=b c", "!",    "a>x",     "-a=b",   "a=_b_ x"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct selector *s = NULL;
        struct error err = ERROR_INIT;
        if (selector_parse_labels(bad[i], &s, &err) != ERR_MALFORMED)
            fail_msg("\"%s\" parses", bad[i]);
    }
}

static void too_many_requirements_are_refused(void **state) {
    AUTO_BUF text = BUF_INIT;
    for (int i = 0; i <= SELECTOR_REQUIREMENTS_MAX; i++)
        buf_printf(&text, "%sa%d=b", i ? "," : "", i);
    struct selector *s = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(selector_parse_labels(text.data, &s, &err), ERR_MALFORMED);
    assert_int_equal(selector_parse_fields(text.data, &s, &err), ERR_MALFORMED);
}

static void escapes_in_fields(void **state) {
    AUTO(selector) s = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(selector_parse_fields("a=x\\,y\\=z,b!=", &s, &err), OK);
    assert_int_equal(s->num_requirements, 2);
    assert_string_equal(s->requirements[0].values[0], "x,y=z");
    assert_string_equal(s->requirements[1].values[0], "");
}

static void any_text_is_refused_or_read(void **state) {
    static const char alphabet[] = "ab=!,()<> inotexists./\\-_0\xff";
    uint32_t seed = 11;
    json_t *labels = json_pack("{s:s}", "a", "b");
    for (int i = 0; i < 20000; i++) {
        char text[24];
        size_t len = 0;
        for (uint32_t n = i % (int)sizeof(text); n > 0; n--) {
            seed = seed * 1664525 + 1013904223;
            text[len++] = alphabet[(seed >> 16) % (sizeof(alphabet) - 1)];
        }
        text[len < sizeof(text) ? len : len - 1] = '\0';
        AUTO(selector) by_label = NULL;
        AUTO(selector) by_field = NULL;
        struct error err = ERROR_INIT;
        if (!selector_parse_labels(text, &by_label, &err))
            (void)selector_match(by_label, value_of, labels);
        if (!selector_parse_fields(text, &by_field, &err))
            (void)selector_match(by_field, field_of, labels);
    }
    json_decref(labels);
}

static void names_follow_the_reference_cases(void **state) {
    static const struct {
        const char *rule;
        bool (*fits)(const char *s);
    } rules[] = {
        {"IsDNS1123Label", name_is_dns1123_label},
        {"IsDNS1123Subdomain", name_is_dns1123_subdomain},
        {"IsDNS1035Label", name_is_dns1035_label},
        {"IsQualifiedName", name_is_qualified},
        {"IsValidLabelValue", name_is_label_value},
    };
    json_t *cases = test_data_json("data/api/kubernetes/name-validation.json");
    for (size_t r = 0; r < ARRAY_LEN(rules); r++) {
        const json_t *rule = json_object_get(cases, rules[r].rule);
        assert_non_null(rule);
        size_t i;
        json_t *name;
        json_array_foreach (json_object_get(rule, "good"), i, name) {
            if (!rules[r].fits(json_string_value(name)))
                fail_msg("%s refuses \"%s\"", rules[r].rule, json_string_value(name));
        }
        json_array_foreach (json_object_get(rule, "bad"), i, name) {
            if (rules[r].fits(json_string_value(name)))
                fail_msg("%s takes \"%s\"", rules[r].rule, json_string_value(name));
        }
    }
    json_decref(cases);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_follow_the_reference_cases),
        cmocka_unit_test(fields_follow_the_reference_cases),
        cmocka_unit_test(sets_and_absence),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(too_many_requirements_are_refused),
        cmocka_unit_test(escapes_in_fields),
        cmocka_unit_test(any_text_is_refused_or_read),
        cmocka_unit_test(names_follow_the_reference_cases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
