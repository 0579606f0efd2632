/* Calls: macros, builtin functions and methods, recursive loops; and the global functions.
 *
 * A macro binds its parameters the way Jinja does: positional arguments first, then named ones,
 * then defaults (evaluated at the call, seeing the parameters before them). `caller`, `varargs` and
 * `kwargs` exist only in macros whose body mentions them; elsewhere left-over arguments are errors.
 * A macro sees the variables of the place where it is defined, not of the place that calls it. */
#include <time.h>

#include "engine/jinja_access.h"
#include "engine/jinja_eval.h"
#include "engine/jinja_print.h"

enum { STRFTIME_BYTES_MAX = 256 };

/* The index of a named argument, num_named when it is not there. */
static uint32_t find_named(const struct jinja_call *call, const char *name) {
    uint32_t i = 0;
    while (i < call->num_named && strcmp(call->names[i], name) != 0)
        i++;
    return i;
}

static bool bind_params(struct jinja_run *run, struct jinja_scope *scope,
                        const struct jinja_macro_def *m, const struct jinja_call *call,
                        bool *used) {
    for (uint32_t i = 0; i < m->num_params; i++) {
        struct jinja_value v = {0};
        if (i < call->num_pos) {
            v = call->pos[i];
        } else {
            uint32_t at = find_named(call, m->param_names[i]);
            if (at < call->num_named) {
                v = call->named[at];
                used[at] = true;
            } else if (m->defaults[i]) {
                if (!jinja_eval(run, scope, m->defaults[i], &v))
                    return false;
            } else {
                v = jinja_undefined(JINJA_MISSING_ARGUMENT, JINJA_MACRO, m->param_names[i]);
            }
        }
        if (!jinja_scope_set(run, scope, m->params[i], v))
            return false;
    }
    return true;
}

static bool bind_caller(struct jinja_run *run, struct jinja_scope *scope,
                        const struct jinja_call *call, bool *used) {
    struct jinja_value caller = jinja_undefined(JINJA_MISSING_NAME, JINJA_MACRO, "caller");
    uint32_t at = find_named(call, "caller");
    if (at < call->num_named) {
        caller = call->named[at];
        used[at] = true;
    }
    return jinja_scope_set(run, scope, JINJA_SYMBOL_CALLER, caller);
}

/* What no parameter took: kwargs and varargs, or errors. */
static bool bind_rest(struct jinja_run *run, struct jinja_scope *scope,
                      const struct jinja_macro_def *m, const struct jinja_call *call,
                      const bool *used) {
    struct jinja_dict *kwargs = jinja_dict_create(run);
    for (uint32_t i = 0; i < call->num_named; i++) {
        if (used[i])
            continue;
        if (!m->uses_kwargs)
            return jinja_fail(run, ERR_INVALID, "macro '%s' takes no keyword argument '%s'",
                              m->name, call->names[i]);
        if (!jinja_dict_set(run, kwargs, jinja_literal(call->names[i]), call->named[i]))
            return false;
    }
    if (m->uses_kwargs &&
        !jinja_scope_set(run, scope, JINJA_SYMBOL_KWARGS,
                         (struct jinja_value){.kind = JINJA_DICT, .dict = kwargs}))
        return false;
    uint32_t rest = call->num_pos > m->num_params ? call->num_pos - m->num_params : 0;
    if (m->uses_varargs)
        return jinja_scope_set(
            run, scope, JINJA_SYMBOL_VARARGS,
            jinja_list_of(run, JINJA_TUPLE, NULL, rest ? call->pos + m->num_params : NULL, rest));
    return !rest || jinja_fail(run, ERR_INVALID, "macro '%s' takes not more than %u argument(s)",
                               m->name, m->num_params);
}

static bool call_macro(struct jinja_run *run, const struct jinja_macro *macro,
                       const struct jinja_call *call, struct jinja_value *ret) {
    const struct jinja_macro_def *m = macro->def;
    struct jinja_scope *scope = jinja_scope_create(run, macro->scope);
    bool *used = jinja_alloc(run, call->num_named, sizeof(*used));
    if (!used || !bind_params(run, scope, m, call, used))
        return false;
    if (m->uses_caller && !m->has_caller_param && !bind_caller(run, scope, call, used))
        return false;
    return bind_rest(run, scope, m, call, used) && jinja_capture(run, scope, &m->body, ret);
}

