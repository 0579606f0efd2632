/* Expressions, by recursive descent with Jinja's own precedence, loosest first:
 *
 *   a if b else c;  or;  and;  not;  == != < <= > >= in, not in;  + -;  ~;  * / // %;  **;
 *   unary + -;  .x [x] (x);  |filter and `is test`
 *
 * The last two lines are Jinja's surprise: filters bind closer than arithmetic, so `1 + x|length`
 * adds to a length, and `-1|abs` is 1. Keywords are ordinary names where no keyword can stand. */
#include "engine/jinja_filters.h"
#include "engine/jinja_parser_state.h"
#include "engine/jinja_predicates.h"

static bool parse_or(struct jinja_parse *p, struct jinja_node **ret);
static bool parse_unary(struct jinja_parse *p, bool with_filter, struct jinja_node **ret);

static struct jinja_node *constant(struct jinja_parse *p, struct jinja_value v) {
    struct jinja_node *n = jinja_parse_node(p, JINJA_N_CONSTANT, p->at->line);
    n->constant = v;
    return n;
}

/* The symbols that make a macro take a caller or left-over arguments, noted in all macros around.
 */
static void note_macro_use(struct jinja_parse *p, uint32_t symbol) {
    if (!p->macro)
        return;
    p->macro->uses_caller |= symbol == JINJA_SYMBOL_CALLER;
    p->macro->uses_varargs |= symbol == JINJA_SYMBOL_VARARGS;
    p->macro->uses_kwargs |= symbol == JINJA_SYMBOL_KWARGS;
}

static bool parse_name(struct jinja_parse *p, struct jinja_node **ret) {
    static const struct {
        const char *word;
        struct jinja_value value;
    } words[] = {
        {"true", {.kind = JINJA_BOOL, .boolean = true}},
        {"True", {.kind = JINJA_BOOL, .boolean = true}},
        {"false", {.kind = JINJA_BOOL}},
        {"False", {.kind = JINJA_BOOL}},
        {"none", {.kind = JINJA_NONE}},
        {"None", {.kind = JINJA_NONE}},
    };
    const char *name = p->at->text;
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcmp(name, words[i].word) == 0) {
            *ret = constant(p, words[i].value);
            p->at++;
            return true;
        }
    }
    struct jinja_node *n = jinja_parse_node(p, JINJA_N_NAME, p->at->line);
    n->name = name;
    if (!jinja_parse_symbol(p, name, &n->symbol))
        return false;
    note_macro_use(p, n->symbol);
    p->at++;
    *ret = n;
    return true;
}

/* Adjacent string literals are one, as in Python. */
static bool parse_text(struct jinja_parse *p, struct jinja_node **ret) {
    const struct jinja_token *first = p->at;
    size_t len = 0;
    for (; p->at->type == JINJA_T_TEXT; p->at++)
        len += p->at->len;
    struct jinja_node *n = jinja_parse_node(p, JINJA_N_CONSTANT, first->line);
    if (p->at == first + 1) {
        n->constant = jinja_borrow(first->text, first->len);
    } else {
        char *text = arena_alloc(p->t->arena, len + 1);
        n->constant = jinja_borrow(text, len);
        for (const struct jinja_token *t = first; t < p->at; text += t->len, t++)
            memcpy(text, t->text, t->len);
    }
    *ret = n;
    return true;
}

/* [a, b] and {k: v}, behind the opening bracket. */
static bool parse_display(struct jinja_parse *p, bool dict, struct jinja_node **ret) {
    enum jinja_token_type end = dict ? JINJA_T_RBRACE : JINJA_T_RBRACKET;
    struct jinja_node *n = jinja_parse_node(p, dict ? JINJA_N_DICT : JINJA_N_LIST, p->at[-1].line);
    AUTO_NODES items = {0};
    while (p->at->type != end) {
        if (items.count && !jinja_parse_expect(p, JINJA_T_COMMA))
            return false;
        if (p->at->type == end)
            break;
        struct jinja_node *item = NULL;
        if (!jinja_parse_expression(p, true, &item))
            return false;
        jinja_nodes_add(&items, item);
        if (!dict)
            continue;
        if (!jinja_parse_expect(p, JINJA_T_COLON) || !jinja_parse_expression(p, true, &item))
            return false;
        jinja_nodes_add(&items, item);
    }
    p->at++;
    n->items = jinja_nodes_keep(p, &items);
    n->count = (uint32_t)items.count;
    *ret = n;
    return true;
}

