/* The lexer: one pass that alternates between text and the inside of a tag.
 *
 * White space is decided here, so the parser never sees it.
 *   Before a tag: `{%-` eats all white space; without a sign, `{%` and `{#`, but not `{{`, eat
 *   blanks back to the start of their line (lstrip_blocks); `{%+` eats nothing.
 *   Behind a tag: `-%}` eats all white space; `%}` and `#}`, but not `}}`, eat one newline
 *   (trim_blocks); `+%}` eats nothing.
 * Every newline is \n, and one newline at the end of the source is not part of the template.
 *
 * Inside a tag its end counts only outside of brackets: `{{ {'a': {}} }}` is one tag. */
#include "engine/jinja_lexer.h"

#include <errno.h>

#include "engine/jinja_text.h"

enum { BRACKETS_MAX = 256 };

struct lexer {
    struct arena *arena;
    struct error *err;
    const char *at, *end;
    uint32_t line;
    bool line_starting; /* what came before `at` ended in a newline, or nothing did */
    struct jinja_token *tokens;
    size_t num_tokens, cap_tokens;
    char brackets[BRACKETS_MAX]; /* closing brackets owed */
    uint32_t num_brackets;
};

static const struct symbol {
    char text[3];
    enum jinja_token_type type;
} symbols[] = {
    /* the longer first */
    {"//", JINJA_T_FLOORDIV}, {"**", JINJA_T_POW},      {"==", JINJA_T_EQ},
    {"!=", JINJA_T_NE},       {">=", JINJA_T_GTEQ},     {"<=", JINJA_T_LTEQ},
    {"+", JINJA_T_ADD},       {"-", JINJA_T_SUB},       {"/", JINJA_T_DIV},
    {"*", JINJA_T_MUL},       {"%", JINJA_T_MOD},       {"~", JINJA_T_TILDE},
    {"[", JINJA_T_LBRACKET},  {"]", JINJA_T_RBRACKET},  {"(", JINJA_T_LPAREN},
    {")", JINJA_T_RPAREN},    {"{", JINJA_T_LBRACE},    {"}", JINJA_T_RBRACE},
    {">", JINJA_T_GT},        {"<", JINJA_T_LT},        {"=", JINJA_T_ASSIGN},
    {".", JINJA_T_DOT},       {":", JINJA_T_COLON},     {"|", JINJA_T_PIPE},
    {",", JINJA_T_COMMA},     {";", JINJA_T_SEMICOLON},
};

const char *jinja_token_describe(enum jinja_token_type type) {
    static const char *const words[] = {
        [JINJA_T_EOF] = "end of the template",
        [JINJA_T_DATA] = "text",
        [JINJA_T_VARIABLE_BEGIN] = "{{",
        [JINJA_T_VARIABLE_END] = "}}",
        [JINJA_T_BLOCK_BEGIN] = "{%",
        [JINJA_T_BLOCK_END] = "%}",
        [JINJA_T_NAME] = "a name",
        [JINJA_T_TEXT] = "a string",
        [JINJA_T_INTEGER] = "an integer",
        [JINJA_T_FLOAT] = "a number",
    };
    if (type < ARRAY_LEN(words))
        return words[type];
    for (size_t i = 0; i < ARRAY_LEN(symbols); i++)
        if (symbols[i].type == type)
            return symbols[i].text;
    return "?";
}

static struct jinja_token *push(struct lexer *l, enum jinja_token_type type, const char *text,
                                size_t len) {
    if (l->num_tokens == l->cap_tokens) {
        l->cap_tokens = l->cap_tokens ? l->cap_tokens * 2 : 256;
        l->tokens = mem_realloc(l->tokens, l->cap_tokens * sizeof(*l->tokens));
    }
    struct jinja_token *t = &l->tokens[l->num_tokens++];
    *t = (struct jinja_token){.type = type, .line = l->line, .text = text, .len = (uint32_t)len};
    return t;
}

/* Moves on by n bytes and counts their lines. */
static void advance(struct lexer *l, size_t n) {
    for (const char *stop = l->at + n; l->at < stop; l->at++)
        l->line += *l->at == '\n';
    l->line_starting = n ? l->at[-1] == '\n' : l->line_starting;
}

static enum errc lex_fail(struct lexer *l, const char *what) {
    return err_set(l->err, ERR_INVALID, "line %u: %s", l->line, what);
}

static bool starts(const char *at, const char *end, const char *word) {
    size_t n = strlen(word);
    return (size_t)(end - at) >= n && memcmp(at, word, n) == 0;
}

