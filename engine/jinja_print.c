/* Text forms of values.
 *
 * str() and repr() are Python's: True, None, 'it''s' with the quote that needs no escape, 1.0 and
 * 1e+16, lists and dictionaries by the repr() of their parts. JSON is Python's json.dumps() with
 * the defaults that Transformers gives its tojson filter: ", " and ": " between parts, no escapes
 * for what is not ASCII. Both walks charge a step per value, so shared parts cannot explode. */
#include "engine/jinja_print.h"

#include <math.h>
#include <stdio.h>

#include "engine/jinja_ast.h"
#include "engine/jinja_text.h"

size_t jinja_print_float(double d, char text[JINJA_FLOAT_BYTES_MAX]) {
    const size_t size = JINJA_FLOAT_BYTES_MAX;
    if (isnan(d) || isinf(d))
        return (size_t)snprintf(text, size, "%s", isnan(d) ? "nan" : d < 0 ? "-inf" : "inf");
    char digits[JINJA_FLOAT_BYTES_MAX];
    int precision = 1;
    do
        snprintf(digits, sizeof(digits), "%.*e", precision - 1, d);
    while (strtod(digits, NULL) != d && precision++ < 17);
    const char *e = strchr(digits, 'e');
    int exponent = (int)strtol(e + 1, NULL, 10);
    if (exponent >= 16 || exponent < -4)
        return (size_t)snprintf(text, size, "%.*se%+03d", (int)(e - digits), digits, exponent);
    int decimals = precision - 1 - exponent;
    return (size_t)snprintf(text, size, "%.*f", decimals > 1 ? decimals : 1, d);
}

/* The common start of every step down: budget, depth and size. */
static bool visit(struct jinja_run *run, int depth, const struct buf *b) {
    if (depth >= JINJA_VALUE_DEPTH_MAX)
        return jinja_fail(run, ERR_EXHAUSTED, "values nest deeper than %d", JINJA_VALUE_DEPTH_MAX);
    if (b->len > JINJA_OUTPUT_BYTES_MAX)
        return jinja_fail(run, ERR_EXHAUSTED, "a printed value is longer than %d bytes",
                          JINJA_OUTPUT_BYTES_MAX);
    return jinja_spend(run, 1);
}

