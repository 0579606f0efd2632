/* Fields of an InferenceService that are accepted and have no effect here yet: told on apply, as
 * warnings, and kept visible in a condition. */
#ifndef CORE_CONTROL_ISVC_FIELDS_H
#define CORE_CONTROL_ISVC_FIELDS_H

#include <jansson.h>

/* Appends one sentence per field that is set and has no effect to the JSON array `out`. */
void isvc_fields_ignored(const json_t *isvc, json_t *out);

#endif
