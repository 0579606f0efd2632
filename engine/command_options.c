/* Command-line options by table: what is not in the table, has no value or one out of its bounds is
 * refused with the option, the value and the bound, before anything is loaded. */
#include "engine/command_options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "core/base/buf.h"

/* Whether `given` (its first len bytes) is the option's name, '_' counting as '-'. */
static bool is_name(const struct command_option *o, const char *given, size_t len) {
    if (strlen(o->name) != len)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (o->name[i] != (given[i] == '_' ? '-' : given[i]))
            return false;
    }
    return true;
}

static enum errc set_number(const struct command_option *o, const char *field, const char *value,
                            struct error *err) {
    char *end;
    bool any = !o->min && !o->max;
    errno = 0;
    if (o->type == OPTION_REAL) {
        double x = strtod(value, &end);
        if (end == value || *end || isnan(x) || (!any && (x < o->min || x > o->max)))
            return err_field(err, ERR_INVALID, field, "%s: \"%s\" is not a number within %g..%g",
                             field, value, o->min, o->max);
        *(float *)o->value = (float)x;
        return OK;
    }
    unsigned long long n = strtoull(value, &end, 10);
    bool is_number = *value >= '0' && *value <= '9' && !*end && !errno;
    if (o->type == OPTION_SEED) {
        if (!is_number)
            return err_field(err, ERR_INVALID, field, "%s: \"%s\" is not a 64-bit number", field,
                             value);
        *(uint64_t *)o->value = n;
        return OK;
    }
    double max = any ? UINT32_MAX : o->max;
    if (!is_number || (double)n < o->min || (double)n > max)
        return err_field(err, ERR_INVALID, field,
                         "%s: \"%s\" is not a whole number within %g..%.0f", field, value, o->min,
                         max);
    *(uint32_t *)o->value = (uint32_t)n;
    return OK;
}

static enum errc set_value(const struct command_option *o, const char *field, const char *value,
                           struct error *err) {
    if (o->is_given)
        *o->is_given = true;
    if (o->type == OPTION_TEXT) {
        *(const char **)o->value = value;
        return OK;
    }
    return set_number(o, field, value, err);
}

static const struct command_option *find(const struct command_option *options, size_t num_options,
                                         const char *name, size_t len) {
    for (size_t i = 0; i < num_options; i++) {
        if (is_name(&options[i], name, len))
            return &options[i];
    }
    return NULL;
}

enum errc command_options_parse(const struct command_option *options, size_t num_options, int argc,
                                char **argv, struct error *err) {
    for (int i = 1; i < argc; i++) {
        const char *given = argv[i];
        if (strncmp(given, "--", 2) != 0)
            return err_field(err, ERR_INVALID, given, "%s: not an option", given);
        size_t len = strcspn(given + 2, "=");
        char field[ERROR_FIELD_BYTES_MAX];
        snprintf(field, sizeof(field), "--%.*s", (int)(len < 100 ? len : 100), given + 2);
        const struct command_option *o = find(options, num_options, given + 2, len);
        if (!o)
            return err_field(err, ERR_INVALID, field, "%s: no such option", field);
        const char *value = given[2 + len] ? given + 3 + len : NULL;
        if (o->type == OPTION_FLAG) {
            if (value)
                return err_field(err, ERR_INVALID, field, "%s: takes no value", field);
            *(bool *)o->value = true;
            continue;
        }
        if (!value && i + 1 < argc)
            value = argv[++i];
        if (!value)
            return err_field(err, ERR_INVALID, field, "%s: its value is missing", field);
        enum errc rc = set_value(o, field, value, err);
        if (rc)
            return rc;
    }
    return OK;
}

void command_options_help(const struct command_option *options, size_t num_options,
                          struct buf *out) {
    for (size_t i = 0; i < num_options; i++) {
        const struct command_option *o = &options[i];
        const char *value = o->type == OPTION_FLAG ? "" : o->type == OPTION_TEXT ? " TEXT" : " N";
        int width = 24 - (int)strlen(o->name) - (int)strlen(value);
        buf_printf(out, "  --%s%s%*s %s\n", o->name, value, width > 0 ? width : 0, "", o->help);
    }
}

int32_t command_options_ids(const char *text, int32_t *ret_ids, uint32_t num_max) {
    uint32_t n = 0;
    for (const char *p = text;; p++) {
        char *end;
        errno = 0;
        long id = strtol(p, &end, 10);
        if (*p < '0' || *p > '9' || errno || id > INT32_MAX || n == num_max)
            return -1;
        ret_ids[n++] = (int32_t)id;
        p = end;
        if (!*p)
            return (int32_t)n;
        if (*p != ',')
            return -1;
    }
}