static bool repr_text(struct jinja_run *run, struct jinja_value v, struct buf *b) {
    bool single = memchr(v.text, '\'', v.len), dbl = memchr(v.text, '"', v.len);
    char quote = single && !dbl ? '"' : '\'';
    buf_putc(b, quote);
    for (size_t i = 0, n; i < v.len; i += n) {
        uint32_t cp = jinja_text_decode(v.text + i, v.len - i, &n);
        if (cp == (unsigned char)quote || cp == '\\')
            buf_printf(b, "\\%c", (char)cp);
        else if (cp == '\n' || cp == '\r' || cp == '\t')
            buf_puts(b, cp == '\n' ? "\\n" : cp == '\r' ? "\\r" : "\\t");
        else if (jinja_text_is_printable(cp))
            buf_append(b, v.text + i, n);
        else
            buf_printf(b, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
    }
    buf_putc(b, quote);
    return jinja_spend(run, v.len / JINJA_BYTES_PER_STEP);
}

static bool repr_at(struct jinja_run *run, struct jinja_value v, int depth, struct buf *b);

static bool repr_items(struct jinja_run *run, const struct jinja_list *list, const char *open,
                       const char *close, int depth, struct buf *b) {
    buf_puts(b, open);
    for (uint32_t i = 0; i < list->len; i++) {
        if (i)
            buf_puts(b, ", ");
        if (!repr_at(run, list->items[i], depth + 1, b))
            return false;
    }
    buf_puts(b, close);
    return true;
}

static bool repr_dict(struct jinja_run *run, const struct jinja_dict *d, int depth, struct buf *b) {
    buf_putc(b, '{');
    for (uint32_t i = 0; i < d->len; i++) {
        if (i)
            buf_puts(b, ", ");
        if (!repr_at(run, d->entries[i].key, depth + 1, b))
            return false;
        buf_puts(b, ": ");
        if (!repr_at(run, d->entries[i].value, depth + 1, b))
            return false;
    }
    buf_putc(b, '}');
    return true;
}

static void repr_range(const struct jinja_list *r, struct buf *b) {
    buf_printf(b, "range(%lld, %lld", (long long)r->start, (long long)r->stop);
    if (r->step != 1)
        buf_printf(b, ", %lld", (long long)r->step);
    buf_putc(b, ')');
}

/* Lists and the like; everything that has parts. */
static bool repr_parts(struct jinja_run *run, struct jinja_value v, int depth, struct buf *b) {
    switch ((enum jinja_kind)v.kind) {
    case JINJA_LIST:
        return repr_items(run, v.list, "[", "]", depth, b);
    case JINJA_TUPLE:
        return repr_items(run, v.list, "(", v.list->len == 1 ? ",)" : ")", depth, b);
    case JINJA_VIEW:
        buf_puts(b, v.list->word);
        return repr_items(run, v.list, "([", "])", depth, b);
    case JINJA_NAMESPACE:
        buf_puts(b, "<Namespace ");
        if (!repr_dict(run, v.dict, depth, b))
            return false;
        buf_putc(b, '>');
        return true;
    default:
        return repr_dict(run, v.dict, depth, b);
    }
}

static bool repr_at(struct jinja_run *run, struct jinja_value v, int depth, struct buf *b) {
    char number[JINJA_FLOAT_BYTES_MAX];
    if (!visit(run, depth, b))
        return false;
    switch ((enum jinja_kind)v.kind) {
    case JINJA_UNDEFINED:
        buf_puts(b, "Undefined");
        return true;
    case JINJA_NONE:
        buf_puts(b, "None");
        return true;
    case JINJA_BOOL:
        buf_puts(b, v.boolean ? "True" : "False");
        return true;
    case JINJA_INT:
        buf_printf(b, "%lld", (long long)v.integer);
        return true;
    case JINJA_FLOAT:
        buf_append(b, number, jinja_print_float(v.real, number));
        return true;
    case JINJA_STRING:
        return repr_text(run, v, b);
    case JINJA_RANGE:
        repr_range(v.list, b);
        return true;
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_VIEW:
    case JINJA_DICT:
    case JINJA_NAMESPACE:
        return repr_parts(run, v, depth, b);
    case JINJA_LOOP:
        buf_printf(b, "<LoopContext %u/%u>", v.loop->index + 1, v.loop->len);
        return true;
    case JINJA_MACRO:
        buf_printf(b, "<Macro '%s'>", v.macro->def->name);
        return true;
    case JINJA_METHOD:
        buf_printf(b, "<method %s>", v.bound->method->name);
        return true;
    case JINJA_FUNCTION:
        buf_printf(b, "<function %s>", v.function->name);
        return true;
    default:
        buf_printf(b, "<%s>", jinja_type_name(v));
        return true;
    }
}

bool jinja_print_repr(struct jinja_run *run, struct jinja_value v, struct buf *b) {
    return repr_at(run, v, 0, b);
}

bool jinja_print(struct jinja_run *run, struct jinja_value v, struct buf *b) {
    if (v.kind == JINJA_STRING) {
        buf_append(b, v.text, v.len);
        return visit(run, 0, b) && jinja_spend(run, v.len / JINJA_BYTES_PER_STEP);
    }
    if (v.kind == JINJA_UNDEFINED)
        return true;
    return repr_at(run, v, 0, b);
}

bool jinja_to_string(struct jinja_run *run, struct jinja_value v, struct jinja_value *ret) {
    if (v.kind == JINJA_STRING) {
        *ret = v;
        return true;
    }
    AUTO_BUF b = BUF_INIT;
    return jinja_print(run, v, &b) && jinja_string(run, b.data ? b.data : "", b.len, ret);
}

/* JSON */

static bool json_text(struct jinja_run *run, struct jinja_value v, bool escape_ascii,
                      struct buf *b) {
    static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
    buf_putc(b, '"');
    size_t plain = 0;
    for (size_t i = 0, n; i < v.len; i += n) {
        unsigned char c = (unsigned char)v.text[i];
        n = 1;
        bool special = c < 0x20 || c == '"' || c == '\\' || (escape_ascii && c >= 0x7f);
        if (!special)
            continue;
        buf_append(b, v.text + plain, i - plain);
        const char *simple = c ? strchr(from, c) : NULL;
        uint32_t cp = jinja_text_decode(v.text + i, v.len - i, &n);
        if (simple)
            buf_printf(b, "\\%c", to[simple - from]);
        else if (cp >= 0x10000)
            buf_printf(b, "\\u%04x\\u%04x", 0xd800 + ((cp - 0x10000) >> 10),
                       0xdc00 + ((cp - 0x10000) & 0x3ff));
        else
            buf_printf(b, "\\u%04x", cp);
        plain = i + n;
    }
    buf_append(b, v.text + plain, v.len - plain);
    buf_putc(b, '"');
    return jinja_spend(run, v.len / JINJA_BYTES_PER_STEP);
}

/* null, true, numbers; false for any other kind, without an error. */
static bool json_scalar(struct jinja_value v, struct buf *b) {
    char number[JINJA_FLOAT_BYTES_MAX];
    switch ((enum jinja_kind)v.kind) {
    case JINJA_NONE:
        buf_puts(b, "null");
        return true;
    case JINJA_BOOL:
        buf_puts(b, v.boolean ? "true" : "false");
        return true;
    case JINJA_INT:
        buf_printf(b, "%lld", (long long)v.integer);
        return true;
    case JINJA_FLOAT:
        if (isnan(v.real) || isinf(v.real))
            buf_puts(b, isnan(v.real) ? "NaN" : v.real < 0 ? "-Infinity" : "Infinity");
        else
            buf_append(b, number, jinja_print_float(v.real, number));
        return true;
    default:
        return false;
    }
}

static void json_newline(const struct jinja_json_options *opt, int depth, struct buf *b) {
    if (!opt->indent)
        return;
    buf_putc(b, '\n');
    for (int i = 0; i < depth; i++)
        buf_puts(b, opt->indent);
}

static bool json_at(struct jinja_run *run, struct jinja_value v,
                    const struct jinja_json_options *opt, int depth, struct buf *b);

static bool json_key(struct jinja_run *run, struct jinja_value key,
                     const struct jinja_json_options *opt, struct buf *b) {
    if (key.kind == JINJA_STRING)
        return json_text(run, key, opt->escape_ascii, b);
    buf_putc(b, '"');
    if (!json_scalar(key, b))
        return jinja_fail(run, ERR_INVALID, "keys must be str, int, float, bool or None, not %s",
                          jinja_type_name(key));
    buf_putc(b, '"');
    return true;
}

static int entry_order(const void *a, const void *b) {
    const struct jinja_value x = ((const struct jinja_entry *)a)->key;
    const struct jinja_value y = ((const struct jinja_entry *)b)->key;
    int r = memcmp(x.text, y.text, x.len < y.len ? x.len : y.len);
    return r ? r : (x.len > y.len) - (x.len < y.len);
}

static bool json_sorted(struct jinja_run *run, const struct jinja_dict *d,
                        const struct jinja_entry **ret) {
    struct jinja_entry *copy = jinja_alloc(run, d->len, sizeof(*copy));
    if (!copy)
        return false;
    for (uint32_t i = 0; i < d->len; i++) {
        copy[i] = d->entries[i];
        if (copy[i].key.kind != JINJA_STRING)
            return jinja_fail(run, ERR_INVALID, "sort_keys needs keys that are strings, not %s",
                              jinja_type_name(copy[i].key));
    }
    qsort(copy, d->len, sizeof(*copy), entry_order);
    *ret = copy;
    return jinja_spend(run, d->len);
}

static bool json_dict(struct jinja_run *run, const struct jinja_dict *d,
                      const struct jinja_json_options *opt, int depth, struct buf *b) {
    const struct jinja_entry *entries = d->entries;
    if (!d->len) {
        buf_puts(b, "{}");
        return true;
    }
    if (opt->sort_keys && !json_sorted(run, d, &entries))
        return false;
    buf_putc(b, '{');
    for (uint32_t i = 0; i < d->len; i++) {
        if (i)
            buf_puts(b, opt->item_separator);
        json_newline(opt, depth + 1, b);
        if (!json_key(run, entries[i].key, opt, b))
            return false;
        buf_puts(b, opt->key_separator);
        if (!json_at(run, entries[i].value, opt, depth + 1, b))
            return false;
    }
    json_newline(opt, depth, b);
    buf_putc(b, '}');
    return true;
}

static bool json_list(struct jinja_run *run, const struct jinja_list *list,
                      const struct jinja_json_options *opt, int depth, struct buf *b) {
    if (!list->len) {
        buf_puts(b, "[]");
        return true;
    }
    buf_putc(b, '[');
    for (uint32_t i = 0; i < list->len; i++) {
        if (i)
            buf_puts(b, opt->item_separator);
        json_newline(opt, depth + 1, b);
        if (!json_at(run, list->items[i], opt, depth + 1, b))
            return false;
    }
    json_newline(opt, depth, b);
    buf_putc(b, ']');
    return true;
}

static bool json_at(struct jinja_run *run, struct jinja_value v,
                    const struct jinja_json_options *opt, int depth, struct buf *b) {
    if (!visit(run, depth, b))
        return false;
    if (json_scalar(v, b))
        return true;
    if (v.kind == JINJA_STRING)
        return json_text(run, v, opt->escape_ascii, b);
    if (v.kind == JINJA_DICT)
        return json_dict(run, v.dict, opt, depth, b);
    if (v.kind == JINJA_LIST || v.kind == JINJA_TUPLE)
        return json_list(run, v.list, opt, depth, b);
    return jinja_fail(run, ERR_INVALID, "Object of type %s is not JSON serializable",
                      jinja_type_name(v));
}

bool jinja_print_json(struct jinja_run *run, struct jinja_value v,
                      const struct jinja_json_options *opt, struct buf *b) {
    return json_at(run, v, opt, 0, b);
}
