/* Pages of metrics: what Prometheus reads is read, what is broken is named by its line. */
#include "core/series/exposition.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <cmocka.h>

#include "core/base/buf.h"
#include "core/base/metrics.h"

static void write_down(void *user, const struct label *labels, uint32_t num, double value) {
    struct buf *out = user;
    for (uint32_t i = 0; i < num; i++)
        buf_printf(out, "%s[%s]", i ? labels[i].name : "", labels[i].value);
    buf_printf(out, "=%g\n", value);
}

static void samples_are_read(void **state) {
    static const struct {
        const char *text, *expect;
    } rows[] = {
        {"", ""},
        {"# HELP x y\n# TYPE x counter\nx 1\n", "[x]=1\n"},
        {"x 1", "[x]=1\n"},
        {"x{} 2\n", "[x]=2\n"},
        {"vllm:kv{model_name=\"m\",engine=\"0\"} 0.25\n", "[vllm:kv]model_name[m]engine[0]=0.25\n"},
        {"x{a=\"1\",} 3 1700000000000\n", "[x]a[1]=3\n"},
        {"  x { a = \"1\" , b=\"2\" }\t4\r\n\n", "[x]a[1]b[2]=4\n"},
        {"x{a=\"\\\\ \\\" \\n }{,\"} 5\n", "[x]a[\\ \" \n }{,]=5\n"},
        {"x_bucket{le=\"+Inf\"} 6 # {trace=\"a\"} 0.5\n# EOF\n", "[x_bucket]le[+Inf]=6\n"},
        {"x +Inf\ny -Inf\nz NaN\nw 1e3\n", "[x]=inf\n[y]=-inf\n[z]=nan\n[w]=1000\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO_BUF out = BUF_INIT;
        struct error err = ERROR_INIT;
        buf_reserve(&out, 1);
        if (exposition_read(rows[i].text, strlen(rows[i].text), write_down, &out, &err))
            fail_msg("%s: %s", rows[i].text, err.text);
        assert_string_equal(out.data, rows[i].expect);
    }
}

static void broken_lines_are_named(void **state) {
    static const struct {
        const char *text, *expect;
    } rows[] = {
        {"x 1\nx\n", "line 2: the value is missing"},
        {"x 1\nx \n", "line 2: the value is not a number"},
        {"x abc\n", "line 1: the value is not a number"},
        {"x 1abc\n", "line 1: the value is not a number"},
        {"9x 1\n", "line 1: a metric's name is missing"},
        {"{a=\"1\"} 1\n", "line 1: a metric's name is missing"},
        {"x{a=1} 1\n", "line 1: a label's value is not in quotes"},
        {"x{a=\"1} 1\n", "line 1: a label's value is not in quotes"},
        {"x{a=\"1\\", "line 1: a label's value is not in quotes"},
        {"x{a \"1\"} 1\n", "line 1: \"=\" is missing behind a label's name"},
        {"x{=\"1\"} 1\n", "line 1: a label's name is missing"},
        {"x{a=\"1\" b=\"2\"} 1\n", "line 1: labels are not separated by commas"},
        {"x{a=\"1\"", "line 1: labels are not separated by commas"},
        {"x{", "line 1: a label's name is missing"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        AUTO_BUF out = BUF_INIT;
        struct error err = ERROR_INIT;
        assert_int_equal(
            exposition_read(rows[i].text, strlen(rows[i].text), write_down, &out, &err),
            ERR_MALFORMED);
        assert_string_equal(err.text, rows[i].expect);
    }
}

static void lines_and_labels_are_bounded(void **state) {
    AUTO_BUF out = BUF_INIT;
    AUTO_BUF text = BUF_INIT;
    struct error err = ERROR_INIT;
    buf_puts(&text, "x{");
    for (int i = 0; i < LABELS_MAX; i++) /* and the name is one more */
        buf_printf(&text, "l%d=\"v\",", i);
    buf_puts(&text, "} 1\n");
    assert_int_equal(exposition_read(text.data, text.len, write_down, &out, &err), ERR_MALFORMED);
    assert_string_equal(err.text, "line 1: more labels than are possible");
    buf_clear(&text);
    buf_puts(&text, "x{a=\"");
    while (text.len < EXPOSITION_LINE_BYTES_MAX)
        buf_putc(&text, 'y');
    buf_puts(&text, "\"} 1\n");
    assert_int_equal(exposition_read(text.data, text.len, write_down, &out, &err), ERR_MALFORMED);
    assert_non_null(strstr(err.text, "line 1: 16388 bytes, at most 16383 are possible"));
    assert_int_equal(exposition_read("x\0y 1\n", 6, write_down, &out, &err), ERR_MALFORMED);
    assert_string_equal(err.text, "line 1: a zero byte");
}

static void what_a_registry_writes_is_read(void **state) {
    static const struct metric_family seconds = {
        .type = METRIC_HISTOGRAM, .name = "s", .help = "h", .labels = {"n"}, .buckets = {0.5, 1}};
    AUTO(metrics) m = metrics_create();
    AUTO_BUF text = BUF_INIT;
    AUTO_BUF out = BUF_INIT;
    struct error err = ERROR_INIT;
    metric_observe(metrics_get(m, &seconds, (const char *[]){"a \"b\"\n\\"}), 0.75);
    metrics_write(m, &text);
    assert_int_equal(exposition_read(text.data, text.len, write_down, &out, &err), OK);
    assert_string_equal(out.data, "[s_bucket]n[a \"b\"\n\\]le[0.5]=0\n"
                                  "[s_bucket]n[a \"b\"\n\\]le[1]=1\n"
                                  "[s_bucket]n[a \"b\"\n\\]le[+Inf]=1\n"
                                  "[s_sum]n[a \"b\"\n\\]=0.75\n[s_count]n[a \"b\"\n\\]=1\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_are_read),
        cmocka_unit_test(broken_lines_are_named),
        cmocka_unit_test(lines_and_labels_are_bounded),
        cmocka_unit_test(what_a_registry_writes_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
