/* Expressions.
 *
 * A tree walk over immutable nodes. Names resolve from the innermost scope outward and end in
 * run->top, an array by symbol that is filled from the caller's variables and the global functions
 * as names are first used. Every node costs one step and one level of depth, which bounds both the
 * time of a render and the use of our stack. `run->line` is set on the way down and again before an
 * operation, so that an error names the line of the operator that failed. */
#include "engine/jinja_eval.h"

#include "engine/jinja_access.h"
#include "engine/jinja_arith.h"
#include "engine/jinja_lexer.h"
#include "engine/jinja_print.h"

enum { SCOPE_CAP_MIN = 4 };

struct jinja_scope *jinja_scope_create(struct jinja_run *run, struct jinja_scope *parent) {
    struct jinja_scope *s = jinja_alloc_small(run, sizeof(*s));
    s->parent = parent;
    return s;
}

bool jinja_scope_set(struct jinja_run *run, struct jinja_scope *scope, uint32_t symbol,
                     struct jinja_value value) {
    if (!scope->parent) {
        run->top[symbol] = value;
        return true;
    }
    for (uint32_t i = 0; i < scope->len; i++) {
        if (scope->bindings[i].symbol == symbol) {
            scope->bindings[i].value = value;
            return true;
        }
    }
    if (scope->len == scope->cap) {
        uint32_t cap = scope->cap ? scope->cap * 2 : SCOPE_CAP_MIN;
        struct jinja_binding *grown = jinja_alloc(run, cap, sizeof(*grown));
        if (!grown)
            return false;
        if (scope->len)
            memcpy(grown, scope->bindings, scope->len * sizeof(*grown));
        scope->bindings = grown;
        scope->cap = cap;
    }
    scope->bindings[scope->len++] = (struct jinja_binding){.symbol = symbol, .value = value};
    return true;
}

static bool lookup(struct jinja_run *run, const struct jinja_scope *scope, uint32_t symbol,
                   struct jinja_value *ret) {
    for (; scope->parent; scope = scope->parent) {
        for (uint32_t i = 0; i < scope->len; i++) {
            if (scope->bindings[i].symbol == symbol) {
                *ret = scope->bindings[i].value;
                return true;
            }
        }
    }
    struct jinja_value *top = &run->top[symbol];
    if (top->kind == JINJA_ABSENT) {
        const char *name = run->tmpl->symbols[symbol];
        const json_t *json = json_object_get(run->vars, name);
        struct jinja_value v = {0};
        if (json && !jinja_from_json(run, json, &v))
            return false;
        if (!json)
            v = jinja_global(name);
        *top = v.kind == JINJA_ABSENT ? jinja_undefined(JINJA_MISSING_NAME, JINJA_ABSENT, name) : v;
    }
    *ret = *top;
    return true;
}

static bool eval_items(struct jinja_run *run, struct jinja_scope *scope, const struct jinja_node *n,
                       struct jinja_value *ret) {
    struct jinja_value *items = jinja_alloc(run, n->count, sizeof(*items));
    if (!items)
        return false;
    for (uint32_t i = 0; i < n->count; i++)
        if (!jinja_eval(run, scope, n->items[i], &items[i]))
            return false;
    *ret = jinja_list_of(run, n->kind == JINJA_N_LIST ? JINJA_LIST : JINJA_TUPLE, NULL, items,
                         n->count);
    return true;
}

static bool eval_dict(struct jinja_run *run, struct jinja_scope *scope, const struct jinja_node *n,
                      struct jinja_value *ret) {
    struct jinja_dict *d = jinja_dict_create(run);
    for (uint32_t i = 0; i < n->count; i += 2) {
        struct jinja_value key, value;
        if (!jinja_eval(run, scope, n->items[i], &key) ||
            !jinja_eval(run, scope, n->items[i + 1], &value))
            return false;
        run->line = n->line;
        if (!jinja_dict_set(run, d, key, value))
            return false;
    }
    *ret = (struct jinja_value){.kind = JINJA_DICT, .dict = d};
    return true;
}

static bool eval_item(struct jinja_run *run, struct jinja_scope *scope, const struct jinja_node *n,
                      struct jinja_value *ret) {
    struct jinja_value object, parts[3] = {0};
    if (!jinja_eval(run, scope, n->left, &object))
        return false;
    if (n->right->kind != JINJA_N_SLICE) {
        if (!jinja_eval(run, scope, n->right, &parts[0]))
            return false;
        run->line = n->line;
        return jinja_get_item(run, object, parts[0], ret);
    }
    const struct jinja_node *slice[] = {n->right->left, n->right->right, n->right->condition};
    for (size_t i = 0; i < ARRAY_LEN(slice); i++)
        if (slice[i] && !jinja_eval(run, scope, slice[i], &parts[i]))
            return false;
    run->line = n->line;
    return jinja_get_slice(run, object, parts, ret);
}

