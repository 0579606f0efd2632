/* Evaluation of a checked tree. Errors are values: `false && error` is false, as the language
 * wants it, so && and || (and the macros made of them, all and exists) go on behind an error and
 * give it only when nothing else decides. Every node costs a step; functions take more by what they
 * read. A run whose steps are used up ends wherever it is. */
#include "kube-compat/cel_tree.h"

#include <stdio.h>

#include "kube-compat/cel_functions.h"

const char cel_cost_exceeded[] = "operation cancelled: actual cost limit exceeded";

struct scope {
    const struct scope *outer;
    const char *name;
    struct cel_value value;
};

static struct cel_value eval(struct cel_run *run, const struct cel_node *n,
                             const struct scope *scope);

static struct cel_value eval_name(struct cel_run *run, const struct cel_node *n,
                                  const struct scope *scope) {
    static const char *const types[] = {"bool",  "int",  "uint", "double",   "string",
                                        "bytes", "list", "map",  "null_type"};
    for (const struct scope *s = scope; s; s = s->outer) {
        if (!strcmp(s->name, n->text))
            return s->value;
    }
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (!strcmp(n->text, types[i]))
            return cel_text(CEL_TYPE, n->text, strlen(n->text));
    }
    return cel_error(run, "no such attribute: %.100s", n->text);
}

/* target.field, and has(target.field). */
static struct cel_value eval_select(struct cel_run *run, const struct cel_node *n,
                                    const struct scope *scope) {
    struct cel_value target = eval(run, n->args[0], scope), value;
    if (target.kind == CEL_ERROR)
        return target;
    if (target.kind != CEL_MAP)
        return cel_error(run, "no such overload");
    bool found = cel_field(run, &target, n->text, &value);
    if (n->op == CEL_OP_HAS)
        return cel_bool(found);
    return found ? value : cel_error(run, "no such key: %.200s", n->text);
}

static bool fits(const struct cel_function *f, const struct cel_value *args) {
    for (uint32_t i = 0; i < f->num_args; i++) {
        if (f->args[i] != CEL_DYN && f->args[i] != args[i].kind)
            return false;
    }
    return true;
}

static struct cel_value eval_call(struct cel_run *run, const struct cel_node *n,
                                  const struct scope *scope) {
    struct cel_value args[CEL_ARGS_MAX] = {0};
    for (uint32_t i = 0; i < n->num_args; i++) {
        args[i] = eval(run, n->args[i], scope);
        if (args[i].kind == CEL_ERROR)
            return args[i];
    }
    const struct cel_function *f = n->functions;
    while (f && !fits(f, args))
        f = cel_functions_next(f);
    if (!f)
        return cel_error(run, "no such overload");
    if (f->call == cel_matches && n->pattern) {
        run->cost -= (int64_t)(args[0].text.len / 10 * (args[1].text.len / 4 + 1));
        return cel_bool(schema_pattern_match(n->pattern, args[0].text.data, args[0].text.len));
    }
    return f->call(run, args);
}

/* && and ||: `decides` is the value that settles it. */
static struct cel_value eval_logic(struct cel_run *run, const struct cel_node *n,
                                   const struct scope *scope) {
    bool decides = n->op == CEL_OP_OR;
    struct cel_value undecided = cel_bool(!decides);
    for (uint32_t i = 0; i < 2; i++) {
        struct cel_value v = eval(run, n->args[i], scope);
        if (v.kind == CEL_BOOL && v.truth == decides)
            return v;
        if (v.kind != CEL_BOOL && undecided.kind != CEL_ERROR)
            undecided = v.kind == CEL_ERROR ? v : cel_error(run, "no such overload");
    }
    return undecided;
}

static struct cel_value eval_condition(struct cel_run *run, const struct cel_node *n,
                                       const struct scope *scope) {
    struct cel_value v = eval(run, n->args[0], scope);
    if (v.kind == CEL_ERROR)
        return v;
    if (v.kind != CEL_BOOL)
        return cel_error(run, "no such overload");
    return eval(run, n->args[v.truth ? 1 : 2], scope);
}

static struct cel_value eval_literal(struct cel_run *run, const struct cel_node *n,
                                     const struct scope *scope) {
    struct cel_value *items = arena_alloc(run->arena, (n->num_args + 1) * sizeof(*items));
    for (uint32_t i = 0; i < n->num_args; i++) {
        items[i] = eval(run, n->args[i], scope);
        if (items[i].kind == CEL_ERROR)
            return items[i];
    }
    struct cel_value v = cel_list(items, n->op == CEL_OP_MAP ? n->num_args / 2 : n->num_args);
    v.kind = n->op == CEL_OP_MAP ? CEL_MAP : CEL_LIST;
    return v;
}

/* What a macro has gathered so far. */
struct macro {
    const struct cel_node *node;
    struct cel_value *items; /* of filter and map */
    size_t num;              /* of items; of hits in exists_one */
    struct cel_value undecided;
};

/* One round. True: the macro is settled, with *ret_value. */
static bool macro_step(struct cel_run *run, struct macro *m, const struct cel_value *item,
                       const struct scope *scope, struct cel_value *ret_value) {
    const struct cel_node *n = m->node;
    bool transforms = n->op == CEL_OP_TRANSFORM;
    struct cel_value v = transforms && n->num_args < 3
                             ? cel_bool(true)
                             : eval(run, n->args[transforms ? 2 : 1], scope);
    if (v.kind != CEL_BOOL && v.kind != CEL_ERROR)
        v = cel_error(run, "no such overload");
    bool absorbs = n->op == CEL_OP_ALL || n->op == CEL_OP_EXISTS;
    if (v.kind == CEL_ERROR && absorbs)
        m->undecided = v;
    *ret_value = v;
    if (v.kind == CEL_ERROR)
        return !absorbs;
    if (absorbs)
        return v.truth == (n->op == CEL_OP_EXISTS);
    if (!v.truth || n->op == CEL_OP_EXISTS_ONE) {
        m->num += v.truth;
        return false;
    }
    ASSERT(m->items);
    *ret_value = transforms ? eval(run, n->args[1], scope) : *item;
    m->items[m->num++] = *ret_value;
    return ret_value->kind == CEL_ERROR;
}

