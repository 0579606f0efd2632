/* What of a pod that somebody writes by hand has no effect here. */
#ifndef CORE_CONTROL_POD_FIELDS_H
#define CORE_CONTROL_POD_FIELDS_H

#include <jansson.h>

/* Adds to the warnings what of a pod's spec inferd does not do. path: "spec", or
 * "spec.template.spec". Pure. */
void pod_fields_ignored(const json_t *spec, const char *path, json_t *warnings);

#endif
