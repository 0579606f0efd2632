/* From text to a tree: a lexer, and a parser by precedence.
 *
 *   or < and, unless < comparisons < + - < * / % < unary - < ^ (from the right)
 *
 * Types are checked while parsing, so that evaluation meets only what it knows. What Prometheus has
 * and inferd has not is named: a rule that quietly did something else would scale something. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <strings.h>

#include "core/series/promql_node.h"

enum token_type {
    TOKEN_END,
    TOKEN_NUMBER,
    TOKEN_WORD,
    TOKEN_STRING,
    TOKEN_ASSIGN, /* = */
    TOKEN_EQUAL,  /* == */
    TOKEN_NOT_EQUAL,
    TOKEN_LESS_EQUAL,
    TOKEN_GREATER_EQUAL,
    TOKEN_REGEX,
    TOKEN_NOT_REGEX,
    /* Others are their character. */
};

struct token {
    int type;
    uint32_t at;
    const char *text; /* a word, or what a string says; in the arena */
    double number;
};

struct parser {
    const char *text, *p; /* p: behind `now` */
    struct token now;
    struct promql *q;
    uint32_t depth;
    struct error *err;
};

static enum errc fail(struct parser *p, uint32_t at, const char *fmt, ...) PRINTF(3, 4);
static enum errc fail(struct parser *p, uint32_t at, const char *fmt, ...) {
    char what[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    return err_set(p->err, ERR_MALFORMED, "position %u: %s", at + 1, what);
}

/* ---- tokens ---- */

static void skip_blanks(struct parser *p) {
    for (;; p->p++) {
        if (*p->p == '#')
            p->p += strcspn(p->p, "\n");
        if (!*p->p || !strchr(" \t\r\n", *p->p))
            return;
    }
}

static enum errc lex_string(struct parser *p) {
    char quote = *p->p++;
    char *out = arena_alloc(p->q->arena, strlen(p->p) + 1);
    p->now.type = TOKEN_STRING;
    p->now.text = out;
    for (; *p->p && *p->p != quote; p->p++) {
        if (*p->p == '\\' && quote != '`') {
            static const char names[] = "abfnrtv", values[] = "\a\b\f\n\r\t\v";
            const char *known = p->p[1] ? strchr(names, *++p->p) : NULL;
            if (known)
                *out++ = values[known - names];
            else if (*p->p == '\\' || *p->p == '"' || *p->p == '\'')
                *out++ = *p->p;
            else
                return fail(p, (uint32_t)(p->p - p->text), "unknown escape in a string");
            continue;
        }
        *out++ = *p->p;
    }
    if (!*p->p)
        return fail(p, p->now.at, "a string does not end");
    p->p++;
    return OK;
}

static enum errc lex_number(struct parser *p) {
    char *end;
    p->now.type = TOKEN_NUMBER;
    p->now.number = strtod(p->p, &end);
    p->p = end;
    if (isalnum((unsigned char)*end) || *end == '_' || *end == '.')
        return fail(p, p->now.at, "not a number (a duration stands in [] and behind offset only)");
    return OK;
}

static bool lex_pair(struct parser *p) {
    static const struct {
        const char *text;
        enum token_type type;
    } pairs[] = {
        {"==", TOKEN_EQUAL},         {"!=", TOKEN_NOT_EQUAL}, {"<=", TOKEN_LESS_EQUAL},
        {">=", TOKEN_GREATER_EQUAL}, {"=~", TOKEN_REGEX},     {"!~", TOKEN_NOT_REGEX},
    };
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        if (!strncmp(p->p, pairs[i].text, 2)) {
            p->now.type = pairs[i].type;
            p->p += 2;
            return true;
        }
    }
    return false;
}

static bool is_word_first(char c) {
    return isalpha((unsigned char)c) || c == '_' || c == ':';
}

