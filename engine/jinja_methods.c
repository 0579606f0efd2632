/* The methods of Python's types that a template may call, one table per type.
 *
 * Arguments arrive in the order of `params`, ABSENT where not given. Methods that would change
 * their object are listed by name only: they exist, and using them is an error. */
#include "engine/jinja_methods.h"

#include <math.h>

#include "engine/jinja_access.h"
#include "engine/jinja_format.h"
#include "engine/jinja_string.h"
#include "engine/jinja_text.h"

/* The signature of every method here. */
#define METHOD(name)                                                                               \
    static bool name(struct jinja_run *run, struct jinja_value self,                               \
                     const struct jinja_value *args, struct jinja_value *ret)

METHOD(str_upper) {
    return jinja_string_case(run, self, JINJA_UPPER, ret);
}
METHOD(str_lower) {
    return jinja_string_case(run, self, JINJA_LOWER, ret);
}
METHOD(str_capitalize) {
    return jinja_string_case(run, self, JINJA_CAPITALIZE, ret);
}
METHOD(str_title) {
    return jinja_string_case(run, self, JINJA_TITLE, ret);
}
METHOD(str_swapcase) {
    return jinja_string_case(run, self, JINJA_SWAPCASE, ret);
}
METHOD(str_strip) {
    return jinja_string_strip(run, self, args[0], JINJA_STRIP_LEFT | JINJA_STRIP_RIGHT, ret);
}
METHOD(str_lstrip) {
    return jinja_string_strip(run, self, args[0], JINJA_STRIP_LEFT, ret);
}
METHOD(str_rstrip) {
    return jinja_string_strip(run, self, args[0], JINJA_STRIP_RIGHT, ret);
}

METHOD(str_split) {
    int64_t limit = -1;
    return jinja_arg_int(run, args[1], "split: maxsplit", &limit) &&
           jinja_string_split(run, self, args[0], limit, false, ret);
}

METHOD(str_rsplit) {
    int64_t limit = -1;
    return jinja_arg_int(run, args[1], "rsplit: maxsplit", &limit) &&
           jinja_string_split(run, self, args[0], limit, true, ret);
}

METHOD(str_splitlines) {
    return jinja_string_lines(run, self, jinja_truth(args[0]), ret);
}

METHOD(str_replace) {
    int64_t limit = -1;
    struct jinja_value old, new;
    return jinja_arg_text(run, args[0], "replace: old", &old) &&
           jinja_arg_text(run, args[1], "replace: new", &new) &&
           jinja_arg_int(run, args[2], "replace: count", &limit) &&
           jinja_string_replace(run, self, old, new, limit, ret);
}

METHOD(str_join) {
    struct jinja_value *items;
    uint32_t len;
    AUTO_BUF b = BUF_INIT;
    if (!jinja_items(run, args[0], &items, &len))
        return false;
    for (uint32_t i = 0; i < len; i++) {
        if (items[i].kind != JINJA_STRING)
            return jinja_fail(run, ERR_INVALID, "join: item %u is not a string but %s", i,
                              jinja_type_name(items[i]));
        if (i)
            buf_append(&b, self.text, self.len);
        buf_append(&b, items[i].text, items[i].len);
        if (b.len > JINJA_MEMORY_BYTES_MAX)
            break;
    }
    return jinja_spend(run, len) && jinja_string(run, b.data ? b.data : "", b.len, ret);
}

/* Searching. Positions count code points; start and end cut as slices do. */

struct span {
    const char *text;
    size_t len;
    int64_t start; /* in code points */
    bool inside;   /* start is not behind the end */
};

static bool search_span(struct jinja_run *run, struct jinja_value s, struct jinja_value start,
                        struct jinja_value end, struct span *ret) {
    *ret = (struct span){.text = s.text, .len = s.len, .inside = true};
    if (start.kind == JINJA_ABSENT && end.kind == JINJA_ABSENT)
        return true;
    int64_t count = (int64_t)jinja_text_count(s.text, s.len), from = 0, to = count;
    if (!jinja_arg_int(run, start, "start", &from) || !jinja_arg_int(run, end, "end", &to) ||
        !jinja_spend(run, s.len / 8))
        return false;
    from += from < 0 ? count : 0;
    to += to < 0 ? count : 0;
    from = from < 0 ? 0 : from;
    to = to < 0 ? 0 : to > count ? count : to;
    ret->inside = from <= to;
    if (!ret->inside)
        return true;
    size_t a = jinja_text_offset(s.text, s.len, (size_t)from);
    size_t z = jinja_text_offset(s.text, s.len, (size_t)to);
    *ret = (struct span){.text = s.text + a, .len = z - a, .start = from, .inside = true};
    return true;
}