/* Behind a parenthesis or bare; `()` is a tuple only inside parentheses. */
static bool parse_tuple_items(struct jinja_parse *p, bool condition, const char *end_word,
                              bool parentheses, struct jinja_node **ret) {
    struct jinja_node *n = jinja_parse_node(p, JINJA_N_TUPLE, p->at->line);
    AUTO_NODES items = {0};
    bool is_tuple = false;
    for (;;) {
        if (items.count && !jinja_parse_expect(p, JINJA_T_COMMA))
            return false;
        enum jinja_token_type type = p->at->type;
        if (type == JINJA_T_VARIABLE_END || type == JINJA_T_BLOCK_END || type == JINJA_T_RPAREN ||
            (end_word && jinja_parse_is_name(p, end_word)))
            break;
        struct jinja_node *item = NULL;
        if (!jinja_parse_expression(p, condition, &item))
            return false;
        jinja_nodes_add(&items, item);
        if (p->at->type != JINJA_T_COMMA)
            break;
        is_tuple = true;
    }
    if (!is_tuple && items.count) {
        *ret = items.items[0];
        return true;
    }
    if (!is_tuple && !parentheses)
        return jinja_parse_fail(p, "expected an expression, found %s",
                                jinja_token_describe(p->at->type));
    n->items = jinja_nodes_keep(p, &items);
    n->count = (uint32_t)items.count;
    *ret = n;
    return true;
}

bool jinja_parse_tuple(struct jinja_parse *p, bool condition, const char *end_word,
                       struct jinja_node **ret) {
    return parse_tuple_items(p, condition, end_word, false, ret);
}

static bool parse_primary(struct jinja_parse *p, struct jinja_node **ret) {
    switch (p->at->type) {
    case JINJA_T_NAME:
        return parse_name(p, ret);
    case JINJA_T_TEXT:
        return parse_text(p, ret);
    case JINJA_T_INTEGER:
        *ret = constant(p, jinja_int(p->at->integer));
        p->at++;
        return true;
    case JINJA_T_FLOAT:
        *ret = constant(p, jinja_float(p->at->real));
        p->at++;
        return true;
    case JINJA_T_LPAREN:
        p->at++;
        return parse_tuple_items(p, true, NULL, true, ret) && jinja_parse_expect(p, JINJA_T_RPAREN);
    case JINJA_T_LBRACKET:
    case JINJA_T_LBRACE:
        p->at++;
        return parse_display(p, p->at[-1].type == JINJA_T_LBRACE, ret);
    default:
        return jinja_parse_fail(p, "unexpected %s", jinja_token_describe(p->at->type));
    }
}

static bool slice_part(struct jinja_parse *p, struct jinja_node **ret) {
    *ret = NULL;
    if (p->at->type == JINJA_T_COLON || p->at->type == JINJA_T_RBRACKET ||
        p->at->type == JINJA_T_COMMA)
        return true;
    return jinja_parse_expression(p, true, ret);
}

/* What stands in [ ]: an expression, or start:stop:step with every part optional. */
static bool parse_subscript(struct jinja_parse *p, struct jinja_node **ret) {
    struct jinja_node *slice = jinja_parse_node(p, JINJA_N_SLICE, p->at->line);
    struct jinja_node *start;
    if (!slice_part(p, &start))
        return false;
    if (!jinja_parse_skip(p, JINJA_T_COLON)) {
        *ret = start;
        return start || jinja_parse_fail(p, "expected an expression, found %s",
                                         jinja_token_describe(p->at->type));
    }
    slice->left = start;
    if (!slice_part(p, &slice->right))
        return false;
    if (jinja_parse_skip(p, JINJA_T_COLON) && !slice_part(p, &slice->condition))
        return false;
    *ret = slice;
    return true;
}

static bool parse_item(struct jinja_parse *p, struct jinja_node *object, struct jinja_node **ret) {
    struct jinja_node *n = jinja_parse_node(p, JINJA_N_ITEM, p->at->line);
    p->at++;
    AUTO_NODES items = {0};
    do {
        struct jinja_node *item = NULL;
        if (!parse_subscript(p, &item))
            return false;
        jinja_nodes_add(&items, item);
    } while (jinja_parse_skip(p, JINJA_T_COMMA));
    if (!jinja_parse_expect(p, JINJA_T_RBRACKET))
        return false;
    n->left = object;
    n->right = items.items[0];
    if (items.count > 1) {
        struct jinja_node *tuple = jinja_parse_node(p, JINJA_N_TUPLE, n->line);
        tuple->items = jinja_nodes_keep(p, &items);
        tuple->count = (uint32_t)items.count;
        for (uint32_t i = 0; i < tuple->count; i++)
            if (tuple->items[i]->kind == JINJA_N_SLICE)
                return jinja_parse_fail(p, "a slice beside other subscripts is not known here");
        n->right = tuple;
    }
    *ret = n;
    return true;
}

