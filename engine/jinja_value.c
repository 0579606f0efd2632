/* Values and the operations that every part of the interpreter needs: equality, order, iteration,
 * membership and dictionaries, with Python's answers.
 *
 * Recursion goes down into lists and dictionaries, which a template can nest as deep as its step
 * budget allows, so every recursive walk carries its depth and stops at JINJA_VALUE_DEPTH_MAX.
 *
 * Dictionaries are arrays of entries in insertion order. Up to INDEX_MIN entries they are searched
 * one by one; larger ones get an open-addressing index of entry numbers. */
#include "engine/jinja_value.h"

#include <math.h>

#include "engine/jinja_text.h"

enum { INDEX_MIN = 8, DICT_CAP_MIN = 4 };

struct jinja_value jinja_list_of(struct jinja_run *run, enum jinja_kind kind, const char *word,
                                 struct jinja_value *items, uint32_t len) {
    struct jinja_list *list = jinja_alloc_small(run, sizeof(*list));
    list->items = items;
    list->len = len;
    list->word = word;
    return (struct jinja_value){.kind = (uint8_t)kind, .list = list};
}

bool jinja_pair(struct jinja_run *run, struct jinja_value a, struct jinja_value b,
                struct jinja_value *ret) {
    struct jinja_value *items = jinja_alloc_small(run, 2 * sizeof(*items));
    items[0] = a;
    items[1] = b;
    *ret = jinja_list_of(run, JINJA_TUPLE, NULL, items, 2);
    return jinja_spend(run, 1);
}

bool jinja_string(struct jinja_run *run, const char *text, size_t len, struct jinja_value *ret) {
    char *copy = jinja_alloc(run, len + 1, 1);
    if (!copy)
        return false;
    memcpy(copy, text, len);
    *ret = jinja_borrow(copy, len);
    return true;
}

/* The youngest concatenation owns some room behind its text. Appending to exactly that text uses
 * the room; the older value keeps its length and so does not see what was appended. */
bool jinja_concat(struct jinja_run *run, struct jinja_value left, struct jinja_value right,
                  struct jinja_value *ret) {
    if (!right.len || !left.len) {
        *ret = right.len ? right : left;
        return true;
    }
    size_t len = (size_t)left.len + right.len;
    if (len > JINJA_MEMORY_BYTES_MAX)
        return jinja_fail(run, ERR_EXHAUSTED, "a string is longer than %d bytes",
                          JINJA_MEMORY_BYTES_MAX);
    if (!jinja_spend(run, right.len / JINJA_BYTES_PER_STEP))
        return false;
    if (left.text + left.len == run->grow_end && right.len <= run->grow_room) {
        memcpy(run->grow_end, right.text, right.len);
        run->grow_end += right.len;
        run->grow_room -= right.len;
        *ret = jinja_borrow(left.text, len);
        return true;
    }
    size_t room = len;
    char *text = jinja_alloc(run, len + room, 1);
    if (!text)
        return false;
    memcpy(text, left.text, left.len);
    memcpy(text + left.len, right.text, right.len);
    run->grow_end = text + len;
    run->grow_room = room;
    *ret = jinja_borrow(text, len);
    return true;
}

const char *jinja_cstr(struct jinja_run *run, struct jinja_value v) {
    struct jinja_value copy;
    return jinja_string(run, v.text, v.len, &copy) ? copy.text : NULL;
}

const char *jinja_type_name(struct jinja_value v) {
    static const char *const names[] = {
        [JINJA_ABSENT] = "absent",
        [JINJA_UNDEFINED] = "Undefined",
        [JINJA_NONE] = "NoneType",
        [JINJA_BOOL] = "bool",
        [JINJA_INT] = "int",
        [JINJA_FLOAT] = "float",
        [JINJA_STRING] = "str",
        [JINJA_LIST] = "list",
        [JINJA_TUPLE] = "tuple",
        [JINJA_DICT] = "dict",
        [JINJA_RANGE] = "range",
        [JINJA_VIEW] = "dict view",
        [JINJA_ITERATOR] = "generator",
        [JINJA_NAMESPACE] = "Namespace",
        [JINJA_LOOP] = "LoopContext",
        [JINJA_MACRO] = "Macro",
        [JINJA_METHOD] = "method",
        [JINJA_FUNCTION] = "function",
        [JINJA_CYCLER] = "Cycler",
        [JINJA_JOINER] = "Joiner",
    };
    return names[v.kind];
}