/* The parts that * and ** add. */
static bool spread_args(struct jinja_run *run, struct jinja_scope *scope,
                        const struct jinja_args *args, struct jinja_value **star,
                        uint32_t *num_star, const struct jinja_dict **named) {
    struct jinja_value v;
    if (args->star) {
        if (!jinja_eval(run, scope, args->star, &v) || !jinja_items(run, v, star, num_star))
            return false;
    }
    if (args->double_star) {
        if (!jinja_eval(run, scope, args->double_star, &v))
            return false;
        if (v.kind != JINJA_DICT)
            return jinja_fail(run, ERR_INVALID, "argument after ** must be a mapping, not %s",
                              jinja_type_name(v));
        *named = v.dict;
    }
    return true;
}

bool jinja_eval_args(struct jinja_run *run, struct jinja_scope *scope,
                     const struct jinja_args *args, struct jinja_call *ret) {
    struct jinja_value *star = NULL;
    uint32_t num_star = 0;
    const struct jinja_dict *more = NULL;
    if (!spread_args(run, scope, args, &star, &num_star, &more))
        return false;
    uint32_t num_more = more ? more->len : 0;
    *ret = (struct jinja_call){.num_pos = args->num_pos + num_star,
                               .num_named = args->num_named + num_more};
    ret->pos = jinja_alloc(run, ret->num_pos, sizeof(*ret->pos));
    ret->named = jinja_alloc(run, ret->num_named, sizeof(*ret->named));
    ret->names = jinja_alloc(run, ret->num_named, sizeof(*ret->names));
    if (!ret->pos || !ret->named || !ret->names)
        return false;
    for (uint32_t i = 0; i < args->num_pos; i++)
        if (!jinja_eval(run, scope, args->pos[i], &ret->pos[i]))
            return false;
    if (num_star)
        memcpy(ret->pos + args->num_pos, star, num_star * sizeof(*star));
    for (uint32_t i = 0; i < args->num_named; i++) {
        ret->names[i] = args->names[i];
        if (!jinja_eval(run, scope, args->named[i], &ret->named[i]))
            return false;
    }
    for (uint32_t i = 0; i < num_more; i++) {
        const struct jinja_entry *e = &more->entries[i];
        if (e->key.kind != JINJA_STRING)
            return jinja_fail(run, ERR_INVALID, "keywords must be strings");
        ret->named[args->num_named + i] = e->value;
        ret->names[args->num_named + i] = jinja_cstr(run, e->key);
        if (!ret->names[args->num_named + i])
            return false;
    }
    return true;
}

static bool eval_call(struct jinja_run *run, struct jinja_scope *scope, const struct jinja_node *n,
                      struct jinja_value *ret) {
    struct jinja_value callee;
    struct jinja_call call;
    if (!jinja_eval(run, scope, n->input, &callee) || !jinja_eval_args(run, scope, n->args, &call))
        return false;
    run->line = n->line;
    return jinja_call(run, callee, &call, ret);
}

/* Filters and tests. */
static bool eval_builtin(struct jinja_run *run, struct jinja_scope *scope,
                         const struct jinja_node *n, struct jinja_value *ret) {
    struct jinja_value self;
    struct jinja_call call;
    if (!jinja_eval(run, scope, n->input, &self) || !jinja_eval_args(run, scope, n->args, &call))
        return false;
    run->line = n->line;
    if (!n->builtin)
        return jinja_fail(run, ERR_INVALID, "no %s named '%s'",
                          n->kind == JINJA_N_TEST ? "test" : "filter", n->word);
    return jinja_call_builtin(run, n->builtin, self, &call, ret);
}

static bool compare_one(struct jinja_run *run, uint8_t op, struct jinja_value a,
                        struct jinja_value b, bool *ret) {
    int order;
    switch (op) {
    case JINJA_T_EQ:
        return jinja_equal(run, a, b, ret);
    case JINJA_T_NE:
        if (!jinja_equal(run, a, b, ret))
            return false;
        *ret = !*ret;
        return true;
    case JINJA_OP_IN:
        return jinja_contains(run, b, a, ret);
    case JINJA_OP_NOT_IN:
        if (!jinja_contains(run, b, a, ret))
            return false;
        *ret = !*ret;
        return true;
    default:
        break;
    }
    if (!jinja_compare(run, a, b, jinja_token_describe((enum jinja_token_type)op), &order))
        return false;
    bool less = order == -1, equal = order == 0, greater = order == 1;
    *ret = op == JINJA_T_LT     ? less
           : op == JINJA_T_LTEQ ? less || equal
           : op == JINJA_T_GT   ? greater
                                : greater || equal;
    return true;
}