static bool parse_attribute(struct jinja_parse *p, struct jinja_node *object,
                            struct jinja_node **ret) {
    uint32_t line = p->at->line;
    p->at++;
    if (p->at->type == JINJA_T_NAME) {
        struct jinja_node *n = jinja_parse_node(p, JINJA_N_ATTRIBUTE, line);
        n->object = object;
        n->name = p->at->text;
        p->at++;
        *ret = n;
        return true;
    }
    if (p->at->type != JINJA_T_INTEGER)
        return jinja_parse_fail(p, "expected a name or number behind '.'");
    struct jinja_node *n = jinja_parse_node(p, JINJA_N_ITEM, line);
    n->left = object;
    n->right = constant(p, jinja_int(p->at->integer));
    p->at++;
    *ret = n;
    return true;
}

/* One argument, behind its comma: *x, **x, name=x or x. */
static bool parse_arg(struct jinja_parse *p, struct jinja_args *a, struct jinja_nodes *pos,
                      struct jinja_nodes *named) {
    if (p->at->type == JINJA_T_MUL && !a->star && !a->double_star) {
        p->at++;
        return jinja_parse_expression(p, true, &a->star);
    }
    if (p->at->type == JINJA_T_POW && !a->double_star) {
        p->at++;
        return jinja_parse_expression(p, true, &a->double_star);
    }
    struct jinja_node *value;
    if (p->at->type == JINJA_T_NAME && p->at[1].type == JINJA_T_ASSIGN && !a->double_star) {
        struct jinja_node *name = jinja_parse_node(p, JINJA_N_NAME, p->at->line);
        name->name = p->at->text;
        p->at += 2;
        if (!jinja_parse_expression(p, true, &value))
            return false;
        jinja_nodes_add(named, name);
        jinja_nodes_add(named, value);
        return true;
    }
    if (a->star || a->double_star || named->count)
        return jinja_parse_fail(p, "a positional argument behind a named one");
    if (!jinja_parse_expression(p, true, &value))
        return false;
    jinja_nodes_add(pos, value);
    return true;
}

/* ( ... ) behind a callee, a filter or a test. */
static bool parse_args(struct jinja_parse *p, struct jinja_args *a) {
    AUTO_NODES pos = {0};
    AUTO_NODES named = {0};
    if (!jinja_parse_expect(p, JINJA_T_LPAREN))
        return false;
    while (p->at->type != JINJA_T_RPAREN) {
        if (!parse_arg(p, a, &pos, &named))
            return false;
        if (p->at->type != JINJA_T_RPAREN && !jinja_parse_expect(p, JINJA_T_COMMA))
            return false;
    }
    p->at++;
    a->num_pos = (uint32_t)pos.count;
    a->pos = jinja_nodes_keep(p, &pos);
    a->num_named = (uint32_t)named.count / 2;
    a->names = arena_alloc(p->t->arena, a->num_named * sizeof(*a->names));
    a->named = arena_alloc(p->t->arena, a->num_named * sizeof(*a->named));
    for (uint32_t i = 0; i < a->num_named; i++) {
        a->names[i] = named.items[2 * i]->name;
        a->named[i] = named.items[2 * i + 1];
    }
    return true;
}

static struct jinja_node *call_node(struct jinja_parse *p, enum jinja_node_kind kind,
                                    struct jinja_node *input) {
    struct jinja_node *n = jinja_parse_node(p, kind, p->at->line);
    n->input = input;
    n->args = arena_alloc(p->t->arena, sizeof(*n->args));
    return n;
}

static bool parse_postfix(struct jinja_parse *p, struct jinja_node *n, struct jinja_node **ret) {
    for (;;) {
        if (p->at->type == JINJA_T_DOT) {
            if (!parse_attribute(p, n, &n))
                return false;
        } else if (p->at->type == JINJA_T_LBRACKET) {
            if (!parse_item(p, n, &n))
                return false;
        } else if (p->at->type == JINJA_T_LPAREN) {
            n = call_node(p, JINJA_N_CALL, n);
            if (!parse_args(p, n->args))
                return false;
        } else {
            *ret = n;
            return true;
        }
    }
}