static enum errc next(struct parser *p) {
    skip_blanks(p);
    p->now = (struct token){.at = (uint32_t)(p->p - p->text)};
    char c = *p->p;
    if (!c)
        return OK;
    if (c == '"' || c == '\'' || c == '`')
        return lex_string(p);
    if (isdigit((unsigned char)c) || (c == '.' && isdigit((unsigned char)p->p[1])))
        return lex_number(p);
    if (is_word_first(c)) {
        const char *start = p->p;
        while (is_word_first(*p->p) || isdigit((unsigned char)*p->p))
            p->p++;
        p->now.type = TOKEN_WORD;
        p->now.text = arena_strndup(p->q->arena, start, (size_t)(p->p - start));
        return OK;
    }
    if (lex_pair(p))
        return OK;
    if (!strchr("(){}[],+-*/%^<>=:@", c))
        return fail(p, p->now.at, "unexpected character \"%c\"",
                    isprint((unsigned char)c) ? c : '?');
    p->now.type = c == '=' ? TOKEN_ASSIGN : c;
    p->p++;
    return OK;
}

static bool is_word(const struct parser *p, const char *word) {
    return p->now.type == TOKEN_WORD && !strcasecmp(p->now.text, word);
}

static enum errc unexpected(struct parser *p, const char *wanted) {
    const char *rest = p->text + p->now.at;
    if (p->now.type == TOKEN_END)
        return fail(p, p->now.at, "the expression ends where %s is expected", wanted);
    return fail(p, p->now.at, "unexpected \"%.20s\" where %s is expected", rest, wanted);
}

static enum errc expect(struct parser *p, int type, const char *wanted) {
    return p->now.type == type ? next(p) : unexpected(p, wanted);
}

/* "1h30m" at p, which no token was made of. */
static enum errc take_duration(struct parser *p, int64_t *ret_ms) {
    static const struct {
        const char *name;
        int64_t ms;
    } units[] = {{"ms", 1},       {"s", 1000},      {"m", 60000},      {"h", 3600000},
                 {"d", 86400000}, {"w", 604800000}, {"y", 31536000000}};
    skip_blanks(p);
    uint32_t at = (uint32_t)(p->p - p->text);
    double sum = 0;
    do {
        char *end;
        size_t u = 0;
        if (!isdigit((unsigned char)*p->p))
            return fail(p, at, "a duration such as 5m is expected");
        unsigned long long n = strtoull(p->p, &end, 10);
        while (u < ARRAY_LEN(units) && strncmp(end, units[u].name, strlen(units[u].name)) != 0)
            u++;
        if (u == ARRAY_LEN(units))
            return fail(p, at, "a duration such as 5m is expected");
        sum += (double)n * (double)units[u].ms;
        p->p = end + strlen(units[u].name);
    } while (isalnum((unsigned char)*p->p));
    if (sum > 1e14)
        return fail(p, at, "the duration is too long");
    *ret_ms = (int64_t)sum;
    return OK;
}

/* ---- nodes ---- */

static struct promql_node *make(struct parser *p, enum promql_node_kind kind, enum promql_type type,
                                uint32_t at) {
    struct promql_node *n = arena_alloc(p->q->arena, sizeof(*n));
    n->kind = kind;
    n->type = type;
    n->at = at;
    return n;
}

static enum errc add_arg(struct parser *p, struct promql_node *n, struct promql_node *arg) {
    ASSERT(arg);
    n->args[n->num_args++] = arg;
    if (arg->depth + 1 > n->depth)
        n->depth = arg->depth + 1;
    if (n->depth > PROMQL_DEPTH_MAX)
        return fail(p, n->at, "more than %d operations inside each other", PROMQL_DEPTH_MAX);
    return OK;
}

static const char *type_name(enum promql_type t) {
    static const char *const names[] = {"scalar", "instant vector", "range vector", "string"};
    return names[t];
}

static enum errc parse_expression(struct parser *p, int min_precedence, struct promql_node **ret);

/* ---- selectors ---- */

static enum errc add_matcher(struct parser *p, struct promql_node *n, const char *name,
                             enum matcher_op op, const char *value, uint32_t at) {
    struct error why = ERROR_INIT;
    if (n->num_matchers == LABELS_MAX)
        return fail(p, at, "more than %d conditions in one selector", LABELS_MAX);
    if (matcher_init(&n->matchers[n->num_matchers], name, op, value, &why))
        return fail(p, at, "%s", why.text);
    n->num_matchers++;
    return OK;
}

