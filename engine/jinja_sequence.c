/* Filters of sequences.
 *
 * Sorting is a merge sort of our own: stable as Python's, and its comparison can fail (a number and
 * a string have no order), which ends the render. Keys are computed once per item. */
#include "engine/jinja_sequence.h"

#include "engine/jinja_access.h"
#include "engine/jinja_arith.h"
#include "engine/jinja_filters.h"
#include "engine/jinja_lexer.h"
#include "engine/jinja_predicates.h"
#include "engine/jinja_print.h"
#include "engine/jinja_string.h"

enum { SORT_KEYS_MAX = 8 };

/* The signatures of filters here: with bound arguments, and with arguments as they came. */
#define FILTER(name)                                                                               \
    static bool name(struct jinja_run *run, struct jinja_value self,                               \
                     const struct jinja_value *args, struct jinja_value *ret)
#define RAW_FILTER(name)                                                                           \
    static bool name(struct jinja_run *run, struct jinja_value self,                               \
                     const struct jinja_call *call, struct jinja_value *ret)

static bool add_item(struct jinja_run *run, struct buf *b, struct jinja_value v) {
    buf_append(b, &v, sizeof(v));
    return jinja_spend(run, 1);
}

FILTER(filter_list) {
    struct jinja_value *items;
    uint32_t len;
    if (!jinja_items(run, self, &items, &len))
        return false;
    *ret = jinja_list_of(run, JINJA_LIST, NULL, items, len);
    return true;
}

static struct jinja_value empty_sequence(const char *which) {
    return jinja_undefined(JINJA_MISSING_ITEM, JINJA_LIST, which);
}

FILTER(filter_first) {
    struct jinja_value *items;
    uint32_t len;
    if (self.kind == JINJA_ITERATOR) { /* takes one item and leaves the others */
        struct jinja_list *l = self.list;
        *ret = l->next < l->len ? l->items[l->next++] : empty_sequence("first");
        return true;
    }
    if (!jinja_items(run, self, &items, &len))
        return false;
    *ret = len ? items[0] : empty_sequence("first");
    return true;
}

FILTER(filter_last) {
    struct jinja_value *items;
    uint32_t len;
    if (self.kind == JINJA_ITERATOR)
        return jinja_fail(run, ERR_INVALID, "'%s' object is not reversible", self.list->word);
    if (!jinja_items(run, self, &items, &len))
        return false;
    *ret = len ? items[len - 1] : empty_sequence("last");
    return true;
}

FILTER(filter_join) {
    struct jinja_value *items, sep = jinja_literal(""), part;
    uint32_t len;
    AUTO_BUF b = BUF_INIT;
    if (args[0].kind != JINJA_ABSENT && !jinja_to_string(run, args[0], &sep))
        return false;
    if (!jinja_items(run, self, &items, &len))
        return false;
    for (uint32_t i = 0; i < len; i++) {
        if (i)
            buf_append(&b, sep.text, sep.len);
        if (!jinja_get_path(run, items[i], args[1], (struct jinja_value){0}, &part) ||
            !jinja_print(run, part, &b))
            return false;
    }
    return jinja_string(run, b.data ? b.data : "", b.len, ret);
}

FILTER(filter_items) {
    AUTO_BUF b = BUF_INIT;
    if (self.kind != JINJA_UNDEFINED && self.kind != JINJA_DICT)
        return jinja_fail(run, ERR_INVALID, "can only get item pairs from a mapping, not %s",
                          jinja_type_name(self));
    for (uint32_t i = 0; self.kind == JINJA_DICT && i < self.dict->len; i++) {
        struct jinja_value pair;
        if (!jinja_pair(run, self.dict->entries[i].key, self.dict->entries[i].value, &pair) ||
            !add_item(run, &b, pair))
            return false;
    }
    return jinja_list_from(run, &b, JINJA_ITERATOR, ret);
}

FILTER(filter_reverse) {
    struct jinja_value *items;
    uint32_t len;
    AUTO_BUF b = BUF_INIT;
    if (!jinja_items(run, self, &items, &len))
        return false;
    for (uint32_t i = len; i > 0; i--) {
        if (self.kind == JINJA_STRING)
            buf_append(&b, items[i - 1].text, items[i - 1].len);
        else
            buf_append(&b, &items[i - 1], sizeof(*items));
    }
    if (!jinja_spend(run, len))
        return false;
    if (self.kind == JINJA_STRING)
        return jinja_string(run, b.data ? b.data : "", b.len, ret);
    return jinja_list_from(run, &b, self.kind == JINJA_ITERATOR ? JINJA_LIST : JINJA_ITERATOR, ret);
}

