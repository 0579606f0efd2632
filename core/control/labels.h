/* Label selectors in objects: matchLabels and matchExpressions. Pure. */
#ifndef CORE_CONTROL_LABELS_H
#define CORE_CONTROL_LABELS_H

#include <jansson.h>

#include "core/base/mem.h"

/* One {key, operator, values}: In, NotIn, Exists, DoesNotExist, Gt, Lt. Others never match. */
MUST_CHECK bool labels_requirement_match(const json_t *requirement, const json_t *labels);
/* All of a selector's terms. An absent or empty selector matches nothing: a controller without one
 * must not take everything. */
MUST_CHECK bool labels_selector_match(const json_t *selector, const json_t *labels);

#endif
