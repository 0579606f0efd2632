/* YAML reading and writing: what Kubernetes' clients send, and what must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "core/base/buf.h"
#include "core/base/yaml.h"

static void expect_json(const char *yaml, const char *json) {
    struct error err = ERROR_INIT;
    json_t *doc = NULL;
    enum errc rc = yaml_parse(yaml, strlen(yaml), &doc, &err);
    if (rc)
        fail_msg("%s: %s", yaml, err.text);
    char *text = json_dumps(doc, JSON_COMPACT | JSON_ENCODE_ANY);
    assert_string_equal(text, json);
    free(text);
    json_decref(doc);
}

static void expect_error(const char *yaml, enum errc code, const char *part) {
    struct error err = ERROR_INIT;
    json_t *doc = NULL;
    assert_int_equal(yaml_parse(yaml, strlen(yaml), &doc, &err), code);
    if (!strstr(err.text, part))
        fail_msg("\"%s\" does not say \"%s\"", err.text, part);
}

static void scalars_have_the_types_that_kubernetes_reads(void **state) {
    expect_json("a: 1\nb: '1'\nc: 1.5\nd: yes\ne: \"yes\"\nf: ~\ng:\nh: 0x10\ni: 1e3\nj: 1.2.3\n",
                "{\"a\":1,\"b\":\"1\",\"c\":1.5,\"d\":true,\"e\":\"yes\",\"f\":null,\"g\":null,"
                "\"h\":16,\"i\":1000.0,\"j\":\"1.2.3\"}");
    expect_json("- 010\n- 08\n- -5\n- 1_000\n- 10Gi\n- 2026-11-24\n",
                "[8,8.0,-5,1000,\"10Gi\",\"2026-11-24\"]");
}

static void multi_line_strings_keep_their_lines(void **state) {
    expect_json("a: |\n  one\n  two\nb: >-\n  one\n  two\n",
                "{\"a\":\"one\\ntwo\\n\",\"b\":\"one two\"}");
}

static void aliases_and_merge_keys_are_resolved(void **state) {
    expect_json("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\n",
                "{\"base\":{\"x\":1,\"y\":2},\"use\":{\"y\":3,\"x\":1}}");
}

static void several_documents_come_in_order(void **state) {
    struct error err = ERROR_INIT;
    json_t *docs;
    const char *text = "a: 1\n---\nb: 2\n---\n";
    assert_int_equal(yaml_parse_all(text, strlen(text), &docs, &err), OK);
    assert_int_equal(json_array_size(docs), 3);
    assert_true(json_is_null(json_array_get(docs, 2)));
    json_decref(docs);
    expect_error(text, ERR_MALFORMED, "3 documents");
}

static void bad_text_is_refused_with_its_place(void **state) {
    expect_error("a: [1, 2\nb: 3\n", ERR_MALFORMED, "line 2");
    expect_error("a: 1\na: 2\n", ERR_MALFORMED, "\"a\" is given twice");
    expect_error("a: *nope\n", ERR_MALFORMED, "alias");
    expect_error("? [a]\n: 1\n", ERR_MALFORMED, "a key must be");
    expect_error("a: \"\\xff\n", ERR_MALFORMED, "line");
}

static void a_nul_is_refused(void **state) {
    expect_error("a: \"b\\0c\"\n", ERR_MALFORMED, "NUL");
    expect_error("\"a\\0\": b\n", ERR_MALFORMED, "NUL");
}

static void depth_is_bounded(void **state) {
    AUTO_BUF text = BUF_INIT;
    for (int i = 0; i < 100000; i++)
        buf_putc(&text, '[');
    struct error err = ERROR_INIT;
    json_t *doc;
    assert_int_equal(yaml_parse(text.data, text.len, &doc, &err), ERR_MALFORMED);
}

static void expansion_of_aliases_is_bounded(void **state) {
    AUTO_BUF text = BUF_INIT;
    buf_puts(&text, "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for (int i = 1; i < 9; i++)
        buf_printf(&text, "a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i,
                   i, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
    expect_error(text.data, ERR_MALFORMED, "1000000");
}

static void what_is_written_reads_back_the_same(void **state) {
    const char *json =
        "{\"s\":[\"yes\",\"1\",\"\",\"a: b\",\"- x\",\"#\",\"plain text\",\"line\\nline\",\"1e3\","
        "\"null\",\"x #y\",\"trailing \"],"
        "\"u\":[\"a\\u0085b\",\"\\u2028\",\"\\ufeffx\",\"\\u007f\",\"\\ud83d\\ude00 \\\"\\\\\"],"
        "\"n\":[1,1.5,true,null,-9223372036854775808],\"e\":{},\"l\":[],"
        "\"<<\":\"no merge\",\"d\":[{\"a\":1,\"b\":[{\"c\":[[1],[2]]}]}]}";
    json_t *doc = json_loads(json, 0, NULL);
    AUTO_BUF text = BUF_INIT;
    yaml_emit(doc, &text);
    struct error err = ERROR_INIT;
    json_t *back;
    if (yaml_parse(text.data, text.len, &back, &err))
        fail_msg("%s\n%s", err.text, text.data);
    if (!json_equal(doc, back))
        fail_msg("%s", text.data);
    json_decref(doc);
    json_decref(back);
}

static void a_long_key_reads_back_the_same(void **state) {
    static const size_t lens[] = {1000, 1023, 1024, 1025, 5000};
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        AUTO_FREE char *key = mem_alloc(lens[i] + 1);
        memset(key, 'k', lens[i]);
        json_t *doc = json_pack("{s:[{s:{s:i}, s:[i]}]}", "a", key, key, 1, "b", 2), *back = NULL;
        AUTO_BUF text = BUF_INIT;
        yaml_emit(doc, &text);
        struct error err = ERROR_INIT;
        if (yaml_parse(text.data, text.len, &back, &err))
            fail_msg("%zu: %s", lens[i], err.text);
        assert_true(json_equal(doc, back));
        json_decref(doc);
        json_decref(back);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_have_the_types_that_kubernetes_reads),
        cmocka_unit_test(multi_line_strings_keep_their_lines),
        cmocka_unit_test(aliases_and_merge_keys_are_resolved),
        cmocka_unit_test(several_documents_come_in_order),
        cmocka_unit_test(bad_text_is_refused_with_its_place),
        cmocka_unit_test(a_nul_is_refused),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(expansion_of_aliases_is_bounded),
        cmocka_unit_test(what_is_written_reads_back_the_same),
        cmocka_unit_test(a_long_key_reads_back_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
