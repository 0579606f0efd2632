/* Attribute and item access in Python's and Jinja's order: `.x` asks for an attribute first (so
 * d.items is the method even when there is a key of that name) and then for an item; `[x]` the
 * other way round. Methods that change lists or dictionaries exist, but only to be refused, as in
 * the immutable sandbox that Transformers renders in. */
#include "engine/jinja_access.h"

#include "engine/jinja_ast.h"
#include "engine/jinja_methods.h"
#include "engine/jinja_print.h"
#include "engine/jinja_text.h"

static struct jinja_value loop_neighbour(const struct jinja_loop *l, bool next) {
    if (next ? l->index + 1 >= l->len : l->index == 0)
        return jinja_undefined(JINJA_MISSING_ITEM, JINJA_LOOP, next ? "next" : "previous");
    return l->items[next ? l->index + 1 : l->index - 1];
}

static bool loop_attribute(const struct jinja_loop *l, const char *name, struct jinja_value *ret) {
    const struct {
        const char *name;
        struct jinja_value value;
    } attributes[] = {
        {"index", jinja_int(l->index + 1)},
        {"index0", jinja_int(l->index)},
        {"first", jinja_bool(l->index == 0)},
        {"last", jinja_bool(l->index + 1 == l->len)},
        {"length", jinja_int(l->len)},
        {"revindex", jinja_int(l->len - l->index)},
        {"revindex0", jinja_int(l->len - l->index - 1)},
        {"depth", jinja_int(l->depth + 1)},
        {"depth0", jinja_int(l->depth)},
        {"previtem", loop_neighbour(l, false)},
        {"nextitem", loop_neighbour(l, true)},
    };
    for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
        if (strcmp(attributes[i].name, name) == 0) {
            *ret = attributes[i].value;
            return true;
        }
    }
    return false;
}

static bool macro_attribute(struct jinja_run *run, const struct jinja_macro_def *m,
                            const char *name, struct jinja_value *ret) {
    if (strcmp(name, "name") == 0) {
        *ret = jinja_literal(m->name);
    } else if (strcmp(name, "caller") == 0) {
        *ret = jinja_bool(m->uses_caller);
    } else if (strcmp(name, "catch_kwargs") == 0) {
        *ret = jinja_bool(m->uses_kwargs);
    } else if (strcmp(name, "catch_varargs") == 0) {
        *ret = jinja_bool(m->uses_varargs);
    } else if (strcmp(name, "arguments") == 0) {
        struct jinja_value *items = jinja_alloc_small(run, m->num_params * sizeof(*items));
        for (uint32_t i = 0; i < m->num_params; i++)
            items[i] = jinja_literal(m->param_names[i]);
        *ret = jinja_list_of(run, JINJA_TUPLE, NULL, items, m->num_params);
    } else {
        return false;
    }
    return true;
}

static bool cycler_attribute(const struct jinja_cycler *c, const char *name,
                             struct jinja_value *ret) {
    if (strcmp(name, "current") != 0)
        return false;
    *ret = c->items[c->next];
    return true;
}

/* Attributes in Python's sense: never keys. False: there is none. */
static bool own_attribute(struct jinja_run *run, struct jinja_value object, const char *name,
                          struct jinja_value *ret) {
    struct jinja_value *item;
    size_t len = strlen(name);
    if (object.kind == JINJA_LOOP && loop_attribute(object.loop, name, ret))
        return true;
    if (object.kind == JINJA_MACRO && macro_attribute(run, object.macro->def, name, ret))
        return true;
    if (object.kind == JINJA_CYCLER && cycler_attribute(object.cycler, name, ret))
        return true;
    if (object.kind == JINJA_NAMESPACE &&
        (item = jinja_dict_get_text(run, object.dict, name, len))) {
        *ret = *item;
        return true;
    }
    if (object.kind == JINJA_TUPLE && object.detail && strcmp(name, "grouper") == 0) {
        *ret = object.list->items[0];
        return true;
    }
    if (object.kind == JINJA_TUPLE && object.detail && strcmp(name, "list") == 0) {
        *ret = object.list->items[1];
        return true;
    }
    const struct jinja_builtin *method = jinja_method_find(object, name);
    if (method) {
        struct jinja_bound *bound = jinja_alloc_small(run, sizeof(*bound));
        *bound = (struct jinja_bound){.method = method, .self = object};
        *ret = (struct jinja_value){.kind = JINJA_METHOD, .bound = bound};
        return true;
    }
    if (!jinja_method_unsafe(object, name))
        return false;
    *ret = jinja_undefined(JINJA_MISSING_UNSAFE, object.kind, name);
    return true;
}

