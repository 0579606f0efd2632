/* The string functions of CEL: those of the language, and the extension library that Kubernetes
 * adds (charAt, replace, split, format ...). Positions count characters (code points), as there.
 * Every function that reads or writes text pays a step for ten bytes. */
#include "kube-compat/cel_functions.h"

#include <ctype.h>
#include <stdio.h>

#include "core/base/clock.h"
#include "kube-compat/schema_pattern.h"

#define FUNCTION(name) static struct cel_value name(struct cel_run *run, const struct cel_value *a)

static void pay(struct cel_run *run, size_t num_bytes) {
    run->cost -= (int64_t)num_bytes / 10 + 1;
}

static struct cel_value text_of(struct cel_run *run, const char *data, size_t len) {
    pay(run, len);
    return cel_text(CEL_STRING, arena_strndup(run->arena, data, len), len);
}

static struct cel_value take_buf(struct cel_run *run, struct buf *out) {
    struct cel_value v = text_of(run, out->len ? out->data : "", out->len);
    buf_deinit(out);
    return v;
}

/* The byte at which a character stands; the length for the one behind the last. False: beyond. */
static bool byte_of(const struct cel_value *text, int64_t index, size_t *ret_byte) {
    size_t at = 0;
    for (; index > 0 && at < text->text.len; index--) {
        at++;
        while (at < text->text.len && (text->text.data[at] & 0xC0) == 0x80)
            at++;
    }
    *ret_byte = at;
    return !index;
}

static int64_t characters(const char *data, size_t len) {
    struct cel_value v = cel_text(CEL_STRING, data, len);
    return (int64_t)cel_size(&v);
}

static const char *search(const char *in, size_t in_len, const struct cel_value *what) {
    return what->text.len ? memmem(in, in_len, what->text.data, what->text.len) : in;
}

FUNCTION(contains) {
    pay(run, a[0].text.len);
    return cel_bool(search(a[0].text.data, a[0].text.len, &a[1]));
}

FUNCTION(starts_with) {
    pay(run, a[1].text.len);
    return cel_bool(a[1].text.len <= a[0].text.len &&
                    !memcmp(a[0].text.data, a[1].text.data, a[1].text.len));
}

FUNCTION(ends_with) {
    pay(run, a[1].text.len);
    return cel_bool(
        a[1].text.len <= a[0].text.len &&
        !memcmp(a[0].text.data + a[0].text.len - a[1].text.len, a[1].text.data, a[1].text.len));
}

struct cel_value cel_matches(struct cel_run *run, const struct cel_value *a) {
    struct error err = ERROR_INIT;
    struct schema_pattern *pattern;
    pay(run, a[0].text.len * (a[1].text.len / 4 + 1));
    if (schema_pattern_create(a[1].text.data, &pattern, &err))
        return cel_error(run, "error parsing regexp: %.200s", err.text);
    bool match = schema_pattern_match(pattern, a[0].text.data, a[0].text.len);
    schema_pattern_destroy(pattern);
    return cel_bool(match);
}

static struct cel_value out_of_range(struct cel_run *run, int64_t index) {
    return cel_error(run, "index out of range: %lld", (long long)index);
}

FUNCTION(char_at) {
    size_t start, end;
    pay(run, a[0].text.len);
    if (a[1].integer < 0 || !byte_of(&a[0], a[1].integer, &start))
        return out_of_range(run, a[1].integer);
    if (!byte_of(&a[0], a[1].integer + 1, &end))
        end = start;
    return text_of(run, a[0].text.data + start, end - start);
}

static struct cel_value substring(struct cel_run *run, const struct cel_value *text, int64_t from,
                                  int64_t to) {
    size_t start, end;
    pay(run, text->text.len);
    if (from < 0 || !byte_of(text, from, &start))
        return out_of_range(run, from);
    if (to < 0 || !byte_of(text, to, &end))
        return out_of_range(run, to);
    if (from > to)
        return cel_error(run, "invalid substring range. start: %lld, end: %lld", (long long)from,
                         (long long)to);
    return text_of(run, text->text.data + start, end - start);
}

FUNCTION(substring_from) {
    return substring(run, &a[0], a[1].integer, (int64_t)cel_size(&a[0]));
}

FUNCTION(substring_range) {
    return substring(run, &a[0], a[1].integer, a[2].integer);
}

static struct cel_value find_from(struct cel_run *run, const struct cel_value *a, int64_t from) {
    size_t start;
    pay(run, a[0].text.len);
    if (from < 0 || !byte_of(&a[0], from, &start))
        return out_of_range(run, from);
    const char *found = search(a[0].text.data + start, a[0].text.len - start, &a[1]);
    return cel_int(found ? characters(a[0].text.data, (size_t)(found - a[0].text.data)) : -1);
}