/* The index of the needle, -1 without one. */
static bool search(struct jinja_run *run, struct jinja_value self, const struct jinja_value *args,
                   bool from_right, int64_t *ret) {
    struct jinja_value needle;
    struct span s;
    if (!jinja_arg_text(run, args[0], "find: sub", &needle) ||
        !search_span(run, self, args[1], args[2], &s))
        return false;
    const char *hit = NULL;
    if (s.inside)
        hit = from_right ? jinja_text_rfind(s.text, s.len, needle.text, needle.len)
                         : jinja_text_find(s.text, s.len, needle.text, needle.len);
    *ret = hit ? s.start + (int64_t)jinja_text_count(s.text, (size_t)(hit - s.text)) : -1;
    return jinja_spend(run, 1 + s.len / JINJA_BYTES_PER_STEP);
}

static bool find_or_fail(struct jinja_run *run, struct jinja_value self,
                         const struct jinja_value *args, bool from_right, bool must,
                         struct jinja_value *ret) {
    int64_t at;
    if (!search(run, self, args, from_right, &at))
        return false;
    if (at < 0 && must)
        return jinja_fail(run, ERR_INVALID, "substring not found");
    *ret = jinja_int(at);
    return true;
}

METHOD(str_find) {
    return find_or_fail(run, self, args, false, false, ret);
}
METHOD(str_rfind) {
    return find_or_fail(run, self, args, true, false, ret);
}
METHOD(str_index) {
    return find_or_fail(run, self, args, false, true, ret);
}
METHOD(str_rindex) {
    return find_or_fail(run, self, args, true, true, ret);
}

METHOD(str_count) {
    struct jinja_value needle;
    struct span s;
    if (!jinja_arg_text(run, args[0], "count: sub", &needle) ||
        !search_span(run, self, args[1], args[2], &s))
        return false;
    int64_t n = 0;
    if (s.inside && !needle.len)
        n = (int64_t)jinja_text_count(s.text, s.len) + 1;
    const char *hit;
    while (s.inside && needle.len &&
           (hit = jinja_text_find(s.text, s.len, needle.text, needle.len))) {
        n++;
        s.len -= (size_t)(hit + needle.len - s.text);
        s.text = hit + needle.len;
    }
    *ret = jinja_int(n);
    return jinja_spend(run, 1 + self.len / 8);
}

/* startswith and endswith take one affix or a tuple of them. */
static bool has_affix(struct jinja_run *run, struct jinja_value self,
                      const struct jinja_value *args, bool at_end, struct jinja_value *ret) {
    struct span s;
    if (!search_span(run, self, args[1], args[2], &s))
        return false;
    bool tuple = args[0].kind == JINJA_TUPLE;
    uint32_t count = tuple ? args[0].list->len : 1;
    *ret = jinja_bool(false);
    for (uint32_t i = 0; i < count; i++) {
        struct jinja_value affix;
        if (!jinja_arg_text(run, tuple ? args[0].list->items[i] : args[0],
                            at_end ? "endswith: suffix" : "startswith: prefix", &affix))
            return false;
        ret->boolean |=
            s.inside && affix.len <= s.len &&
            memcmp(at_end ? s.text + s.len - affix.len : s.text, affix.text, affix.len) == 0;
    }
    return jinja_spend(run, count);
}

METHOD(str_startswith) {
    return has_affix(run, self, args, false, ret);
}
METHOD(str_endswith) {
    return has_affix(run, self, args, true, ret);
}

METHOD(str_removeprefix) {
    struct jinja_value affix;
    if (!jinja_arg_text(run, args[0], "removeprefix: prefix", &affix))
        return false;
    bool there = affix.len <= self.len && memcmp(self.text, affix.text, affix.len) == 0;
    *ret = there ? jinja_borrow(self.text + affix.len, self.len - affix.len) : self;
    return jinja_spend(run, 1 + affix.len / JINJA_BYTES_PER_STEP);
}

