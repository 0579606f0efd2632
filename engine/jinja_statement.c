/* Statements: text, output, if, for, set, macro and call blocks.
 *
 * Everything is written to one buffer. A macro, a set block or a recursive loop notes where it
 * starts writing, runs, and takes its part back as a string (jinja_capture), so nested captures
 * need no buffers of their own.
 *
 * Scopes follow Jinja: `if` has none; every pass of a loop, and the bodies of macros, call, filter,
 * with, set and generation blocks do. Assignments stay in their scope; only namespace attributes
 * reach further. */
#include "engine/jinja_access.h"
#include "engine/jinja_eval.h"
#include "engine/jinja_print.h"

static bool take_output(struct jinja_run *run, size_t mark, struct jinja_value *ret) {
    struct buf *b = run->out;
    bool done = jinja_string(run, b->data ? b->data + mark : "", b->len - mark, ret);
    b->len = mark;
    if (b->data)
        b->data[mark] = '\0';
    return done;
}

bool jinja_capture(struct jinja_run *run, struct jinja_scope *scope, const struct jinja_body *body,
                   struct jinja_value *ret) {
    size_t mark = run->out->len;
    return jinja_run_body(run, scope, body) != JINJA_FLOW_FAILED && take_output(run, mark, ret);
}

static bool assign(struct jinja_run *run, struct jinja_scope *scope,
                   const struct jinja_node *target, struct jinja_value v);

static bool unpack(struct jinja_run *run, struct jinja_scope *scope,
                   const struct jinja_node *target, struct jinja_value v) {
    struct jinja_value *items;
    uint32_t len;
    if (!jinja_items(run, v, &items, &len))
        return false;
    if (len != target->count)
        return jinja_fail(run, ERR_INVALID, "%s values to unpack (expected %u, got %u)",
                          len < target->count ? "not enough" : "too many", target->count, len);
    for (uint32_t i = 0; i < len; i++)
        if (!assign(run, scope, target->items[i], items[i]))
            return false;
    return true;
}

static bool assign(struct jinja_run *run, struct jinja_scope *scope,
                   const struct jinja_node *target, struct jinja_value v) {
    if (target->kind == JINJA_N_NAME)
        return jinja_scope_set(run, scope, target->symbol, v);
    if (target->kind == JINJA_N_TUPLE)
        return unpack(run, scope, target, v);
    struct jinja_node name = {.kind = JINJA_N_NAME, .line = target->line};
    name.symbol = target->symbol;
    struct jinja_value ns;
    if (!jinja_eval(run, scope, &name, &ns))
        return false;
    if (ns.kind != JINJA_NAMESPACE)
        return jinja_fail(run, ERR_INVALID, "cannot assign attribute on non-namespace object");
    return jinja_dict_set(run, ns.dict, jinja_literal(target->name), v);
}

static enum jinja_flow flow_of(bool done) {
    return done ? JINJA_FLOW_NEXT : JINJA_FLOW_FAILED;
}

static enum jinja_flow run_output(struct jinja_run *run, struct jinja_scope *scope,
                                  const struct jinja_node *n) {
    struct jinja_value v;
    if (!jinja_eval(run, scope, n->left, &v))
        return JINJA_FLOW_FAILED;
    if (v.kind == JINJA_STRING)
        return flow_of(jinja_emit(run, v.text, v.len));
    AUTO_BUF b = BUF_INIT;
    return flow_of(jinja_print(run, v, &b) && jinja_emit(run, b.data ? b.data : "", b.len));
}

static enum jinja_flow run_if(struct jinja_run *run, struct jinja_scope *scope,
                              const struct jinja_if *f) {
    for (uint32_t i = 0; i < f->num_branches; i++) {
        struct jinja_value v;
        if (!jinja_eval(run, scope, f->branches[i].test, &v))
            return JINJA_FLOW_FAILED;
        if (jinja_truth(v))
            return jinja_run_body(run, scope, &f->branches[i].body);
    }
    return jinja_run_body(run, scope, &f->otherwise);
}