bool jinja_truth(struct jinja_value v) {
    switch ((enum jinja_kind)v.kind) {
    case JINJA_ABSENT:
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return false;
    case JINJA_BOOL:
        return v.boolean;
    case JINJA_INT:
        return v.integer != 0;
    case JINJA_FLOAT:
        return v.real != 0;
    case JINJA_STRING:
        return v.len > 0;
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_RANGE:
    case JINJA_VIEW:
        return v.list->len > 0;
    case JINJA_DICT:
        return v.dict->len > 0;
    default:
        return true;
    }
}

bool jinja_same_text(struct jinja_value v, const char *text) {
    return v.kind == JINJA_STRING && v.len == strlen(text) && memcmp(v.text, text, v.len) == 0;
}

/* Dictionaries */

static uint32_t hash_bytes(const void *data, size_t len) {
    const unsigned char *p = data;
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * 16777619u;
    return h;
}

/* Equal values hash alike: 1, 1.0 and true are one key. */
static uint32_t hash_value(struct jinja_run *run, struct jinja_value v, int depth) {
    int64_t whole;
    if (run->steps++ > JINJA_STEPS_MAX)
        return 0;
    switch ((enum jinja_kind)v.kind) {
    case JINJA_STRING:
        run->steps += v.len / JINJA_BYTES_PER_STEP;
        return hash_bytes(v.text, v.len);
    case JINJA_BOOL:
        whole = v.boolean;
        return hash_bytes(&whole, sizeof(whole));
    case JINJA_INT:
        return hash_bytes(&v.integer, sizeof(v.integer));
    case JINJA_FLOAT:
        if (v.real >= -9e18 && v.real <= 9e18 && v.real == floor(v.real)) {
            whole = (int64_t)v.real;
            return hash_bytes(&whole, sizeof(whole));
        }
        return hash_bytes(&v.real, sizeof(v.real));
    case JINJA_TUPLE: {
        uint32_t h = 17;
        for (uint32_t i = 0; i < v.list->len && depth < JINJA_VALUE_DEPTH_MAX; i++)
            h = h * 31 + hash_value(run, v.list->items[i], depth + 1);
        return h;
    }
    default:
        return v.kind;
    }
}

static bool hashable_at(struct jinja_run *run, struct jinja_value v, int depth) {
    if (v.kind == JINJA_LIST || v.kind == JINJA_DICT || v.kind == JINJA_VIEW ||
        depth >= JINJA_VALUE_DEPTH_MAX || run->steps++ > JINJA_STEPS_MAX)
        return false;
    if (v.kind == JINJA_TUPLE)
        for (uint32_t i = 0; i < v.list->len; i++)
            if (!hashable_at(run, v.list->items[i], depth + 1))
                return false;
    return true;
}

bool jinja_hashable(struct jinja_run *run, struct jinja_value v) {
    return hashable_at(run, v, 0);
}

static int same(struct jinja_run *run, struct jinja_value a, struct jinja_value b, int depth);

static struct jinja_entry *find_entry(struct jinja_run *run, const struct jinja_dict *d,
                                      struct jinja_value key, uint32_t hash) {
    if (!d->index) {
        for (uint32_t i = 0; i < d->len; i++)
            if (d->entries[i].hash == hash && same(run, d->entries[i].key, key, 0) == 1)
                return &d->entries[i];
        return NULL;
    }
    for (uint32_t at = hash & d->index_mask; d->index[at]; at = (at + 1) & d->index_mask) {
        struct jinja_entry *e = &d->entries[d->index[at] - 1];
        if (e->hash == hash && same(run, e->key, key, 0) == 1)
            return e;
    }
    return NULL;
}

static void index_entry(struct jinja_dict *d, uint32_t number) {
    uint32_t at = d->entries[number].hash & d->index_mask;
    while (d->index[at])
        at = (at + 1) & d->index_mask;
    d->index[at] = number + 1;
}

static bool dict_grow(struct jinja_run *run, struct jinja_dict *d) {
    uint32_t cap = d->cap ? d->cap * 2 : DICT_CAP_MIN;
    struct jinja_entry *entries = jinja_alloc(run, cap, sizeof(*entries));
    if (!entries)
        return false;
    if (d->len)
        memcpy(entries, d->entries, d->len * sizeof(*entries));
    d->entries = entries;
    d->cap = cap;
    if (cap <= INDEX_MIN)
        return true;
    d->index = jinja_alloc(run, (size_t)cap * 2, sizeof(*d->index));
    if (!d->index)
        return false;
    d->index_mask = cap * 2 - 1;
    for (uint32_t i = 0; i < d->len; i++)
        index_entry(d, i);
    return true;
}