METHOD(str_removesuffix) {
    struct jinja_value affix;
    if (!jinja_arg_text(run, args[0], "removesuffix: suffix", &affix))
        return false;
    bool there = affix.len <= self.len &&
                 memcmp(self.text + self.len - affix.len, affix.text, affix.len) == 0;
    *ret = there ? jinja_borrow(self.text, self.len - affix.len) : self;
    return jinja_spend(run, 1 + affix.len / JINJA_BYTES_PER_STEP);
}

static bool partition(struct jinja_run *run, struct jinja_value self, struct jinja_value sep,
                      bool from_right, struct jinja_value *ret) {
    if (!jinja_arg_text(run, sep, "partition: sep", &sep) ||
        !jinja_spend(run, 1 + self.len / JINJA_BYTES_PER_STEP))
        return false;
    if (!sep.len)
        return jinja_fail(run, ERR_INVALID, "empty separator");
    const char *hit = from_right ? jinja_text_rfind(self.text, self.len, sep.text, sep.len)
                                 : jinja_text_find(self.text, self.len, sep.text, sep.len);
    struct jinja_value *parts = jinja_alloc_small(run, 3 * sizeof(*parts));
    parts[0] = parts[1] = parts[2] = jinja_literal("");
    if (hit) {
        size_t before = (size_t)(hit - self.text);
        parts[0] = jinja_borrow(self.text, before);
        parts[1] = sep;
        parts[2] = jinja_borrow(hit + sep.len, self.len - before - sep.len);
    } else {
        parts[from_right ? 2 : 0] = self;
    }
    *ret = jinja_list_of(run, JINJA_TUPLE, NULL, parts, 3);
    return true;
}

METHOD(str_partition) {
    return partition(run, self, args[0], false, ret);
}
METHOD(str_rpartition) {
    return partition(run, self, args[0], true, ret);
}

static bool justify(struct jinja_run *run, struct jinja_value self, const struct jinja_value *args,
                    enum jinja_align align, struct jinja_value *ret) {
    int64_t width = 0;
    struct jinja_value fill = jinja_literal(" ");
    return jinja_arg_int(run, args[0], "width", &width) &&
           jinja_arg_text(run, args[1], "fillchar", &fill) &&
           jinja_string_pad(run, self, width, fill, align, ret);
}

METHOD(str_ljust) {
    return justify(run, self, args, JINJA_ALIGN_LEFT, ret);
}
METHOD(str_rjust) {
    return justify(run, self, args, JINJA_ALIGN_RIGHT, ret);
}
METHOD(str_center) {
    return justify(run, self, args, JINJA_ALIGN_CENTER, ret);
}

METHOD(str_zfill) {
    int64_t width = 0;
    if (!jinja_arg_int(run, args[0], "zfill: width", &width))
        return false;
    bool sign = self.len && (self.text[0] == '-' || self.text[0] == '+');
    struct jinja_value number = jinja_borrow(self.text + sign, self.len - sign);
    return jinja_string_pad(run, number, width - sign, jinja_literal("0"), JINJA_ALIGN_RIGHT,
                            ret) &&
           (!sign || jinja_concat(run, jinja_borrow(self.text, 1), *ret, ret));
}

METHOD(str_expandtabs) {
    int64_t size = 8, column = 0;
    AUTO_BUF b = BUF_INIT;
    if (!jinja_arg_int(run, args[0], "expandtabs: tabsize", &size))
        return false;
    if (size < 0 || size > JINJA_FORMAT_WIDTH_MAX)
        return jinja_fail(run, ERR_INVALID, "expandtabs: tabsize not in 0..%d",
                          JINJA_FORMAT_WIDTH_MAX);
    for (size_t i = 0; i < self.len && b.len <= JINJA_MEMORY_BYTES_MAX; i++) {
        char c = self.text[i];
        if (c == '\t') {
            for (int64_t n = size ? size - column % size : 0; n > 0; n--, column++)
                buf_putc(&b, ' ');
            continue;
        }
        column = c == '\n' || c == '\r' ? 0 : column + (((unsigned char)c & 0xc0) != 0x80);
        buf_putc(&b, c);
    }
    return jinja_string(run, b.data ? b.data : "", b.len, ret);
}

static bool str_format(struct jinja_run *run, struct jinja_value self,
                       const struct jinja_call *call, struct jinja_value *ret) {
    return jinja_format_braces(run, self, call, ret);
}