/* Length of a tag's end at `at`, with the white space that it eats; 0 if there is none. `close` is
 * "%}", "}}" or "#}". */
static size_t match_end(const struct lexer *l, const char *at, const char *close) {
    bool variable = close[0] == '}';
    if (at < l->end && *at == '-' && starts(at + 1, l->end, close))
        return 3 + jinja_text_space_prefix(at + 3, (size_t)(l->end - at - 3));
    if (!variable && at < l->end && *at == '+' && starts(at + 1, l->end, close))
        return 3;
    if (!starts(at, l->end, close))
        return 0;
    return 2 + (!variable && at + 2 < l->end && at[2] == '\n');
}

/* Length of `{%[-+] word [-+]%}` at `at`; *ret_sign is the sign behind `{%`. The end of `raw` eats
 * no newline without a sign, that of `endraw` does. */
static size_t match_word_tag(const struct lexer *l, const char *at, const char *word,
                             char *ret_sign) {
    if (!starts(at, l->end, "{%"))
        return 0;
    const char *p = at + 2;
    *ret_sign = p < l->end && (*p == '-' || *p == '+') ? *p++ : 0;
    p += jinja_text_space_prefix(p, (size_t)(l->end - p));
    if (!starts(p, l->end, word))
        return 0;
    p += strlen(word);
    p += jinja_text_space_prefix(p, (size_t)(l->end - p));
    if (strcmp(word, "raw") == 0 && p < l->end && *p == '+')
        return 0;
    size_t n = match_end(l, p, "%}");
    if (!n)
        return 0;
    if (strcmp(word, "raw") == 0 && *p == '%')
        n = 2;
    return (size_t)(p - at) + n;
}

/* Emits text up to `stop`, minus what the tag there takes away. */
static void push_data(struct lexer *l, const char *stop, char sign, bool lstrip) {
    const char *cut = stop;
    size_t len = (size_t)(stop - l->at);
    if (sign == '-') {
        cut -= jinja_text_space_suffix(l->at, len);
    } else if (sign != '+' && lstrip) {
        const char *newline = memrchr(l->at, '\n', len);
        const char *bol = newline ? newline + 1 : l->at;
        if ((newline || l->line_starting) &&
            jinja_text_space_prefix(bol, (size_t)(stop - bol)) == (size_t)(stop - bol))
            cut = bol;
    }
    if (cut > l->at)
        push(l, JINJA_T_DATA, l->at, (size_t)(cut - l->at));
    advance(l, len);
}

static enum errc lex_comment(struct lexer *l) {
    for (const char *p = l->at; p < l->end; p++) {
        size_t n = match_end(l, p, "#}");
        if (n) {
            advance(l, (size_t)(p - l->at) + n);
            return OK;
        }
    }
    return lex_fail(l, "the comment {# is not closed");
}

static enum errc lex_raw(struct lexer *l) {
    for (const char *p = l->at; (p = memmem(p, (size_t)(l->end - p), "{%", 2)); p++) {
        char sign;
        size_t n = match_word_tag(l, p, "endraw", &sign);
        if (n) {
            push_data(l, p, sign, true);
            advance(l, n);
            return OK;
        }
    }
    return lex_fail(l, "{% raw %} is not closed");
}

static size_t digits(const char *p, const char *end, int base) {
    const char *at = p;
    while (at < end) {
        int c = *at == '_' && at > p && at + 1 < end ? at[1] : *at;
        int v = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : 99;
        if (v >= base)
            break;
        at += *at == '_' ? 2 : 1;
    }
    return (size_t)(at - p);
}

static bool is_float(const struct lexer *l, size_t *ret_len) {
    if (l->num_tokens && l->tokens[l->num_tokens - 1].type == JINJA_T_DOT && l->at[-1] == '.')
        return false;
    const char *p = l->at + digits(l->at, l->end, 10);
    bool real = false;
    if (p < l->end && *p == '.') {
        size_t n = digits(p + 1, l->end, 10);
        if (n) {
            p += 1 + n;
            real = true;
        }
    }
    if (p < l->end && (*p | 32) == 'e') {
        const char *q = p + 1;
        q += q < l->end && (*q == '+' || *q == '-');
        size_t n = digits(q, l->end, 10);
        if (n) {
            p = q + n;
            real = true;
        }
    }
    *ret_len = (size_t)(p - l->at);
    return real;
}