struct jinja_dict *jinja_dict_create(struct jinja_run *run) {
    return jinja_alloc_small(run, sizeof(struct jinja_dict));
}

bool jinja_dict_set(struct jinja_run *run, struct jinja_dict *d, struct jinja_value key,
                    struct jinja_value value) {
    if (!jinja_hashable(run, key))
        return jinja_fail(run, ERR_INVALID, "unhashable type: '%s'", jinja_type_name(key));
    uint32_t hash = hash_value(run, key, 0);
    struct jinja_entry *e = find_entry(run, d, key, hash);
    if (e) {
        e->value = value;
        return true;
    }
    if (d->len == d->cap && !dict_grow(run, d))
        return false;
    d->entries[d->len++] = (struct jinja_entry){.key = key, .value = value, .hash = hash};
    if (d->index)
        index_entry(d, d->len - 1);
    return true;
}

struct jinja_value *jinja_dict_get(struct jinja_run *run, const struct jinja_dict *d,
                                   struct jinja_value key) {
    struct jinja_entry *e = find_entry(run, d, key, hash_value(run, key, 0));
    return e ? &e->value : NULL;
}

struct jinja_value *jinja_dict_get_text(struct jinja_run *run, const struct jinja_dict *d,
                                        const char *text, size_t len) {
    return jinja_dict_get(run, d, jinja_borrow(text, len));
}

/* Equality and order */

static int same_lists(struct jinja_run *run, const struct jinja_list *a, const struct jinja_list *b,
                      int depth) {
    if (a->len != b->len)
        return 0;
    for (uint32_t i = 0; i < a->len; i++) {
        int r = same(run, a->items[i], b->items[i], depth + 1);
        if (r != 1)
            return r;
    }
    return 1;
}

static int same_dicts(struct jinja_run *run, const struct jinja_dict *a, const struct jinja_dict *b,
                      int depth) {
    if (a->len != b->len)
        return 0;
    for (uint32_t i = 0; i < a->len; i++) {
        struct jinja_entry *e = find_entry(run, b, a->entries[i].key, a->entries[i].hash);
        int r = e ? same(run, a->entries[i].value, e->value, depth + 1) : 0;
        if (r != 1)
            return r;
    }
    return 1;
}

static long double number_of(struct jinja_value v) {
    return v.kind == JINJA_FLOAT ? (long double)v.real : (long double)jinja_whole(v);
}

/* 1 equal, 0 not, -1 nested too deep (or shared too often) to say. */
static int same(struct jinja_run *run, struct jinja_value a, struct jinja_value b, int depth) {
    if (depth >= JINJA_VALUE_DEPTH_MAX || run->steps++ > JINJA_STEPS_MAX)
        return -1;
    if (jinja_is_number(a) && jinja_is_number(b))
        return number_of(a) == number_of(b);
    if (a.kind != b.kind)
        return 0;
    switch ((enum jinja_kind)a.kind) {
    case JINJA_STRING:
        if (a.len != b.len)
            return 0;
        run->steps += a.len / JINJA_BYTES_PER_STEP;
        return memcmp(a.text, b.text, a.len) == 0;
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_RANGE:
        return a.list == b.list ? 1 : same_lists(run, a.list, b.list, depth);
    case JINJA_DICT:
        return a.dict == b.dict ? 1 : same_dicts(run, a.dict, b.dict, depth);
    case JINJA_ABSENT:
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return 1;
    default:
        return a.list == b.list;
    }
}

bool jinja_equal(struct jinja_run *run, struct jinja_value a, struct jinja_value b, bool *ret) {
    int r = same(run, a, b, 0);
    if (!jinja_spend(run, 1))
        return false;
    if (r < 0)
        return jinja_fail(run, ERR_EXHAUSTED, "values nest deeper than %d", JINJA_VALUE_DEPTH_MAX);
    *ret = r == 1;
    return true;
}