METHOD(str_format_map) {
    if (args[0].kind != JINJA_DICT)
        return jinja_fail(run, ERR_INVALID, "format_map needs a mapping, not %s",
                          jinja_type_name(args[0]));
    const struct jinja_dict *d = args[0].dict;
    struct jinja_call call = {.num_named = d->len};
    call.names = jinja_alloc(run, d->len, sizeof(*call.names));
    call.named = jinja_alloc(run, d->len, sizeof(*call.named));
    if (!call.names || !call.named)
        return false;
    for (uint32_t i = 0; i < d->len; i++) {
        struct jinja_value key = d->entries[i].key;
        call.named[i] = d->entries[i].value;
        call.names[i] = key.kind == JINJA_STRING ? jinja_cstr(run, key) : "";
        if (!call.names[i])
            return false;
    }
    return jinja_format_braces(run, self, &call, ret);
}

/* Character classes: true when there are characters and all are of the class. */

static bool all_of(struct jinja_value s, bool (*is)(uint32_t cp), bool empty) {
    for (size_t i = 0, n; i < s.len; i += n)
        if (!is(jinja_text_decode(s.text + i, s.len - i, &n)))
            return false;
    return s.len || empty;
}

static bool is_alnum(uint32_t cp) {
    return cp != '_' && jinja_text_is_word(cp);
}
static bool is_ascii(uint32_t cp) {
    return cp < 0x80;
}

METHOD(str_isalpha) {
    *ret = jinja_bool(all_of(self, jinja_text_is_letter, false));
    return jinja_spend(run, self.len / 8);
}
METHOD(str_isdigit) {
    *ret = jinja_bool(all_of(self, jinja_text_is_digit, false));
    return jinja_spend(run, self.len / 8);
}
METHOD(str_isalnum) {
    *ret = jinja_bool(all_of(self, is_alnum, false));
    return jinja_spend(run, self.len / 8);
}
METHOD(str_isspace) {
    *ret = jinja_bool(all_of(self, jinja_text_is_space, false));
    return jinja_spend(run, self.len / 8);
}
METHOD(str_isascii) {
    *ret = jinja_bool(all_of(self, is_ascii, true));
    return jinja_spend(run, self.len / 8);
}
METHOD(str_isprintable) {
    *ret = jinja_bool(all_of(self, jinja_text_is_printable, true));
    return jinja_spend(run, self.len / 8);
}
METHOD(str_isidentifier) {
    bool digit = self.len && self.text[0] >= '0' && self.text[0] <= '9';
    *ret = jinja_bool(!digit && all_of(self, jinja_text_is_word, false));
    return jinja_spend(run, self.len / 8);
}
METHOD(str_isupper) {
    *ret = jinja_bool(jinja_string_is_upper(self));
    return jinja_spend(run, self.len / 8);
}
METHOD(str_islower) {
    *ret = jinja_bool(jinja_string_is_lower(self));
    return jinja_spend(run, self.len / 8);
}
METHOD(str_istitle) {
    struct jinja_value title, upper;
    if (!jinja_string_case(run, self, JINJA_TITLE, &title) ||
        !jinja_string_case(run, self, JINJA_SWAPCASE, &upper))
        return false;
    bool cased = upper.len != self.len || memcmp(upper.text, self.text, self.len) != 0;
    *ret =
        jinja_bool(cased && title.len == self.len && memcmp(title.text, self.text, self.len) == 0);
    return true;
}

/* Lists and tuples */

METHOD(list_index) {
    for (uint32_t i = 0; i < self.list->len; i++) {
        bool equal = false;
        if (!jinja_equal(run, self.list->items[i], args[0], &equal))
            return false;
        if (equal) {
            *ret = jinja_int(i);
            return true;
        }
    }
    return jinja_fail(run, ERR_INVALID, "index: the value is not in the %s", jinja_type_name(self));
}

METHOD(list_count) {
    int64_t n = 0;
    for (uint32_t i = 0; i < self.list->len; i++) {
        bool equal = false;
        if (!jinja_equal(run, self.list->items[i], args[0], &equal))
            return false;
        n += equal;
    }
    *ret = jinja_int(n);
    return true;
}

METHOD(same_again) {
    *ret = self; /* nothing changes in place, so a copy cannot be told from the original */
    return true;
}

/* Dictionaries */