static enum errc lex_number(struct lexer *l) {
    size_t len;
    bool real = is_float(l, &len);
    int base = 10, prefix = 0;
    if (!real) {
        char kind = l->at[0] == '0' && l->at + 1 < l->end ? (char)(l->at[1] | 32) : 0;
        int other = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
        size_t skip = other && l->at + 2 < l->end && l->at[2] == '_' ? 3 : 2;
        size_t n = other ? digits(l->at + skip, l->end, other) : 0;
        if (n) {
            base = other;
            prefix = (int)skip;
            len = skip + n;
        } else {
            len = digits(l->at, l->end, 10);
            if (l->at[0] == '0') /* as in Python, only zeros may follow a zero */
                for (len = 1; l->at + len < l->end && l->at[len] == '0';)
                    len++;
        }
    }
    char text[128];
    if (len >= sizeof(text))
        return lex_fail(l, "a number has more than 127 characters");
    size_t n = 0;
    for (size_t i = (size_t)prefix; i < len; i++)
        if (l->at[i] != '_')
            text[n++] = l->at[i];
    text[n] = '\0';
    struct jinja_token *t = push(l, real ? JINJA_T_FLOAT : JINJA_T_INTEGER, l->at, len);
    errno = 0;
    if (real)
        t->real = strtod(text, NULL);
    else
        t->integer = strtoll(text, NULL, base);
    if (!real && errno == ERANGE)
        return lex_fail(l, "an integer does not fit 64 bits");
    advance(l, len);
    return OK;
}

/* One escape behind a backslash at p; writes its text to out (at most 4 bytes) and gives the bytes
 * read, 0 when the code is no character. */
static size_t unescape(const char *p, const char *end, char *out, size_t *ret_len) {
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    *ret_len = 1;
    const char *simple = strchr(from, *p);
    if (simple) {
        out[0] = to[simple - from];
        return 1;
    }
    if (*p == '\n') {
        *ret_len = 0;
        return 1;
    }
    uint32_t cp = 0;
    if (*p >= '0' && *p <= '7') {
        size_t n = 0;
        for (; n < 3 && p + n < end && p[n] >= '0' && p[n] <= '7'; n++)
            cp = cp * 8 + (uint32_t)(p[n] - '0');
        *ret_len = jinja_text_encode(cp, out);
        return n;
    }
    size_t want = *p == 'x' ? 2 : *p == 'u' ? 4 : *p == 'U' ? 8 : 0;
    if (want) {
        if ((size_t)(end - p - 1) < want)
            return 0;
        for (size_t i = 1; i <= want; i++) {
            if (digits(p + i, p + i + 1, 16) != 1)
                return 0;
            cp = cp * 16 + (uint32_t)(p[i] <= '9' ? p[i] - '0' : (p[i] | 32) - 'a' + 10);
        }
        if (cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000))
            return 0;
        *ret_len = jinja_text_encode(cp, out);
        return 1 + want;
    }
    out[0] = '\\'; /* an unknown escape is kept as it stands */
    return *p == 'N' ? 0 : (size_t)-1;
}

static enum errc lex_string(struct lexer *l) {
    char quote = *l->at;
    const char *p = l->at + 1;
    while (p < l->end && *p != quote)
        p += *p == '\\' ? 2 : 1;
    if (p >= l->end)
        return lex_fail(l, "a string is not closed");
    char *text = arena_alloc(l->arena, (size_t)(p - l->at));
    size_t len = 0;
    for (const char *q = l->at + 1; q < p;) {
        if (*q != '\\') {
            text[len++] = *q++;
            continue;
        }
        size_t n;
        size_t took = unescape(q + 1, p, text + len, &n);
        if (!took)
            return lex_fail(l, "an escape in a string stands for no character");
        len += n;
        q += took == (size_t)-1 ? 1 : 1 + took;
    }
    push(l, JINJA_T_TEXT, text, len);
    advance(l, (size_t)(p + 1 - l->at));
    return OK;
}

static size_t name_length(const struct lexer *l) {
    const char *p = l->at;
    size_t n;
    while (p < l->end && jinja_text_is_word(jinja_text_decode(p, (size_t)(l->end - p), &n)))
        p += n;
    return (size_t)(p - l->at);
}