static bool compare_at(struct jinja_run *run, struct jinja_value a, struct jinja_value b,
                       const char *op, int depth, int *ret) {
    if (depth >= JINJA_VALUE_DEPTH_MAX)
        return jinja_fail(run, ERR_EXHAUSTED, "values nest deeper than %d", JINJA_VALUE_DEPTH_MAX);
    if (jinja_is_number(a) && jinja_is_number(b)) {
        long double x = number_of(a), y = number_of(b);
        *ret = x < y ? -1 : x > y ? 1 : x == y ? 0 : JINJA_UNORDERED;
        return true;
    }
    if (a.kind == JINJA_STRING && b.kind == JINJA_STRING) {
        uint32_t common = a.len < b.len ? a.len : b.len;
        int r = memcmp(a.text, b.text, common);
        run->steps += common / JINJA_BYTES_PER_STEP;
        *ret = r ? (r < 0 ? -1 : 1) : (a.len > b.len) - (a.len < b.len);
        return true;
    }
    if (a.kind == b.kind && (a.kind == JINJA_LIST || a.kind == JINJA_TUPLE)) {
        uint32_t n = a.list->len < b.list->len ? a.list->len : b.list->len;
        for (uint32_t i = 0; i < n; i++) {
            bool equal = false;
            if (!jinja_equal(run, a.list->items[i], b.list->items[i], &equal))
                return false;
            if (!equal)
                return compare_at(run, a.list->items[i], b.list->items[i], op, depth + 1, ret);
        }
        *ret = (a.list->len > b.list->len) - (a.list->len < b.list->len);
        return true;
    }
    if (a.kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, a);
    if (b.kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, b);
    return jinja_fail(run, ERR_INVALID, "'%s' not supported between instances of '%s' and '%s'", op,
                      jinja_type_name(a), jinja_type_name(b));
}

bool jinja_compare(struct jinja_run *run, struct jinja_value a, struct jinja_value b,
                   const char *op, int *ret) {
    return compare_at(run, a, b, op, 0, ret) && jinja_spend(run, 1);
}

/* Iteration */

static bool characters(struct jinja_run *run, struct jinja_value v, struct jinja_value **items,
                       uint32_t *len) {
    size_t count = jinja_text_count(v.text, v.len);
    *items = jinja_alloc(run, count, sizeof(**items));
    if (!*items)
        return false;
    *len = (uint32_t)count;
    for (size_t i = 0, at = 0; i < count; i++) {
        size_t n;
        jinja_text_decode(v.text + at, v.len - at, &n);
        (*items)[i] = jinja_borrow(v.text + at, n);
        at += n;
    }
    return jinja_spend(run, count);
}

bool jinja_items(struct jinja_run *run, struct jinja_value v, struct jinja_value **items,
                 uint32_t *len) {
    *items = NULL;
    *len = 0;
    switch ((enum jinja_kind)v.kind) {
    case JINJA_UNDEFINED:
        return true;
    case JINJA_STRING:
        return characters(run, v, items, len);
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_RANGE:
    case JINJA_VIEW:
        *items = v.list->items;
        *len = v.list->len;
        return true;
    case JINJA_ITERATOR:
        *items = v.list->items + v.list->next;
        *len = v.list->len - v.list->next;
        v.list->next = v.list->len;
        return true;
    case JINJA_DICT:
        *items = jinja_alloc(run, v.dict->len, sizeof(**items));
        if (!*items)
            return false;
        *len = v.dict->len;
        for (uint32_t i = 0; i < v.dict->len; i++)
            (*items)[i] = v.dict->entries[i].key;
        return jinja_spend(run, v.dict->len);
    default:
        return jinja_fail(run, ERR_INVALID, "'%s' object is not iterable", jinja_type_name(v));
    }
}

bool jinja_length(struct jinja_run *run, struct jinja_value v, uint32_t *ret) {
    switch ((enum jinja_kind)v.kind) {
    case JINJA_UNDEFINED:
        *ret = 0;
        return true;
    case JINJA_STRING:
        *ret = (uint32_t)jinja_text_count(v.text, v.len);
        return jinja_spend(run, v.len / JINJA_BYTES_PER_STEP);
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_RANGE:
    case JINJA_VIEW:
        *ret = v.list->len;
        return true;
    case JINJA_DICT:
        *ret = v.dict->len;
        return true;
    default:
        return jinja_fail(run, ERR_INVALID, "object of type '%s' has no len()", jinja_type_name(v));
    }
}

