/* Resource quantities: "500m", "2", "1.5Gi", "1e3". Pure. */
#ifndef CORE_QUANTITY_H
#define CORE_QUANTITY_H

#include <jansson.h>

#include "core/base/buf.h"

enum { QUANTITY_BYTES_MAX = 64 };

/* OK when text is a quantity, else ERR_INVALID. */
enum errc quantity_check(const char *text);

/* The value in billionths, rounded up, clamped to the int64 range; ERR_INVALID. */
MUST_CHECK enum errc quantity_nano(const char *text, __int128 *ret_nano);

/* Writes the canonical form: no fraction, the largest unit of its family that loses nothing.
 * ERR_INVALID leaves out alone. */
MUST_CHECK enum errc quantity_canonical(const char *text, char out[QUANTITY_BYTES_MAX]);

/* What an object asks for or has, a JSON string or number, in thousandths (cpu: millicores; memory:
 * bytes * 1000), rounded up. False: not a quantity, negative, or above QUANTITY_MILLI_MAX. */
#define QUANTITY_MILLI_MAX INT64_MAX
MUST_CHECK bool quantity_milli(const json_t *value, int64_t *ret_milli);

#endif
