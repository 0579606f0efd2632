/* The filters, in three groups: of text, of sequences, of anything.
 *
 * Lazy filters of Jinja (map, select, unique...) give an iterator: it can be walked once and has no
 * length. Here it is computed at once, which only an error in an item never reached could tell. */
#include "engine/jinja_filters.h"

#include <errno.h>
#include <math.h>

#include "engine/jinja_access.h"
#include "engine/jinja_format.h"
#include "engine/jinja_predicates.h"
#include "engine/jinja_print.h"
#include "engine/jinja_sequence.h"
#include "engine/jinja_string.h"
#include "engine/jinja_text.h"

enum { INDENT_WIDTH_MAX = 1024 };

/* The signature of every filter here. */
#define FILTER(name)                                                                               \
    static bool name(struct jinja_run *run, struct jinja_value self,                               \
                     const struct jinja_value *args, struct jinja_value *ret)

/* Text */

static bool case_filter(struct jinja_run *run, struct jinja_value self, enum jinja_case how,
                        struct jinja_value *ret) {
    return jinja_to_string(run, self, &self) && jinja_string_case(run, self, how, ret);
}

FILTER(filter_upper) {
    return case_filter(run, self, JINJA_UPPER, ret);
}
FILTER(filter_lower) {
    return case_filter(run, self, JINJA_LOWER, ret);
}
FILTER(filter_capitalize) {
    return case_filter(run, self, JINJA_CAPITALIZE, ret);
}

static bool starts_word_behind(uint32_t cp) {
    return jinja_text_is_space(cp) || (cp < 0x80 && cp && strchr("-({[<", (int)cp));
}

/* Unlike str.title(), words start behind white space, '-' and opening brackets only. */
FILTER(filter_title) {
    if (!jinja_to_string(run, self, &self))
        return false;
    *ret = jinja_literal("");
    for (size_t i = 0, n; i < self.len; i += n) {
        bool marks = starts_word_behind(jinja_text_decode(self.text + i, self.len - i, &n));
        size_t first = n;
        while (i + n < self.len) {
            size_t more;
            uint32_t cp = jinja_text_decode(self.text + i + n, self.len - i - n, &more);
            if (starts_word_behind(cp) != marks)
                break;
            n += more;
        }
        struct jinja_value head = jinja_borrow(self.text + i, first), tail = {0};
        if (!jinja_string_case(run, head, JINJA_UPPER, &head) ||
            !jinja_string_case(run, jinja_borrow(self.text + i + first, n - first), JINJA_LOWER,
                               &tail) ||
            !jinja_concat(run, *ret, head, ret) || !jinja_concat(run, *ret, tail, ret))
            return false;
    }
    return true;
}

FILTER(filter_trim) {
    return jinja_to_string(run, self, &self) &&
           jinja_string_strip(run, self, args[0], JINJA_STRIP_LEFT | JINJA_STRIP_RIGHT, ret);
}

FILTER(filter_string) {
    return jinja_to_string(run, self, ret);
}

FILTER(filter_replace) {
    int64_t limit = -1;
    struct jinja_value old, new;
    return jinja_to_string(run, self, &self) && jinja_to_string(run, args[0], &old) &&
           jinja_to_string(run, args[1], &new) &&
           jinja_arg_int(run, args[2], "replace: count", &limit) &&
           jinja_string_replace(run, self, old, new, limit, ret);
}

FILTER(filter_center) {
    int64_t width = 80;
    return jinja_to_string(run, self, &self) &&
           jinja_arg_int(run, args[0], "center: width", &width) &&
           jinja_string_pad(run, self, width, jinja_literal(" "), JINJA_ALIGN_CENTER, ret);
}

