/* Statements, and what both halves of the parser share.
 *
 * An unknown filter or test cannot work, but Jinja lets it stand where an `if` guards it, and fails
 * only when the render gets there. `unknown` remembers the youngest one; leaving an `if` forgives
 * those inside it; leaving a for, macro or other body with a scope of its own, or the end of the
 * template, does not. */
#include "engine/jinja_parser_state.h"

#include <stdio.h>

void jinja_nodes_add(struct jinja_nodes *n, struct jinja_node *node) {
    if (n->count == n->cap) {
        n->cap = n->cap ? n->cap * 2 : 8;
        n->items = mem_realloc(n->items, n->cap * sizeof(struct jinja_node *));
    }
    n->items[n->count++] = node;
}

struct jinja_node **jinja_nodes_keep(struct jinja_parse *p, const struct jinja_nodes *n) {
    size_t bytes = n->count * sizeof(struct jinja_node *);
    struct jinja_node **items = arena_alloc(p->t->arena, bytes);
    if (bytes)
        memcpy(items, n->items, bytes);
    return items;
}

bool jinja_parse_fail(struct jinja_parse *p, const char *fmt, ...) {
    char text[ERROR_TEXT_BYTES_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    err_set(p->err, ERR_INVALID, "line %u: %s", p->at->line, text);
    return false;
}

bool jinja_parse_is_name(const struct jinja_parse *p, const char *word) {
    return p->at->type == JINJA_T_NAME && strcmp(p->at->text, word) == 0;
}

bool jinja_parse_skip(struct jinja_parse *p, enum jinja_token_type type) {
    if (p->at->type != type)
        return false;
    p->at++;
    return true;
}

bool jinja_parse_skip_name(struct jinja_parse *p, const char *word) {
    if (!jinja_parse_is_name(p, word))
        return false;
    p->at++;
    return true;
}

bool jinja_parse_expect(struct jinja_parse *p, enum jinja_token_type type) {
    return jinja_parse_skip(p, type) ||
           jinja_parse_fail(p, "expected %s, found %s", jinja_token_describe(type),
                            p->at->type == JINJA_T_NAME ? p->at->text
                                                        : jinja_token_describe(p->at->type));
}

bool jinja_parse_enter(struct jinja_parse *p) {
    return ++p->depth <= JINJA_NEST_MAX ||
           jinja_parse_fail(p, "nested deeper than %d", JINJA_NEST_MAX);
}

bool jinja_parse_symbol(struct jinja_parse *p, const char *name, uint32_t *ret) {
    uint32_t hash = 2166136261u;
    for (const char *s = name; *s; s++)
        hash = (hash ^ (unsigned char)*s) * 16777619u;
    uint32_t at = hash % SYMBOL_SLOTS;
    for (; p->slots[at]; at = (at + 1) % SYMBOL_SLOTS) {
        *ret = p->slots[at] - 1;
        if (strcmp(p->t->symbols[*ret], name) == 0)
            return true;
    }
    if (p->num_symbols == JINJA_SYMBOLS_MAX)
        return jinja_parse_fail(p, "more than %d different names", JINJA_SYMBOLS_MAX);
    *ret = p->num_symbols++;
    p->t->symbols[*ret] = name;
    p->slots[at] = *ret + 1;
    return true;
}

struct jinja_node *jinja_parse_node(struct jinja_parse *p, enum jinja_node_kind kind,
                                    uint32_t line) {
    struct jinja_node *n = arena_alloc(p->t->arena, sizeof(*n));
    n->kind = (uint8_t)kind;
    n->line = line;
    return n;
}

/* Bodies */

static bool parse_statement(struct jinja_parse *p, struct jinja_node **ret);

/* Text, output and statements up to a statement that starts with one of `ends` (NULL-terminated);
 * leaves p->at on that word. `ends` NULL: up to the end of the template. */
static bool parse_body(struct jinja_parse *p, const char *const *ends, struct jinja_body *ret) {
    AUTO_NODES items = {0};
    uint32_t opened = p->at->line;
    if (!jinja_parse_enter(p))
        return false;
    for (;;) {
        struct jinja_node *n = NULL;
        enum jinja_token_type type = p->at->type;
        if (type == JINJA_T_EOF) {
            if (ends)
                return jinja_parse_fail(p, "{%% %s %%} is missing for the block of line %u",
                                        ends[0], opened);
            break;
        }
        if (type == JINJA_T_BLOCK_BEGIN) {
            p->at++;
            bool end = false;
            for (size_t i = 0; ends && ends[i] && !end; i++)
                end = jinja_parse_is_name(p, ends[i]);
            if (end)
                break;
            if (!parse_statement(p, &n) || !jinja_parse_expect(p, JINJA_T_BLOCK_END))
                return false;
        } else if (type == JINJA_T_DATA) {
            n = jinja_parse_node(p, JINJA_N_DATA, p->at->line);
            n->constant = jinja_borrow(p->at->text, p->at->len);
            p->at++;
        } else {
            n = jinja_parse_node(p, JINJA_N_OUTPUT, p->at->line);
            if (!jinja_parse_expect(p, JINJA_T_VARIABLE_BEGIN) ||
                !jinja_parse_tuple(p, true, NULL, &n->left) ||
                !jinja_parse_expect(p, JINJA_T_VARIABLE_END))
                return false;
        }
        jinja_nodes_add(&items, n);
    }
    p->depth--;
    ret->items = jinja_nodes_keep(p, &items);
    ret->count = (uint32_t)items.count;
    return true;
}

/* The body of a block whose opening tag ends here. */
static bool parse_block_body(struct jinja_parse *p, const char *const *ends,
                             struct jinja_body *ret) {
    jinja_parse_skip(p, JINJA_T_COLON);
    return jinja_parse_expect(p, JINJA_T_BLOCK_END) && parse_body(p, ends, ret);
}

static bool settle_unknown(struct jinja_parse *p, const struct jinja_node *before) {
    struct jinja_node *n = p->unknown;
    if (n == before)
        return true;
    err_set(p->err, ERR_INVALID, "line %u: no %s named '%s'", n->line,
            n->kind == JINJA_N_TEST ? "test" : "filter", n->word);
    return false;
}

/* A body that is a scope: `end` closes it and is consumed. */
static bool parse_scoped_body(struct jinja_parse *p, const char *end, struct jinja_body *ret) {
    struct jinja_node *unknown = p->unknown;
    const char *ends[] = {end, NULL};
    if (!parse_block_body(p, ends, ret) || !settle_unknown(p, unknown))
        return false;
    p->at++;
    return true;
}

/* Statements, each from behind its first word. */

static bool parse_if(struct jinja_parse *p, struct jinja_node *n) {
    static const char *const ends[] = {"endif", "elif", "else", NULL};
    static const char *const else_ends[] = {"endif", NULL};
    struct jinja_node *unknown = p->unknown;
    AUTO_BUF branches = BUF_INIT;
    n->branch = arena_alloc(p->t->arena, sizeof(*n->branch));
    do {
        struct jinja_branch b = {0};
        if (!jinja_parse_tuple(p, false, NULL, &b.test) || !parse_block_body(p, ends, &b.body))
            return false;
        buf_append(&branches, &b, sizeof(b));
        n->branch->num_branches++;
    } while (jinja_parse_skip_name(p, "elif"));
    n->branch->branches = arena_alloc(p->t->arena, branches.len);
    memcpy(n->branch->branches, branches.data, branches.len);
    if (jinja_parse_skip_name(p, "else") && !parse_block_body(p, else_ends, &n->branch->otherwise))
        return false;
    p->at++;
    p->unknown = unknown;
    return true;
}

static bool parse_for(struct jinja_parse *p, struct jinja_node *n) {
    static const char *const ends[] = {"endfor", "else", NULL};
    static const char *const else_ends[] = {"endfor", NULL};
    struct jinja_for *f = arena_alloc(p->t->arena, sizeof(*f));
    n->loop = f;
    p->num_fors++;
    if (!jinja_parse_target(p, false, "in", &f->target))
        return false;
    if (!jinja_parse_skip_name(p, "in"))
        return jinja_parse_fail(p, "expected 'in' behind the variables of for");
    if (!jinja_parse_tuple(p, false, "recursive", &f->iterable))
        return false;
    struct jinja_node *unknown = p->unknown;
    if (jinja_parse_skip_name(p, "if") && !jinja_parse_expression(p, true, &f->test))
        return false;
    f->recursive = jinja_parse_skip_name(p, "recursive");
    p->num_loops++;
    if (!parse_block_body(p, ends, &f->body))
        return false;
    p->num_loops--;
    if (jinja_parse_skip_name(p, "else") && !parse_block_body(p, else_ends, &f->otherwise))
        return false;
    p->num_fors--;
    p->at++;
    return settle_unknown(p, unknown);
}

static bool parse_set(struct jinja_parse *p, struct jinja_node *n) {
    if (!jinja_parse_target(p, true, NULL, &n->target))
        return false;
    if (jinja_parse_skip(p, JINJA_T_ASSIGN))
        return jinja_parse_tuple(p, true, NULL, &n->value);
    n->kind = JINJA_N_SET_BLOCK;
    return jinja_parse_filters(p, NULL, false, &n->value) &&
           parse_scoped_body(p, "endset", &n->body);
}

/* (a, b=1) of a macro or call block. */
static bool parse_signature(struct jinja_parse *p, struct jinja_macro_def *m) {
    AUTO_NODES params = {0};
    AUTO_NODES defaults = {0};
    if (!jinja_parse_expect(p, JINJA_T_LPAREN))
        return false;
    bool optional = false;
    while (p->at->type != JINJA_T_RPAREN) {
        struct jinja_node *name, *value = NULL;
        if (params.count && !jinja_parse_expect(p, JINJA_T_COMMA))
            return false;
        if (!jinja_parse_target_name(p, &name))
            return false;
        if (jinja_parse_skip(p, JINJA_T_ASSIGN)) {
            optional = true;
            if (!jinja_parse_expression(p, true, &value))
                return false;
        } else if (optional) {
            return jinja_parse_fail(p, "a parameter without default behind one with");
        }
        if (params.count == JINJA_MACRO_PARAMS_MAX)
            return jinja_parse_fail(p, "more than %d parameters", JINJA_MACRO_PARAMS_MAX);
        jinja_nodes_add(&params, name);
        jinja_nodes_add(&defaults, value);
    }
    p->at++;
    m->num_params = (uint32_t)params.count;
    m->params = arena_alloc(p->t->arena, params.count * sizeof(*m->params));
    m->param_names = arena_alloc(p->t->arena, params.count * sizeof(*m->param_names));
    m->defaults = jinja_nodes_keep(p, &defaults);
    for (uint32_t i = 0; i < m->num_params; i++) {
        m->params[i] = params.items[i]->symbol;
        m->param_names[i] = params.items[i]->name;
        if (m->params[i] != JINJA_SYMBOL_CALLER)
            continue;
        if (!m->defaults[i])
            return jinja_parse_fail(p, "the parameter caller needs a default");
        m->has_caller_param = true;
    }
    return true;
}

static bool parse_macro_body(struct jinja_parse *p, struct jinja_macro_def *m, const char *end) {
    struct jinja_macro_def *outer = p->macro;
    uint32_t num_loops = p->num_loops;
    p->macro = m;
    p->num_loops = 0;
    if (!parse_scoped_body(p, end, &m->body))
        return false;
    p->macro = outer;
    p->num_loops = num_loops;
    if (outer) {
        outer->uses_caller |= m->uses_caller;
        outer->uses_varargs |= m->uses_varargs;
        outer->uses_kwargs |= m->uses_kwargs;
    }
    return true;
}

static bool parse_macro(struct jinja_parse *p, struct jinja_node *n) {
    struct jinja_node *name;
    n->macro = arena_alloc(p->t->arena, sizeof(*n->macro));
    if (!jinja_parse_target_name(p, &name))
        return false;
    n->macro->name = name->name;
    n->macro->symbol = name->symbol;
    return parse_signature(p, n->macro) && parse_macro_body(p, n->macro, "endmacro");
}

static bool parse_call_block(struct jinja_parse *p, struct jinja_node *n) {
    n->macro = arena_alloc(p->t->arena, sizeof(*n->macro));
    n->macro->name = "caller";
    if (p->at->type == JINJA_T_LPAREN && !parse_signature(p, n->macro))
        return false;
    if (!jinja_parse_expression(p, true, &n->value))
        return false;
    if (n->value->kind != JINJA_N_CALL)
        return jinja_parse_fail(p, "{%% call %%} needs a call");
    return parse_macro_body(p, n->macro, "endcall");
}

static bool parse_filter_block(struct jinja_parse *p, struct jinja_node *n) {
    return jinja_parse_filters(p, NULL, true, &n->value) &&
           parse_scoped_body(p, "endfilter", &n->body);
}

static bool parse_with(struct jinja_parse *p, struct jinja_node *n) {
    AUTO_NODES targets = {0};
    AUTO_NODES values = {0};
    n->with = arena_alloc(p->t->arena, sizeof(*n->with));
    while (p->at->type != JINJA_T_BLOCK_END) {
        struct jinja_node *target, *value;
        if (targets.count && !jinja_parse_expect(p, JINJA_T_COMMA))
            return false;
        if (!jinja_parse_target(p, false, NULL, &target) ||
            !jinja_parse_expect(p, JINJA_T_ASSIGN) || !jinja_parse_expression(p, true, &value))
            return false;
        jinja_nodes_add(&targets, target);
        jinja_nodes_add(&values, value);
    }
    n->with->targets = jinja_nodes_keep(p, &targets);
    n->with->values = jinja_nodes_keep(p, &values);
    n->with->count = (uint32_t)targets.count;
    return parse_scoped_body(p, "endwith", &n->with->body);
}

/* Transformers' mark around what the assistant says; renders as its body. */
static bool parse_generation(struct jinja_parse *p, struct jinja_node *n) {
    uint32_t num_loops = p->num_loops;
    p->num_loops = 0;
    if (!parse_scoped_body(p, "endgeneration", &n->body))
        return false;
    p->num_loops = num_loops;
    return true;
}

static bool parse_block(struct jinja_parse *p, struct jinja_node *n) {
    const char *name = p->at->text;
    uint32_t num_loops = p->num_loops;
    if (!jinja_parse_expect(p, JINJA_T_NAME))
        return false;
    p->num_loops = 0;
    if (!parse_scoped_body(p, "endblock", &n->body))
        return false;
    p->num_loops = num_loops;
    jinja_parse_skip_name(p, name);
    return true;
}

static bool parse_jump(struct jinja_parse *p, struct jinja_node *n) {
    return p->num_loops || jinja_parse_fail(p, "%s outside of a for loop", p->at[-1].text);
}

/* {% print a, b %} writes what {{ a }}{{ b }} would. */
static bool parse_print(struct jinja_parse *p, struct jinja_node *n) {
    struct jinja_node *concat = jinja_parse_node(p, JINJA_N_CONCAT, n->line);
    AUTO_NODES items = {0};
    while (p->at->type != JINJA_T_BLOCK_END) {
        struct jinja_node *item;
        if (items.count && !jinja_parse_expect(p, JINJA_T_COMMA))
            return false;
        if (!jinja_parse_expression(p, true, &item))
            return false;
        jinja_nodes_add(&items, item);
    }
    concat->items = jinja_nodes_keep(p, &items);
    concat->count = (uint32_t)items.count;
    n->left = concat;
    return true;
}

static bool parse_statement(struct jinja_parse *p, struct jinja_node **ret) {
    static const struct {
        const char *word;
        enum jinja_node_kind kind;
        bool (*parse)(struct jinja_parse *p, struct jinja_node *n);
    } statements[] = {
        {"if", JINJA_N_IF, parse_if},
        {"set", JINJA_N_SET, parse_set},
        {"for", JINJA_N_FOR, parse_for},
        {"macro", JINJA_N_MACRO, parse_macro},
        {"call", JINJA_N_CALL_BLOCK, parse_call_block},
        {"filter", JINJA_N_FILTER_BLOCK, parse_filter_block},
        {"with", JINJA_N_WITH, parse_with},
        {"generation", JINJA_N_SCOPE, parse_generation},
        {"block", JINJA_N_BLOCK, parse_block},
        {"break", JINJA_N_BREAK, parse_jump},
        {"continue", JINJA_N_CONTINUE, parse_jump},
        {"print", JINJA_N_OUTPUT, parse_print},
    };
    for (size_t i = 0; i < ARRAY_LEN(statements); i++) {
        if (jinja_parse_is_name(p, statements[i].word)) {
            *ret = jinja_parse_node(p, statements[i].kind, p->at->line);
            p->at++;
            return statements[i].parse(p, *ret);
        }
    }
    if (p->at->type != JINJA_T_NAME)
        return jinja_parse_fail(p, "expected a statement, found %s",
                                jinja_token_describe(p->at->type));
    return jinja_parse_fail(p, "{%% %s %%} has no block to end, or is not known here", p->at->text);
}

enum errc jinja_parse(struct jinja_template *t, const char *source, size_t len, struct error *err) {
    if (len > JINJA_SOURCE_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "the template has %zu bytes, more than %d", len,
                       JINJA_SOURCE_BYTES_MAX);
    struct jinja_token *tokens;
    enum errc rc = jinja_lex(t->arena, source, len, &tokens, err);
    if (rc)
        return rc;
    AUTO_FREE struct jinja_parse *p = mem_alloc(sizeof(*p));
    p->t = t;
    p->err = err;
    p->at = tokens;
    AUTO_FREE const char **symbols = mem_array(JINJA_SYMBOLS_MAX, sizeof(*symbols));
    t->symbols = symbols;
    static const char *const fixed[] = {"loop", "caller", "varargs", "kwargs"};
    for (uint32_t i = 0, symbol; i < ARRAY_LEN(fixed); i++)
        if (!jinja_parse_symbol(p, fixed[i], &symbol))
            return err->code;
    if (!parse_body(p, NULL, &t->body) || !settle_unknown(p, NULL))
        return err->code;
    t->num_symbols = p->num_symbols;
    t->symbols = arena_alloc(t->arena, p->num_symbols * sizeof(*symbols));
    memcpy(t->symbols, symbols, p->num_symbols * sizeof(*symbols));
    return OK;
}