static enum errc parse_matcher(struct parser *p, struct promql_node *n) {
    static const int types[] = {TOKEN_ASSIGN, TOKEN_NOT_EQUAL, TOKEN_REGEX, TOKEN_NOT_REGEX};
    struct token name = p->now;
    if (name.type != TOKEN_WORD || strchr(name.text, ':'))
        return unexpected(p, "a label's name");
    if (next(p))
        return p->err->code;
    size_t op = 0;
    while (op < ARRAY_LEN(types) && types[op] != p->now.type)
        op++;
    if (op == ARRAY_LEN(types))
        return unexpected(p, "=, !=, =~ or !~");
    if (next(p))
        return p->err->code;
    if (p->now.type != TOKEN_STRING)
        return unexpected(p, "a value in quotes");
    if (add_matcher(p, n, name.text, (enum matcher_op)op, p->now.text, p->now.at))
        return p->err->code;
    return next(p);
}

/* Somebody who asks for everything has forgotten something. */
static bool selects_all(const struct promql_node *n) {
    AUTO(labels) none = labels_create(NULL, 0);
    for (uint32_t i = 0; i < n->num_matchers; i++) {
        if (!matcher_matches(&n->matchers[i], none))
            return false;
    }
    return true;
}

/* At the name, or at {. */
static enum errc parse_selector(struct parser *p, const char *name, uint32_t at,
                                struct promql_node **ret) {
    struct promql_node *n = make(p, PROMQL_SELECTOR, PROMQL_VECTOR, at);
    if (p->q->num_selectors == PROMQL_SELECTORS_MAX)
        return fail(p, at, "more than %d selectors", PROMQL_SELECTORS_MAX);
    n->matchers = arena_alloc(p->q->arena, LABELS_MAX * sizeof(*n->matchers));
    p->q->selectors[p->q->num_selectors++] = n; /* from here on its matchers are released */
    if (name && add_matcher(p, n, LABEL_NAME, MATCHER_EQUAL, name, at))
        return p->err->code;
    if (p->now.type == '{') {
        if (next(p))
            return p->err->code;
        while (p->now.type != '}') {
            if (parse_matcher(p, n))
                return p->err->code;
            if (p->now.type != '}' && expect(p, ',', "\",\" or \"}\""))
                return p->err->code;
        }
        if (next(p))
            return p->err->code;
    }
    if (selects_all(n))
        return fail(p, at, "a selector has to have a condition that the empty value does not meet");
    *ret = n;
    return OK;
}

static enum errc parse_range(struct parser *p, struct promql_node *n) {
    uint32_t at = p->now.at;
    if (take_duration(p, &n->range_ms))
        return p->err->code;
    skip_blanks(p);
    if (*p->p == ':') /* which would begin a word */
        return fail(p, (uint32_t)(p->p - p->text), "subqueries are not supported");
    if (next(p))
        return p->err->code;
    if (n->kind != PROMQL_SELECTOR)
        return fail(p, at, "a range is possible behind a selector only");
    if (n->type == PROMQL_MATRIX || n->offset_ms)
        return fail(p, at, "a range stands right behind its selector, once");
    if (n->range_ms <= 0)
        return fail(p, at, "the range must be above 0");
    n->type = PROMQL_MATRIX;
    return expect(p, ']', "\"]\"");
}

static enum errc parse_offset(struct parser *p, struct promql_node *n) {
    uint32_t at = p->now.at;
    if (n->kind != PROMQL_SELECTOR || n->offset_ms)
        return fail(p, at, "offset stands behind a selector, once");
    skip_blanks(p);
    bool negative = *p->p == '-';
    p->p += negative;
    if (take_duration(p, &n->offset_ms))
        return p->err->code;
    if (negative)
        n->offset_ms = -n->offset_ms;
    return next(p);
}

/* ---- aggregates and calls ---- */

