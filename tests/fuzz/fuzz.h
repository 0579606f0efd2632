/* What the fuzz targets share. A target is one file with one LLVMFuzzerTestOneInput(): it reads the
 * input, calls a parser of outside bytes, and asserts what must hold of every answer. The preset
 * `fuzz` links them with libFuzzer; all other presets link replay.c, which runs the seeds and what
 * was ever found (tests/fuzz/found) as a test. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <jansson.h>

#include "core/base/buf.h"
#include "kube-compat/kinds.h"

enum { FUZZ_PARTS_MAX = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An input of several parts: lines, of which the last one goes to the end. Every part is
 * terminated; a missing one is "". */
struct fuzz_parts {
    char *text[FUZZ_PARTS_MAX];
    size_t len[FUZZ_PARTS_MAX];
};
void fuzz_parts_init(struct fuzz_parts *p, size_t num, const uint8_t *data, size_t size);
void fuzz_parts_deinit(struct fuzz_parts *p);

/* Gives the JSON value, or NULL. */
json_t *fuzz_json(const char *text, size_t len);

/* The embedded kinds, read once. */
struct kinds *fuzz_kinds(void);
const struct schema *fuzz_schema(const char *group, const char *version, const char *plural);

/* Ends the program, showing both, when they differ. */
void fuzz_expect_same(const json_t *got, const json_t *want, const char *promise);

/* Ends the program when the value does not come back from its own text. */
void fuzz_expect_text(const json_t *value);

#endif