static bool call_joiner(struct jinja_cycler *c, struct jinja_value *ret) {
    *ret = c->next ? c->items[0] : jinja_literal("");
    c->next = 1;
    return true;
}

bool jinja_call(struct jinja_run *run, struct jinja_value callee, const struct jinja_call *call,
                struct jinja_value *ret) {
    switch ((enum jinja_kind)callee.kind) {
    case JINJA_METHOD:
        return jinja_call_builtin(run, callee.bound->method, callee.bound->self, call, ret);
    case JINJA_FUNCTION:
        return jinja_call_builtin(run, callee.function, (struct jinja_value){0}, call, ret);
    case JINJA_MACRO:
        return call_macro(run, callee.macro, call, ret);
    case JINJA_LOOP:
        if (call->num_pos != 1 || call->num_named)
            return jinja_fail(run, ERR_INVALID, "loop() takes one argument");
        return jinja_recurse(run, callee.loop, call->pos[0], ret);
    case JINJA_JOINER:
        return call_joiner(callee.cycler, ret);
    case JINJA_UNDEFINED:
        return jinja_fail_undefined(run, callee);
    default:
        return jinja_fail(run, ERR_INVALID, "'%s' object is not callable", jinja_type_name(callee));
    }
}

/* Global functions */

static bool global_range(struct jinja_run *run, struct jinja_value self,
                         const struct jinja_call *call, struct jinja_value *ret) {
    int64_t bounds[3] = {0, 0, 1};
    if (call->num_pos < 1 || call->num_pos > 3 || call->num_named)
        return jinja_fail(run, ERR_INVALID, "range takes 1 to 3 arguments");
    for (uint32_t i = 0; i < call->num_pos; i++) {
        struct jinja_value v = call->pos[i];
        if (v.kind == JINJA_NONE)
            return jinja_fail(run, ERR_INVALID, "range: None is not an integer");
        if (!jinja_arg_int(run, v, "range: a bound", &bounds[call->num_pos == 1 ? 1 : i]))
            return false;
    }
    int64_t start = bounds[0], stop = bounds[1], step = bounds[2];
    if (step == 0)
        return jinja_fail(run, ERR_INVALID, "range: the step must not be zero");
    uint64_t span = step > 0 ? (stop > start ? (uint64_t)stop - (uint64_t)start : 0)
                             : (start > stop ? (uint64_t)start - (uint64_t)stop : 0);
    uint64_t stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    uint64_t count = span / stride + (span % stride != 0);
    if (count > JINJA_RANGE_ITEMS_MAX)
        return jinja_fail(run, ERR_EXHAUSTED, "a range of more than %d items",
                          JINJA_RANGE_ITEMS_MAX);
    struct jinja_value *items = jinja_alloc(run, count, sizeof(*items));
    if (!items)
        return false;
    for (uint64_t i = 0; i < count; i++)
        items[i] = jinja_int((int64_t)((uint64_t)start + i * (uint64_t)step));
    *ret = jinja_list_of(run, JINJA_RANGE, NULL, items, (uint32_t)count);
    ret->list->start = start;
    ret->list->stop = stop;
    ret->list->step = step;
    return jinja_spend(run, count);
}

/* dict(mapping or pairs, name=value...) */
static bool fill_dict(struct jinja_run *run, const struct jinja_call *call, struct jinja_dict *d) {
    struct jinja_value *items;
    uint32_t len;
    if (call->num_pos > 1)
        return jinja_fail(run, ERR_INVALID, "dict expected at most 1 argument, got %u",
                          call->num_pos);
    bool mapping = call->num_pos && call->pos[0].kind == JINJA_DICT;
    for (uint32_t i = 0; mapping && i < call->pos[0].dict->len; i++) {
        const struct jinja_entry *e = &call->pos[0].dict->entries[i];
        if (!jinja_dict_set(run, d, e->key, e->value))
            return false;
    }
    if (call->num_pos && !mapping) {
        if (!jinja_items(run, call->pos[0], &items, &len))
            return false;
        for (uint32_t i = 0; i < len; i++) {
            struct jinja_value *pair;
            uint32_t two;
            if (!jinja_items(run, items[i], &pair, &two))
                return false;
            if (two != 2)
                return jinja_fail(run, ERR_INVALID, "dict: item %u has %u parts, not 2", i, two);
            if (!jinja_dict_set(run, d, pair[0], pair[1]))
                return false;
        }
    }
    for (uint32_t i = 0; i < call->num_named; i++)
        if (!jinja_dict_set(run, d, jinja_literal(call->names[i]), call->named[i]))
            return false;
    return true;
}

