/* Formatting.
 *
 * Both notations end in the same few things: a value as text, or a number in some base or
 * precision, with sign, padded to a width. struct spec is that common part; %-formats and
 * {}-formats parse into it. Width and precision are bounded, so a format cannot ask for gigabytes
 * of blanks. Not there: nested fields in a specification, '%c' of more than one character, locale's
 * 'n'. */
#include "engine/jinja_format.h"

#include <stdio.h>

#include "engine/jinja_access.h"
#include "engine/jinja_print.h"
#include "engine/jinja_text.h"

struct spec {
    char fill[5]; /* one character, terminated */
    char align;   /* '<' '>' '^' '=', or 0: by type */
    char sign;    /* '+', ' ', or 0 */
    bool alternate, comma;
    int64_t width, precision; /* precision -1: not given */
    char type;                /* 0: by value */
};

struct cursor {
    const char *at, *end;
};

static bool bad_format(struct jinja_run *run, const char *what) {
    return jinja_fail(run, ERR_INVALID, "format: %s", what);
}

static bool read_number(struct jinja_run *run, struct cursor *c, int64_t *ret) {
    int64_t n = 0;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9') {
        n = n * 10 + (*c->at++ - '0');
        if (n > JINJA_FORMAT_WIDTH_MAX)
            return jinja_fail(run, ERR_EXHAUSTED, "format: a width above %d",
                              JINJA_FORMAT_WIDTH_MAX);
    }
    *ret = n;
    return true;
}

/* Puts sign, digits and padding together. `digits` has no sign. */
static bool pad(struct jinja_run *run, const struct spec *s, bool negative, const char *digits,
                size_t len, bool number, struct buf *b) {
    char sign = negative ? '-' : number && s->sign != '-' ? s->sign : 0;
    int64_t width = (int64_t)jinja_text_count(digits, len) + (sign != 0);
    int64_t missing = s->width > width ? s->width - width : 0;
    char align = s->align ? s->align : number ? '>' : '<';
    int64_t left = align == '>' ? missing : align == '^' ? missing / 2 : 0;
    int64_t inner = align == '=' ? missing : 0;
    for (int64_t i = 0; i < left; i++)
        buf_puts(b, s->fill);
    if (sign)
        buf_putc(b, sign);
    for (int64_t i = 0; i < inner; i++)
        buf_puts(b, s->fill);
    buf_append(b, digits, len);
    for (int64_t i = left + inner; i < missing; i++)
        buf_puts(b, s->fill);
    if (b->len > JINJA_OUTPUT_BYTES_MAX)
        return jinja_fail(run, ERR_EXHAUSTED, "format: a text longer than %d bytes",
                          JINJA_OUTPUT_BYTES_MAX);
    return jinja_spend(run, 1 + (len + (uint64_t)missing) / JINJA_BYTES_PER_STEP);
}

static bool format_text(struct jinja_run *run, const struct spec *s, struct jinja_value v,
                        struct buf *b) {
    size_t len = v.len;
    if (s->precision >= 0)
        len = jinja_text_offset(v.text, v.len, (size_t)s->precision);
    return pad(run, s, false, v.text, len, false, b);
}

/* "1234567" becomes "1,234,567"; what follows the digits is kept. */
static void group_thousands(const char *digits, size_t len, struct buf *b) {
    size_t whole = strspn(digits, "0123456789");
    for (size_t i = 0; i < whole; i++) {
        if (i && (whole - i) % 3 == 0)
            buf_putc(b, ',');
        buf_putc(b, digits[i]);
    }
    buf_append(b, digits + whole, len - whole);
}

static bool format_int(struct jinja_run *run, const struct spec *s, int64_t v, struct buf *b) {
    AUTO_BUF digits = BUF_INIT;
    AUTO_BUF grouped = BUF_INIT;
    unsigned long long magnitude = v < 0 ? 0 - (unsigned long long)v : (unsigned long long)v;
    if (s->alternate && s->type && strchr("bxXo", s->type))
        buf_printf(&digits, "0%c", s->type);
    switch (s->type) {
    case 'b':
        for (int i = magnitude ? 63 - __builtin_clzll(magnitude) : 0; i >= 0; i--)
            buf_putc(&digits, (char)('0' + ((magnitude >> i) & 1)));
        break;
    case 'x':
        buf_printf(&digits, "%llx", magnitude);
        break;
    case 'X':
        buf_printf(&digits, "%llX", magnitude);
        break;
    case 'o':
        buf_printf(&digits, "%llo", magnitude);
        break;
    default:
        buf_printf(&digits, "%llu", magnitude);
    }
    if (!s->comma)
        return pad(run, s, v < 0, digits.data, digits.len, true, b);
    group_thousands(digits.data, digits.len, &grouped);
    return pad(run, s, v < 0, grouped.data, grouped.len, true, b);
}

