/* CEL: an expression in the first line, `self` as JSON behind it.
 *
 * Promises: an expression compiles or is refused with a place or a reason; a run ends within its
 * steps and gives the same again; what it gives is a bool, an error with a text, or nothing known
 * before. JSON in which a key stands twice has a place for it, and other JSON has none. */
#include "kube-compat/body_duplicates.h"
#include "kube-compat/cel.h"
#include "tests/fuzz/fuzz.h"

static void check_duplicates(const char *text, size_t len) {
    json_error_t bad;
    json_t *strict = json_loadb(text, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &bad);
    json_t *loose = json_loadb(text, len, JSON_DECODE_ANY, NULL), *found = json_array();
    if (loose) {
        body_find_duplicates(text, len, found);
        ASSERT((strict != NULL) == (json_array_size(found) == 0));
    }
    json_decref(strict);
    json_decref(loose);
    json_decref(found);
}

static void check_expression(const char *text, const json_t *self) {
    static const struct schema any = {.type = SCHEMA_ANY};
    struct cel_options opt = {.self = &any, .has_old = true, .want = CEL_BOOL};
    struct error err = ERROR_INIT;
    AUTO(cel_program) program = NULL;
    if (cel_compile(text, &opt, &program, &err)) {
        ASSERT(err.code == ERR_INVALID && err.text[0] && !program);
        return;
    }
    AUTO(arena) arena = arena_create();
    int64_t cost = CEL_COST_MAX, again = CEL_COST_MAX;
    struct cel_value v = cel_run(program, self, self, arena, &cost);
    struct cel_value w = cel_run(program, self, self, arena, &again);
    ASSERT(cost < CEL_COST_MAX && cost >= 0 && cost == again);
    ASSERT(v.kind == w.kind && (v.kind != CEL_BOOL || v.truth == w.truth));
    ASSERT(v.kind != CEL_ERROR || v.text.data[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_parts p;
    fuzz_parts_init(&p, 2, data, size);
    check_duplicates(p.text[1], p.len[1]);
    json_t *self = fuzz_json(p.text[1], p.len[1]);
    if (self)
        check_expression(p.text[0], self);
    json_decref(self);
    fuzz_parts_deinit(&p);
    return 0;
}