/* "(a, b)" of by, without, on, ignoring. */
static enum errc parse_grouping(struct parser *p, bool complement, struct promql_grouping *ret) {
    *ret = (struct promql_grouping){.given = true, .complement = complement};
    ret->labels = arena_alloc(p->q->arena, LABELS_MAX * sizeof(*ret->labels));
    if (next(p) || expect(p, '(', "\"(\""))
        return p->err->code;
    while (p->now.type != ')') {
        if (p->now.type != TOKEN_WORD || strchr(p->now.text, ':'))
            return unexpected(p, "a label's name");
        if (ret->num_labels == LABELS_MAX)
            return fail(p, p->now.at, "more than %d labels", LABELS_MAX);
        ret->labels[ret->num_labels++] = p->now.text;
        if (next(p))
            return p->err->code;
        if (p->now.type != ')' && expect(p, ',', "\",\" or \")\""))
            return p->err->code;
    }
    return next(p);
}

static bool aggregate_named(const char *name, enum promql_aggregate *ret) {
    static const char *const names[] = {"sum",   "avg",      "min",  "max",    "count",
                                        "group", "quantile", "topk", "bottomk"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (!strcasecmp(names[i], name)) {
            *ret = (enum promql_aggregate)i;
            return true;
        }
    }
    return false;
}

static enum errc expect_type(struct parser *p, const struct promql_node *arg, enum promql_type type,
                             const char *whose) {
    ASSERT(arg);
    if (arg->type == type)
        return OK;
    return fail(p, arg->at, "%s wants an argument of type %s, not %s", whose, type_name(type),
                type_name(arg->type));
}

static enum errc parse_by(struct parser *p, struct promql_node *n) {
    bool without = is_word(p, "without");
    if (!without && !is_word(p, "by"))
        return OK;
    if (n->grouping.given)
        return fail(p, p->now.at, "by or without is given twice");
    return parse_grouping(p, without, &n->grouping);
}

/* Behind the name. */
static enum errc parse_aggregate(struct parser *p, const char *name, uint32_t at,
                                 enum promql_aggregate aggregate, struct promql_node **ret) {
    struct promql_node *n = make(p, PROMQL_AGGREGATE, PROMQL_VECTOR, at), *parameter = NULL;
    struct promql_node *vector = NULL;
    n->aggregate = aggregate;
    if (parse_by(p, n) || expect(p, '(', "\"(\""))
        return p->err->code;
    if (aggregate >= AGGREGATE_QUANTILE &&
        (parse_expression(p, 0, &parameter) || expect_type(p, parameter, PROMQL_SCALAR, name) ||
         expect(p, ',', "\",\"")))
        return p->err->code;
    if (parse_expression(p, 0, &vector) || expect_type(p, vector, PROMQL_VECTOR, name) ||
        expect(p, ')', "\")\"") || parse_by(p, n) || add_arg(p, n, vector) ||
        (parameter && add_arg(p, n, parameter)))
        return p->err->code;
    *ret = n;
    return OK;
}

/* At the "(". */
static enum errc parse_call(struct parser *p, const char *name, uint32_t at,
                            struct promql_node **ret) {
    const struct promql_function *f = promql_function_find(name);
    if (!f)
        return fail(p, at, "function \"%.60s\" is not supported", name);
    struct promql_node *n = make(p, PROMQL_CALL, f->result, at);
    n->function = f;
    if (next(p))
        return p->err->code;
    while (p->now.type != ')') {
        struct promql_node *arg = NULL;
        if (n->num_args == f->num_args)
            return fail(p, p->now.at, "%s wants at most %u arguments", name, f->num_args);
        if (parse_expression(p, 0, &arg) || expect_type(p, arg, f->args[n->num_args], f->name) ||
            add_arg(p, n, arg))
            return p->err->code;
        if (p->now.type != ')' && expect(p, ',', "\",\" or \")\""))
            return p->err->code;
    }
    if (n->num_args < f->num_args - f->num_optional)
        return fail(p, p->now.at, "%s wants at least %u arguments", name,
                    f->num_args - f->num_optional);
    *ret = n;
    return next(p);
}

/* ---- expressions ---- */