static bool global_dict(struct jinja_run *run, struct jinja_value self,
                        const struct jinja_call *call, struct jinja_value *ret) {
    *ret = (struct jinja_value){.kind = JINJA_DICT, .dict = jinja_dict_create(run)};
    return fill_dict(run, call, ret->dict);
}

static bool global_namespace(struct jinja_run *run, struct jinja_value self,
                             const struct jinja_call *call, struct jinja_value *ret) {
    *ret = (struct jinja_value){.kind = JINJA_NAMESPACE, .dict = jinja_dict_create(run)};
    return fill_dict(run, call, ret->dict);
}

static bool global_cycler(struct jinja_run *run, struct jinja_value self,
                          const struct jinja_call *call, struct jinja_value *ret) {
    if (!call->num_pos || call->num_named)
        return jinja_fail(run, ERR_INVALID, "cycler needs at least one item");
    struct jinja_cycler *c = jinja_alloc_small(run, sizeof(*c));
    c->items = call->pos;
    c->len = call->num_pos;
    *ret = (struct jinja_value){.kind = JINJA_CYCLER, .cycler = c};
    return true;
}

static bool global_joiner(struct jinja_run *run, struct jinja_value self,
                          const struct jinja_value *args, struct jinja_value *ret) {
    struct jinja_cycler *c = jinja_alloc_small(run, sizeof(*c));
    c->items = jinja_alloc_small(run, sizeof(*c->items));
    c->items[0] = args[0].kind == JINJA_ABSENT ? jinja_literal(", ") : args[0];
    c->len = 1;
    *ret = (struct jinja_value){.kind = JINJA_JOINER, .cycler = c};
    return true;
}

static bool global_raise_exception(struct jinja_run *run, struct jinja_value self,
                                   const struct jinja_value *args, struct jinja_value *ret) {
    struct jinja_value text;
    if (!jinja_to_string(run, args[0], &text))
        return false;
    return jinja_fail(run, ERR_INVALID, "%.*s", (int)text.len, text.text);
}

static bool global_strftime_now(struct jinja_run *run, struct jinja_value self,
                                const struct jinja_value *args, struct jinja_value *ret) {
    struct jinja_value format;
    if (!jinja_arg_text(run, args[0], "strftime_now: format", &format))
        return false;
    const char *fmt = jinja_cstr(run, format);
    if (!fmt)
        return false;
    time_t seconds = (time_t)(run->wall_ms / 1000);
    struct tm tm;
    char text[STRFTIME_BYTES_MAX];
    if (!localtime_r(&seconds, &tm))
        return jinja_fail(run, ERR_INVALID, "strftime_now: the clock is out of range");
    size_t len = strftime(text, sizeof(text), fmt, &tm);
    if (!len && *fmt)
        return jinja_fail(run, ERR_EXHAUSTED, "strftime_now: more than %d bytes",
                          STRFTIME_BYTES_MAX - 1);
    return jinja_string(run, text, len, ret);
}

static const struct jinja_builtin globals[] = {
    {"raise_exception", 1, {"message"}, .call = global_raise_exception},
    {"strftime_now", 1, {"format"}, .call = global_strftime_now},
    {"namespace", .call_raw = global_namespace},
    {"range", .call_raw = global_range},
    {"dict", .call_raw = global_dict},
    {"cycler", .call_raw = global_cycler},
    {"joiner", 0, {"sep"}, .call = global_joiner},
};

struct jinja_value jinja_global(const char *name) {
    for (size_t i = 0; i < ARRAY_LEN(globals); i++)
        if (strcmp(globals[i].name, name) == 0)
            return (struct jinja_value){.kind = JINJA_FUNCTION, .function = &globals[i]};
    return (struct jinja_value){0};
}