bool jinja_get_attribute(struct jinja_run *run, struct jinja_value object, const char *name,
                         struct jinja_value *ret) {
    if (object.kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, object);
    if (own_attribute(run, object, name, ret))
        return true;
    struct jinja_value *item = NULL;
    if (object.kind == JINJA_DICT)
        item = jinja_dict_get_text(run, object.dict, name, strlen(name));
    *ret = item ? *item : jinja_undefined(JINJA_MISSING_ATTRIBUTE, object.kind, name);
    return true;
}

/* The number that indexes a sequence of len items; false when it is none or out of range. */
static bool sequence_index(struct jinja_value index, uint32_t len, uint32_t *ret) {
    if (index.kind != JINJA_INT && index.kind != JINJA_BOOL)
        return false;
    int64_t i = jinja_whole(index);
    if (i < 0)
        i += len;
    if (i < 0 || i >= len)
        return false;
    *ret = (uint32_t)i;
    return true;
}

static bool text_item(struct jinja_value text, struct jinja_value index, struct jinja_value *ret) {
    uint32_t i, count = (uint32_t)jinja_text_count(text.text, text.len);
    if (!sequence_index(index, count, &i))
        return false;
    size_t n, at = count == text.len ? i : jinja_text_offset(text.text, text.len, i);
    jinja_text_decode(text.text + at, text.len - at, &n);
    *ret = jinja_borrow(text.text + at, n);
    return true;
}

/* Items in Python's sense: never attributes. False: there is none. */
static bool own_item(struct jinja_run *run, struct jinja_value object, struct jinja_value index,
                     struct jinja_value *ret) {
    struct jinja_value *item;
    uint32_t i;
    switch ((enum jinja_kind)object.kind) {
    case JINJA_DICT:
        item = jinja_hashable(run, index) ? jinja_dict_get(run, object.dict, index) : NULL;
        if (item)
            *ret = *item;
        return item;
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_RANGE:
        if (!sequence_index(index, object.list->len, &i))
            return false;
        *ret = object.list->items[i];
        return true;
    case JINJA_STRING:
        return text_item(object, index, ret);
    default:
        return false;
    }
}

bool jinja_get_item(struct jinja_run *run, struct jinja_value object, struct jinja_value index,
                    struct jinja_value *ret) {
    if (object.kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, object);
    if (object.kind == JINJA_STRING && !jinja_spend(run, 1 + object.len / JINJA_BYTES_PER_STEP))
        return false;
    if (own_item(run, object, index, ret))
        return true;
    if (index.kind == JINJA_STRING) {
        const char *name = jinja_cstr(run, index);
        if (!name)
            return false;
        if (!own_attribute(run, object, name, ret))
            *ret = jinja_undefined(JINJA_MISSING_ATTRIBUTE, object.kind, name);
        return true;
    }
    AUTO_BUF b = BUF_INIT;
    if (!jinja_print_repr(run, index, &b))
        return false;
    struct jinja_value name;
    if (!jinja_string(run, b.data, b.len, &name))
        return false;
    *ret = jinja_undefined(JINJA_MISSING_ATTRIBUTE, object.kind, name.text);
    return true;
}

