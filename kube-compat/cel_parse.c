/* From the text of a CEL expression to its tree: a lexer and a recursive descent parser in one,
 * after the grammar of the language definition.
 *
 *   Expr  = Or ["?" Or ":" Expr]       Or = And {"||" And}       And = Rel {"&&" Rel}
 *   Rel   = Add {relop Add}            Add = Mul {("+"|"-") Mul}  Mul = Unary {("*"|"/"|"%") Unary}
 *   Unary = {"!"} Member | {"-"} Member
 *   Member = Primary {"." NAME ["(" Args ")"] | "[" Expr "]"}
 *
 * Operators become calls of functions with the names that cel-go shows in messages ("_+_"), so one
 * table holds them all. Macros are known by name and number of arguments and become nodes of their
 * own, since their arguments are not values. Depth, nodes and bytes are bounded. */
#include "kube-compat/cel_tree.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

enum { ARGS_MAX = 64 };

enum token {
    TOKEN_END,
    TOKEN_NAME,
    TOKEN_LITERAL, /* number, string, bytes, true, false, null */
    TOKEN_SIGN,    /* one or two characters of punctuation */
    TOKEN_BAD,     /* err is set */
};

struct parser {
    struct cel_program *program;
    struct error *err;
    size_t at; /* behind the token */
    /* The token: */
    enum token token;
    size_t start;
    const char *text; /* of a name or sign */
    struct cel_value literal;
    int depth;
    int num_nodes;
};

