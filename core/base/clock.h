/* Time. Deciders take now_ms as an argument; only the loops around them ask a clock. */
#ifndef CORE_BASE_CLOCK_H
#define CORE_BASE_CLOCK_H

#include <stdint.h>

int64_t clock_mono_ns(void); /* for durations */
int64_t clock_mono_ms(void);
int64_t clock_wall_ms(void); /* since the Unix epoch, for what users see */

enum { CLOCK_RFC3339_BYTES = 32 };
/* Writes "2026-11-24T05:46:08Z". */
const char *clock_rfc3339(int64_t wall_ms, char out[CLOCK_RFC3339_BYTES]);
/* Reads RFC 3339 with or without a fraction and with Z or an offset; -1 when it is not one. */
int64_t clock_parse_rfc3339(const char *text);

#endif
