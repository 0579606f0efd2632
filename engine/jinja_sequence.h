/* Filters of sequences: list, join, sort, map, select and their kin. */
#ifndef ENGINE_JINJA_SEQUENCE_H
#define ENGINE_JINJA_SEQUENCE_H

#include "engine/jinja_value.h"

extern const struct jinja_builtin jinja_sequence_filters[]; /* ends with a NULL name */

#endif