static bool filter_format(struct jinja_run *run, struct jinja_value self,
                          const struct jinja_call *call, struct jinja_value *ret) {
    struct jinja_value values = jinja_list_of(run, JINJA_TUPLE, NULL, call->pos, call->num_pos);
    if (call->num_pos && call->num_named)
        return jinja_fail(run, ERR_INVALID, "format takes positional or named arguments, not both");
    if (call->num_named) {
        struct jinja_dict *d = jinja_dict_create(run);
        for (uint32_t i = 0; i < call->num_named; i++)
            if (!jinja_dict_set(run, d, jinja_literal(call->names[i]), call->named[i]))
                return false;
        values = (struct jinja_value){.kind = JINJA_DICT, .dict = d};
    }
    return jinja_to_string(run, self, &self) && jinja_format_percent(run, self, values, ret);
}

/* The text that indents by one level: blanks, or a string as it is. */
static bool indent_text(struct jinja_run *run, struct jinja_value v, int64_t width,
                        struct jinja_value *ret) {
    if (v.kind == JINJA_STRING && v.len <= INDENT_WIDTH_MAX) {
        *ret = v;
        return true;
    }
    if (!jinja_arg_int(run, v, "indent: width", &width))
        return false;
    if (width > INDENT_WIDTH_MAX)
        return jinja_fail(run, ERR_EXHAUSTED, "an indentation above %d", INDENT_WIDTH_MAX);
    return jinja_string_repeat(run, jinja_literal(" "), width, ret);
}

FILTER(filter_indent) {
    struct jinja_value indent = {0}, lines = {0}, text = {0};
    bool first = jinja_truth(args[1]), blank = jinja_truth(args[2]);
    if (!jinja_arg_text(run, self, "indent: the text", &text) ||
        !indent_text(run, args[0], 4, &indent) ||
        !jinja_concat(run, text, jinja_literal("\n"), &text) ||
        !jinja_string_lines(run, text, false, &lines))
        return false;
    AUTO_BUF b = BUF_INIT;
    for (uint32_t i = 0; i < lines.list->len && b.len <= JINJA_MEMORY_BYTES_MAX; i++) {
        struct jinja_value line = lines.list->items[i];
        if (i)
            buf_putc(&b, '\n');
        if (i ? line.len || blank : first)
            buf_append(&b, indent.text, indent.len);
        buf_append(&b, line.text, line.len);
    }
    return jinja_string(run, b.data ? b.data : "", b.len, ret);
}

FILTER(filter_truncate) {
    int64_t length = 255, leeway = 5;
    struct jinja_value text, end = jinja_literal("...");
    if (!jinja_arg_text(run, self, "truncate: the text", &text) ||
        !jinja_arg_int(run, args[0], "truncate: length", &length) ||
        !jinja_arg_text(run, args[2], "truncate: end", &end) ||
        !jinja_arg_int(run, args[3], "truncate: leeway", &leeway))
        return false;
    int64_t end_count = (int64_t)jinja_text_count(end.text, end.len);
    if (length < end_count || leeway < 0 || length > INT32_MAX || leeway > INT32_MAX)
        return jinja_fail(run, ERR_INVALID, "truncate: length or leeway out of range");
    if ((int64_t)jinja_text_count(text.text, text.len) <= length + leeway) {
        *ret = text;
        return true;
    }
    size_t cut = jinja_text_offset(text.text, text.len, (size_t)(length - end_count));
    const char *space = jinja_truth(args[1]) ? NULL : memrchr(text.text, ' ', cut);
    return jinja_concat(run, jinja_borrow(text.text, space ? (size_t)(space - text.text) : cut),
                        end, ret);
}

FILTER(filter_wordcount) {
    int64_t words = 0;
    bool inside = false;
    if (!jinja_to_string(run, self, &self))
        return false;
    for (size_t i = 0, n; i < self.len; i += n) {
        bool word = jinja_text_is_word(jinja_text_decode(self.text + i, self.len - i, &n));
        words += word && !inside;
        inside = word;
    }
    *ret = jinja_int(words);
    return jinja_spend(run, self.len / 8);
}

