/* Operators on values: + - * / // % ** and unary minus. */
#ifndef ENGINE_JINJA_ARITH_H
#define ENGINE_JINJA_ARITH_H

#include "engine/jinja_value.h"

/* `op` is the operator's enum jinja_token_type. */
MUST_CHECK bool jinja_binary(struct jinja_run *run, int op, struct jinja_value a,
                             struct jinja_value b, struct jinja_value *ret);
MUST_CHECK bool jinja_negate(struct jinja_run *run, struct jinja_value v, struct jinja_value *ret);

#endif