/* An unknown filter or test is an error of the template, except where an `if` may keep it from
 * being reached: there it is an error of the render (jinja_parser.c settles which). */
static bool parse_filter_name(struct jinja_parse *p, struct jinja_node *n) {
    if (p->at->type != JINJA_T_NAME)
        return jinja_parse_fail(p, "expected the name of a %s, found %s",
                                n->kind == JINJA_N_TEST ? "test" : "filter",
                                jinja_token_describe(p->at->type));
    n->word = p->at->text;
    p->at++;
    while (p->at->type == JINJA_T_DOT && p->at[1].type == JINJA_T_NAME) {
        n->word = arena_printf(p->t->arena, "%s.%s", n->word, p->at[1].text);
        p->at += 2;
    }
    n->builtin = n->kind == JINJA_N_TEST ? jinja_test_find(n->word, strlen(n->word))
                                         : jinja_filter_find(n->word, strlen(n->word));
    if (!n->builtin)
        p->unknown = n;
    return true;
}

bool jinja_parse_filters(struct jinja_parse *p, struct jinja_node *input, bool start_inline,
                         struct jinja_node **ret) {
    while (start_inline || p->at->type == JINJA_T_PIPE) {
        p->at += !start_inline;
        start_inline = false;
        input = call_node(p, JINJA_N_FILTER, input);
        if (!parse_filter_name(p, input) ||
            (p->at->type == JINJA_T_LPAREN && !parse_args(p, input->args)))
            return false;
    }
    *ret = input;
    return true;
}

/* `is [not] test`, with an argument in parentheses or, for one, without. */
static bool parse_test(struct jinja_parse *p, struct jinja_node *input, struct jinja_node **ret) {
    p->at++;
    struct jinja_node *n = call_node(p, JINJA_N_TEST, input);
    bool negated = jinja_parse_skip_name(p, "not");
    if (!parse_filter_name(p, n))
        return false;
    enum jinja_token_type type = p->at->type;
    if (type == JINJA_T_LPAREN) {
        if (!parse_args(p, n->args))
            return false;
    } else if ((type == JINJA_T_NAME || type == JINJA_T_TEXT || type == JINJA_T_INTEGER ||
                type == JINJA_T_FLOAT || type == JINJA_T_LBRACKET || type == JINJA_T_LBRACE) &&
               !jinja_parse_is_name(p, "else") && !jinja_parse_is_name(p, "or") &&
               !jinja_parse_is_name(p, "and")) {
        if (jinja_parse_is_name(p, "is"))
            return jinja_parse_fail(p, "tests with 'is' cannot be chained");
        struct jinja_node *arg = NULL;
        if (!parse_primary(p, &arg) || !parse_postfix(p, arg, &arg))
            return false;
        n->args->pos = arena_alloc(p->t->arena, sizeof(*n->args->pos));
        n->args->pos[0] = arg;
        n->args->num_pos = 1;
    }
    *ret = n;
    if (negated) {
        *ret = jinja_parse_node(p, JINJA_N_NOT, n->line);
        (*ret)->left = n;
    }
    return true;
}

static bool parse_filtered(struct jinja_parse *p, struct jinja_node *n, struct jinja_node **ret) {
    for (;;) {
        if (p->at->type == JINJA_T_PIPE) {
            if (!jinja_parse_filters(p, n, false, &n))
                return false;
        } else if (jinja_parse_is_name(p, "is")) {
            if (!parse_test(p, n, &n))
                return false;
        } else if (p->at->type == JINJA_T_LPAREN) {
            n = call_node(p, JINJA_N_CALL, n);
            if (!parse_args(p, n->args))
                return false;
        } else {
            *ret = n;
            return true;
        }
    }
}

static bool parse_unary(struct jinja_parse *p, bool with_filter, struct jinja_node **ret) {
    struct jinja_node *n = NULL;
    if (p->at->type == JINJA_T_SUB || p->at->type == JINJA_T_ADD) {
        enum jinja_node_kind kind = p->at->type == JINJA_T_SUB ? JINJA_N_NEGATE : JINJA_N_PLUS;
        n = jinja_parse_node(p, kind, p->at->line);
        p->at++;
        if (!jinja_parse_enter(p) || !parse_unary(p, false, &n->left))
            return false;
        p->depth--;
    } else if (!parse_primary(p, &n)) {
        return false;
    }
    if (!parse_postfix(p, n, &n))
        return false;
    if (with_filter)
        return parse_filtered(p, n, ret);
    *ret = n;
    return true;
}