/* Keeps the items for which the loop's own `if` holds. */
static bool filter_items(struct jinja_run *run, struct jinja_scope *scope,
                         const struct jinja_for *f, struct jinja_value **items, uint32_t *len) {
    struct jinja_value *kept = jinja_alloc(run, *len, sizeof(*kept));
    if (!kept)
        return false;
    uint32_t n = 0;
    struct jinja_scope *inner = jinja_scope_create(run, scope);
    for (uint32_t i = 0; i < *len; i++) {
        struct jinja_value v;
        inner->len = 0;
        if (!assign(run, inner, f->target, (*items)[i]) || !jinja_eval(run, inner, f->test, &v))
            return false;
        if (jinja_truth(v))
            kept[n++] = (*items)[i];
    }
    *items = kept;
    *len = n;
    return true;
}

static enum jinja_flow run_for(struct jinja_run *run, struct jinja_scope *scope,
                               const struct jinja_node *n, struct jinja_value iterable,
                               uint32_t depth) {
    const struct jinja_for *f = n->loop;
    struct jinja_value *items;
    uint32_t len;
    if (!jinja_items(run, iterable, &items, &len) ||
        (f->test && !filter_items(run, scope, f, &items, &len)))
        return JINJA_FLOW_FAILED;
    struct jinja_scope *inner = jinja_scope_create(run, scope);
    if (!len)
        return jinja_run_body(run, inner, &f->otherwise);
    struct jinja_loop *loop = jinja_alloc_small(run, sizeof(*loop));
    *loop =
        (struct jinja_loop){.node = n, .scope = scope, .items = items, .len = len, .depth = depth};
    struct jinja_value loop_value = {.kind = JINJA_LOOP, .loop = loop};
    for (; loop->index < len; loop->index++) {
        inner->len = 0; /* every pass starts without the variables of the one before */
        run->line = n->line;
        if (!jinja_spend(run, 1) || !jinja_scope_set(run, inner, JINJA_SYMBOL_LOOP, loop_value) ||
            !assign(run, inner, f->target, items[loop->index]))
            return JINJA_FLOW_FAILED;
        enum jinja_flow flow = jinja_run_body(run, inner, &f->body);
        if (flow == JINJA_FLOW_FAILED)
            return flow;
        if (flow == JINJA_FLOW_BREAK)
            break;
    }
    loop->index -= loop->index == len; /* a template may keep `loop`: it stays at its last item */
    return JINJA_FLOW_NEXT;
}

bool jinja_recurse(struct jinja_run *run, const struct jinja_loop *loop,
                   struct jinja_value iterable, struct jinja_value *ret) {
    if (!loop->node->loop->recursive)
        return jinja_fail(run, ERR_INVALID,
                          "the loop must have the 'recursive' marker to be called recursively");
    size_t mark = run->out->len;
    return run_for(run, loop->scope, loop->node, iterable, loop->depth + 1) == JINJA_FLOW_NEXT &&
           take_output(run, mark, ret);
}

/* The filters behind `set x |...` and `filter ...`, with the body's text as their input. */
static bool filter_body(struct jinja_run *run, struct jinja_scope *scope,
                        const struct jinja_node *n, struct jinja_value *text) {
    struct jinja_call call;
    if (!n)
        return true;
    if (!jinja_enter(run) || !filter_body(run, scope, n->input, text) ||
        !jinja_eval_args(run, scope, n->args, &call))
        return false;
    run->depth--;
    run->line = n->line;
    if (!n->builtin)
        return jinja_fail(run, ERR_INVALID, "no filter named '%s'", n->word);
    return jinja_call_builtin(run, n->builtin, *text, &call, text);
}

static enum jinja_flow run_set_block(struct jinja_run *run, struct jinja_scope *scope,
                                     const struct jinja_node *n) {
    struct jinja_value text;
    return flow_of(jinja_capture(run, jinja_scope_create(run, scope), &n->body, &text) &&
                   filter_body(run, scope, n->value, &text) && assign(run, scope, n->target, text));
}

static enum jinja_flow run_filter_block(struct jinja_run *run, struct jinja_scope *scope,
                                        const struct jinja_node *n) {
    struct jinja_value text;
    return flow_of(jinja_capture(run, jinja_scope_create(run, scope), &n->body, &text) &&
                   filter_body(run, scope, n->value, &text) && jinja_to_string(run, text, &text) &&
                   jinja_emit(run, text.text, text.len));
}

