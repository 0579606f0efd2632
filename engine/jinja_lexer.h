/* Splits template source into tokens, with Jinja's rules for white space around tags (trim_blocks
 * and lstrip_blocks on, one trailing newline of the source dropped). */
#ifndef ENGINE_JINJA_LEXER_H
#define ENGINE_JINJA_LEXER_H

#include "core/base/mem.h"

enum jinja_token_type {
    JINJA_T_EOF,
    JINJA_T_DATA, /* text between tags */
    JINJA_T_VARIABLE_BEGIN,
    JINJA_T_VARIABLE_END,
    JINJA_T_BLOCK_BEGIN,
    JINJA_T_BLOCK_END,
    JINJA_T_NAME,
    JINJA_T_TEXT, /* string literal, escapes resolved */
    JINJA_T_INTEGER,
    JINJA_T_FLOAT,
    JINJA_T_ADD,
    JINJA_T_SUB,
    JINJA_T_DIV,
    JINJA_T_FLOORDIV,
    JINJA_T_MUL,
    JINJA_T_MOD,
    JINJA_T_POW,
    JINJA_T_TILDE,
    JINJA_T_LBRACKET,
    JINJA_T_RBRACKET,
    JINJA_T_LPAREN,
    JINJA_T_RPAREN,
    JINJA_T_LBRACE,
    JINJA_T_RBRACE,
    JINJA_T_EQ,
    JINJA_T_NE,
    JINJA_T_GT,
    JINJA_T_GTEQ,
    JINJA_T_LT,
    JINJA_T_LTEQ,
    JINJA_T_ASSIGN,
    JINJA_T_DOT,
    JINJA_T_COLON,
    JINJA_T_PIPE,
    JINJA_T_COMMA,
    JINJA_T_SEMICOLON,
};

struct jinja_token {
    enum jinja_token_type type;
    uint32_t line;
    uint32_t len;     /* of text */
    const char *text; /* DATA, NAME, TEXT; terminated for NAME. Arena */
    union {
        int64_t integer;
        double real;
    };
};

/* Tokens in the arena, the last one EOF. `source` is valid UTF-8. ERR_INVALID names the line. */
MUST_CHECK enum errc jinja_lex(struct arena *arena, const char *source, size_t len,
                               struct jinja_token **ret_tokens, struct error *err);

/* For messages: "name", "')'", "end of the template". */
const char *jinja_token_describe(enum jinja_token_type type);

#endif