FILTER(filter_escape) {
    AUTO_BUF b = BUF_INIT;
    if (!jinja_to_string(run, self, &self))
        return false;
    for (size_t i = 0; i < self.len && b.len <= JINJA_MEMORY_BYTES_MAX; i++) {
        char c = self.text[i];
        const char *entity = c == '&'    ? "&amp;"
                             : c == '<'  ? "&lt;"
                             : c == '>'  ? "&gt;"
                             : c == '\'' ? "&#39;"
                             : c == '"'  ? "&#34;"
                                         : NULL;
        if (entity)
            buf_puts(&b, entity);
        else
            buf_putc(&b, c);
    }
    return jinja_string(run, b.data ? b.data : "", b.len, ret);
}

static bool url_quote(struct jinja_run *run, struct jinja_value v, bool query, struct buf *b) {
    if (!jinja_to_string(run, v, &v))
        return false;
    for (size_t i = 0; i < v.len && b->len <= JINJA_MEMORY_BYTES_MAX; i++) {
        unsigned char c = (unsigned char)v.text[i];
        bool plain = c < 0x80 && c && (jinja_text_is_word(c) || strchr("-.~", c));
        if (plain || (c == '/' && !query))
            buf_putc(b, (char)c);
        else if (c == ' ' && query)
            buf_putc(b, '+');
        else
            buf_printf(b, "%%%02X", c);
    }
    return jinja_spend(run, v.len / 8);
}

FILTER(filter_urlencode) {
    AUTO_BUF b = BUF_INIT;
    struct jinja_value *items, *pair;
    uint32_t len, two;
    if (self.kind != JINJA_DICT && !jinja_is_list(self))
        return url_quote(run, self, false, &b) &&
               jinja_string(run, b.data ? b.data : "", b.len, ret);
    if (!jinja_items(run, self, &items, &len))
        return false;
    for (uint32_t i = 0; i < len; i++) {
        struct jinja_value key = items[i], value;
        if (self.kind == JINJA_DICT) {
            value = self.dict->entries[i].value;
        } else {
            if (!jinja_items(run, items[i], &pair, &two))
                return false;
            if (two != 2)
                return jinja_fail(run, ERR_INVALID, "urlencode: item %u is no pair", i);
            key = pair[0];
            value = pair[1];
        }
        if (i)
            buf_putc(&b, '&');
        if (!url_quote(run, key, true, &b))
            return false;
        buf_putc(&b, '=');
        if (!url_quote(run, value, true, &b))
            return false;
    }
    return jinja_string(run, b.data ? b.data : "", b.len, ret);
}

/* Numbers */

/* The whole text as a number in Python's notation; false when it is none. */
static bool parse_int(struct jinja_run *run, struct jinja_value v, int base, int64_t *ret) {
    struct jinja_value text;
    if (!jinja_string_strip(run, v, (struct jinja_value){0}, 3, &text) || !text.len ||
        text.len > 70)
        return false;
    char digits[72];
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        bool between = i && i + 1 < text.len && text.text[i] == '_' && text.text[i + 1] != '_';
        if (!between)
            digits[n++] = text.text[i];
    }
    digits[n] = '\0';
    char *end;
    errno = 0;
    long long number = strtoll(digits, &end, base);
    if (*end || end == digits || errno || memchr(digits, '\0', n))
        return false;
    *ret = number;
    return true;
}

static bool parse_float(struct jinja_run *run, struct jinja_value v, double *ret) {
    struct jinja_value text;
    if (!jinja_string_strip(run, v, (struct jinja_value){0}, 3, &text) || !text.len ||
        text.len > 400 || memchr(text.text, 'x', text.len) || memchr(text.text, 'X', text.len) ||
        memchr(text.text, '(', text.len))
        return false;
    char digits[401], *end;
    memcpy(digits, text.text, text.len);
    digits[text.len] = '\0';
    *ret = strtod(digits, &end);
    return end == digits + text.len;
}

