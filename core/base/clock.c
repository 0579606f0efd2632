/* Time: thin over clock_gettime, and RFC 3339 as Kubernetes writes it. */
#include "core/base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int64_t clock_mono_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t clock_mono_ms(void) {
    return clock_mono_ns() / 1000000;
}

int64_t clock_wall_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

const char *clock_rfc3339(int64_t wall_ms, char out[CLOCK_RFC3339_BYTES]) {
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    strftime(out, CLOCK_RFC3339_BYTES, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return out;
}

int64_t clock_parse_rfc3339(const char *text) {
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (!rest)
        return -1;
    int64_t ms = 0;
    if (*rest == '.') {
        int64_t scale = 100;
        for (rest++; *rest >= '0' && *rest <= '9'; rest++, scale /= 10)
            ms += (*rest - '0') * scale;
    }
    int64_t offset = 0;
    if (*rest == '+' || *rest == '-') {
        int h, m;
        if (sscanf(rest + 1, "%2d:%2d", &h, &m) != 2)
            return -1;
        offset = (*rest == '-' ? -1 : 1) * (h * 3600 + m * 60);
        rest += 6;
    } else if (*rest == 'Z' || *rest == 'z') {
        rest++;
    } else {
        return -1;
    }
    return *rest ? -1 : ((int64_t)timegm(&tm) - offset) * 1000 + ms;
}