bool jinja_contains(struct jinja_run *run, struct jinja_value haystack, struct jinja_value needle,
                    bool *ret) {
    if (haystack.kind == JINJA_STRING) {
        if (needle.kind == JINJA_UNDEFINED)
            return jinja_fail_undefined(run, needle);
        if (needle.kind != JINJA_STRING)
            return jinja_fail(run, ERR_INVALID,
                              "'in <string>' requires string as left operand, not %s",
                              jinja_type_name(needle));
        *ret = jinja_text_find(haystack.text, haystack.len, needle.text, needle.len) != NULL;
        return jinja_spend(run, 1 + haystack.len / JINJA_BYTES_PER_STEP);
    }
    if (haystack.kind == JINJA_DICT) {
        if (!jinja_hashable(run, needle))
            return jinja_fail(run, ERR_INVALID, "unhashable type: '%s'", jinja_type_name(needle));
        *ret = jinja_dict_get(run, haystack.dict, needle) != NULL;
        return jinja_spend(run, 1);
    }
    if (haystack.kind != JINJA_UNDEFINED && !jinja_is_list(haystack))
        return jinja_fail(run, ERR_INVALID, "argument of type '%s' is not iterable",
                          jinja_type_name(haystack));
    struct jinja_value *items;
    uint32_t len;
    if (!jinja_items(run, haystack, &items, &len))
        return false;
    *ret = false;
    for (uint32_t i = 0; i < len && !*ret; i++)
        if (!jinja_equal(run, items[i], needle, ret))
            return false;
    return true;
}

bool jinja_fail_undefined(struct jinja_run *run, struct jinja_value v) {
    struct jinja_value object = {.kind = (uint8_t)v.len};
    switch ((enum jinja_missing)v.detail) {
    case JINJA_MISSING_ATTRIBUTE:
        return jinja_fail(run, ERR_INVALID, "'%s object' has no attribute '%s'",
                          jinja_type_name(object), v.text);
    case JINJA_MISSING_ARGUMENT:
        return jinja_fail(run, ERR_INVALID, "parameter '%s' was not provided", v.text);
    case JINJA_MISSING_UNSAFE:
        return jinja_fail(run, ERR_INVALID, "access to attribute '%s' of '%s' object is unsafe",
                          v.text, jinja_type_name(object));
    case JINJA_MISSING_ITEM:
        return jinja_fail(run, ERR_INVALID, "no %s item, the sequence was empty", v.text);
    case JINJA_MISSING_NAME:
        break;
    }
    return jinja_fail(run, ERR_INVALID, "'%s' is undefined", v.text);
}

/* JSON */

static bool from_json_at(struct jinja_run *run, const json_t *json, int depth,
                         struct jinja_value *ret);

static bool from_object(struct jinja_run *run, const json_t *json, int depth,
                        struct jinja_value *ret) {
    struct jinja_dict *dict = jinja_dict_create(run);
    for (void *it = json_object_iter((json_t *)json); it;
         it = json_object_iter_next((json_t *)json, it)) {
        const char *key = json_object_iter_key(it);
        struct jinja_value value;
        if (!from_json_at(run, json_object_iter_value(it), depth + 1, &value) ||
            !jinja_dict_set(run, dict, jinja_borrow(key, json_object_iter_key_len(it)), value))
            return false;
    }
    *ret = (struct jinja_value){.kind = JINJA_DICT, .dict = dict};
    return true;
}

static bool from_array(struct jinja_run *run, const json_t *json, int depth,
                       struct jinja_value *ret) {
    size_t len = json_array_size(json);
    struct jinja_value *items = jinja_alloc(run, len, sizeof(*items));
    if (!items)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!from_json_at(run, json_array_get(json, i), depth + 1, &items[i]))
            return false;
    *ret = jinja_list_of(run, JINJA_LIST, NULL, items, (uint32_t)len);
    return true;
}

static bool from_json_at(struct jinja_run *run, const json_t *json, int depth,
                         struct jinja_value *ret) {
    if (depth >= JINJA_VALUE_DEPTH_MAX)
        return jinja_fail(run, ERR_EXHAUSTED, "values nest deeper than %d", JINJA_VALUE_DEPTH_MAX);
    if (!jinja_spend(run, 1))
        return false;
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return from_object(run, json, depth, ret);
    case JSON_ARRAY:
        return from_array(run, json, depth, ret);
    case JSON_STRING:
        if (json_string_length(json) > JINJA_MEMORY_BYTES_MAX)
            return jinja_fail(run, ERR_EXHAUSTED, "a string is longer than %d bytes",
                              JINJA_MEMORY_BYTES_MAX);
        *ret = jinja_borrow(json_string_value(json), json_string_length(json));
        return true;
    case JSON_INTEGER:
        *ret = jinja_int(json_integer_value(json));
        return true;
    case JSON_REAL:
        *ret = jinja_float(json_real_value(json));
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        *ret = jinja_bool(json_is_true(json));
        return true;
    case JSON_NULL:
        break;
    }
    *ret = jinja_none();
    return true;
}

bool jinja_from_json(struct jinja_run *run, const json_t *json, struct jinja_value *ret) {
    return from_json_at(run, json, 0, ret);
}