FUNCTION(index_of) {
    return find_from(run, a, 0);
}

FUNCTION(index_of_from) {
    return find_from(run, a, a[2].integer);
}

/* The last place at or before the character `from`. */
static struct cel_value find_back(struct cel_run *run, const struct cel_value *a, int64_t from) {
    size_t at;
    pay(run, a[0].text.len);
    if (from < 0 || !byte_of(&a[0], from, &at))
        return out_of_range(run, from);
    for (size_t i = at + 1; i-- > 0;) {
        if (i + a[1].text.len <= a[0].text.len &&
            !memcmp(a[0].text.data + i, a[1].text.data, a[1].text.len))
            return cel_int(characters(a[0].text.data, i));
    }
    return cel_int(-1);
}

FUNCTION(last_index_of) {
    return find_back(run, a, (int64_t)cel_size(&a[0]));
}

FUNCTION(last_index_of_from) {
    return find_back(run, a, a[2].integer);
}

FUNCTION(lower_ascii) {
    struct cel_value v = text_of(run, a[0].text.data, a[0].text.len);
    for (char *c = (char *)(uintptr_t)v.text.data; c < v.text.data + v.text.len; c++)
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c | 0x20) : *c;
    return v;
}

FUNCTION(upper_ascii) {
    struct cel_value v = text_of(run, a[0].text.data, a[0].text.len);
    for (char *c = (char *)(uintptr_t)v.text.data; c < v.text.data + v.text.len; c++)
        *c = *c >= 'a' && *c <= 'z' ? (char)(*c & ~0x20) : *c;
    return v;
}

FUNCTION(trim) {
    const char *start = a[0].text.data, *end = start + a[0].text.len;
    while (start < end && isspace((unsigned char)*start))
        start++;
    while (end > start && isspace((unsigned char)end[-1]))
        end--;
    return text_of(run, start, (size_t)(end - start));
}

/* The length of the character at text, which is not empty. */
static size_t character_len(const char *text, size_t len) {
    size_t n = 1;
    while (n < len && (text[n] & 0xC0) == 0x80)
        n++;
    return n;
}

/* Replaces the first `limit` places (negative: all). The empty text stands between all characters.
 */
static struct cel_value replace(struct cel_run *run, const struct cel_value *a,
                                const struct cel_value *with, int64_t limit) {
    struct buf out = BUF_INIT;
    const char *at = a[0].text.data, *end = at + a[0].text.len;
    bool between = !a[1].text.len;
    for (; limit && run->cost >= 0; limit--) {
        const char *found = search(at, (size_t)(end - at), &a[1]);
        if (!found)
            break;
        buf_append(&out, at, (size_t)(found - at));
        buf_append(&out, with->text.data, with->text.len);
        pay(run, (size_t)(found - at) + with->text.len);
        at = found + a[1].text.len;
        if (between && at == end)
            break;
        size_t step = between ? character_len(at, (size_t)(end - at)) : 0;
        buf_append(&out, at, step);
        at += step;
    }
    buf_append(&out, at, (size_t)(end - at));
    return take_buf(run, &out);
}

FUNCTION(replace_all) {
    return replace(run, a, &a[2], -1);
}

static struct cel_value split(struct cel_run *run, const struct cel_value *a, int64_t limit) {
    const char *at = a[0].text.data, *end = at + a[0].text.len;
    size_t num = 0, cap = a[0].text.len + 2;
    pay(run, a[0].text.len + 10 * cap);
    if (!limit || run->cost < 0)
        return cel_list(NULL, 0);
    struct cel_value *items = arena_alloc(run->arena, cap * sizeof(*items));
    bool each = !a[1].text.len; /* into characters */
    while ((limit < 0 || (int64_t)num + 1 < limit) && (!each || at < end)) {
        const char *found = each ? at + character_len(at, (size_t)(end - at))
                                 : search(at, (size_t)(end - at), &a[1]);
        if (!found || (each && found == end))
            break;
        items[num++] = text_of(run, at, (size_t)(found - at));
        at = found + a[1].text.len;
    }
    if (!each || at < end)
        items[num++] = text_of(run, at, (size_t)(end - at));
    return cel_list(items, num);
}

FUNCTION(split_all) {
    return split(run, a, -1);
}

FUNCTION(split_some) {
    return split(run, a, a[2].integer);
}