METHOD(dict_get) {
    if (!jinja_hashable(run, args[0]))
        return jinja_fail(run, ERR_INVALID, "unhashable type: '%s'", jinja_type_name(args[0]));
    struct jinja_value *v = jinja_dict_get(run, self.dict, args[0]);
    *ret = v ? *v : args[1].kind == JINJA_ABSENT ? jinja_none() : args[1];
    return jinja_spend(run, 1);
}

static bool dict_view(struct jinja_run *run, const struct jinja_dict *d, const char *word,
                      struct jinja_value *ret) {
    struct jinja_value *items = jinja_alloc(run, d->len, sizeof(*items));
    if (!items)
        return false;
    for (uint32_t i = 0; i < d->len; i++) {
        items[i] = word[5] == 'k' ? d->entries[i].key : d->entries[i].value;
        if (word[5] == 'i' && !jinja_pair(run, d->entries[i].key, d->entries[i].value, &items[i]))
            return false;
    }
    *ret = jinja_list_of(run, JINJA_VIEW, word, items, d->len);
    return jinja_spend(run, d->len);
}

METHOD(dict_keys) {
    return dict_view(run, self.dict, "dict_keys", ret);
}
METHOD(dict_values) {
    return dict_view(run, self.dict, "dict_values", ret);
}
METHOD(dict_items) {
    return dict_view(run, self.dict, "dict_items", ret);
}

/* Numbers */

METHOD(float_is_integer) {
    *ret = jinja_bool(isfinite(self.real) && self.real == floor(self.real));
    return true;
}

METHOD(int_bit_length) {
    uint64_t v = self.integer < 0 ? 0 - (uint64_t)self.integer : (uint64_t)self.integer;
    *ret = jinja_int(v ? 64 - __builtin_clzll(v) : 0);
    return true;
}

/* loop, cycler, joiner */

static bool loop_cycle(struct jinja_run *run, struct jinja_value self,
                       const struct jinja_call *call, struct jinja_value *ret) {
    if (!call->num_pos)
        return jinja_fail(run, ERR_INVALID, "no items for cycling given");
    *ret = call->pos[self.loop->index % call->num_pos];
    return true;
}

static bool loop_changed(struct jinja_run *run, struct jinja_value self,
                         const struct jinja_call *call, struct jinja_value *ret) {
    struct jinja_value now = jinja_list_of(run, JINJA_TUPLE, NULL, call->pos, call->num_pos);
    bool equal = false;
    if (self.loop->changed.kind != JINJA_ABSENT &&
        !jinja_equal(run, now, self.loop->changed, &equal))
        return false;
    self.loop->changed = now;
    *ret = jinja_bool(!equal);
    return true;
}

METHOD(cycler_next) {
    struct jinja_cycler *c = self.cycler;
    *ret = c->items[c->next];
    c->next = (c->next + 1) % c->len;
    return true;
}

METHOD(cycler_reset) {
    self.cycler->next = 0;
    *ret = jinja_none();
    return true;
}