/* map, select and reject */

RAW_FILTER(filter_map) {
    struct jinja_value *items, path = {0}, fallback = {0}, v;
    uint32_t len;
    const struct jinja_builtin *filter = NULL;
    struct jinja_call rest = *call;
    AUTO_BUF b = BUF_INIT;
    if (!jinja_truth(self)) /* Jinja looks at the arguments with the first item only */
        return jinja_list_from(run, &b, JINJA_ITERATOR, ret);
    if (!call->num_pos) {
        for (uint32_t i = 0; i < call->num_named; i++) {
            bool attribute = strcmp(call->names[i], "attribute") == 0;
            if (!attribute && strcmp(call->names[i], "default") != 0)
                return jinja_fail(run, ERR_INVALID, "map takes no argument named '%s'",
                                  call->names[i]);
            *(attribute ? &path : &fallback) = call->named[i];
        }
        if (path.kind == JINJA_ABSENT)
            return jinja_fail(run, ERR_INVALID, "map requires a filter argument");
        if (fallback.kind == JINJA_NONE)
            fallback.kind = JINJA_ABSENT;
    } else {
        if (call->pos[0].kind == JINJA_STRING)
            filter = jinja_filter_find(call->pos[0].text, call->pos[0].len);
        if (!filter)
            return jinja_fail(run, ERR_INVALID, "map: no filter of that name");
        rest.pos++;
        rest.num_pos--;
    }
    if (!jinja_items(run, self, &items, &len))
        return false;
    for (uint32_t i = 0; i < len; i++) {
        if (!(filter ? jinja_call_builtin(run, filter, items[i], &rest, &v)
                     : jinja_get_path(run, items[i], path, fallback, &v)) ||
            !add_item(run, &b, v))
            return false;
    }
    return jinja_list_from(run, &b, JINJA_ITERATOR, ret);
}

/* The four of select, reject, selectattr, rejectattr. */
static bool select_items(struct jinja_run *run, struct jinja_value self,
                         const struct jinja_call *call, bool by_attribute, bool keep,
                         struct jinja_value *ret) {
    struct jinja_value *items, path = {0}, v;
    uint32_t len;
    struct jinja_call rest = *call;
    const struct jinja_builtin *test = NULL;
    AUTO_BUF b = BUF_INIT;
    if (!jinja_truth(self))
        return jinja_list_from(run, &b, JINJA_ITERATOR, ret);
    if (by_attribute) {
        if (!rest.num_pos)
            return jinja_fail(run, ERR_INVALID, "missing parameter for attribute name");
        path = *rest.pos++;
        rest.num_pos--;
    }
    if (rest.num_pos) {
        struct jinja_value name = *rest.pos++;
        rest.num_pos--;
        if (name.kind == JINJA_STRING)
            test = jinja_test_find(name.text, name.len);
        if (!test)
            return jinja_fail(run, ERR_INVALID, "no test of that name");
    }
    if (!jinja_items(run, self, &items, &len))
        return false;
    for (uint32_t i = 0; i < len; i++) {
        if (!jinja_get_path(run, items[i], path, (struct jinja_value){0}, &v) ||
            (test && !jinja_call_builtin(run, test, v, &rest, &v)))
            return false;
        if (jinja_truth(v) == keep && !add_item(run, &b, items[i]))
            return false;
    }
    return jinja_list_from(run, &b, JINJA_ITERATOR, ret);
}

RAW_FILTER(filter_select) {
    return select_items(run, self, call, false, true, ret);
}
RAW_FILTER(filter_reject) {
    return select_items(run, self, call, false, false, ret);
}
RAW_FILTER(filter_selectattr) {
    return select_items(run, self, call, true, true, ret);
}
RAW_FILTER(filter_rejectattr) {
    return select_items(run, self, call, true, false, ret);
}

/* Sorting */

struct keyed {
    struct jinja_value item;
    struct jinja_value *keys; /* [num_keys] */
};

struct order {
    uint32_t num_keys;
    bool reverse;
};