static bool format_float(struct jinja_run *run, const struct spec *s, double v, struct buf *b) {
    bool negative = v < 0 || (v == 0 && 1 / v < 0);
    AUTO_BUF digits = BUF_INIT;
    char type = s->type;
    if (!type && s->precision < 0) {
        char text[JINJA_FLOAT_BYTES_MAX];
        size_t len = jinja_print_float(negative ? -v : v, text);
        buf_append(&digits, text, len);
    } else {
        char fmt[8] = "%.*f";
        int precision = s->precision < 0 ? 6 : (int)s->precision;
        fmt[3] = !type ? 'g' : type == '%' ? 'f' : type;
        buf_printf(&digits, fmt, precision, (negative ? -v : v) * (type == '%' ? 100 : 1));
        if (type == '%')
            buf_putc(&digits, '%');
    }
    AUTO_BUF grouped = BUF_INIT;
    if (!s->comma)
        return pad(run, s, negative, digits.data, digits.len, true, b);
    group_thousands(digits.data, digits.len, &grouped);
    return pad(run, s, negative, grouped.data, grouped.len, true, b);
}

static bool format_number(struct jinja_run *run, const struct spec *s, struct jinja_value v,
                          struct buf *b) {
    bool whole = v.kind != JINJA_FLOAT;
    if (s->type && strchr("eEfFgG%", s->type))
        return format_float(run, s, jinja_real(v), b);
    if (!whole)
        return s->type
                   ? jinja_fail(run, ERR_INVALID, "format code '%c' is not for a float", s->type)
                   : format_float(run, s, v.real, b);
    return format_int(run, s, jinja_whole(v), b);
}

/* {}-formats */

static bool parse_spec(struct jinja_run *run, struct cursor c, struct spec *s) {
    *s = (struct spec){.fill = " ", .precision = -1};
    size_t n = 0;
    if (c.at < c.end)
        jinja_text_decode(c.at, (size_t)(c.end - c.at), &n);
    if (c.at < c.end && c.at + n < c.end && strchr("<>^=", c.at[n])) {
        memcpy(s->fill, c.at, n);
        s->fill[n] = '\0';
        s->align = c.at[n];
        c.at += n + 1;
    } else if (c.at < c.end && strchr("<>^=", *c.at)) {
        s->align = *c.at++;
    }
    if (c.at < c.end && strchr("+- ", *c.at))
        s->sign = *c.at++;
    if (c.at < c.end && *c.at == '#') {
        s->alternate = true;
        c.at++;
    }
    if (c.at < c.end && *c.at == '0' && !s->align) {
        strcpy(s->fill, "0");
        s->align = '=';
    }
    if (!read_number(run, &c, &s->width))
        return false;
    if (c.at < c.end && *c.at == ',') {
        s->comma = true;
        c.at++;
    }
    if (c.at < c.end && *c.at == '.') {
        c.at++;
        if (!read_number(run, &c, &s->precision))
            return false;
    }
    if (c.at < c.end)
        s->type = *c.at++;
    if (c.at != c.end || (s->type && !strchr("sdboxXeEfFgG%", s->type)))
        return bad_format(run, "a specification that is not known here");
    return true;
}

static bool format_value(struct jinja_run *run, struct jinja_value v, struct cursor spec_text,
                         struct buf *b) {
    struct spec s;
    if (spec_text.at == spec_text.end)
        return jinja_print(run, v, b);
    if (!parse_spec(run, spec_text, &s))
        return false;
    if (jinja_is_number(v) && s.type != 's')
        return format_number(run, &s, v, b);
    if (v.kind != JINJA_STRING || (s.type && s.type != 's') || s.align == '=')
        return jinja_fail(run, ERR_INVALID, "a format specification that is not for %s",
                          jinja_type_name(v));
    return format_text(run, &s, v, b);
}

/* The value that starts a field: "", "0" or a keyword. */
static bool field_start(struct jinja_run *run, struct cursor name, const struct jinja_call *args,
                        uint32_t *next, struct jinja_value *ret) {
    size_t len = (size_t)(name.end - name.at);
    uint64_t index = *next;
    if (len && name.at[0] >= '0' && name.at[0] <= '9') {
        int64_t number = 0;
        if (!read_number(run, &name, &number))
            return false;
        if (name.at != name.end)
            return bad_format(run, "a field that starts with a digit and is no number");
        index = (uint64_t)number;
    } else if (len) {
        for (uint32_t i = 0; i < args->num_named; i++) {
            if (strlen(args->names[i]) == len && memcmp(args->names[i], name.at, len) == 0) {
                *ret = args->named[i];
                return true;
            }
        }
        return jinja_fail(run, ERR_INVALID, "format: no argument named '%.*s'", (int)len, name.at);
    } else {
        ++*next;
    }
    if (index >= args->num_pos)
        return jinja_fail(run, ERR_INVALID, "format: field %llu of %u arguments",
                          (unsigned long long)index, args->num_pos);
    *ret = args->pos[index];
    return true;
}

