/* Jinja's tests: what stands behind `is`. Each gives a BOOL. */
#ifndef ENGINE_JINJA_PREDICATES_H
#define ENGINE_JINJA_PREDICATES_H

#include "engine/jinja_value.h"

const struct jinja_builtin *jinja_test_find(const char *name, size_t len); /* or NULL */

#endif