/* item's key for one attribute path, in lower case unless case matters. */
static bool key_of(struct jinja_run *run, struct jinja_value item, struct jinja_value path,
                   bool case_sensitive, struct jinja_value *ret) {
    if (!jinja_get_path(run, item, path, (struct jinja_value){0}, ret))
        return false;
    return case_sensitive || ret->kind != JINJA_STRING ||
           jinja_string_case(run, *ret, JINJA_LOWER, ret);
}

/* Whether b must stand before a. */
static bool comes_before(struct jinja_run *run, const struct order *o, const struct keyed *b,
                         const struct keyed *a, bool *ret) {
    *ret = false;
    for (uint32_t i = 0; i < o->num_keys; i++) {
        bool equal = false;
        int order;
        if (!jinja_equal(run, a->keys[i], b->keys[i], &equal))
            return false;
        if (equal)
            continue;
        if (!jinja_compare(run, b->keys[i], a->keys[i], "<", &order))
            return false;
        *ret = order == (o->reverse ? 1 : -1);
        return true;
    }
    return true;
}

static bool merge(struct jinja_run *run, const struct order *o, const struct keyed *from,
                  uint32_t left, uint32_t mid, uint32_t right, struct keyed *to) {
    uint32_t a = left, b = mid;
    for (uint32_t i = left; i < right; i++) {
        bool take_b = a == mid;
        if (!take_b && b < right && !comes_before(run, o, &from[b], &from[a], &take_b))
            return false;
        to[i] = take_b ? from[b++] : from[a++];
    }
    return true;
}

static bool merge_sort(struct jinja_run *run, const struct order *o, struct keyed **items,
                       uint32_t len) {
    struct keyed *from = *items, *to = jinja_alloc(run, len, sizeof(*to));
    if (!to)
        return false;
    for (uint32_t width = 1; width < len; width *= 2) {
        for (uint32_t left = 0; left < len; left += 2 * width) {
            uint32_t mid = left + width < len ? left + width : len;
            uint32_t right = mid + width < len ? mid + width : len;
            if (!merge(run, o, from, left, mid, right, to))
                return false;
        }
        struct keyed *swap = from;
        from = to;
        to = swap;
    }
    *items = from;
    return true;
}

/* The parts of attribute="a,b.c". */
static bool split_paths(struct jinja_run *run, struct jinja_value attribute,
                        struct jinja_value paths[SORT_KEYS_MAX], uint32_t *ret_count) {
    struct jinja_value parts;
    paths[0] = attribute;
    *ret_count = 1;
    if (attribute.kind != JINJA_STRING)
        return true;
    if (!jinja_string_split(run, attribute, jinja_literal(","), -1, false, &parts))
        return false;
    if (parts.list->len > SORT_KEYS_MAX)
        return jinja_fail(run, ERR_INVALID, "sort by more than %d attributes", SORT_KEYS_MAX);
    *ret_count = parts.list->len;
    for (uint32_t i = 0; i < parts.list->len; i++)
        paths[i] = parts.list->items[i];
    return true;
}

static bool sort_items(struct jinja_run *run, struct jinja_value *items, uint32_t len,
                       struct jinja_value attribute, bool reverse, bool case_sensitive,
                       struct keyed **ret) {
    struct jinja_value paths[SORT_KEYS_MAX];
    struct order o = {.reverse = reverse};
    if (!split_paths(run, attribute, paths, &o.num_keys))
        return false;
    struct keyed *keyed = jinja_alloc(run, len, sizeof(*keyed));
    struct jinja_value *keys = jinja_alloc(run, (size_t)len * o.num_keys, sizeof(*keys));
    if (!keyed || !keys)
        return false;
    for (uint32_t i = 0; i < len; i++) {
        keyed[i] = (struct keyed){.item = items[i], .keys = keys + (size_t)i * o.num_keys};
        for (uint32_t k = 0; k < o.num_keys; k++)
            if (!key_of(run, items[i], paths[k], case_sensitive, &keyed[i].keys[k]))
                return false;
    }
    *ret = keyed;
    return merge_sort(run, &o, ret, len);
}

FILTER(filter_sort) {
    struct jinja_value *items;
    uint32_t len;
    struct keyed *sorted;
    if (!jinja_items(run, self, &items, &len) ||
        !sort_items(run, items, len, args[2], jinja_truth(args[0]), jinja_truth(args[1]), &sorted))
        return false;
    struct jinja_value *out = jinja_alloc(run, len, sizeof(*out));
    if (!out)
        return false;
    for (uint32_t i = 0; i < len; i++)
        out[i] = sorted[i].item;
    *ret = jinja_list_of(run, JINJA_LIST, NULL, out, len);
    return true;
}

