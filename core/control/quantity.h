/* Kubernetes resource quantities: "500m", "2", "1.5", "128Mi", "1e9", "2G". */
#ifndef CORE_CONTROL_QUANTITY_H
#define CORE_CONTROL_QUANTITY_H

#include <jansson.h>

#include "core/base/mem.h"

/* In thousandths of the unit (cpu: millicores; memory: bytes * 1000), rounded up as Kubernetes
 * rounds. False: not a quantity, negative, or beyond QUANTITY_UNITS_MAX. */
enum { QUANTITY_TEXT_BYTES_MAX = 64 };
#define QUANTITY_UNITS_MAX (INT64_MAX / 1000)
MUST_CHECK bool quantity_parse(const char *text, int64_t *ret_milli);
/* A JSON string or number. */
MUST_CHECK bool quantity_from_json(const json_t *value, int64_t *ret_milli);

#endif
