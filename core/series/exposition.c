/* The text format of metrics, version 0.0.4, and what OpenMetrics adds that is met on such pages
 * (exemplars behind '#', a last line "# EOF").
 *
 *   name{label="value",other="\\ \" \n"} 1.5 1700000000000
 *
 * Source: prometheus.io/docs/instrumenting/exposition_formats. */
#include "core/series/exposition.h"

struct line {
    char *p; /* what is left; the reader writes terminators into it */
    struct label labels[LABELS_MAX];
    uint32_t num;
    double value;
};

static bool is_name_first(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':';
}

static bool is_name(char c) {
    return is_name_first(c) || (c >= '0' && c <= '9');
}

static void skip_blanks(struct line *l) {
    while (*l->p == ' ' || *l->p == '\t')
        l->p++;
}

/* Gives the name at p, not terminated; NULL: there is none. */
static char *take_name(struct line *l, char **ret_end) {
    char *start = l->p;
    if (!is_name_first(*start))
        return NULL;
    while (is_name(*l->p))
        l->p++;
    *ret_end = l->p;
    return start;
}

/* A quoted value, its escapes resolved in place. */
static char *take_value(struct line *l) {
    if (*l->p != '"')
        return NULL;
    char *start = ++l->p, *out = start;
    while (*l->p && *l->p != '"') {
        char c = *l->p++;
        if (c == '\\') {
            char escaped = *l->p;
            if (!escaped)
                return NULL;
            l->p++;
            if (escaped != '\\' && escaped != '"' && escaped != 'n')
                *out++ = '\\'; /* stands for itself */
            c = escaped == 'n' ? '\n' : escaped;
        }
        *out++ = c;
    }
    if (*l->p != '"')
        return NULL;
    l->p++;
    *out = '\0';
    return start;
}

static const char *take_label(struct line *l) {
    char *end, *name = take_name(l, &end);
    if (!name)
        return "a label's name is missing";
    skip_blanks(l);
    if (*l->p != '=')
        return "\"=\" is missing behind a label's name";
    l->p++;
    skip_blanks(l);
    *end = '\0';
    char *value = take_value(l);
    if (!value)
        return "a label's value is not in quotes";
    if (l->num == LABELS_MAX)
        return "more labels than are possible";
    l->labels[l->num++] = (struct label){name, value};
    return NULL;
}

/* NULL: read. Else what is wrong. */
static const char *take_labels(struct line *l) {
    l->p++; /* the brace, which may be the name's terminator already */
    skip_blanks(l);
    while (*l->p != '}') {
        const char *wrong = take_label(l);
        if (wrong)
            return wrong;
        skip_blanks(l);
        if (*l->p == ',') {
            l->p++;
            skip_blanks(l);
        } else if (*l->p != '}') {
            return "labels are not separated by commas";
        }
    }
    l->p++;
    return NULL;
}

static const char *read_line(struct line *l) {
    char *end, *name = take_name(l, &end);
    if (!name)
        return "a metric's name is missing";
    skip_blanks(l);
    l->labels[l->num++] = (struct label){LABEL_NAME, name};
    bool braces = *l->p == '{';
    if (!braces && l->p == end)
        return "the value is missing";
    *end = '\0'; /* the brace itself, where nothing is between */
    const char *wrong = braces ? take_labels(l) : NULL;
    if (wrong)
        return wrong;
    skip_blanks(l);
    char *number_end;
    l->value = strtod(l->p, &number_end); /* reads NaN, +Inf and -Inf as well */
    if (number_end == l->p || (*number_end && *number_end != ' ' && *number_end != '\t'))
        return "the value is not a number";
    return NULL;
}

enum errc exposition_read(const char *text, size_t len, exposition_fn *fn, void *user,
                          struct error *err) {
    char copy[EXPOSITION_LINE_BYTES_MAX];
    const char *p = text, *end = text + len;
    for (uint32_t number = 1; p < end; number++) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        size_t line_len = (size_t)((newline ? newline : end) - p);
        if (line_len >= sizeof(copy))
            return err_set(err, ERR_MALFORMED, "line %u: %zu bytes, at most %zu are possible",
                           number, line_len, sizeof(copy) - 1);
        memcpy(copy, p, line_len);
        if (line_len && copy[line_len - 1] == '\r')
            line_len--;
        copy[line_len] = '\0';
        p = newline ? newline + 1 : end;
        struct line l = {.p = copy};
        skip_blanks(&l);
        if (!*l.p || *l.p == '#')
            continue;
        const char *wrong = memchr(copy, 0, line_len) ? "a zero byte" : read_line(&l);
        if (wrong)
            return err_set(err, ERR_MALFORMED, "line %u: %s", number, wrong);
        fn(user, l.labels, l.num, l.value);
    }
    return OK;
}
