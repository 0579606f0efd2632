/* Evaluates expressions and runs statements of a parsed template. */
#ifndef ENGINE_JINJA_EVAL_H
#define ENGINE_JINJA_EVAL_H

#include "engine/jinja_ast.h"

struct jinja_binding {
    uint32_t symbol;
    struct jinja_value value;
};

/* Variables of one body. The outermost scope has no parent and keeps its variables in run->top. */
struct jinja_scope {
    struct jinja_scope *parent;
    struct jinja_binding *bindings;
    uint32_t len, cap;
};

struct jinja_scope *jinja_scope_create(struct jinja_run *run, struct jinja_scope *parent);
MUST_CHECK bool jinja_scope_set(struct jinja_run *run, struct jinja_scope *scope, uint32_t symbol,
                                struct jinja_value value);

MUST_CHECK bool jinja_eval(struct jinja_run *run, struct jinja_scope *scope,
                           const struct jinja_node *n, struct jinja_value *ret);

/* Evaluates arguments, * and ** included, into arrays of the arena. */
MUST_CHECK bool jinja_eval_args(struct jinja_run *run, struct jinja_scope *scope,
                                const struct jinja_args *args, struct jinja_call *ret);

/* callee(...) for every kind that can be called. */
MUST_CHECK bool jinja_call(struct jinja_run *run, struct jinja_value callee,
                           const struct jinja_call *call, struct jinja_value *ret);

/* How a body ended. */
enum jinja_flow { JINJA_FLOW_NEXT, JINJA_FLOW_BREAK, JINJA_FLOW_CONTINUE, JINJA_FLOW_FAILED };

enum jinja_flow jinja_run_body(struct jinja_run *run, struct jinja_scope *scope,
                               const struct jinja_body *body) MUST_CHECK;

/* What the body writes, as a STRING instead of as output. */
MUST_CHECK bool jinja_capture(struct jinja_run *run, struct jinja_scope *scope,
                              const struct jinja_body *body, struct jinja_value *ret);

/* loop(items) of a recursive for loop. */
MUST_CHECK bool jinja_recurse(struct jinja_run *run, const struct jinja_loop *loop,
                              struct jinja_value iterable, struct jinja_value *ret);

/* A global function; ABSENT when there is none of that name. */
struct jinja_value jinja_global(const char *name);

#endif