FILTER(filter_int) {
    int64_t base = 10, number = 0;
    double real = self.real;
    struct jinja_value fallback = args[0].kind == JINJA_ABSENT ? jinja_int(0) : args[0];
    if (!jinja_arg_int(run, args[1], "int: base", &base))
        return false;
    if (base != 0 && (base < 2 || base > 36))
        return jinja_fail(run, ERR_INVALID, "int: base must be 0 or 2 to 36");
    if (self.kind == JINJA_INT || self.kind == JINJA_BOOL) {
        *ret = jinja_int(jinja_whole(self));
        return true;
    }
    if (self.kind == JINJA_STRING && parse_int(run, self, (int)base, &number)) {
        *ret = jinja_int(number);
        return true;
    }
    bool usable =
        self.kind == JINJA_FLOAT || (self.kind == JINJA_STRING && parse_float(run, self, &real));
    usable = usable && real > -9.2e18 && real < 9.2e18;
    *ret = usable ? jinja_int((int64_t)real) : fallback;
    return self.kind != JINJA_UNDEFINED || jinja_fail_undefined(run, self);
}

FILTER(filter_float) {
    double real = 0;
    *ret = args[0].kind == JINJA_ABSENT ? jinja_float(0) : args[0];
    if (self.kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, self);
    if (self.kind == JINJA_FLOAT)
        *ret = self;
    else if (jinja_is_number(self))
        *ret = jinja_float(jinja_real(self));
    else if (self.kind == JINJA_STRING && parse_float(run, self, &real))
        *ret = jinja_float(real);
    return true;
}

static bool need_number(struct jinja_run *run, struct jinja_value v, const char *what) {
    if (v.kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, v);
    return jinja_is_number(v) ||
           jinja_fail(run, ERR_INVALID, "%s needs a number, not %s", what, jinja_type_name(v));
}

FILTER(filter_abs) {
    if (!need_number(run, self, "abs"))
        return false;
    if (self.kind == JINJA_FLOAT) {
        *ret = jinja_float(fabs(self.real));
        return true;
    }
    int64_t v = jinja_whole(self);
    if (v == INT64_MIN)
        return jinja_fail(run, ERR_INVALID, "an integer does not fit 64 bits");
    *ret = jinja_int(v < 0 ? -v : v);
    return true;
}

FILTER(filter_round) {
    int64_t precision = 0;
    struct jinja_value method = jinja_literal("common");
    if (!need_number(run, self, "round") ||
        !jinja_arg_int(run, args[0], "round: precision", &precision) ||
        !jinja_arg_text(run, args[1], "round: method", &method))
        return false;
    precision = precision > 300 ? 300 : precision < -300 ? -300 : precision;
    double v = jinja_real(self);
    double scale = pow(10, (double)precision);
    if (jinja_same_text(method, "ceil")) {
        *ret = jinja_float(ceil(v * scale) / scale);
    } else if (jinja_same_text(method, "floor")) {
        *ret = jinja_float(floor(v * scale) / scale);
    } else if (!jinja_same_text(method, "common")) {
        return jinja_fail(run, ERR_INVALID, "method must be common, ceil or floor");
    } else if (self.kind != JINJA_FLOAT && precision >= 0) {
        *ret = jinja_int(jinja_whole(self));
    } else if (precision < 0) {
        v = nearbyint(v * scale) / scale;
        *ret = self.kind == JINJA_FLOAT ? jinja_float(v) : jinja_int((int64_t)v);
    } else {
        char text[700]; /* 309 digits, a point, 300 more */
        snprintf(text, sizeof(text), "%.*f", (int)precision, v);
        *ret = jinja_float(strtod(text, NULL));
    }
    return true;
}

/* Anything */

FILTER(filter_default) {
    bool replace = self.kind == JINJA_UNDEFINED || (jinja_truth(args[1]) && !jinja_truth(self));
    *ret = !replace ? self : args[0].kind == JINJA_ABSENT ? jinja_literal("") : args[0];
    return true;
}

FILTER(filter_length) {
    uint32_t len;
    if (!jinja_length(run, self, &len))
        return false;
    *ret = jinja_int(len);
    return true;
}