/* Python's slice.indices(): clips start and stop to a sequence of len items. */
static void slice_bounds(const struct jinja_value parts[3], int64_t step, int64_t len,
                         int64_t bounds[2]) {
    int64_t low = step > 0 ? 0 : -1, high = step > 0 ? len : len - 1;
    for (int i = 0; i < 2; i++) {
        bool from_start = (i == 0) == (step > 0);
        if (parts[i].kind == JINJA_ABSENT || parts[i].kind == JINJA_NONE) {
            bounds[i] = from_start ? low : high;
            continue;
        }
        int64_t v = jinja_whole(parts[i]);
        v += v < 0 ? len : 0;
        bounds[i] = v < low ? low : v > high ? high : v;
    }
}

static bool slice_text(struct jinja_run *run, struct jinja_value text, int64_t start, int64_t step,
                       uint32_t count, struct jinja_value *ret) {
    size_t chars = jinja_text_count(text.text, text.len);
    bool ascii = chars == text.len;
    if (!count) {
        *ret = jinja_literal("");
        return true;
    }
    if (step == 1) {
        size_t from = ascii ? (size_t)start : jinja_text_offset(text.text, text.len, (size_t)start);
        size_t len = ascii ? count : jinja_text_offset(text.text + from, text.len - from, count);
        *ret = jinja_borrow(text.text + from, len);
        return true;
    }
    struct jinja_value *items;
    uint32_t len;
    if (!jinja_items(run, text, &items, &len))
        return false;
    AUTO_BUF b = BUF_INIT;
    for (uint32_t i = 0; i < count; i++, start += step)
        buf_append(&b, items[start].text, items[start].len);
    return jinja_string(run, b.data, b.len, ret);
}

bool jinja_get_slice(struct jinja_run *run, struct jinja_value object,
                     const struct jinja_value parts[3], struct jinja_value *ret) {
    if (object.kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, object);
    bool usable = object.kind == JINJA_STRING || object.kind == JINJA_LIST ||
                  object.kind == JINJA_TUPLE || object.kind == JINJA_RANGE;
    for (int i = 0; i < 3; i++)
        usable &= parts[i].kind <= JINJA_INT && parts[i].kind != JINJA_UNDEFINED;
    if (!usable) {
        *ret = jinja_undefined(JINJA_MISSING_ATTRIBUTE, object.kind, "slice");
        return true;
    }
    int64_t step = parts[2].kind > JINJA_NONE ? jinja_whole(parts[2]) : 1;
    if (step == 0)
        return jinja_fail(run, ERR_INVALID, "slice step cannot be zero");
    uint32_t len;
    if (!jinja_length(run, object, &len))
        return false;
    /* A step longer than the sequence takes one item, whatever its length. */
    step = step > (int64_t)len + 1 ? (int64_t)len + 1 : step;
    step = step < -(int64_t)len - 1 ? -(int64_t)len - 1 : step;
    int64_t bounds[2];
    slice_bounds(parts, step, len, bounds);
    int64_t span = step > 0 ? bounds[1] - bounds[0] : bounds[0] - bounds[1];
    int64_t stride = step > 0 ? step : -step;
    uint32_t count = span > 0 ? (uint32_t)((span + stride - 1) / stride) : 0;
    if (object.kind == JINJA_STRING)
        return slice_text(run, object, bounds[0], step, count, ret);
    struct jinja_value *items;
    if (step == 1) {
        items = count ? object.list->items + bounds[0] : NULL;
    } else {
        items = jinja_alloc(run, count, sizeof(*items));
        if (!items)
            return false;
        for (uint32_t i = 0; i < count; i++)
            items[i] = object.list->items[bounds[0] + (int64_t)i * step];
    }
    enum jinja_kind kind = object.kind == JINJA_TUPLE ? JINJA_TUPLE : JINJA_LIST;
    *ret = jinja_list_of(run, kind, NULL, items, count);
    return jinja_spend(run, 1 + (step == 1 ? 0 : count));
}