/* "name.attribute[item]" */
static bool field_value(struct jinja_run *run, struct cursor field, const struct jinja_call *args,
                        uint32_t *next, struct jinja_value *ret) {
    struct cursor name = {field.at, field.at};
    while (name.end < field.end && *name.end != '.' && *name.end != '[')
        name.end++;
    if (!field_start(run, name, args, next, ret))
        return false;
    for (const char *at = name.end; at < field.end;) {
        bool item = *at == '[';
        const char *start = at + 1, *stop = start;
        while (stop < field.end && (item ? *stop != ']' : *stop != '.' && *stop != '['))
            stop++;
        if (stop == start || (item && stop == field.end))
            return bad_format(run, "an attribute or item without a name");
        struct jinja_value part = jinja_borrow(start, (size_t)(stop - start));
        const char *text = jinja_cstr(run, part);
        if (!text)
            return false;
        char *end;
        long long number = strtoll(text, &end, 10);
        if (item && !*end && *text >= '0' && *text <= '9')
            part = jinja_int(number);
        if (!(item ? jinja_get_item(run, *ret, part, ret)
                   : jinja_get_attribute(run, *ret, text, ret)))
            return false;
        at = stop + item;
    }
    return true;
}

static bool format_field(struct jinja_run *run, struct cursor field, const struct jinja_call *args,
                         uint32_t *next, struct buf *b) {
    size_t len = (size_t)(field.end - field.at);
    const char *colon = memchr(field.at, ':', len);
    struct cursor spec = {colon ? colon + 1 : field.end, field.end};
    const char *name_end = colon ? colon : field.end;
    char conversion = 0;
    if (name_end - field.at >= 2 && name_end[-2] == '!') {
        conversion = name_end[-1];
        name_end -= 2;
    }
    if (conversion && !strchr("rsa", conversion))
        return bad_format(run, "a conversion that is not !r or !s");
    struct jinja_value v = {0};
    if (!field_value(run, (struct cursor){field.at, name_end}, args, next, &v))
        return false;
    AUTO_BUF text = BUF_INIT;
    if (conversion) {
        if (!(conversion == 's' ? jinja_print(run, v, &text) : jinja_print_repr(run, v, &text)) ||
            !jinja_string(run, text.data ? text.data : "", text.len, &v))
            return false;
    }
    return format_value(run, v, spec, b);
}

bool jinja_format_braces(struct jinja_run *run, struct jinja_value format,
                         const struct jinja_call *args, struct jinja_value *ret) {
    AUTO_BUF b = BUF_INIT;
    uint32_t next = 0;
    const char *end = format.text + format.len;
    for (const char *at = format.text; at < end; at++) {
        if (*at != '{' && *at != '}') {
            buf_putc(&b, *at);
        } else if (at + 1 < end && at[1] == *at) {
            buf_putc(&b, *at++);
        } else if (*at == '}') {
            return bad_format(run, "a single '}'");
        } else {
            const char *close = memchr(at, '}', (size_t)(end - at));
            if (!close || memchr(at + 1, '{', (size_t)(close - at - 1)))
                return bad_format(run, "a '{' that is not closed");
            if (!format_field(run, (struct cursor){at + 1, close}, args, &next, &b))
                return false;
            at = close;
        }
    }
    return jinja_string(run, b.data ? b.data : "", b.len, ret);
}

/* %-formats */

struct percent {
    struct jinja_value args;
    uint32_t next; /* of a tuple, or of the only value */
};

static bool next_arg(struct jinja_run *run, struct percent *p, struct jinja_value *ret) {
    bool tuple = p->args.kind == JINJA_TUPLE;
    if (p->next >= (tuple ? p->args.list->len : 1))
        return jinja_fail(run, ERR_INVALID, "not enough arguments for format string");
    *ret = tuple ? p->args.list->items[p->next] : p->args;
    p->next++;
    return true;
}

static bool named_arg(struct jinja_run *run, struct percent *p, struct cursor *c,
                      struct jinja_value *ret) {
    const char *close = memchr(c->at, ')', (size_t)(c->end - c->at));
    if (!close)
        return bad_format(run, "incomplete format key");
    if (p->args.kind != JINJA_DICT)
        return bad_format(run, "format requires a mapping");
    struct jinja_value *v = jinja_dict_get_text(run, p->args.dict, c->at, (size_t)(close - c->at));
    if (!v)
        return jinja_fail(run, ERR_INVALID, "format: no key '%.*s'", (int)(close - c->at), c->at);
    *ret = *v;
    c->at = close + 1;
    p->next = 1;
    return true;
}

