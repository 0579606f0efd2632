/* Cron expressions and zones. Expected times were worked out by hand and with Python's zoneinfo. */
#include "core/scale/cron.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/base/clock.h"

static const char *next(const char *text, const char *zone, const char *now) {
    static char out[CLOCK_RFC3339_BYTES];
    struct error err = ERROR_INIT;
    struct cron c;
    AUTO(time_zone) z = NULL;
    if (cron_parse(text, &c, &err) || time_zone_open(zone, &z, &err))
        fail_msg("%s", err.text);
    int64_t at = cron_next(&c, z, clock_parse_rfc3339(now) / 1000);
    return at < 0 ? "never" : clock_rfc3339(at * 1000, out);
}

static void the_next_time_is_found(void **state) {
    static const struct {
        const char *text, *now, *expect;
    } rows[] = {
        {"0 6 * * *", "2026-11-24T05:59:59Z", "2026-11-24T06:00:00Z"},
        {"0 6 * * *", "2026-11-24T06:00:00Z", "2026-11-25T06:00:00Z"},
        {"*/15 * * * *", "2026-11-24T06:01:30Z", "2026-11-24T06:15:00Z"},
        {"5-10/2 8 * * *", "2026-11-24T08:05:00Z", "2026-11-24T08:07:00Z"},
        {"50/4 * * * *", "2026-11-24T08:51:00Z", "2026-11-24T08:54:00Z"},
        {"0,30 1,2 * * *", "2026-11-24T01:30:00Z", "2026-11-24T02:00:00Z"},
        {"0 0 31 * *", "2026-11-24T00:00:00Z", "2026-12-31T00:00:00Z"},
        {"0 0 29 2 *", "2026-11-24T00:00:00Z", "2028-02-29T00:00:00Z"},
        {"0 0 30 2 *", "2026-11-24T00:00:00Z", "never"},
        {"0 9 * * mon-fri", "2026-11-27T10:00:00Z", "2026-11-30T09:00:00Z"},
        {"0 9 * * 7", "2026-11-24T10:00:00Z", "2026-11-29T09:00:00Z"},
        {"0 9 1 JAN *", "2026-11-24T10:00:00Z", "2027-01-01T09:00:00Z"},
        {"0 9 25 * 5", "2026-11-24T10:00:00Z", "2026-11-25T09:00:00Z"}, /* one of both */
        {"0 9 ? * 5", "2026-11-24T10:00:00Z", "2026-11-27T09:00:00Z"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *has = next(rows[i].text, "UTC", rows[i].now);
        if (strcmp(has, rows[i].expect) != 0)
            fail_msg("%s after %s is %s, not %s", rows[i].text, rows[i].now, has, rows[i].expect);
    }
}

static void what_is_not_cron_is_refused_by_its_field(void **state) {
    static const char *const rows[][2] = {
        {"", "its minute is missing or not within 0..59"},
        {"60 * * * *", "its minute is missing or not within 0..59"},
        {"* 24 * * *", "its hour is missing or not within 0..23"},
        {"* * 0 * *", "its day of month is missing or not within 1..31"},
        {"* * * 13 *", "its month is missing or not within 1..12"},
        {"* * * *", "its day of week is missing or not within 0..7"},
        {"* * * * funday", "its day of week is missing or not within 0..7"},
        {"5-1 * * * *", "its minute"},
        {"*/0 * * * *", "its minute"},
        {"1,, * * * *", "its minute"},
        {"1- * * * *", "its minute"},
        {"99999999999999999999 * * * *", "its minute"},
        {"* * * * * *", "it has more than five fields"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct cron c;
        struct error err = ERROR_INIT;
        assert_int_equal(cron_parse(rows[i][0], &c, &err), ERR_INVALID);
        if (!strstr(err.text, rows[i][1]))
            fail_msg("%s: %s", rows[i][0], err.text);
    }
}

static void zones_shift_the_hours(void **state) {
    if (access("/usr/share/zoneinfo/Europe/Berlin", R_OK)) {
        print_message("skipped: this machine has no zone files (tzdata)\n");
        skip();
    }
    assert_string_equal(next("0 6 * * *", "Asia/Kolkata", "2026-11-24T00:00:00Z"),
                        "2026-11-24T00:30:00Z");
    assert_string_equal(next("0 6 * * *", "Europe/Berlin", "2026-07-01T00:00:00Z"),
                        "2026-07-01T04:00:00Z");
    assert_string_equal(next("0 6 * * *", "Europe/Berlin", "2026-12-01T00:00:00Z"),
                        "2026-12-01T05:00:00Z");
    /* 02:30 does not come on the day that begins summer time. */
    assert_string_equal(next("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z"),
                        "2026-03-30T00:30:00Z");
    assert_string_equal(next("30 0 * * *", "America/New_York", "2026-11-24T06:00:00Z"),
                        "2026-11-25T05:30:00Z");
}

static void zones_that_are_not_there_are_refused(void **state) {
    static const char *const names[] = {"Mars/Olympus", "../../../etc/passwd", "/etc/passwd", ""};
    struct error err = ERROR_INIT;
    struct time_zone *z = NULL;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_int_equal(time_zone_open(names[i], &z, &err), ERR_INVALID);
        assert_non_null(strstr(err.text, "is not known to this machine"));
    }
    /* A file that ends early is no zone. */
    static const char cut[] = "TZif2";
    assert_int_equal(time_zone_read(cut, sizeof(cut), &z, &err), ERR_MALFORMED);
    unsigned char large[44] = "TZif2";
    memset(large + 20, 0xff, 24);
    assert_int_equal(time_zone_read(large, sizeof(large), &z, &err), ERR_MALFORMED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_next_time_is_found),
        cmocka_unit_test(what_is_not_cron_is_refused_by_its_field),
        cmocka_unit_test(zones_shift_the_hours),
        cmocka_unit_test(zones_that_are_not_there_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