/* a < b < c: each pair in turn, until one does not hold. */
static bool eval_compare(struct jinja_run *run, struct jinja_scope *scope,
                         const struct jinja_node *n, struct jinja_value *ret) {
    struct jinja_value left, right;
    bool holds = true;
    if (!jinja_eval(run, scope, n->items[0], &left))
        return false;
    for (uint32_t i = 1; i < n->count && holds; i++) {
        if (!jinja_eval(run, scope, n->items[i], &right))
            return false;
        run->line = n->line;
        if (!compare_one(run, n->ops[i - 1], left, right, &holds))
            return false;
        left = right;
    }
    *ret = jinja_bool(holds);
    return true;
}

static bool eval_concat(struct jinja_run *run, struct jinja_scope *scope,
                        const struct jinja_node *n, struct jinja_value *ret) {
    *ret = jinja_literal("");
    for (uint32_t i = 0; i < n->count; i++) {
        struct jinja_value part;
        if (!jinja_eval(run, scope, n->items[i], &part) || !jinja_to_string(run, part, &part) ||
            !jinja_concat(run, *ret, part, ret))
            return false;
    }
    return true;
}

static bool eval_binary(struct jinja_run *run, struct jinja_scope *scope,
                        const struct jinja_node *n, struct jinja_value *ret) {
    struct jinja_value a, b;
    if (!jinja_eval(run, scope, n->left, &a) || !jinja_eval(run, scope, n->right, &b))
        return false;
    run->line = n->line;
    return jinja_binary(run, n->op, a, b, ret);
}

/* not, and, or, a if b else c, unary + and -. */
static bool eval_logic(struct jinja_run *run, struct jinja_scope *scope, const struct jinja_node *n,
                       struct jinja_value *ret) {
    const struct jinja_node *first = n->kind == JINJA_N_CONDITION ? n->condition : n->left;
    if (!jinja_eval(run, scope, first, ret))
        return false;
    run->line = n->line;
    switch ((enum jinja_node_kind)n->kind) {
    case JINJA_N_NOT:
        *ret = jinja_bool(!jinja_truth(*ret));
        return true;
    case JINJA_N_NEGATE:
        return jinja_negate(run, *ret, ret);
    case JINJA_N_PLUS:
        if (!jinja_is_number(*ret))
            return jinja_fail(run, ERR_INVALID, "bad operand type for unary +: '%s'",
                              jinja_type_name(*ret));
        return jinja_binary(run, JINJA_T_ADD, jinja_int(0), *ret, ret);
    case JINJA_N_AND:
        return !jinja_truth(*ret) || jinja_eval(run, scope, n->right, ret);
    case JINJA_N_OR:
        return jinja_truth(*ret) || jinja_eval(run, scope, n->right, ret);
    default:
        break;
    }
    if (jinja_truth(*ret))
        return jinja_eval(run, scope, n->left, ret);
    if (n->right)
        return jinja_eval(run, scope, n->right, ret);
    *ret = jinja_undefined(JINJA_MISSING_NAME, JINJA_ABSENT, "else");
    return true;
}

static bool eval_attribute(struct jinja_run *run, struct jinja_scope *scope,
                           const struct jinja_node *n, struct jinja_value *ret) {
    struct jinja_value object;
    if (!jinja_eval(run, scope, n->object, &object))
        return false;
    run->line = n->line;
    return jinja_get_attribute(run, object, n->name, ret);
}

static bool eval_node(struct jinja_run *run, struct jinja_scope *scope, const struct jinja_node *n,
                      struct jinja_value *ret) {
    switch ((enum jinja_node_kind)n->kind) {
    case JINJA_N_CONSTANT:
        *ret = n->constant;
        return true;
    case JINJA_N_NAME:
        return lookup(run, scope, n->symbol, ret);
    case JINJA_N_LIST:
    case JINJA_N_TUPLE:
        return eval_items(run, scope, n, ret);
    case JINJA_N_DICT:
        return eval_dict(run, scope, n, ret);
    case JINJA_N_ATTRIBUTE:
        return eval_attribute(run, scope, n, ret);
    case JINJA_N_ITEM:
        return eval_item(run, scope, n, ret);
    case JINJA_N_CALL:
        return eval_call(run, scope, n, ret);
    case JINJA_N_FILTER:
    case JINJA_N_TEST:
        return eval_builtin(run, scope, n, ret);
    case JINJA_N_BINARY:
        return eval_binary(run, scope, n, ret);
    case JINJA_N_COMPARE:
        return eval_compare(run, scope, n, ret);
    case JINJA_N_CONCAT:
        return eval_concat(run, scope, n, ret);
    default:
        return eval_logic(run, scope, n, ret);
    }
}

bool jinja_eval(struct jinja_run *run, struct jinja_scope *scope, const struct jinja_node *n,
                struct jinja_value *ret) {
    run->line = n->line;
    if (!jinja_spend(run, 1) || !jinja_enter(run))
        return false;
    bool done = eval_node(run, scope, n, ret);
    run->depth--;
    return done;
}
