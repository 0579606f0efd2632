/* Chat templates: a template compiled once and rendered by many threads.
 *
 * The pieces, in the order a template goes through them:
 *   jinja_lexer       source to tokens; white space around tags
 *   jinja_parser      statements to a tree; jinja_expression its expressions
 *   jinja_statement   runs statements; jinja_eval evaluates expressions; jinja_call macros and
 *                     functions; jinja_access attributes and items; jinja_arith operators
 *   jinja_filters, jinja_sequence, jinja_predicates, jinja_methods    what templates can call
 *   jinja_string, jinja_text, jinja_format, jinja_print               text
 *   jinja_value, jinja_run                                            values; budget and error
 *
 * The tree is immutable. Everything a render makes lies in an arena of its own, so renders share
 * nothing. A render that fails leaves `out` as it was. */
#include "engine/chat_template.h"

#include "engine/jinja_eval.h"
#include "engine/jinja_parser.h"
#include "engine/jinja_text.h"

struct chat_template {
    struct jinja_template jinja;
};

enum errc chat_template_create(const char *source, struct chat_template **ret_t,
                               struct error *err) {
    size_t len = strlen(source);
    if (len <= JINJA_SOURCE_BYTES_MAX && !jinja_text_valid(source, len))
        return err_set(err, ERR_INVALID, "chat template: the source is not UTF-8");
    AUTO(chat_template) t = mem_alloc(sizeof(*t));
    t->jinja.arena = arena_create();
    if (jinja_parse(&t->jinja, source, len, err))
        return err_wrap(err, "chat template");
    *ret_t = steal(t);
    return OK;
}

void chat_template_destroy(struct chat_template *t) {
    if (!t)
        return;
    arena_destroy(t->jinja.arena);
    free(t);
}

enum errc chat_template_render(const struct chat_template *t, const json_t *vars, int64_t wall_ms,
                               struct buf *out, struct error *err) {
    AUTO(arena) arena = arena_create();
    struct jinja_run run = {
        .tmpl = &t->jinja,
        .vars = vars,
        .wall_ms = wall_ms,
        .arena = arena,
        .err = err,
        .out = out,
        .out_start = out->len,
        .line = 1,
        .top = arena_alloc(arena, t->jinja.num_symbols * sizeof(*run.top)),
    };
    struct jinja_scope *top = jinja_scope_create(&run, NULL);
    if (jinja_run_body(&run, top, &t->jinja.body) != JINJA_FLOW_FAILED)
        return OK;
    out->len = run.out_start;
    if (out->data)
        out->data[out->len] = '\0';
    return err_wrap(err, "chat template");
}