enum errc cel_fail(const struct cel_program *program, size_t offset, struct error *err,
                   const char *fmt, ...) {
    size_t line = 1, column = 1;
    for (size_t i = 0; i < offset && program->text[i]; i++) {
        column = program->text[i] == '\n' ? 1 : column + 1;
        line += program->text[i] == '\n';
    }
    char what[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    return err_set(err, ERR_INVALID, "ERROR: <input>:%zu:%zu: %s", line, column, what);
}

static struct cel_node *fail(struct parser *p, const char *what) {
    if (p->token != TOKEN_BAD)
        cel_fail(p->program, p->start, p->err, "%s", what);
    p->token = TOKEN_BAD;
    return NULL;
}

static void skip_space(struct parser *p) {
    const char *text = p->program->text;
    for (;; p->at++) {
        if (text[p->at] == '/' && text[p->at + 1] == '/')
            p->at += strcspn(text + p->at, "\n");
        if (!text[p->at] || !isspace((unsigned char)text[p->at]))
            return;
    }
}

static void put_rune(struct buf *out, uint32_t rune) {
    if (rune < 0x80) {
        buf_putc(out, (char)rune);
    } else if (rune < 0x800) {
        buf_putc(out, (char)(0xC0 | rune >> 6));
        buf_putc(out, (char)(0x80 | (rune & 0x3F)));
    } else if (rune < 0x10000) {
        buf_putc(out, (char)(0xE0 | rune >> 12));
        buf_putc(out, (char)(0x80 | (rune >> 6 & 0x3F)));
        buf_putc(out, (char)(0x80 | (rune & 0x3F)));
    } else {
        buf_putc(out, (char)(0xF0 | rune >> 18));
        buf_putc(out, (char)(0x80 | (rune >> 12 & 0x3F)));
        buf_putc(out, (char)(0x80 | (rune >> 6 & 0x3F)));
        buf_putc(out, (char)(0x80 | (rune & 0x3F)));
    }
}

/* \n, \x41, \u00e9, \101 ... at text, behind the backslash. Gives its length; 0: no escape. */
static size_t read_escape(const char *text, bool bytes, struct buf *out) {
    static const char simple[] = "abfnrtv\\?\"'`", means[] = "\a\b\f\n\r\t\v\\?\"'`";
    const char *known = *text ? strchr(simple, *text) : NULL;
    if (known) {
        buf_putc(out, means[known - simple]);
        return 1;
    }
    int num_digits = *text == 'x' || *text == 'X' ? 2 : *text == 'u' ? 4 : *text == 'U' ? 8 : 3;
    size_t skip = num_digits == 3 ? 0 : 1;
    uint32_t rune = 0;
    for (int i = 0; i < num_digits; i++) {
        char c = text[skip + (size_t)i];
        bool fits = skip ? isxdigit((unsigned char)c) : c >= '0' && c <= (i ? '7' : '3');
        if (!fits)
            return 0;
        rune =
            skip ? rune << 4 | (uint32_t)(isdigit((unsigned char)c) ? c - '0' : (c | 32) - 'a' + 10)
                 : rune << 3 | (uint32_t)(c - '0');
    }
    bool surrogate = rune >= 0xD800 && rune < 0xE000;
    if (rune > 0x10FFFF || surrogate || (!bytes && !rune))
        return 0;
    if (bytes && num_digits <= 3)
        buf_putc(out, (char)rune);
    else
        put_rune(out, rune);
    return skip + (size_t)num_digits;
}

/* A quoted literal behind its prefix. */
static void read_quoted(struct parser *p, bool raw, bool bytes) {
    const char *text = p->program->text;
    char quote = text[p->at];
    size_t width = text[p->at + 1] == quote && text[p->at + 2] == quote ? 3 : 1;
    p->at += width;
    AUTO_BUF out = BUF_INIT;
    buf_puts(&out, "");
    for (;;) {
        char c = text[p->at];
        if (!c || (width == 1 && (c == '\n' || c == '\r'))) {
            fail(p, "Syntax error: a string does not end");
            return;
        }
        bool ends =
            c == quote && (width == 1 || (text[p->at + 1] == quote && text[p->at + 2] == quote));
        if (ends)
            break;
        p->at++;
        if (c != '\\' || raw) {
            buf_putc(&out, c);
            continue;
        }
        size_t len = read_escape(text + p->at, bytes, &out);
        if (!len) {
            fail(p, "Syntax error: no such escape in a string");
            return;
        }
        p->at += len;
    }
    p->at += width;
    p->token = TOKEN_LITERAL;
    const char *kept = arena_strndup(p->program->arena, out.data, out.len);
    p->literal = cel_text(bytes ? CEL_BYTES : CEL_STRING, kept, out.len);
}

static void read_number(struct parser *p) {
    const char *text = p->program->text + p->at;
    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    size_t len = hex ? 2 + strspn(text + 2, "0123456789abcdefABCDEF") : strspn(text, "0123456789");
    bool real = false;
    if (!hex && text[len] == '.' && isdigit((unsigned char)text[len + 1])) {
        real = true;
        len += 1 + strspn(text + len + 1, "0123456789");
    }
    if (!hex && (text[len] == 'e' || text[len] == 'E')) {
        size_t sign = text[len + 1] == '+' || text[len + 1] == '-';
        size_t digits = strspn(text + len + 1 + sign, "0123456789");
        real = real || digits;
        len += digits ? 1 + sign + digits : 0;
    }
    AUTO_FREE char *digits = mem_strndup(text, len);
    p->at += len;
    errno = 0;
    if (real) {
        p->literal = cel_double(strtod(digits, NULL));
    } else {
        uint64_t value = strtoull(digits, NULL, hex ? 16 : 10);
        bool natural = text[len] == 'u' || text[len] == 'U';
        p->at += natural;
        /* The magnitude of the least integer stands behind a minus: -9223372036854775808. */
        bool least = !natural && value == (uint64_t)INT64_MAX + 1 && p->start &&
                     p->program->text[p->start - 1] == '-';
        if (errno || (!natural && value > INT64_MAX && !least)) {
            fail(p, "Syntax error: a number is too big");
            return;
        }
        p->literal = cel_int((int64_t)value);
        if (natural)
            p->literal = (struct cel_value){.kind = CEL_UINT, .natural = value};
    }
    p->token = TOKEN_LITERAL;
}

static void read_word(struct parser *p) {
    const char *text = p->program->text + p->at;
    size_t len = 0;
    while (isalnum((unsigned char)text[len]) || text[len] == '_')
        len++;
    const char *word = arena_strndup(p->program->arena, text, len);
    bool quoted = text[len] == '"' || text[len] == '\'';
    bool raw = false, bytes = false, prefix = quoted && len <= 2;
    for (size_t i = 0; prefix && i < len; i++) {
        char c = (char)tolower((unsigned char)word[i]);
        raw = raw || c == 'r';
        bytes = bytes || c == 'b';
        prefix = c == 'r' || c == 'b';
    }
    p->at += len;
    if (prefix) {
        read_quoted(p, raw, bytes);
        return;
    }
    p->token = TOKEN_LITERAL;
    if (!strcmp(word, "true") || !strcmp(word, "false")) {
        p->literal = cel_bool(*word == 't');
    } else if (!strcmp(word, "null")) {
        p->literal = (struct cel_value){.kind = CEL_NULL};
    } else {
        p->token = !strcmp(word, "in") ? TOKEN_SIGN : TOKEN_NAME;
        p->text = word;
    }
}

static void next(struct parser *p) {
    static const char *const signs[] = {"&&", "||", "==", "!=", "<=", ">=", "<", ">",
                                        "+",  "-",  "*",  "/",  "%",  "!",  "?", ":",
                                        ".",  ",",  "(",  ")",  "[",  "]",  "{", "}"};
    if (p->token == TOKEN_BAD)
        return;
    skip_space(p);
    const char *text = p->program->text + p->at;
    p->start = p->at;
    p->text = "";
    if (!*text) {
        p->token = TOKEN_END;
        return;
    }
    if (isdigit((unsigned char)*text) || (*text == '.' && isdigit((unsigned char)text[1]))) {
        read_number(p);
        return;
    }
    if (isalpha((unsigned char)*text) || *text == '_') {
        read_word(p);
        return;
    }
    if (*text == '"' || *text == '\'') {
        read_quoted(p, false, false);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(signs); i++) {
        size_t len = strlen(signs[i]);
        if (strncmp(text, signs[i], len) != 0)
            continue;
        p->token = TOKEN_SIGN;
        p->text = signs[i];
        p->at += len;
        return;
    }
    fail(p, "Syntax error: token recognition error");
}

static bool is_sign(const struct parser *p, const char *sign) {
    return p->token == TOKEN_SIGN && !strcmp(p->text, sign);
}

static bool take(struct parser *p, const char *sign) {
    if (!is_sign(p, sign))
        return false;
    next(p);
    return true;
}

static bool expect(struct parser *p, const char *sign) {
    if (take(p, sign))
        return true;
    if (p->token != TOKEN_BAD)
        cel_fail(p->program, p->start, p->err, "Syntax error: missing '%s'", sign);
    p->token = TOKEN_BAD;
    return false;
}

static struct cel_node *make(struct parser *p, enum cel_op op, size_t offset, const char *text,
                             struct cel_node *const *args, size_t num_args) {
    if (++p->num_nodes > CEL_NODES_MAX)
        return fail(p, "the expression has more than 4096 parts");
    struct cel_node *n = arena_alloc(p->program->arena, sizeof(*n));
    n->op = op;
    n->offset = offset;
    n->text = text;
    n->num_args = (uint32_t)num_args;
    n->args = arena_alloc(p->program->arena, (num_args + 1) * sizeof(struct cel_node *));
    for (size_t i = 0; i < num_args; i++) {
        if (!args[i])
            return NULL;
        n->args[i] = args[i];
        n->height = n->height > args[i]->height ? n->height : args[i]->height + 1;
    }
    return n->height > CEL_HEIGHT_MAX ? fail(p, "the expression has more than 256 steps in a row")
                                      : n;
}

static struct cel_node *parse_expr(struct parser *p);

/* Reads "EXPR, EXPR ... END" (END is taken). False: an error. */
static bool parse_list(struct parser *p, const char *end, const char *between,
                       struct cel_node *args[ARGS_MAX], size_t *ret_num) {
    size_t num = 0;
    while (!take(p, end)) {
        if ((num && !expect(p, ",")) || p->token == TOKEN_BAD)
            return false;
        if (num && take(p, end)) /* a trailing comma */
            break;
        if (num + 2 > ARGS_MAX) {
            fail(p, "more than 64 items");
            return false;
        }
        if (!(args[num++] = parse_expr(p)))
            return false;
        if (between && (!expect(p, between) || !(args[num++] = parse_expr(p))))
            return false;
    }
    *ret_num = num;
    return true;
}

/* Gives the macro's node, or makes the call. args[0] is the target. */
static struct cel_node *make_method(struct parser *p, size_t offset, const char *name,
                                    struct cel_node **args, size_t num) {
    static const struct {
        const char *name;
        size_t num;
        enum cel_op op;
    } macros[] = {{"all", 3, CEL_OP_ALL},       {"exists", 3, CEL_OP_EXISTS},
                  {"filter", 3, CEL_OP_FILTER}, {"exists_one", 3, CEL_OP_EXISTS_ONE},
                  {"map", 3, CEL_OP_TRANSFORM}, {"map", 4, CEL_OP_TRANSFORM},
                  {"optMap", 3, CEL_OP_OPT_MAP}};
    for (size_t i = 0; i < ARRAY_LEN(macros); i++) {
        if (strcmp(macros[i].name, name) != 0 || macros[i].num != num)
            continue;
        if (args[1]->op != CEL_OP_NAME)
            return fail(p, "argument must be a simple name");
        /* map(x, which, what) has the predicate in front. */
        struct cel_node *rest[] = {args[0], args[num - 1], num == 4 ? args[2] : NULL};
        return make(p, macros[i].op, offset, args[1]->text, rest, num - 1);
    }
    struct cel_node *n = make(p, CEL_OP_CALL, offset, name, args, num);
    if (n)
        n->method = true;
    return n;
}

static struct cel_node *make_call(struct parser *p, size_t offset, const char *name,
                                  struct cel_node **args, size_t num) {
    if (strcmp(name, "has") != 0 || num != 1)
        return make(p, CEL_OP_CALL, offset, name, args, num);
    if (args[0]->op != CEL_OP_SELECT)
        return fail(p, "invalid argument to has() macro");
    args[0]->op = CEL_OP_HAS;
    return args[0];
}

static struct cel_node *parse_primary(struct parser *p) {
    struct cel_node *args[ARGS_MAX], *n;
    size_t num, offset = p->start;
    if (p->token == TOKEN_LITERAL) {
        n = make(p, CEL_OP_LITERAL, offset, "", NULL, 0);
        if (n)
            n->literal = p->literal;
        next(p);
        return n;
    }
    if (p->token == TOKEN_NAME) {
        const char *name = p->text;
        next(p);
        if (!take(p, "("))
            return make(p, CEL_OP_NAME, offset, name, NULL, 0);
        return parse_list(p, ")", NULL, args, &num) ? make_call(p, offset, name, args, num) : NULL;
    }
    if (take(p, "(")) {
        n = parse_expr(p);
        return n && expect(p, ")") ? n : NULL;
    }
    if (take(p, "["))
        return parse_list(p, "]", NULL, args, &num) ? make(p, CEL_OP_LIST, offset, "", args, num)
                                                    : NULL;
    if (take(p, "{"))
        return parse_list(p, "}", ":", args, &num) ? make(p, CEL_OP_MAP, offset, "", args, num)
                                                   : NULL;
    return fail(p, p->token == TOKEN_END ? "Syntax error: unexpected end of the expression"
                                         : "Syntax error: unexpected token");
}

static struct cel_node *parse_member(struct parser *p) {
    struct cel_node *n = parse_primary(p);
    while (n && (is_sign(p, ".") || is_sign(p, "["))) {
        struct cel_node *args[ARGS_MAX + 1] = {n};
        size_t offset = p->start, num;
        if (take(p, "[")) {
            args[1] = parse_expr(p);
            n = args[1] && expect(p, "]") ? make(p, CEL_OP_CALL, offset, "_[_]", args, 2) : NULL;
            continue;
        }
        next(p);
        if (p->token != TOKEN_NAME)
            return fail(p, "Syntax error: a field name is missing");
        const char *name = p->text;
        next(p);
        if (take(p, "("))
            n = parse_list(p, ")", NULL, args + 1, &num)
                    ? make_method(p, offset, name, args, num + 1)
                    : NULL;
        else
            n = make(p, CEL_OP_SELECT, offset, name, args, 1);
    }
    return n;
}

static struct cel_node *parse_unary(struct parser *p) {
    size_t offset = p->start;
    bool minus = is_sign(p, "-");
    int num = 0;
    while (take(p, minus ? "-" : "!"))
        num++;
    struct cel_node *n = parse_member(p);
    if (!n || !num)
        return n;
    if (minus && n->op == CEL_OP_LITERAL && n->literal.kind == CEL_INT && num % 2) {
        n->literal.integer = (int64_t) - (uint64_t)n->literal.integer;
        return n;
    }
    return num % 2 ? make(p, CEL_OP_CALL, offset, minus ? "-_" : "!_", &n, 1) : n;
}

/* The operators of a level, weakest last. */
static const struct {
    const char *sign, *function;
    int level;
} operators[] = {
    {"*", "_*_", 0},   {"/", "_/_", 0},   {"%", "_%_", 0}, {"+", "_+_", 1},   {"-", "_-_", 1},
    {"==", "_==_", 2}, {"!=", "_!=_", 2}, {"<", "_<_", 2}, {"<=", "_<=_", 2}, {">", "_>_", 2},
    {">=", "_>=_", 2}, {"in", "@in", 2},  {"&&", "", 3},   {"||", "", 4},
};

static struct cel_node *parse_level(struct parser *p, int level) {
    if (level < 0)
        return parse_unary(p);
    struct cel_node *n = parse_level(p, level - 1);
    for (size_t i = 0; n && i < ARRAY_LEN(operators); i++) {
        if (operators[i].level != level || !is_sign(p, operators[i].sign))
            continue;
        size_t offset = p->start;
        next(p);
        struct cel_node *args[] = {n, parse_level(p, level - 1)};
        n = level == 3   ? make(p, CEL_OP_AND, offset, "_&&_", args, 2)
            : level == 4 ? make(p, CEL_OP_OR, offset, "_||_", args, 2)
                         : make(p, CEL_OP_CALL, offset, operators[i].function, args, 2);
        i = (size_t)-1; /* the level goes on: a + b - c */
    }
    return n;
}

static struct cel_node *parse_expr(struct parser *p) {
    if (++p->depth > CEL_DEPTH_MAX)
        return fail(p, "the expression is nested deeper than 64");
    size_t offset = p->start;
    struct cel_node *n = parse_level(p, 4);
    if (n && is_sign(p, "?")) {
        offset = p->start;
        next(p);
        struct cel_node *then = parse_level(p, 4);
        struct cel_node *otherwise = then && expect(p, ":") ? parse_expr(p) : NULL;
        struct cel_node *args[] = {n, then, otherwise};
        n = otherwise ? make(p, CEL_OP_COND, offset, "_?_:_", args, 3) : NULL;
    }
    p->depth--;
    return n;
}

enum errc cel_parse(struct cel_program *program, struct error *err) {
    struct parser p = {.program = program, .err = err};
    if (strlen(program->text) > CEL_TEXT_BYTES_MAX)
        return err_set(err, ERR_INVALID, "ERROR: the expression has more than %d bytes",
                       CEL_TEXT_BYTES_MAX);
    next(&p);
    program->root = parse_expr(&p);
    if (program->root && p.token != TOKEN_END)
        program->root = fail(&p, "Syntax error: unexpected token behind the expression");
    return program->root ? OK : ERR_INVALID;
}