static enum errc parse_word(struct parser *p, struct promql_node **ret) {
    struct token word = p->now;
    enum promql_aggregate aggregate;
    if (next(p))
        return p->err->code;
    bool number = !strcasecmp(word.text, "inf") || !strcasecmp(word.text, "nan");
    if (number && p->now.type != '{' && p->now.type != '(') {
        *ret = make(p, PROMQL_NUMBER_NODE, PROMQL_SCALAR, word.at);
        (*ret)->number = strcasecmp(word.text, "nan") ? INFINITY : NAN;
        return OK;
    }
    if (aggregate_named(word.text, &aggregate) &&
        (p->now.type == '(' || is_word(p, "by") || is_word(p, "without")))
        return parse_aggregate(p, word.text, word.at, aggregate, ret);
    if (p->now.type == '(')
        return parse_call(p, word.text, word.at, ret);
    return parse_selector(p, word.text, word.at, ret);
}

static enum errc parse_primary(struct parser *p, struct promql_node **ret) {
    switch (p->now.type) {
    case TOKEN_NUMBER:
        *ret = make(p, PROMQL_NUMBER_NODE, PROMQL_SCALAR, p->now.at);
        (*ret)->number = p->now.number;
        return next(p);
    case TOKEN_STRING:
        return fail(p, p->now.at, "a string is not supported here");
    case TOKEN_WORD:
        return parse_word(p, ret);
    case '{':
        return parse_selector(p, NULL, p->now.at, ret);
    case '(':
        if (next(p) || parse_expression(p, 0, ret))
            return p->err->code;
        return expect(p, ')', "\")\"");
    default:
        return unexpected(p, "an expression");
    }
}

static enum errc parse_postfix(struct parser *p, struct promql_node **ret) {
    if (parse_primary(p, ret))
        return p->err->code;
    for (;;) {
        if (p->now.type == '[') {
            if (parse_range(p, *ret))
                return p->err->code;
        } else if (is_word(p, "offset")) {
            if (parse_offset(p, *ret))
                return p->err->code;
        } else if (p->now.type == '@') {
            return fail(p, p->now.at, "the modifier @ is not supported");
        } else {
            return OK;
        }
    }
}

enum { PRECEDENCE_POWER = 6 };

static bool binary_op(const struct parser *p, enum promql_op *ret, int *ret_precedence) {
    static const struct {
        int type;
        const char *word;
        enum promql_op op;
        int precedence;
    } rows[] = {
        {TOKEN_WORD, "or", OP_OR, 1},
        {TOKEN_WORD, "and", OP_AND, 2},
        {TOKEN_WORD, "unless", OP_UNLESS, 2},
        {TOKEN_EQUAL, NULL, OP_EQUAL, 3},
        {TOKEN_NOT_EQUAL, NULL, OP_NOT_EQUAL, 3},
        {'<', NULL, OP_LESS, 3},
        {TOKEN_LESS_EQUAL, NULL, OP_LESS_EQUAL, 3},
        {'>', NULL, OP_GREATER, 3},
        {TOKEN_GREATER_EQUAL, NULL, OP_GREATER_EQUAL, 3},
        {'+', NULL, OP_ADD, 4},
        {'-', NULL, OP_SUBTRACT, 4},
        {'*', NULL, OP_MULTIPLY, 5},
        {'/', NULL, OP_DIVIDE, 5},
        {'%', NULL, OP_MODULO, 5},
        {'^', NULL, OP_POWER, PRECEDENCE_POWER},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].type == p->now.type && (!rows[i].word || is_word(p, rows[i].word))) {
            *ret = rows[i].op;
            *ret_precedence = rows[i].precedence;
            return true;
        }
    }
    return false;
}

static enum errc parse_modifiers(struct parser *p, struct promql_node *n) {
    if (is_word(p, "bool")) {
        if (!promql_op_compares(n->op))
            return fail(p, p->now.at, "bool stands behind a comparison only");
        n->returns_bool = true;
        if (next(p))
            return p->err->code;
    }
    if ((is_word(p, "on") || is_word(p, "ignoring")) &&
        parse_grouping(p, is_word(p, "ignoring"), &n->grouping))
        return p->err->code;
    if (is_word(p, "group_left") || is_word(p, "group_right"))
        return fail(p, p->now.at, "%s is not supported", p->now.text);
    return OK;
}