FILTER(filter_dictsort) {
    bool by_value = jinja_same_text(args[1], "value");
    if (args[1].kind != JINJA_ABSENT && !by_value && !jinja_same_text(args[1], "key"))
        return jinja_fail(run, ERR_INVALID, "you can only sort by either \"key\" or \"value\"");
    if (self.kind != JINJA_DICT)
        return self.kind == JINJA_UNDEFINED
                   ? jinja_fail_undefined(run, self)
                   : jinja_fail(run, ERR_INVALID, "dictsort needs a mapping, not %s",
                                jinja_type_name(self));
    uint32_t len = self.dict->len;
    struct jinja_value *pairs = jinja_alloc(run, len, sizeof(*pairs));
    struct keyed *sorted;
    if (!pairs)
        return false;
    for (uint32_t i = 0; i < len; i++)
        if (!jinja_pair(run, self.dict->entries[i].key, self.dict->entries[i].value, &pairs[i]))
            return false;
    if (!sort_items(run, pairs, len, jinja_int(by_value), jinja_truth(args[2]),
                    jinja_truth(args[0]), &sorted))
        return false;
    for (uint32_t i = 0; i < len; i++)
        pairs[i] = sorted[i].item;
    *ret = jinja_list_of(run, JINJA_LIST, NULL, pairs, len);
    return true;
}

static bool extreme(struct jinja_run *run, struct jinja_value self, const struct jinja_value *args,
                    int wanted, struct jinja_value *ret) {
    struct jinja_value *items, best, key;
    uint32_t len;
    if (!jinja_items(run, self, &items, &len))
        return false;
    *ret = empty_sequence("aggregated");
    for (uint32_t i = 0; i < len; i++) {
        int order = wanted;
        if (!key_of(run, items[i], args[1], jinja_truth(args[0]), &key))
            return false;
        if (i && !jinja_compare(run, key, best, wanted < 0 ? "<" : ">", &order))
            return false;
        if (order == wanted) {
            *ret = items[i];
            best = key;
        }
    }
    return true;
}

FILTER(filter_min) {
    return extreme(run, self, args, -1, ret);
}
FILTER(filter_max) {
    return extreme(run, self, args, 1, ret);
}

FILTER(filter_unique) {
    struct jinja_value *items, key;
    uint32_t len;
    struct jinja_dict *seen = jinja_dict_create(run);
    AUTO_BUF b = BUF_INIT;
    if (!jinja_items(run, self, &items, &len))
        return false;
    for (uint32_t i = 0; i < len; i++) {
        if (!key_of(run, items[i], args[1], jinja_truth(args[0]), &key))
            return false;
        uint32_t before = seen->len;
        if (!jinja_dict_set(run, seen, key, jinja_none()))
            return false;
        if (seen->len > before && !add_item(run, &b, items[i]))
            return false;
    }
    return jinja_list_from(run, &b, JINJA_ITERATOR, ret);
}

FILTER(filter_sum) {
    struct jinja_value *items, v;
    uint32_t len;
    *ret = args[1].kind == JINJA_ABSENT ? jinja_int(0) : args[1];
    if (ret->kind == JINJA_STRING)
        return jinja_fail(run, ERR_INVALID, "sum() can't sum strings");
    if (!jinja_items(run, self, &items, &len))
        return false;
    for (uint32_t i = 0; i < len; i++)
        if (!jinja_get_path(run, items[i], args[0], (struct jinja_value){0}, &v) ||
            !jinja_binary(run, JINJA_T_ADD, *ret, v, ret))
            return false;
    return true;
}

FILTER(filter_groupby) {
    struct jinja_value *items;
    uint32_t len;
    struct keyed *sorted;
    AUTO_BUF groups = BUF_INIT;
    if (!jinja_items(run, self, &items, &len) ||
        !sort_items(run, items, len, args[0], false, jinja_truth(args[2]), &sorted))
        return false;
    for (uint32_t start = 0, end; start < len; start = end) {
        bool equal = true;
        for (end = start + 1; end < len; end++) {
            if (!jinja_equal(run, sorted[start].keys[0], sorted[end].keys[0], &equal))
                return false;
            if (!equal)
                break;
        }
        struct jinja_value *members = jinja_alloc(run, end - start, sizeof(*members));
        struct jinja_value key, group;
        if (!members)
            return false;
        for (uint32_t i = start; i < end; i++)
            members[i - start] = sorted[i].item;
        if (!jinja_get_path(run, members[0], args[0], args[1], &key) ||
            !jinja_pair(run, key, jinja_list_of(run, JINJA_LIST, NULL, members, end - start),
                        &group))
            return false;
        group.detail = 1;
        if (!add_item(run, &groups, group))
            return false;
    }
    return jinja_list_from(run, &groups, JINJA_LIST, ret);
}