static struct jinja_value macro_value(struct jinja_run *run, struct jinja_scope *scope,
                                      const struct jinja_node *n) {
    struct jinja_macro *m = jinja_alloc_small(run, sizeof(*m));
    *m = (struct jinja_macro){.def = n->macro, .scope = scope};
    return (struct jinja_value){.kind = JINJA_MACRO, .macro = m};
}

/* {% call f(x) %}body{% endcall %} is {{ f(x, caller=body) }}. */
static enum jinja_flow run_call_block(struct jinja_run *run, struct jinja_scope *scope,
                                      const struct jinja_node *n) {
    struct jinja_value callee, text;
    struct jinja_call call;
    if (!jinja_eval(run, scope, n->value->input, &callee) ||
        !jinja_eval_args(run, scope, n->value->args, &call))
        return JINJA_FLOW_FAILED;
    uint32_t last = call.num_named++;
    struct jinja_value *named = jinja_alloc(run, call.num_named, sizeof(*named));
    const char **names = jinja_alloc(run, call.num_named, sizeof(*names));
    if (!named || !names)
        return JINJA_FLOW_FAILED;
    if (last) {
        memcpy(named, call.named, last * sizeof(*named));
        memcpy(names, call.names, last * sizeof(*names));
    }
    named[last] = macro_value(run, scope, n);
    names[last] = "caller";
    call.named = named;
    call.names = names;
    run->line = n->line;
    return flow_of(jinja_call(run, callee, &call, &text) && jinja_to_string(run, text, &text) &&
                   jinja_emit(run, text.text, text.len));
}

static enum jinja_flow run_with(struct jinja_run *run, struct jinja_scope *scope,
                                const struct jinja_with *w) {
    struct jinja_scope *inner = jinja_scope_create(run, scope);
    for (uint32_t i = 0; i < w->count; i++) {
        struct jinja_value v;
        if (!jinja_eval(run, scope, w->values[i], &v) || !assign(run, inner, w->targets[i], v))
            return JINJA_FLOW_FAILED;
    }
    return jinja_run_body(run, inner, &w->body);
}

static enum jinja_flow run_statement(struct jinja_run *run, struct jinja_scope *scope,
                                     const struct jinja_node *n) {
    struct jinja_value v;
    switch ((enum jinja_node_kind)n->kind) {
    case JINJA_N_DATA:
        return flow_of(jinja_emit(run, n->constant.text, n->constant.len));
    case JINJA_N_OUTPUT:
        return run_output(run, scope, n);
    case JINJA_N_IF:
        return run_if(run, scope, n->branch);
    case JINJA_N_FOR:
        if (!jinja_eval(run, scope, n->loop->iterable, &v))
            return JINJA_FLOW_FAILED;
        return run_for(run, scope, n, v, 0);
    case JINJA_N_SET:
        return flow_of(jinja_eval(run, scope, n->value, &v) && assign(run, scope, n->target, v));
    case JINJA_N_SET_BLOCK:
        return run_set_block(run, scope, n);
    case JINJA_N_MACRO:
        return flow_of(jinja_scope_set(run, scope, n->macro->symbol, macro_value(run, scope, n)));
    case JINJA_N_CALL_BLOCK:
        return run_call_block(run, scope, n);
    case JINJA_N_FILTER_BLOCK:
        return run_filter_block(run, scope, n);
    case JINJA_N_WITH:
        return run_with(run, scope, n->with);
    case JINJA_N_BLOCK:
        while (scope->parent)
            scope = scope->parent;
        return jinja_run_body(run, jinja_scope_create(run, scope), &n->body);
    case JINJA_N_BREAK:
        return JINJA_FLOW_BREAK;
    case JINJA_N_CONTINUE:
        return JINJA_FLOW_CONTINUE;
    default: /* SCOPE */
        return jinja_run_body(run, jinja_scope_create(run, scope), &n->body);
    }
}

enum jinja_flow jinja_run_body(struct jinja_run *run, struct jinja_scope *scope,
                               const struct jinja_body *body) {
    if (!jinja_enter(run))
        return JINJA_FLOW_FAILED;
    enum jinja_flow flow = JINJA_FLOW_NEXT;
    for (uint32_t i = 0; i < body->count && flow == JINJA_FLOW_NEXT; i++) {
        run->line = body->items[i]->line;
        flow = jinja_spend(run, 1) ? run_statement(run, scope, body->items[i]) : JINJA_FLOW_FAILED;
    }
    run->depth--;
    return flow;
}
