/* When a cron expression is true next.
 *
 * The search goes forward by hours while day or hour do not fit, then by minutes, in the zone's
 * local time: what a change of the clocks skips never comes, what it repeats comes twice, as with
 * cron libraries that KEDA uses.
 *
 * A zone file is a list of instants from which on another offset holds. The rule for years behind
 * the last one (its footer) is not read: Debian's files list all until 2037, and of one that needs
 * its rule the zone is refused. */
#include "core/scale/cron.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>

enum {
    YEARS_AHEAD = 5,
    HEADER_BYTES = 44,
    TRANSITIONS_MAX = 4096,
    TYPES_MAX = 256,
};

/* ---- expressions ---- */

struct field {
    const char *name;
    int min, max;
    const char *const *names; /* of min, min + 1, ...; NULL: none */
};

static const char *const month_names[] = {"jan", "feb", "mar", "apr", "may", "jun", "jul",
                                          "aug", "sep", "oct", "nov", "dec", NULL};
static const char *const weekday_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL};
static const struct field fields[] = {
    {"minute", 0, 59, NULL},
    {"hour", 0, 23, NULL},
    {"day of month", 1, 31, NULL},
    {"month", 1, 12, month_names},
    {"day of week", 0, 7, weekday_names},
};

static bool take_number(const char **p, const struct field *f, int *ret) {
    for (int i = 0; f->names && f->names[i]; i++) {
        if (!strncasecmp(*p, f->names[i], 3)) {
            *p += 3;
            *ret = f->min + i;
            return true;
        }
    }
    char *end;
    if (!isdigit((unsigned char)**p))
        return false;
    long n = strtol(*p, &end, 10);
    *p = end;
    *ret = (int)n;
    return n >= f->min && n <= f->max;
}

/* "*", "5", "1-5", each with "/2" behind it. */
static bool take_item(const char **p, const struct field *f, uint64_t *bits, bool *ret_any) {
    int from = f->min, to = f->max, step = 1;
    bool star = **p == '*' || **p == '?', one = false;
    if (star) {
        ++*p;
    } else {
        if (!take_number(p, f, &from))
            return false;
        to = from;
        one = **p != '-';
        if (!one) {
            ++*p;
            if (!take_number(p, f, &to))
                return false;
        }
    }
    if (**p == '/') {
        char *end;
        if (!isdigit((unsigned char)*++*p))
            return false;
        long n = strtol(*p, &end, 10);
        *p = end;
        if (n < 1 || n > f->max)
            return false;
        step = (int)n;
        to = one ? f->max : to;
    } else if (star) {
        *ret_any = true;
    }
    for (int n = from; n <= to; n += step)
        *bits |= 1ull << n;
    return from <= to;
}

static bool take_field(const char **p, const struct field *f, uint64_t *bits, bool *ret_any) {
    *bits = 0;
    *ret_any = false;
    while (isspace((unsigned char)**p))
        ++*p;
    do {
        if (!take_item(p, f, bits, ret_any))
            return false;
    } while (**p == ',' && *++*p);
    return !**p || isspace((unsigned char)**p);
}

enum errc cron_parse(const char *text, struct cron *ret, struct error *err) {
    struct cron c = {0};
    uint64_t *const bits[] = {&c.minutes, &c.hours, &c.days, &c.months, &c.weekdays};
    const char *p = text;
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        bool any;
        if (!take_field(&p, &fields[i], bits[i], &any))
            return err_set(err, ERR_INVALID,
                           "\"%.100s\" is not a cron expression: its %s is missing or not within "
                           "%d..%d",
                           text, fields[i].name, fields[i].min, fields[i].max);
        c.any_day = i == 2 ? any : c.any_day;
        c.any_weekday = i == 4 ? any : c.any_weekday;
    }
    while (isspace((unsigned char)*p))
        p++;
    if (*p)
        return err_set(err, ERR_INVALID,
                       "\"%.100s\" is not a cron expression: it has more than "
                       "five fields",
                       text);
    c.weekdays |= c.weekdays >> 7; /* 7 is Sunday too */
    *ret = c;
    return OK;
}

/* ---- zones ---- */

struct time_zone {
    uint32_t num_transitions, num_types;
    int64_t *at; /* ascending */
    uint8_t *type;
    int32_t offsets[TYPES_MAX];
};

struct reader {
    const unsigned char *p, *end;
};

static uint64_t take_big(struct reader *r, int bytes) {
    uint64_t n = 0;
    for (int i = 0; i < bytes; i++)
        n = n << 8 | *r->p++;
    return n;
}

struct counts {
    uint64_t is_ut, is_std, leaps, transitions, types, chars;
};

static bool take_header(struct reader *r, struct counts *c, char *ret_version) {
    if (r->end - r->p < HEADER_BYTES || memcmp(r->p, "TZif", 4) != 0)
        return false;
    *ret_version = (char)r->p[4];
    r->p += 20;
    uint64_t *const all[] = {&c->is_ut,       &c->is_std, &c->leaps,
                             &c->transitions, &c->types,  &c->chars};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        *all[i] = take_big(r, 4);
    return c->transitions <= TRANSITIONS_MAX && c->types && c->types <= TYPES_MAX &&
           c->chars < TIME_ZONE_BYTES_MAX && c->leaps < TRANSITIONS_MAX && c->is_ut <= TYPES_MAX &&
           c->is_std <= TYPES_MAX;
}

