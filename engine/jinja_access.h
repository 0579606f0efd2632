/* Attributes, items and slices: what `.x` and `[x]` give. */
#ifndef ENGINE_JINJA_ACCESS_H
#define ENGINE_JINJA_ACCESS_H

#include "engine/jinja_value.h"

/* object.name; `name` outlives the render. Missing gives UNDEFINED, an undefined object fails. */
MUST_CHECK bool jinja_get_attribute(struct jinja_run *run, struct jinja_value object,
                                    const char *name, struct jinja_value *ret);

/* object[index] */
MUST_CHECK bool jinja_get_item(struct jinja_run *run, struct jinja_value object,
                               struct jinja_value index, struct jinja_value *ret);

/* object[start:stop:step]; parts are INT, NONE or ABSENT. */
MUST_CHECK bool jinja_get_slice(struct jinja_run *run, struct jinja_value object,
                                const struct jinja_value parts[3], struct jinja_value *ret);

/* What filters mean by attribute="a.b.0": each part as in object[part]. A missing part becomes
 * `fallback` unless that is ABSENT. `path` is a STRING, an INT or NONE. */
MUST_CHECK bool jinja_get_path(struct jinja_run *run, struct jinja_value object,
                               struct jinja_value path, struct jinja_value fallback,
                               struct jinja_value *ret);

/* Puts the arguments of a call into the order of b->params. */
MUST_CHECK bool jinja_call_builtin(struct jinja_run *run, const struct jinja_builtin *b,
                                   struct jinja_value self, const struct jinja_call *call,
                                   struct jinja_value *ret);

/* Arguments that must have a type; `what` names function and parameter. ABSENT and, for integers,
 * NONE leave *ret alone. */
MUST_CHECK bool jinja_arg_int(struct jinja_run *run, struct jinja_value v, const char *what,
                              int64_t *ret);
MUST_CHECK bool jinja_arg_text(struct jinja_run *run, struct jinja_value v, const char *what,
                               struct jinja_value *ret);

#endif