static struct cel_value eval_macro(struct cel_run *run, const struct cel_node *n,
                                   const struct scope *outer) {
    struct cel_value range = eval(run, n->args[0], outer), settled;
    if (range.kind == CEL_ERROR)
        return range;
    if (range.kind != CEL_LIST && range.kind != CEL_MAP)
        return cel_error(run, "no such overload");
    size_t num = cel_size(&range);
    const struct cel_value *pairs = range.kind == CEL_MAP ? cel_pairs(run, &range, &num) : NULL;
    struct macro m = {.node = n, .undecided = cel_bool(n->op == CEL_OP_ALL)};
    if (n->op == CEL_OP_FILTER || n->op == CEL_OP_TRANSFORM)
        m.items = arena_alloc(run->arena, (num + 1) * sizeof(*m.items));
    for (size_t i = 0; i < num; i++) {
        if (--run->cost < 0)
            return cel_error(run, "%s", cel_cost_exceeded);
        struct scope scope = {.outer = outer, .name = n->text};
        scope.value = pairs ? pairs[2 * i] : cel_item(run, &range, i);
        if (macro_step(run, &m, &scope.value, &scope, &settled))
            return settled;
    }
    if (n->op == CEL_OP_ALL || n->op == CEL_OP_EXISTS)
        return m.undecided;
    return n->op == CEL_OP_EXISTS_ONE ? cel_bool(m.num == 1) : cel_list(m.items, m.num);
}

static struct cel_value eval_opt_map(struct cel_run *run, const struct cel_node *n,
                                     const struct scope *outer) {
    struct cel_value optional = eval(run, n->args[0], outer);
    if (optional.kind == CEL_ERROR || (optional.kind == CEL_OPTIONAL && !optional.value))
        return optional;
    if (optional.kind != CEL_OPTIONAL)
        return cel_error(run, "no such overload");
    struct scope scope = {.outer = outer, .name = n->text, .value = *optional.value};
    struct cel_value *value = arena_alloc(run->arena, sizeof(*value));
    *value = eval(run, n->args[1], &scope);
    return value->kind == CEL_ERROR ? *value
                                    : (struct cel_value){.kind = CEL_OPTIONAL, .value = value};
}

static struct cel_value eval(struct cel_run *run, const struct cel_node *n,
                             const struct scope *scope) {
    if (--run->cost < 0)
        return cel_error(run, "%s", cel_cost_exceeded);
    switch (n->op) {
    case CEL_OP_LITERAL:
        return n->literal;
    case CEL_OP_NAME:
        return eval_name(run, n, scope);
    case CEL_OP_SELECT:
    case CEL_OP_HAS:
        return eval_select(run, n, scope);
    case CEL_OP_CALL:
        return eval_call(run, n, scope);
    case CEL_OP_AND:
    case CEL_OP_OR:
        return eval_logic(run, n, scope);
    case CEL_OP_COND:
        return eval_condition(run, n, scope);
    case CEL_OP_LIST:
    case CEL_OP_MAP:
        return eval_literal(run, n, scope);
    case CEL_OP_OPT_MAP:
        return eval_opt_map(run, n, scope);
    default:
        return eval_macro(run, n, scope);
    }
}

struct cel_value cel_run(const struct cel_program *p, const json_t *self, const json_t *old,
                         struct arena *arena, int64_t *cost) {
    int64_t limit = *cost < CEL_COST_MAX ? *cost : CEL_COST_MAX;
    struct cel_run run = {.arena = arena, .cost = limit};
    struct scope self_scope = {.name = "self", .value = cel_of_json(&run, self, p->self)};
    struct scope old_scope = {.outer = &self_scope, .name = "oldSelf"};
    struct cel_value old_value = {0};
    if (old)
        old_value = cel_of_json(&run, old, p->self);
    old_scope.value = !p->old_is_optional ? old_value
                                          : (struct cel_value){.kind = CEL_OPTIONAL,
                                                               .value = old ? &old_value : NULL};
    struct cel_value v = eval(&run, p->root, &old_scope);
    if (run.cost < 0)
        v = cel_error(&run, "%s", cel_cost_exceeded);
    *cost -= limit - (run.cost < 0 ? 0 : run.cost);
    return v;
}

enum errc cel_compile(const char *text, const struct cel_options *opt, struct cel_program **ret_p,
                      struct error *err) {
    AUTO(cel_program) p = mem_alloc(sizeof(*p));
    p->arena = arena_create();
    p->text = arena_strdup(p->arena, text);
    p->self = opt->self;
    p->old_is_optional = opt->old_is_optional;
    enum errc code = cel_parse(p, err);
    if (!code)
        code = cel_check(p, opt, err);
    if (!code)
        *ret_p = steal(p);
    return code;
}

void cel_program_destroy(struct cel_program *p) {
    if (!p)
        return;
    for (size_t i = 0; i < p->num_patterns; i++)
        schema_pattern_destroy(p->patterns[i]);
    free(p->patterns);
    arena_destroy(p->arena);
    free(p);
}

bool cel_uses_old(const struct cel_program *p) {
    return p->uses_old;
}
