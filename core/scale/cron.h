/* Cron expressions in a time zone: when is the next time. Pure, but for time_zone_open(), which
 * reads the machine's zone files. */
#ifndef CORE_SCALE_CRON_H
#define CORE_SCALE_CRON_H

#include "core/base/mem.h"

struct cron { /* bit n: this value is one */
    uint64_t minutes, hours, days, months, weekdays;
    bool any_day, any_weekday; /* written as a star: then the other decides */
};

/* Five fields: minute hour day-of-month month day-of-week, each with lists, ranges, steps, "*" and
 * "?", months and weekdays by number or name (0 and 7 are Sunday). ERR_INVALID names the field. */
MUST_CHECK enum errc cron_parse(const char *text, struct cron *ret, struct error *err);

struct time_zone;
enum { TIME_ZONE_BYTES_MAX = 1 << 20 };

/* By its name, "Europe/Berlin"; "UTC" is always there. ERR_INVALID: no such zone. */
MUST_CHECK enum errc time_zone_open(const char *name, struct time_zone **ret_z, struct error *err);
/* From what stands in a zone file (RFC 8536). ERR_MALFORMED. */
MUST_CHECK enum errc time_zone_read(const void *data, size_t len, struct time_zone **ret_z,
                                    struct error *err);
void time_zone_close(struct time_zone *z);
DEFINE_AUTO(time_zone, time_zone_close)
int64_t time_zone_offset(const struct time_zone *z, int64_t seconds); /* from UTC, in seconds */

/* The first time after `now` (seconds since the epoch), whole minutes; -1: none in five years. */
int64_t cron_next(const struct cron *c, const struct time_zone *z, int64_t now);

#endif