static const struct jinja_builtin str_methods[] = {
    {"strip", 0, {"chars"}, .call = str_strip},
    {"lstrip", 0, {"chars"}, .call = str_lstrip},
    {"rstrip", 0, {"chars"}, .call = str_rstrip},
    {"split", 0, {"sep", "maxsplit"}, .call = str_split},
    {"rsplit", 0, {"sep", "maxsplit"}, .call = str_rsplit},
    {"splitlines", 0, {"keepends"}, .call = str_splitlines},
    {"startswith", 1, {"prefix", "start", "end"}, .call = str_startswith},
    {"endswith", 1, {"suffix", "start", "end"}, .call = str_endswith},
    {"replace", 2, {"old", "new", "count"}, .call = str_replace},
    {"join", 1, {"iterable"}, .call = str_join},
    {"upper", .call = str_upper},
    {"lower", .call = str_lower},
    {"casefold", .call = str_lower},
    {"capitalize", .call = str_capitalize},
    {"title", .call = str_title},
    {"swapcase", .call = str_swapcase},
    {"format", .call_raw = str_format},
    {"format_map", 1, {"mapping"}, .call = str_format_map},
    {"find", 1, {"sub", "start", "end"}, .call = str_find},
    {"rfind", 1, {"sub", "start", "end"}, .call = str_rfind},
    {"index", 1, {"sub", "start", "end"}, .call = str_index},
    {"rindex", 1, {"sub", "start", "end"}, .call = str_rindex},
    {"count", 1, {"sub", "start", "end"}, .call = str_count},
    {"removeprefix", 1, {"prefix"}, .call = str_removeprefix},
    {"removesuffix", 1, {"suffix"}, .call = str_removesuffix},
    {"partition", 1, {"sep"}, .call = str_partition},
    {"rpartition", 1, {"sep"}, .call = str_rpartition},
    {"ljust", 1, {"width", "fillchar"}, .call = str_ljust},
    {"rjust", 1, {"width", "fillchar"}, .call = str_rjust},
    {"center", 1, {"width", "fillchar"}, .call = str_center},
    {"zfill", 1, {"width"}, .call = str_zfill},
    {"expandtabs", 0, {"tabsize"}, .call = str_expandtabs},
    {"isalpha", .call = str_isalpha},
    {"isdigit", .call = str_isdigit},
    {"isdecimal", .call = str_isdigit},
    {"isnumeric", .call = str_isdigit},
    {"isalnum", .call = str_isalnum},
    {"isspace", .call = str_isspace},
    {"isascii", .call = str_isascii},
    {"isprintable", .call = str_isprintable},
    {"isidentifier", .call = str_isidentifier},
    {"isupper", .call = str_isupper},
    {"islower", .call = str_islower},
    {"istitle", .call = str_istitle},
    {0},
};

static const struct jinja_builtin list_methods[] = {
    {"index", 1, {"value"}, .call = list_index},
    {"count", 1, {"value"}, .call = list_count},
    {"copy", .call = same_again},
    {0},
};

static const struct jinja_builtin tuple_methods[] = {
    {"index", 1, {"value"}, .call = list_index},
    {"count", 1, {"value"}, .call = list_count},
    {0},
};

static const struct jinja_builtin dict_methods[] = {
    {"get", 1, {"key", "default"}, .call = dict_get},
    {"items", .call = dict_items},
    {"keys", .call = dict_keys},
    {"values", .call = dict_values},
    {"copy", .call = same_again},
    {0},
};

static const struct jinja_builtin float_methods[] = {
    {"is_integer", .call = float_is_integer},
    {0},
};

static const struct jinja_builtin int_methods[] = {
    {"bit_length", .call = int_bit_length},
    {0},
};

static const struct jinja_builtin loop_methods[] = {
    {"cycle", .call_raw = loop_cycle},
    {"changed", .call_raw = loop_changed},
    {0},
};

static const struct jinja_builtin cycler_methods[] = {
    {"next", .call = cycler_next},
    {"reset", .call = cycler_reset},
    {0},
};

static const struct jinja_builtin *const tables[] = {
    [JINJA_STRING] = str_methods, [JINJA_LIST] = list_methods,   [JINJA_TUPLE] = tuple_methods,
    [JINJA_DICT] = dict_methods,  [JINJA_FLOAT] = float_methods, [JINJA_INT] = int_methods,
    [JINJA_LOOP] = loop_methods,  [JINJA_RANGE] = tuple_methods, [JINJA_CYCLER] = cycler_methods,
    [JINJA_JOINER] = NULL,
};

const struct jinja_builtin *jinja_method_find(struct jinja_value object, const char *name) {
    const struct jinja_builtin *m = tables[object.kind];
    for (; m && m->name; m++)
        if (strcmp(m->name, name) == 0)
            return m;
    return NULL;
}

bool jinja_method_unsafe(struct jinja_value object, const char *name) {
    static const char *const list_names[] = {"append", "clear", "pop",    "reverse",
                                             "insert", "sort",  "extend", "remove"};
    static const char *const dict_names[] = {"clear", "pop", "popitem", "setdefault", "update"};
    size_t len = strlen(name);
    if (len > 4 && strncmp(name, "__", 2) == 0 && strcmp(name + len - 2, "__") == 0)
        return object.kind != JINJA_DICT || strcmp(name, "__class__") == 0;
    for (size_t i = 0; object.kind == JINJA_LIST && i < ARRAY_LEN(list_names); i++)
        if (strcmp(list_names[i], name) == 0)
            return true;
    for (size_t i = 0; object.kind == JINJA_DICT && i < ARRAY_LEN(dict_names); i++)
        if (strcmp(dict_names[i], name) == 0)
            return true;
    return false;
}