static struct cel_value join(struct cel_run *run, const struct cel_value *list,
                             const struct cel_value *between) {
    struct buf out = BUF_INIT;
    for (size_t i = 0; i < cel_size(list) && run->cost >= 0; i++) {
        struct cel_value item = cel_item(run, list, i);
        if (item.kind != CEL_STRING) {
            buf_deinit(&out);
            return cel_error(run, "no such overload");
        }
        if (i && between)
            buf_append(&out, between->text.data, between->text.len);
        buf_append(&out, item.text.data, item.text.len);
        pay(run, item.text.len + (between ? between->text.len : 0));
    }
    return take_buf(run, &out);
}

FUNCTION(join_plain) {
    return join(run, &a[0], NULL);
}

FUNCTION(join_with) {
    return join(run, &a[0], &a[1]);
}

/* string(), and %s of format(). False: has no text. */
static bool put_value(struct cel_run *run, struct buf *out, const struct cel_value *v, int depth);

static bool put_list(struct cel_run *run, struct buf *out, const struct cel_value *v, int depth) {
    buf_putc(out, '[');
    for (size_t i = 0; i < cel_size(v) && run->cost >= 0; i++) {
        struct cel_value item = cel_item(run, v, i);
        buf_puts(out, i ? ", " : "");
        if (!put_value(run, out, &item, depth + 1))
            return false;
    }
    buf_putc(out, ']');
    return true;
}

static bool put_map(struct cel_run *run, struct buf *out, const struct cel_value *v, int depth) {
    size_t num;
    const struct cel_value *pairs = cel_pairs(run, v, &num);
    buf_putc(out, '{');
    for (size_t i = 0; i < num && run->cost >= 0; i++) {
        buf_puts(out, i ? ", " : "");
        if (!put_value(run, out, &pairs[2 * i], depth + 1))
            return false;
        buf_puts(out, ": ");
        if (!put_value(run, out, &pairs[2 * i + 1], depth + 1))
            return false;
    }
    buf_putc(out, '}');
    return true;
}

static void put_time(struct buf *out, int64_t ns) {
    char text[CLOCK_RFC3339_BYTES];
    buf_puts(out, clock_rfc3339(ns / 1000000, text));
}

static bool put_value(struct cel_run *run, struct buf *out, const struct cel_value *v, int depth) {
    if (depth > CEL_DEPTH_MAX)
        return false;
    pay(run, 1);
    switch (v->kind) {
    case CEL_NULL:
        buf_puts(out, "null");
        return true;
    case CEL_BOOL:
        buf_puts(out, v->truth ? "true" : "false");
        return true;
    case CEL_INT:
        buf_printf(out, "%lld", (long long)v->integer);
        return true;
    case CEL_UINT:
        buf_printf(out, "%llu", (unsigned long long)v->natural);
        return true;
    case CEL_DOUBLE: {
        char shortest[40];
        for (int digits = 1; digits <= 17; digits++) {
            snprintf(shortest, sizeof(shortest), "%.*g", digits, v->real);
            if (strtod(shortest, NULL) == v->real)
                break;
        }
        buf_puts(out, shortest);
        return true;
    }
    case CEL_STRING:
    case CEL_BYTES:
    case CEL_TYPE:
        pay(run, v->text.len);
        buf_append(out, v->text.data, v->text.len);
        return true;
    case CEL_DURATION:
        buf_puts(out, cel_duration_text(run->arena, v->integer));
        return true;
    case CEL_TIMESTAMP:
        put_time(out, v->integer);
        return true;
    case CEL_LIST:
        return put_list(run, out, v, depth);
    case CEL_MAP:
        return put_map(run, out, v, depth);
    default:
        return false;
    }
}

FUNCTION(text_of_any) {
    struct buf out = BUF_INIT;
    if (a[0].kind == CEL_STRING)
        return a[0];
    put_value(run, &out, &a[0], 0);
    return take_buf(run, &out);
}

/* One verb of format(), behind its '%' and precision. False: it does not fit the value. */
static bool put_verb(struct cel_run *run, struct buf *out, char verb, int precision,
                     const struct cel_value *v) {
    bool whole = v->kind == CEL_INT || v->kind == CEL_UINT;
    bool negative = v->kind == CEL_INT && v->integer < 0;
    unsigned long long size = negative ? -(unsigned long long)v->integer : v->natural;
    double real = v->kind == CEL_DOUBLE ? v->real : negative ? -(double)size : (double)size;
    switch (verb) {
    case 's':
        return put_value(run, out, v, 0);
    case 'd':
        return whole && put_value(run, out, v, 0);
    case 'f':
    case 'e':
        if (!whole && v->kind != CEL_DOUBLE)
            return false;
        buf_printf(out, verb == 'f' ? "%.*f" : "%.*e", precision < 0 ? 6 : precision, real);
        return true;
    case 'x':
    case 'X':
    case 'o':
        if (!whole)
            return false;
        buf_puts(out, negative ? "-" : "");
        buf_printf(out, verb == 'x' ? "%llx" : verb == 'X' ? "%llX" : "%llo", size);
        return true;
    default:
        return false;
    }
}