bool jinja_get_path(struct jinja_run *run, struct jinja_value object, struct jinja_value path,
                    struct jinja_value fallback, struct jinja_value *ret) {
    *ret = object;
    if (path.kind == JINJA_NONE || path.kind == JINJA_ABSENT)
        return true;
    if (path.kind != JINJA_STRING)
        return jinja_get_item(run, object, path, ret);
    for (const char *at = path.text, *end = path.text + path.len; at <= end;) {
        const char *dot = memchr(at, '.', (size_t)(end - at));
        size_t len = (size_t)((dot ? dot : end) - at);
        struct jinja_value part = jinja_borrow(at, len);
        int64_t number = 0;
        bool is_number = len > 0 && len < 10;
        for (size_t i = 0; i < len && is_number; i++) {
            is_number = at[i] >= '0' && at[i] <= '9';
            number = number * 10 + (at[i] - '0');
        }
        if (is_number)
            part = jinja_int(number);
        if (!jinja_get_item(run, *ret, part, ret))
            return false;
        if (ret->kind == JINJA_UNDEFINED && fallback.kind != JINJA_ABSENT)
            *ret = fallback;
        at += len + 1;
    }
    return jinja_spend(run, 1);
}

/* Arguments */

bool jinja_call_builtin(struct jinja_run *run, const struct jinja_builtin *b,
                        struct jinja_value self, const struct jinja_call *call,
                        struct jinja_value *ret) {
    if (b->call_raw)
        return b->call_raw(run, self, call, ret);
    struct jinja_value args[JINJA_PARAMS_MAX] = {0};
    uint32_t num_params = 0;
    while (num_params < JINJA_PARAMS_MAX && b->params[num_params])
        num_params++;
    if (call->num_pos > num_params)
        return jinja_fail(run, ERR_INVALID, "%s takes at most %u arguments, not %u", b->name,
                          num_params, call->num_pos);
    for (uint32_t i = 0; i < call->num_pos; i++)
        args[i] = call->pos[i];
    for (uint32_t i = 0; i < call->num_named; i++) {
        uint32_t at = 0;
        while (at < num_params && strcmp(b->params[at], call->names[i]) != 0)
            at++;
        if (at == num_params)
            return jinja_fail(run, ERR_INVALID, "%s takes no argument named '%s'", b->name,
                              call->names[i]);
        if (args[at].kind != JINJA_ABSENT)
            return jinja_fail(run, ERR_INVALID, "%s was given '%s' twice", b->name, call->names[i]);
        args[at] = call->named[i];
    }
    for (uint32_t i = 0; i < b->required; i++)
        if (args[i].kind == JINJA_ABSENT)
            return jinja_fail(run, ERR_INVALID, "%s needs the argument '%s'", b->name,
                              b->params[i]);
    return b->call(run, self, args, ret);
}

bool jinja_arg_int(struct jinja_run *run, struct jinja_value v, const char *what, int64_t *ret) {
    if (v.kind == JINJA_ABSENT || v.kind == JINJA_NONE)
        return true;
    if (v.kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, v);
    if (v.kind != JINJA_INT && v.kind != JINJA_BOOL)
        return jinja_fail(run, ERR_INVALID, "%s must be an integer, not %s", what,
                          jinja_type_name(v));
    *ret = jinja_whole(v);
    return true;
}

bool jinja_arg_text(struct jinja_run *run, struct jinja_value v, const char *what,
                    struct jinja_value *ret) {
    if (v.kind == JINJA_ABSENT)
        return true;
    if (v.kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, v);
    if (v.kind != JINJA_STRING)
        return jinja_fail(run, ERR_INVALID, "%s must be a string, not %s", what,
                          jinja_type_name(v));
    *ret = v;
    return true;
}