FILTER(filter_attr) {
    struct jinja_value name;
    if (!jinja_arg_text(run, args[0], "attr: name", &name))
        return false;
    const char *text = jinja_cstr(run, name);
    if (!text)
        return false;
    if (self.kind == JINJA_DICT) { /* attributes only, never keys */
        struct jinja_value empty = {.kind = JINJA_DICT, .dict = jinja_dict_create(run)};
        struct jinja_value method;
        if (!jinja_get_attribute(run, empty, text, &method))
            return false;
        if (method.kind == JINJA_UNDEFINED) {
            *ret = method;
            return true;
        }
    }
    return jinja_get_attribute(run, self, text, ret);
}

/* separators=(item, key) */
static bool json_separators(struct jinja_run *run, struct jinja_value v,
                            struct jinja_json_options *opt) {
    bool pair = (v.kind == JINJA_TUPLE || v.kind == JINJA_LIST) && v.list->len == 2;
    if (!pair || v.list->items[0].kind != JINJA_STRING || v.list->items[1].kind != JINJA_STRING)
        return jinja_fail(run, ERR_INVALID, "tojson: separators must be two strings");
    opt->item_separator = jinja_cstr(run, v.list->items[0]);
    opt->key_separator = jinja_cstr(run, v.list->items[1]);
    return opt->item_separator && opt->key_separator;
}

FILTER(filter_tojson) {
    struct jinja_json_options opt = {
        .escape_ascii = jinja_truth(args[0]),
        .sort_keys = jinja_truth(args[3]),
        .item_separator = ", ",
        .key_separator = ": ",
    };
    if (args[1].kind != JINJA_ABSENT && args[1].kind != JINJA_NONE) {
        struct jinja_value indent = {0};
        if (!indent_text(run, args[1], 0, &indent))
            return false;
        opt.indent = jinja_cstr(run, indent);
        opt.item_separator = ",";
        if (!opt.indent)
            return false;
    }
    if (args[2].kind != JINJA_ABSENT && args[2].kind != JINJA_NONE &&
        !json_separators(run, args[2], &opt))
        return false;
    AUTO_BUF b = BUF_INIT;
    return jinja_print_json(run, self, &opt, &b) && jinja_string(run, b.data, b.len, ret);
}

static const struct jinja_builtin filters[] = {
    {"trim", 0, {"chars"}, .call = filter_trim},
    {"tojson", 0, {"ensure_ascii", "indent", "separators", "sort_keys"}, .call = filter_tojson},
    {"length", .call = filter_length},
    {"count", .call = filter_length},
    {"default", 0, {"default_value", "boolean"}, .call = filter_default},
    {"d", 0, {"default_value", "boolean"}, .call = filter_default},
    {"string", .call = filter_string},
    {"upper", .call = filter_upper},
    {"lower", .call = filter_lower},
    {"capitalize", .call = filter_capitalize},
    {"title", .call = filter_title},
    {"replace", 2, {"old", "new", "count"}, .call = filter_replace},
    {"center", 0, {"width"}, .call = filter_center},
    {"format", .call_raw = filter_format},
    {"indent", 0, {"width", "first", "blank"}, .call = filter_indent},
    {"truncate", 0, {"length", "killwords", "end", "leeway"}, .call = filter_truncate},
    {"wordcount", .call = filter_wordcount},
    {"escape", .call = filter_escape},
    {"e", .call = filter_escape},
    {"forceescape", .call = filter_escape},
    {"urlencode", .call = filter_urlencode},
    {"safe", .call = filter_string},
    {"int", 0, {"default", "base"}, .call = filter_int},
    {"float", 0, {"default"}, .call = filter_float},
    {"abs", .call = filter_abs},
    {"round", 0, {"precision", "method"}, .call = filter_round},
    {"attr", 1, {"name"}, .call = filter_attr},
    {0},
};

const struct jinja_builtin *jinja_filter_find(const char *name, size_t len) {
    const struct jinja_builtin *tables[] = {filters, jinja_sequence_filters};
    for (size_t t = 0; t < ARRAY_LEN(tables); t++)
        for (const struct jinja_builtin *f = tables[t]; f->name; f++)
            if (strlen(f->name) == len && memcmp(f->name, name, len) == 0)
                return f;
    return NULL;
}