static size_t block_bytes(const struct counts *c, int time_bytes) {
    return c->transitions * ((size_t)time_bytes + 1) + c->types * 6 + c->chars +
           c->leaps * ((size_t)time_bytes + 4) + c->is_std + c->is_ut;
}

static bool take_block(struct reader *r, const struct counts *c, struct time_zone *z) {
    const unsigned char *behind = r->p + block_bytes(c, 8);
    z->num_transitions = (uint32_t)c->transitions;
    z->num_types = (uint32_t)c->types;
    z->at = mem_array(c->transitions + 1, sizeof(*z->at));
    z->type = mem_array(c->transitions + 1, 1);
    for (uint32_t i = 0; i < z->num_transitions; i++)
        z->at[i] = (int64_t)take_big(r, 8);
    for (uint32_t i = 0; i < z->num_transitions; i++) {
        z->type[i] = *r->p++;
        if (z->type[i] >= c->types)
            return false;
    }
    for (uint32_t i = 0; i < z->num_types; i++) {
        z->offsets[i] = (int32_t)take_big(r, 4);
        r->p += 2;
    }
    r->p = behind;
    return true;
}

enum errc time_zone_read(const void *data, size_t len, struct time_zone **ret_z,
                         struct error *err) {
    enum { FAR_AHEAD = 2000000000 }; /* 2033 */
    struct reader r = {data, (const unsigned char *)data + len};
    struct counts c;
    char version = 0;
    AUTO(time_zone) z = mem_alloc(sizeof(*z));
    bool ok = take_header(&r, &c, &version) && version >= '2' &&
              (size_t)(r.end - r.p) >= block_bytes(&c, 4);
    if (ok) {
        r.p += block_bytes(&c, 4); /* of the first version, in 32 bits */
        ok = take_header(&r, &c, &version) && (size_t)(r.end - r.p) >= block_bytes(&c, 8) &&
             take_block(&r, &c, z);
    }
    if (!ok)
        return err_set(err, ERR_MALFORMED, "not a zone file of version 2 or later");
    bool changes = memchr(r.p, ',', (size_t)(r.end - r.p)) != NULL;
    if (changes && (!z->num_transitions || z->at[z->num_transitions - 1] < FAR_AHEAD))
        return err_set(err, ERR_INVALID,
                       "the zone's file leaves the years to come to a rule, "
                       "which is not read");
    *ret_z = steal(z);
    return OK;
}

void time_zone_close(struct time_zone *z) {
    if (!z)
        return;
    free(z->at);
    free(z->type);
    free(z);
}

static bool is_zone_name(const char *name) {
    for (const char *p = name; *p; p++) {
        if (!isalnum((unsigned char)*p) && !strchr("/_+-", *p))
            return false;
    }
    return *name && *name != '/' && !strstr(name, "//") && strlen(name) < 100;
}

enum errc time_zone_open(const char *name, struct time_zone **ret_z, struct error *err) {
    if (!strcmp(name, "UTC")) {
        *ret_z = mem_alloc(sizeof(**ret_z));
        (*ret_z)->num_types = 1;
        return OK;
    }
    AUTO_FREE char *path = mem_printf("/usr/share/zoneinfo/%s", name);
    FILE *file = is_zone_name(name) ? fopen(path, "rbe") : NULL;
    if (!file)
        return err_set(err, ERR_INVALID, "time zone \"%.100s\" is not known to this machine", name);
    AUTO_FREE char *data = mem_alloc(TIME_ZONE_BYTES_MAX);
    size_t len = fread(data, 1, TIME_ZONE_BYTES_MAX, file);
    fclose(file);
    if (time_zone_read(data, len, ret_z, err))
        return err_wrap(err, "time zone \"%.100s\"", name);
    return OK;
}

int64_t time_zone_offset(const struct time_zone *z, int64_t seconds) {
    uint32_t low = 0, high = z->num_transitions;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (z->at[middle] <= seconds)
            low = middle + 1;
        else
            high = middle;
    }
    return z->offsets[low ? z->type[low - 1] : 0];
}

/* ---- searching ---- */

static bool has(uint64_t bits, int n) {
    return bits >> n & 1;
}

static bool day_fits(const struct cron *c, const struct tm *t) {
    bool day = has(c->days, t->tm_mday), weekday = has(c->weekdays, t->tm_wday);
    bool either = c->any_day || c->any_weekday ? day && weekday : day || weekday;
    return either && has(c->months, t->tm_mon + 1);
}

int64_t cron_next(const struct cron *c, const struct time_zone *z, int64_t now) {
    int64_t t = now - now % 60 + 60, end = now + (int64_t)YEARS_AHEAD * 366 * 86400;
    while (t < end) {
        time_t local = t + time_zone_offset(z, t);
        struct tm parts;
        gmtime_r(&local, &parts);
        if (!day_fits(c, &parts) || !has(c->hours, parts.tm_hour))
            t += 3600 - (parts.tm_min * 60 + parts.tm_sec);
        else if (!has(c->minutes, parts.tm_min))
            t += 60 - parts.tm_sec;
        else
            return t;
    }
    return -1;
}
