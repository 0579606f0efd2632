/* Shared by the fuzz targets; see fuzz.h. */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>

void fuzz_parts_init(struct fuzz_parts *p, size_t num, const uint8_t *data, size_t size) {
    ASSERT(num && num <= FUZZ_PARTS_MAX);
    memset(p, 0, sizeof(*p));
    for (size_t i = 0; i < FUZZ_PARTS_MAX; i++) {
        const uint8_t *end = i + 1 < num && size ? memchr(data, '\n', size) : NULL;
        size_t len = i >= num ? 0 : end ? (size_t)(end - data) : size;
        p->text[i] = mem_strndup(len ? (const char *)data : "", len);
        p->len[i] = len;
        size_t used = end ? len + 1 : len;
        data += used;
        size -= used;
    }
}

void fuzz_parts_deinit(struct fuzz_parts *p) {
    for (size_t i = 0; i < FUZZ_PARTS_MAX; i++)
        free(p->text[i]);
}

json_t *fuzz_json(const char *text, size_t len) {
    return json_loadb(text, len, JSON_DECODE_ANY, NULL);
}

struct kinds *fuzz_kinds(void) {
    static struct kinds *kinds;
    struct error err = ERROR_INIT;
    if (!kinds && kinds_create(&kinds, &err)) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    return kinds;
}

const struct schema *fuzz_schema(const char *group, const char *version, const char *plural) {
    const struct kind *k = kinds_find(fuzz_kinds(), group, version, plural);
    ASSERT(k);
    return k->schema;
}

static void show(const char *what, const json_t *value) {
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_SORT_KEYS) : NULL;
    fprintf(stderr, "%s %s\n", what, text ? text : "(none)");
    free(text);
}

void fuzz_expect_same(const json_t *got, const json_t *want, const char *promise) {
    if (json_equal(got, want))
        return;
    fprintf(stderr, "broken promise: %s\n", promise);
    show("got ", got);
    show("want", want);
    abort();
}

void fuzz_expect_text(const json_t *value) {
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    ASSERT(text);
    json_t *again = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    fuzz_expect_same(again, value, "a value comes back from its text");
    json_decref(again);
    free(text);
}