/* Flags, width and precision behind '%'. */
static bool percent_spec(struct jinja_run *run, struct percent *p, struct cursor *c,
                         struct spec *s) {
    *s = (struct spec){.fill = " ", .align = '>', .precision = -1};
    for (; c->at < c->end && strchr("-+ #0", *c->at); c->at++) {
        if (*c->at == '-')
            s->align = '<';
        else if (*c->at == '0' && s->align != '<')
            s->align = '=';
        else if (*c->at == '#')
            s->alternate = true;
        else if (*c->at != '0' && s->sign != '+')
            s->sign = *c->at;
    }
    if (s->align == '=')
        strcpy(s->fill, "0");
    struct jinja_value star = {0};
    if (c->at < c->end && *c->at == '*') {
        c->at++;
        if (!next_arg(run, p, &star) || !jinja_arg_int(run, star, "format: *", &s->width))
            return false;
        if (s->width > JINJA_FORMAT_WIDTH_MAX)
            return jinja_fail(run, ERR_EXHAUSTED, "format: a width above %d",
                              JINJA_FORMAT_WIDTH_MAX);
    } else if (!read_number(run, c, &s->width)) {
        return false;
    }
    if (c->at < c->end && *c->at == '.') {
        c->at++;
        if (!read_number(run, c, &s->precision))
            return false;
    }
    while (c->at < c->end && strchr("hlL", *c->at))
        c->at++;
    return true;
}

static bool percent_value(struct jinja_run *run, struct spec *s, struct jinja_value v,
                          struct buf *b) {
    AUTO_BUF text = BUF_INIT;
    switch (s->type) {
    case 's':
    case 'r':
    case 'a':
        if (!(s->type == 's' ? jinja_print(run, v, &text) : jinja_print_repr(run, v, &text)))
            return false;
        if (s->align == '=') {
            s->align = '>';
            strcpy(s->fill, " ");
        }
        return format_text(run, s, jinja_borrow(text.data ? text.data : "", text.len), b);
    case 'c':
        if (v.kind != JINJA_STRING || jinja_text_count(v.text, v.len) != 1)
            return bad_format(run, "%c requires one character");
        return format_text(run, s, v, b);
    case 'd':
    case 'i':
    case 'u':
        if (v.kind == JINJA_FLOAT && v.real > -9e18 && v.real < 9e18)
            v = jinja_int((int64_t)v.real);
        s->type = 'd';
        break;
    case 'x':
    case 'X':
    case 'o':
        if (v.kind == JINJA_FLOAT)
            return jinja_fail(run, ERR_INVALID, "%%%c format: an integer is required", s->type);
        break;
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        break;
    default:
        return jinja_fail(run, ERR_INVALID, "unsupported format character 0x%02x",
                          (unsigned char)s->type);
    }
    if (!jinja_is_number(v))
        return jinja_fail(run, ERR_INVALID, "%%%c format: a number is required, not %s", s->type,
                          jinja_type_name(v));
    return format_number(run, s, v, b);
}

bool jinja_format_percent(struct jinja_run *run, struct jinja_value format, struct jinja_value args,
                          struct jinja_value *ret) {
    AUTO_BUF b = BUF_INIT;
    struct percent p = {.args = args};
    struct cursor c = {format.text, format.text + format.len};
    while (c.at < c.end) {
        const char *percent = memchr(c.at, '%', (size_t)(c.end - c.at));
        buf_append(&b, c.at, (size_t)((percent ? percent : c.end) - c.at));
        if (!percent)
            break;
        c.at = percent + 1;
        if (c.at < c.end && *c.at == '%') {
            buf_putc(&b, *c.at++);
            continue;
        }
        struct jinja_value v = {0};
        struct spec s;
        if (c.at < c.end && *c.at == '(') {
            c.at++;
            if (!named_arg(run, &p, &c, &v))
                return false;
        }
        if (!percent_spec(run, &p, &c, &s))
            return false;
        if (c.at == c.end)
            return bad_format(run, "incomplete format");
        s.type = *c.at++;
        if (v.kind == JINJA_ABSENT && !next_arg(run, &p, &v))
            return false;
        if (!percent_value(run, &s, v, &b))
            return false;
    }
    bool left = args.kind == JINJA_TUPLE  ? p.next < args.list->len
                : args.kind == JINJA_DICT ? false
                                          : p.next == 0;
    if (left)
        return jinja_fail(run, ERR_INVALID, "not all arguments converted during string formatting");
    return jinja_string(run, b.data ? b.data : "", b.len, ret);
}
