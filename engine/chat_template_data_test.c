/* Renders the chat templates of real models and compares byte by byte with what Transformers'
 * set-up of Jinja2 rendered (README.md beside the data says how it was recorded). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "engine/chat_template.h"

static char data_dir[4096];

/* The clock of the recording: 2025-07-10 12:00:00, local time. */
static int64_t recorded_wall_ms(void) {
    struct tm tm = {.tm_year = 125, .tm_mon = 6, .tm_mday = 10, .tm_hour = 12, .tm_isdst = -1};
    return (int64_t)mktime(&tm) * 1000;
}

/* The whole file below the data folder; skips the test when it is not there. */
static char *load_text(const char *name) {
    char path[4352];
    snprintf(path, sizeof(path), "%s/%s", data_dir, name);
    FILE *f = fopen(path, "rb");
    if (!f) {
        printf("%s: missing, its templates are not checked\n", path);
        skip();
    }
    struct buf b = BUF_INIT;
    char chunk[65536];
    for (size_t n; (n = fread(chunk, 1, sizeof(chunk), f)) > 0;)
        buf_append(&b, chunk, n);
    fclose(f);
    return buf_steal(&b);
}

/* jansson refuses object keys with NUL characters, which one recorded case has: there and in its
 * expected text U+0001 stands in for it. */
static json_t *load(const char *name) {
    AUTO_FREE char *text = load_text(name);
    for (char *at = text; (at = strstr(at, "\\u0000"));)
        at[5] = '1';
    json_error_t e;
    json_t *json = json_loads(text, 0, &e);
    if (!json)
        printf("%s: line %d: %s\n", name, e.line, e.text);
    assert_non_null(json);
    return json;
}

/* Renders source with data; true when the result is what `want` (an expected.json entry) says. */
static bool agrees(const char *title, const char *source, const json_t *data, const json_t *want) {
    struct error err = ERROR_INIT;
    AUTO(chat_template) t = NULL;
    AUTO_BUF out = BUF_INIT;
    const json_t *expected = json_object_get(want, "expected");
    enum errc rc = chat_template_create(source, &t, &err);
    if (!rc)
        rc = chat_template_render(t, data, recorded_wall_ms(), &out, &err);
    if (!expected) {
        const char *message = json_string_value(json_object_get(want, "message"));
        bool raised = !strcmp(json_string_value(json_object_get(want, "error")), "TemplateError");
        if (rc && (!raised || strstr(err.text, message)))
            return true;
        printf("%s: wants the error \"%s\", got %s\n", title, message, rc ? err.text : "text");
        return false;
    }
    if (rc) {
        printf("%s: %s\n", title, err.text);
        return false;
    }
    size_t len = json_string_length(expected), i = 0;
    const char *text = json_string_value(expected), *got = out.data ? out.data : "";
    while (i < len && i < out.len && text[i] == got[i])
        i++;
    if (i == len && i == out.len)
        return true;
    printf("%s: differs at byte %zu of %zu\n  wants ...%.60s\n  got   ...%.60s\n", title, i, len,
           text + i, got + i);
    return false;
}

static void every_model_template_renders_as_recorded(void **state) {
    json_t *contexts = load("contexts.json"), *expected = load("expected.json");
    size_t i, wrong = 0;
    json_t *entry;
    json_array_foreach (expected, i, entry) {
        const char *name = json_string_value(json_object_get(entry, "template"));
        const char *context = json_string_value(json_object_get(entry, "context"));
        char title[512];
        snprintf(title, sizeof(title), "%s with %s", name, context);
        char file[512];
        snprintf(file, sizeof(file), "templates/%s", name);
        AUTO_FREE char *source = load_text(file);
        wrong += !agrees(title, source, json_object_get(contexts, context), entry);
    }
    printf("%zu of %zu renders as recorded\n", json_array_size(expected) - wrong,
           json_array_size(expected));
    assert_int_equal(wrong, 0);
    assert_true(json_array_size(expected) > 200);
    json_decref(contexts);
    json_decref(expected);
}

static void check_pairs(const char *file) {
    json_t *pairs = load(file), *entry;
    size_t i, wrong = 0;
    json_array_foreach (pairs, i, entry) {
        const char *source = json_string_value(json_object_get(entry, "template"));
        wrong += !agrees(json_string_value(json_object_get(entry, "name")), source,
                         json_object_get(entry, "data"), entry);
    }
    printf("%s: %zu of %zu as recorded\n", file, json_array_size(pairs) - wrong,
           json_array_size(pairs));
    assert_int_equal(wrong, 0);
    json_decref(pairs);
}

static void model_pairs_render_as_recorded(void **state) {
    check_pairs("pairs-models.json");
}

static void feature_pairs_render_as_recorded(void **state) {
    check_pairs("pairs-features.json");
}

int main(void) {
    const char *shared = getenv("INFERD_SHARED");
    snprintf(data_dir, sizeof(data_dir), "%s/data/chat-templates", shared ? shared : "../shared");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_model_template_renders_as_recorded),
        cmocka_unit_test(model_pairs_render_as_recorded),
        cmocka_unit_test(feature_pairs_render_as_recorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