FUNCTION(format) {
    struct buf out = BUF_INIT;
    const char *at = a[0].text.data;
    size_t used = 0;
    pay(run, a[0].text.len);
    for (; *at && run->cost >= 0; at++) {
        if (*at != '%' || at[1] == '%') {
            buf_putc(&out, *at);
            at += *at == '%';
            continue;
        }
        int precision = -1;
        at++;
        if (*at == '.') {
            for (precision = 0, at++; isdigit((unsigned char)*at) && precision < 100; at++)
                precision = precision * 10 + (*at - '0');
        }
        struct cel_value v = used < cel_size(&a[1])
                                 ? cel_item(run, &a[1], used)
                                 : cel_error(run, "index %zu out of range", used);
        used++;
        if (precision > 100 || v.kind == CEL_ERROR || !put_verb(run, &out, *at, precision, &v)) {
            buf_deinit(&out);
            return v.kind == CEL_ERROR
                       ? v
                       : cel_error(run, "could not parse formatting clause \"%%%c\"",
                                   isprint((unsigned char)*at) ? *at : '?');
        }
    }
    return take_buf(run, &out);
}

#define TEXT(name, result, call)                                                                   \
    { name, true, 1, {CEL_STRING}, result, call }
#define TEXT2(name, more, result, call)                                                            \
    { name, true, 2, {CEL_STRING, more}, result, call }

const struct cel_function cel_string_functions[] = {
    TEXT2("contains", CEL_STRING, CEL_BOOL, contains),
    TEXT2("startsWith", CEL_STRING, CEL_BOOL, starts_with),
    TEXT2("endsWith", CEL_STRING, CEL_BOOL, ends_with),
    TEXT2("matches", CEL_STRING, CEL_BOOL, cel_matches),
    {"matches", false, 2, {CEL_STRING, CEL_STRING}, CEL_BOOL, cel_matches},
    TEXT2("charAt", CEL_INT, CEL_STRING, char_at),
    TEXT2("substring", CEL_INT, CEL_STRING, substring_from),
    {"substring", true, 3, {CEL_STRING, CEL_INT, CEL_INT}, CEL_STRING, substring_range},
    TEXT2("indexOf", CEL_STRING, CEL_INT, index_of),
    {"indexOf", true, 3, {CEL_STRING, CEL_STRING, CEL_INT}, CEL_INT, index_of_from},
    TEXT2("lastIndexOf", CEL_STRING, CEL_INT, last_index_of),
    {"lastIndexOf", true, 3, {CEL_STRING, CEL_STRING, CEL_INT}, CEL_INT, last_index_of_from},
    TEXT("lowerAscii", CEL_STRING, lower_ascii),
    TEXT("upperAscii", CEL_STRING, upper_ascii),
    TEXT("trim", CEL_STRING, trim),
    {"replace", true, 3, {CEL_STRING, CEL_STRING, CEL_STRING}, CEL_STRING, replace_all},
    TEXT2("split", CEL_STRING, CEL_LIST, split_all),
    {"split", true, 3, {CEL_STRING, CEL_STRING, CEL_INT}, CEL_LIST, split_some},
    {"join", true, 1, {CEL_LIST}, CEL_STRING, join_plain},
    {"join", true, 2, {CEL_LIST, CEL_STRING}, CEL_STRING, join_with},
    TEXT2("format", CEL_LIST, CEL_STRING, format),
    {"string", false, 1, {CEL_STRING}, CEL_STRING, text_of_any},
    {"string", false, 1, {CEL_BOOL}, CEL_STRING, text_of_any},
    {"string", false, 1, {CEL_INT}, CEL_STRING, text_of_any},
    {"string", false, 1, {CEL_UINT}, CEL_STRING, text_of_any},
    {"string", false, 1, {CEL_DOUBLE}, CEL_STRING, text_of_any},
    {"string", false, 1, {CEL_BYTES}, CEL_STRING, text_of_any},
    {"string", false, 1, {CEL_DURATION}, CEL_STRING, text_of_any},
    {"string", false, 1, {CEL_TIMESTAMP}, CEL_STRING, text_of_any},
};
const size_t cel_num_string_functions = ARRAY_LEN(cel_string_functions);
