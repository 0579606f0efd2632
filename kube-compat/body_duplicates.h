/* Keys that stand twice in one object of a JSON text. */
#ifndef KUBE_COMPAT_BODY_DUPLICATES_H
#define KUBE_COMPAT_BODY_DUPLICATES_H

#include <jansson.h>

#include "core/base/buf.h"

/* Appends `duplicate field "spec.containers[0].name"` for each, at most SCHEMA_FINDINGS_MAX. text
 * is valid JSON: a parser has read it. */
void body_find_duplicates(const char *text, size_t len, json_t *found);

#endif
