/* The filters: what stands behind `|`. */
#ifndef ENGINE_JINJA_FILTERS_H
#define ENGINE_JINJA_FILTERS_H

#include "engine/jinja_value.h"

const struct jinja_builtin *jinja_filter_find(const char *name, size_t len); /* or NULL */

#endif