static enum errc check_operands(struct parser *p, struct promql_node *n) {
    enum promql_type left = n->args[0]->type, right = n->args[1]->type;
    if (left > PROMQL_VECTOR || right > PROMQL_VECTOR)
        return fail(p, n->at, "an operator stands between scalars and instant vectors, not %s",
                    type_name(left > PROMQL_VECTOR ? left : right));
    bool scalars = left == PROMQL_SCALAR && right == PROMQL_SCALAR;
    bool vectors = left == PROMQL_VECTOR && right == PROMQL_VECTOR;
    if (promql_op_is_set(n->op) && !vectors)
        return fail(p, n->at, "and, or and unless stand between instant vectors only");
    if (promql_op_compares(n->op) && scalars && !n->returns_bool)
        return fail(p, n->at, "a comparison of two scalars needs bool");
    if (n->grouping.given && !vectors)
        return fail(p, n->at, "on and ignoring stand between instant vectors only");
    n->type = scalars ? PROMQL_SCALAR : PROMQL_VECTOR;
    return OK;
}

static enum errc parse_unary(struct parser *p, struct promql_node **ret) {
    uint32_t at = p->now.at;
    if (p->now.type != '-' && p->now.type != '+')
        return parse_postfix(p, ret);
    bool negative = p->now.type == '-';
    struct promql_node *operand = NULL;
    if (next(p) || parse_expression(p, PRECEDENCE_POWER, &operand))
        return p->err->code;
    ASSERT(operand);
    if (operand->type > PROMQL_VECTOR)
        return fail(p, at, "a sign stands before a scalar or an instant vector, not a %s",
                    type_name(operand->type));
    *ret = operand;
    if (!negative)
        return OK;
    *ret = make(p, PROMQL_NEGATIVE, operand->type, at);
    return add_arg(p, *ret, operand);
}

static enum errc parse_operators(struct parser *p, int min_precedence, struct promql_node **ret) {
    enum promql_op op;
    int precedence;
    struct promql_node *left = NULL;
    if (parse_unary(p, &left))
        return p->err->code;
    while (binary_op(p, &op, &precedence) && precedence >= min_precedence) {
        struct promql_node *n = make(p, PROMQL_BINARY, PROMQL_VECTOR, p->now.at), *right = NULL;
        n->op = op;
        if (next(p) || parse_modifiers(p, n) ||
            parse_expression(p, op == OP_POWER ? precedence : precedence + 1, &right) ||
            add_arg(p, n, left) || add_arg(p, n, right) || check_operands(p, n))
            return p->err->code;
        left = n;
    }
    *ret = left;
    return OK;
}

static enum errc parse_expression(struct parser *p, int min_precedence, struct promql_node **ret) {
    if (p->depth == PROMQL_DEPTH_MAX)
        return fail(p, p->now.at, "more than %d parentheses inside each other", PROMQL_DEPTH_MAX);
    p->depth++;
    enum errc rc = parse_operators(p, min_precedence, ret);
    p->depth--;
    return rc;
}

enum errc promql_parse(const char *text, struct promql **ret_q, struct error *err) {
    if (strlen(text) > PROMQL_TEXT_BYTES_MAX)
        return err_set(err, ERR_MALFORMED, "the expression has %zu bytes, at most %d are possible",
                       strlen(text), PROMQL_TEXT_BYTES_MAX);
    AUTO(promql) q = mem_alloc(sizeof(*q));
    q->arena = arena_create();
    struct parser p = {.text = text, .p = text, .q = q, .err = err};
    if (next(&p) || parse_expression(&p, 0, &q->root))
        return err->code;
    if (p.now.type != TOKEN_END)
        return unexpected(&p, "the end or an operator");
    *ret_q = steal(q);
    return OK;
}

void promql_destroy(struct promql *q) {
    if (!q)
        return;
    for (uint32_t i = 0; i < q->num_selectors; i++) {
        for (uint32_t k = 0; k < q->selectors[i]->num_matchers; k++)
            matcher_deinit(&q->selectors[i]->matchers[k]);
    }
    arena_destroy(q->arena);
    free(q);
}

enum promql_type promql_type(const struct promql *q) {
    return q->root->type;
}