static enum errc lex_operator(struct lexer *l) {
    const struct symbol *op = NULL;
    for (size_t i = 0; i < ARRAY_LEN(symbols) && !op; i++)
        if (starts(l->at, l->end, symbols[i].text))
            op = &symbols[i];
    if (!op)
        return err_set(l->err, ERR_INVALID, "line %u: unexpected character 0x%02x in a tag",
                       l->line, (unsigned char)*l->at);
    char c = op->text[0];
    if (c == '{' || c == '(' || c == '[') {
        if (l->num_brackets == BRACKETS_MAX)
            return err_set(l->err, ERR_INVALID, "line %u: brackets nest deeper than %d", l->line,
                           BRACKETS_MAX);
        l->brackets[l->num_brackets++] = c == '{' ? '}' : c == '(' ? ')' : ']';
    } else if (c == '}' || c == ')' || c == ']') {
        if (!l->num_brackets || l->brackets[--l->num_brackets] != c)
            return err_set(l->err, ERR_INVALID, "line %u: unexpected '%c'", l->line, c);
    }
    push(l, op->type, l->at, strlen(op->text));
    advance(l, strlen(op->text));
    return OK;
}

/* From behind the opening of a tag to behind its end. */
static enum errc lex_tag(struct lexer *l, bool variable) {
    const char *close = variable ? "}}" : "%}";
    l->num_brackets = 0;
    while (l->at < l->end) {
        size_t n = l->num_brackets ? 0 : match_end(l, l->at, close);
        if (n) {
            push(l, variable ? JINJA_T_VARIABLE_END : JINJA_T_BLOCK_END, l->at, 2);
            advance(l, n);
            return OK;
        }
        size_t space = jinja_text_space_prefix(l->at, (size_t)(l->end - l->at));
        if (space) {
            advance(l, space);
            continue;
        }
        enum errc rc = OK;
        size_t bytes;
        uint32_t cp = jinja_text_decode(l->at, (size_t)(l->end - l->at), &bytes);
        if (cp >= '0' && cp <= '9') {
            rc = lex_number(l);
        } else if (jinja_text_is_word(cp)) {
            size_t len = name_length(l);
            push(l, JINJA_T_NAME, arena_strndup(l->arena, l->at, len), len);
            advance(l, len);
        } else if (cp == '\'' || cp == '"') {
            rc = lex_string(l);
        } else {
            rc = lex_operator(l);
        }
        if (rc)
            return rc;
    }
    return lex_fail(l, variable ? "{{ is not closed" : "{% is not closed");
}

/* Text up to the next tag, then the tag. */
static enum errc lex_next(struct lexer *l) {
    const char *p = l->at;
    while ((p = memchr(p, '{', (size_t)(l->end - p))) &&
           !(p + 1 < l->end && (p[1] == '{' || p[1] == '%' || p[1] == '#')))
        p++;
    if (!p) {
        push_data(l, l->end, '+', false);
        return OK;
    }
    char sign;
    size_t raw = match_word_tag(l, p, "raw", &sign);
    if (raw) {
        push_data(l, p, sign, true);
        advance(l, raw);
        return lex_raw(l);
    }
    char kind = p[1];
    sign = p + 2 < l->end && (p[2] == '-' || p[2] == '+') ? p[2] : 0;
    push_data(l, p, sign, kind != '{');
    advance(l, sign ? 3 : 2);
    if (kind == '#')
        return lex_comment(l);
    push(l, kind == '{' ? JINJA_T_VARIABLE_BEGIN : JINJA_T_BLOCK_BEGIN, p, 2);
    return lex_tag(l, kind == '{');
}

/* The source with \n for every newline, without the last one. */
static const char *normalize(struct arena *arena, const char *source, size_t len, size_t *ret_len) {
    char *copy = arena_alloc(arena, len + 1);
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (source[i] == '\r') {
            copy[n++] = '\n';
            i += i + 1 < len && source[i + 1] == '\n';
        } else {
            copy[n++] = source[i];
        }
    }
    if (n && copy[n - 1] == '\n')
        n--;
    *ret_len = n;
    return copy;
}

enum errc jinja_lex(struct arena *arena, const char *source, size_t len,
                    struct jinja_token **ret_tokens, struct error *err) {
    struct lexer l = {.arena = arena, .err = err, .line = 1, .line_starting = true};
    size_t normal_len;
    l.at = normalize(arena, source, len, &normal_len);
    l.end = l.at + normal_len;
    enum errc rc = OK;
    while (!rc && l.at < l.end)
        rc = lex_next(&l);
    if (!rc) {
        push(&l, JINJA_T_EOF, "", 0);
        size_t bytes = l.num_tokens * sizeof(*l.tokens);
        *ret_tokens = arena_alloc(arena, bytes);
        memcpy(*ret_tokens, l.tokens, bytes);
    }
    free(l.tokens);
    return rc;
}
