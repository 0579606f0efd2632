/* Values as text: Python's str() and repr(), and tojson as Transformers sets it up. */
#ifndef ENGINE_JINJA_PRINT_H
#define ENGINE_JINJA_PRINT_H

#include "engine/jinja_value.h"

/* str(v) appended to b; fails above JINJA_MEMORY_BYTES_MAX, or nested too deep. */
MUST_CHECK bool jinja_print(struct jinja_run *run, struct jinja_value v, struct buf *b);
MUST_CHECK bool jinja_print_repr(struct jinja_run *run, struct jinja_value v, struct buf *b);

/* str(v) as a STRING; v itself if it is one. */
MUST_CHECK bool jinja_to_string(struct jinja_run *run, struct jinja_value v,
                                struct jinja_value *ret);

/* The shortest text that reads back as d, in Python's form: "1.0", "1e+16", "inf". */
enum { JINJA_FLOAT_BYTES_MAX = 32 };
size_t jinja_print_float(double d, char text[JINJA_FLOAT_BYTES_MAX]);

struct jinja_json_options {
    bool escape_ascii, sort_keys;
    const char *indent; /* one level; NULL: all on one line */
    const char *item_separator, *key_separator;
};

/* json.dumps(v); fails on what JSON cannot hold. */
MUST_CHECK bool jinja_print_json(struct jinja_run *run, struct jinja_value v,
                                 const struct jinja_json_options *opt, struct buf *b);

#endif