/* Cutting */

FILTER(filter_batch) {
    struct jinja_value *items;
    uint32_t len;
    int64_t size = 0;
    AUTO_BUF b = BUF_INIT;
    if (!jinja_items(run, self, &items, &len) ||
        !jinja_arg_int(run, args[0], "batch: linecount", &size))
        return false;
    if (size < 1 || size > JINJA_RANGE_ITEMS_MAX)
        return jinja_fail(run, ERR_INVALID, "batch: linecount not in 1..%d", JINJA_RANGE_ITEMS_MAX);
    bool fill = args[1].kind != JINJA_ABSENT && args[1].kind != JINJA_NONE;
    for (uint32_t start = 0; start < len; start += (uint32_t)size) {
        uint32_t have = len - start < size ? len - start : (uint32_t)size;
        uint32_t count = fill ? (uint32_t)size : have;
        struct jinja_value *line = jinja_alloc(run, count, sizeof(*line));
        if (!line)
            return false;
        for (uint32_t i = 0; i < count; i++)
            line[i] = i < have ? items[start + i] : args[1];
        if (!add_item(run, &b, jinja_list_of(run, JINJA_LIST, NULL, line, count)))
            return false;
    }
    return jinja_list_from(run, &b, JINJA_ITERATOR, ret);
}

FILTER(filter_slice) {
    struct jinja_value *items;
    uint32_t len;
    int64_t slices = 0;
    AUTO_BUF b = BUF_INIT;
    if (!jinja_items(run, self, &items, &len) ||
        !jinja_arg_int(run, args[0], "slice: slices", &slices))
        return false;
    if (slices < 1 || slices > JINJA_RANGE_ITEMS_MAX)
        return jinja_fail(run, ERR_INVALID, "slice: slices not in 1..%d", JINJA_RANGE_ITEMS_MAX);
    bool fill = args[1].kind != JINJA_ABSENT && args[1].kind != JINJA_NONE;
    uint32_t base = len / (uint32_t)slices, extra = len % (uint32_t)slices, start = 0;
    for (uint32_t i = 0; i < slices; i++) {
        uint32_t have = base + (i < extra), count = have + (fill && i >= extra);
        struct jinja_value *part = jinja_alloc(run, count, sizeof(*part));
        if (!part)
            return false;
        for (uint32_t k = 0; k < count; k++)
            part[k] = k < have ? items[start + k] : args[1];
        start += have;
        if (!add_item(run, &b, jinja_list_of(run, JINJA_LIST, NULL, part, count)))
            return false;
    }
    return jinja_list_from(run, &b, JINJA_ITERATOR, ret);
}

const struct jinja_builtin jinja_sequence_filters[] = {
    {"list", .call = filter_list},
    {"first", .call = filter_first},
    {"last", .call = filter_last},
    {"join", 0, {"d", "attribute"}, .call = filter_join},
    {"items", .call = filter_items},
    {"reverse", .call = filter_reverse},
    {"map", .call_raw = filter_map},
    {"select", .call_raw = filter_select},
    {"reject", .call_raw = filter_reject},
    {"selectattr", .call_raw = filter_selectattr},
    {"rejectattr", .call_raw = filter_rejectattr},
    {"sort", 0, {"reverse", "case_sensitive", "attribute"}, .call = filter_sort},
    {"dictsort", 0, {"case_sensitive", "by", "reverse"}, .call = filter_dictsort},
    {"min", 0, {"case_sensitive", "attribute"}, .call = filter_min},
    {"max", 0, {"case_sensitive", "attribute"}, .call = filter_max},
    {"unique", 0, {"case_sensitive", "attribute"}, .call = filter_unique},
    {"sum", 0, {"attribute", "start"}, .call = filter_sum},
    {"groupby", 1, {"attribute", "default", "case_sensitive"}, .call = filter_groupby},
    {"batch", 1, {"linecount", "fill_with"}, .call = filter_batch},
    {"slice", 1, {"slices", "fill_with"}, .call = filter_slice},
    {0},
};
