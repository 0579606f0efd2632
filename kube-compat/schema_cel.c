/* Rules are found by walking the value beside its schema, into parts that have rules only. The old
 * value walks along as far as it is clear which part became which (schema_old_item()). Items of
 * lists without keys have no past, and neither has what is below them.
 *
 * Rules run after everything else: they may rely on types and required fields. Their steps are
 * counted over the whole object, so that no object can hold a thread of the server. */
#include "kube-compat/schema_cel.h"

#include <stdio.h>

#include "core/object.h"
#include "kube-compat/cel.h"

enum { MESSAGE_BYTES_MAX = 5 << 10 };

struct cel_walk {
    struct buf path;
    json_t *causes;
    struct arena *arena;
    int64_t cost;
    int depth;
};

static void push(struct cel_walk *w, const char *fmt, const char *name) {
    if (*fmt == '.' && !w->path.len)
        fmt++;
    char piece[OBJECT_PATH_BYTES_MAX];
    snprintf(piece, sizeof(piece),
             *fmt == '['   ? "[%.200s]"
             : *fmt == '.' ? ".%.200s"
                           : "%.200s",
             name);
    buf_puts(&w->path, piece);
}

static void pop(struct cel_walk *w, size_t was) {
    w->path.len = was;
    if (w->path.data)
        w->path.data[was] = '\0';
}

/* Appends the cause in the form of its reason. */
static void add_cause(struct cel_walk *w, const struct schema *s, const struct schema_cel *rule,
                      const char *text) {
    size_t was = w->path.len;
    if (rule->field)
        push(w, ".%s", rule->field + (*rule->field == '.'));
    const char *path = w->path.len ? w->path.data : "", *type = schema_type_name(s);
    if (!strcmp(rule->reason, CAUSE_FORBIDDEN))
        cause_add(w->causes, rule->reason, path, "Forbidden: %s", text);
    else if (!strcmp(rule->reason, CAUSE_REQUIRED))
        cause_add(w->causes, rule->reason, path, "Required value: %s", text);
    else if (!strcmp(rule->reason, CAUSE_DUPLICATE))
        cause_add(w->causes, rule->reason, path, "Duplicate value: \"%s\"", type);
    else
        cause_add(w->causes, rule->reason, path, "Invalid value: \"%s\": %s", type, text);
    pop(w, was);
}

static const char *plain_message(struct cel_walk *w, const struct schema_cel *rule) {
    return arena_printf(w->arena, "failed rule: %s", rule->rule);
}

/* What a failed rule says: its messageExpression, else its message, else itself. */
static const char *message_of(struct cel_walk *w, const struct schema_cel *rule,
                              const json_t *value, const json_t *old) {
    if (rule->message_program) {
        struct cel_value v = cel_run(rule->message_program, value, old, w->arena, &w->cost);
        bool good = v.kind == CEL_STRING && v.text.len <= MESSAGE_BYTES_MAX &&
                    v.text.data[strspn(v.text.data, " \t\r\n")] && !strpbrk(v.text.data, "\r\n");
        if (good)
            return v.text.data;
    }
    return rule->message ? rule->message : plain_message(w, rule);
}

static void check_rule(struct cel_walk *w, const struct schema *s, const struct schema_cel *rule,
                       const json_t *value, const json_t *old) {
    if (cel_uses_old(rule->program) && !old && !rule->old_is_optional)
        return;
    arena_reset(w->arena);
    struct cel_value v = cel_run(rule->program, value, old, w->arena, &w->cost);
    if (v.kind == CEL_BOOL && v.truth)
        return;
    /* A rule may be newer than the object: what an update leaves alone is not held against it. */
    if (old && !cel_uses_old(rule->program) && json_equal(value, old))
        return;
    if (v.kind == CEL_BOOL) {
        add_cause(w, s, rule, message_of(w, rule, value, old));
        return;
    }
    const char *what = v.kind == CEL_ERROR ? v.text.data : "no such overload";
    const char *shown = rule->message ? rule->message : plain_message(w, rule);
    AUTO_BUF text = BUF_INIT;
    if (!strcmp(what, cel_cost_exceeded)) {
        w->cost = -1;
        buf_printf(&text,
                   "'%s': no further validation rules will be run due to call cost exceeds limit "
                   "for rule: %s",
                   what, shown);
    } else if (!strcmp(what, "no such overload")) {
        buf_printf(&text,
                   "'%s': call arguments did not match a supported operator, function or macro "
                   "signature for rule: %s",
                   what, shown);
    } else {
        buf_printf(&text, "%s evaluating rule: %s", what, shown);
    }
    struct schema_cel plain = {.reason = CAUSE_INVALID};
    add_cause(w, s, &plain, text.data);
}

static void walk(struct cel_walk *w, const struct schema *s, const json_t *value,
                 const json_t *old);

static void walk_members(struct cel_walk *w, const struct schema *s, const json_t *value,
                         const json_t *old) {
    const char *key;
    json_t *member;
    json_object_foreach ((json_t *)(uintptr_t)value, key, member) {
        bool is_map = s->items && s->type == SCHEMA_OBJECT;
        const struct schema_property *p = is_map ? NULL : schema_property(s, key);
        const struct schema *inner = is_map ? s->items : p ? p->schema : NULL;
        if (!inner || !inner->has_cel)
            continue;
        size_t was = w->path.len;
        push(w, is_map ? "[%s]" : ".%s", key);
        walk(w, inner, member, json_object_get(old, key));
        pop(w, was);
    }
}

static void walk(struct cel_walk *w, const struct schema *s, const json_t *value,
                 const json_t *old) {
    bool absent = json_is_null(value) && s->type != SCHEMA_ANY;
    if (w->cost < 0 || w->depth >= SCHEMA_DEPTH_MAX || absent)
        return;
    w->depth++;
    if (json_is_null(old))
        old = NULL;
    for (uint32_t i = 0; s->rules && i < s->rules->num_cel && w->cost >= 0; i++)
        check_rule(w, s, s->rules->cel[i], value, old);
    if (json_is_object(value)) {
        walk_members(w, s, value, s->atomic ? NULL : old);
    } else if (json_is_array(value) && s->items && s->items->has_cel) {
        for (size_t i = 0; i < json_array_size(value); i++) {
            char index[24];
            size_t was = w->path.len;
            snprintf(index, sizeof(index), "%zu", i);
            push(w, "[%s]", index);
            const json_t *item = json_array_get(value, i);
            walk(w, s->items, item, schema_old_item(s, old, item));
            pop(w, was);
        }
    }
    w->depth--;
}

void schema_cel_check(const struct schema *s, const json_t *value, const json_t *old,
                      json_t *causes) {
    if (!s->has_cel)
        return;
    AUTO(arena) arena = arena_create();
    struct cel_walk w = {.causes = causes, .arena = arena, .cost = SCHEMA_CEL_OBJECT_COST};
    walk(&w, s, value, old);
    buf_deinit(&w.path);
}