enum { LEVEL_SUM, LEVEL_CONCAT, LEVEL_PRODUCT, LEVEL_POWER, LEVEL_UNARY };

static int level_of(enum jinja_token_type type) {
    switch (type) {
    case JINJA_T_ADD:
    case JINJA_T_SUB:
        return LEVEL_SUM;
    case JINJA_T_TILDE:
        return LEVEL_CONCAT;
    case JINJA_T_MUL:
    case JINJA_T_DIV:
    case JINJA_T_FLOORDIV:
    case JINJA_T_MOD:
        return LEVEL_PRODUCT;
    case JINJA_T_POW:
        return LEVEL_POWER;
    default:
        return -1;
    }
}

/* Left-associative binary operators; `a ~ b ~ c` becomes one node. */
static bool parse_binary(struct jinja_parse *p, int level, struct jinja_node **ret) {
    if (level == LEVEL_UNARY)
        return parse_unary(p, true, ret);
    struct jinja_node *left;
    if (!parse_binary(p, level + 1, &left))
        return false;
    if (level == LEVEL_CONCAT && p->at->type == JINJA_T_TILDE) {
        struct jinja_node *n = jinja_parse_node(p, JINJA_N_CONCAT, left->line);
        AUTO_NODES items = {0};
        jinja_nodes_add(&items, left);
        while (jinja_parse_skip(p, JINJA_T_TILDE)) {
            if (!parse_binary(p, level + 1, &left))
                return false;
            jinja_nodes_add(&items, left);
        }
        n->items = jinja_nodes_keep(p, &items);
        n->count = (uint32_t)items.count;
        *ret = n;
        return true;
    }
    while (level_of(p->at->type) == level) {
        struct jinja_node *n = jinja_parse_node(p, JINJA_N_BINARY, p->at->line);
        n->op = (uint8_t)p->at->type;
        p->at++;
        n->left = left;
        if (!parse_binary(p, level + 1, &n->right))
            return false;
        left = n;
    }
    *ret = left;
    return true;
}

static bool compare_operator(struct jinja_parse *p, uint8_t *ret) {
    if (p->at->type >= JINJA_T_EQ && p->at->type <= JINJA_T_LTEQ) {
        *ret = (uint8_t)p->at->type;
        p->at++;
        return true;
    }
    if (jinja_parse_skip_name(p, "in")) {
        *ret = JINJA_OP_IN;
        return true;
    }
    if (jinja_parse_is_name(p, "not") && p->at[1].type == JINJA_T_NAME &&
        strcmp(p->at[1].text, "in") == 0) {
        *ret = JINJA_OP_NOT_IN;
        p->at += 2;
        return true;
    }
    return false;
}

static bool parse_compare(struct jinja_parse *p, struct jinja_node **ret) {
    struct jinja_node *first;
    if (!parse_binary(p, LEVEL_SUM, &first))
        return false;
    uint8_t op;
    uint32_t line = p->at->line;
    if (!compare_operator(p, &op)) {
        *ret = first;
        return true;
    }
    struct jinja_node *n = jinja_parse_node(p, JINJA_N_COMPARE, line);
    AUTO_NODES items = {0};
    AUTO_BUF ops = BUF_INIT;
    jinja_nodes_add(&items, first);
    do {
        struct jinja_node *next;
        if (!parse_binary(p, LEVEL_SUM, &next))
            return false;
        jinja_nodes_add(&items, next);
        buf_putc(&ops, (char)op);
    } while (compare_operator(p, &op));
    n->items = jinja_nodes_keep(p, &items);
    n->count = (uint32_t)items.count;
    n->ops = (uint8_t *)arena_strndup(p->t->arena, ops.data, ops.len);
    *ret = n;
    return true;
}

static bool parse_not(struct jinja_parse *p, struct jinja_node **ret) {
    if (!jinja_parse_is_name(p, "not"))
        return parse_compare(p, ret);
    struct jinja_node *n = jinja_parse_node(p, JINJA_N_NOT, p->at->line);
    p->at++;
    if (!jinja_parse_enter(p) || !parse_not(p, &n->left))
        return false;
    p->depth--;
    *ret = n;
    return true;
}

