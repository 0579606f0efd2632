/* The type table: what stands on a line is what the schema says; a line that means nothing is
 * named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#include "kube-compat/schema.h"

static const char types_text[] = "a.v1.Thing -- A thing.\n"
                                 "  1 name string required -- Its name.\n"
                                 "  2 parts []Part\n"
                                 "a.v1.Part\n"
                                 "  1 size int32\n";

static struct schema_types *read_types(void) {
    struct schema_types *t = NULL;
    struct error err = ERROR_INIT;
    const struct schema_table table = {"t", types_text, sizeof(types_text) - 1};
    if (schema_types_create(&table, 1, &t, &err))
        fail_msg("%s", err.text);
    return t;
}

static enum errc describe(struct schema_types *t, const char *text, struct error *err) {
    const struct schema_table table = {"d", text, strlen(text)};
    return schema_types_describe(t, &table, err);
}

static void descriptions_are_added_where_there_are_none(void **state) {
    AUTO(schema_types) t = read_types();
    struct error err = ERROR_INIT;
    if (describe(t,
                 "# comment\n\na.v1.Thing -- Another.\n  name -- Another name.\n"
                 "  parts -- What it is made of.\na.v1.Part -- A part.\n",
                 &err))
        fail_msg("%s", err.text);
    const struct schema *thing = schema_types_find(t, "a.v1.Thing");
    assert_string_equal(thing->description, "A thing.");
    assert_string_equal(schema_property(thing, "name")->description, "Its name.");
    assert_string_equal(schema_property(thing, "parts")->description, "What it is made of.");
    assert_string_equal(schema_types_find(t, "a.v1.Part")->description, "A part.");
    assert_null(schema_property(schema_types_find(t, "a.v1.Part"), "size")->description);
}

static void a_description_of_nothing_is_refused(void **state) {
    static const char *const wrong[][2] = {
        {"a.v1.Other -- text\n", "d:1: no such type or field, or no text: a.v1.Other"},
        {"a.v1.Part -- text\n  weight -- text\n", "d:2: no such type or field, or no text: weight"},
        {"  name -- before any type\n", "d:1: "},
        {"a.v1.Part\n", "d:1: no such type or field, or no text: a.v1.Part"},
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        AUTO(schema_types) t = read_types();
        struct error err = ERROR_INIT;
        assert_int_equal(describe(t, wrong[i][0], &err), ERR_INVALID);
        if (!strstr(err.text, wrong[i][1]))
            fail_msg("%s", err.text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(descriptions_are_added_where_there_are_none),
        cmocka_unit_test(a_description_of_nothing_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
