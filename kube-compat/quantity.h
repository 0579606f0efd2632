/* Resource quantities: "500m", "2", "1.5Gi", "1e3". Pure. */
#ifndef KUBE_COMPAT_QUANTITY_H
#define KUBE_COMPAT_QUANTITY_H

#include "core/base/buf.h"

enum { QUANTITY_BYTES_MAX = 64 };

/* OK when text is a quantity, else ERR_INVALID. */
enum errc quantity_check(const char *text);

/* The value in billionths, rounded up, clamped to the int64 range; ERR_INVALID. */
MUST_CHECK enum errc quantity_nano(const char *text, __int128 *ret_nano);

/* Writes the canonical form: no fraction, the largest unit of its family that loses nothing.
 * ERR_INVALID leaves out alone. */
MUST_CHECK enum errc quantity_canonical(const char *text, char out[QUANTITY_BYTES_MAX]);

#endif