static bool parse_logic(struct jinja_parse *p, bool is_or, struct jinja_node **ret) {
    struct jinja_node *left;
    if (!(is_or ? parse_logic(p, false, &left) : parse_not(p, &left)))
        return false;
    while (jinja_parse_skip_name(p, is_or ? "or" : "and")) {
        struct jinja_node *n =
            jinja_parse_node(p, is_or ? JINJA_N_OR : JINJA_N_AND, p->at[-1].line);
        n->left = left;
        if (!(is_or ? parse_logic(p, false, &n->right) : parse_not(p, &n->right)))
            return false;
        left = n;
    }
    *ret = left;
    return true;
}

static bool parse_or(struct jinja_parse *p, struct jinja_node **ret) {
    return parse_logic(p, true, ret);
}

bool jinja_parse_expression(struct jinja_parse *p, bool condition, struct jinja_node **ret) {
    struct jinja_node *unknown = p->unknown;
    if (!jinja_parse_enter(p) || !parse_or(p, ret))
        return false;
    while (condition && jinja_parse_skip_name(p, "if")) {
        struct jinja_node *n = jinja_parse_node(p, JINJA_N_CONDITION, p->at[-1].line);
        n->left = *ret;
        if (!parse_or(p, &n->condition))
            return false;
        if (jinja_parse_skip_name(p, "else") && !jinja_parse_expression(p, true, &n->right))
            return false;
        p->unknown = unknown;
        *ret = n;
    }
    p->depth--;
    return true;
}

/* Targets */

static bool parse_store(struct jinja_parse *p, struct jinja_node **ret) {
    const char *name = p->at->text;
    if (p->at->type != JINJA_T_NAME)
        return jinja_parse_fail(p, "expected a name to assign to, found %s",
                                jinja_token_describe(p->at->type));
    struct jinja_node *n = NULL;
    if (!parse_name(p, &n))
        return false;
    if (n->kind != JINJA_N_NAME)
        return jinja_parse_fail(p, "cannot assign to %s", name);
    if (n->symbol == JINJA_SYMBOL_LOOP && p->num_fors)
        return jinja_parse_fail(p, "cannot assign to loop inside a for loop");
    *ret = n;
    return true;
}

bool jinja_parse_target_name(struct jinja_parse *p, struct jinja_node **ret) {
    return parse_store(p, ret);
}

static bool parse_one_target(struct jinja_parse *p, bool namespaces, struct jinja_node **ret) {
    if (jinja_parse_skip(p, JINJA_T_LPAREN)) {
        if (!jinja_parse_enter(p) || !jinja_parse_target(p, namespaces, NULL, ret))
            return false;
        p->depth--;
        return jinja_parse_expect(p, JINJA_T_RPAREN);
    }
    if (namespaces && p->at->type == JINJA_T_NAME && p->at[1].type == JINJA_T_DOT) {
        struct jinja_node *n = jinja_parse_node(p, JINJA_N_NAMESPACE_REF, p->at->line);
        if (!jinja_parse_symbol(p, p->at->text, &n->symbol))
            return false;
        p->at += 2;
        n->name = p->at->text;
        *ret = n;
        return jinja_parse_expect(p, JINJA_T_NAME);
    }
    return parse_store(p, ret);
}

bool jinja_parse_target(struct jinja_parse *p, bool namespaces, const char *end_word,
                        struct jinja_node **ret) {
    struct jinja_node *n = jinja_parse_node(p, JINJA_N_TUPLE, p->at->line);
    AUTO_NODES items = {0};
    bool is_tuple = false;
    for (;;) {
        if (p->at->type == JINJA_T_BLOCK_END || p->at->type == JINJA_T_RPAREN ||
            p->at->type == JINJA_T_ASSIGN || (end_word && jinja_parse_is_name(p, end_word)))
            break;
        struct jinja_node *item = NULL;
        if (!parse_one_target(p, namespaces, &item))
            return false;
        jinja_nodes_add(&items, item);
        if (!jinja_parse_skip(p, JINJA_T_COMMA))
            break;
        is_tuple = true;
    }
    if (!items.count)
        return jinja_parse_fail(p, "expected a name to assign to, found %s",
                                jinja_token_describe(p->at->type));
    *ret = items.items[0];
    if (!is_tuple)
        return true;
    n->items = jinja_nodes_keep(p, &items);
    n->count = (uint32_t)items.count;
    *ret = n;
    return true;
}
