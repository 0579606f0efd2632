/* From source to syntax tree. */
#ifndef ENGINE_JINJA_PARSER_H
#define ENGINE_JINJA_PARSER_H

#include "engine/jinja_ast.h"

enum {
    JINJA_SOURCE_BYTES_MAX = 1 << 20,
    JINJA_NEST_MAX = 200,     /* blocks in blocks, brackets in brackets */
    JINJA_SYMBOLS_MAX = 4096, /* different variable names */
    JINJA_MACRO_PARAMS_MAX = 64,
};

/* Fills *t, whose arena is set. ERR_INVALID: "line N: ..."; ERR_TOO_LARGE. */
MUST_CHECK enum errc jinja_parse(struct jinja_template *t, const char *source, size_t len,
                                 struct error *err);

#endif
