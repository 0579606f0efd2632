/* The parser's state, shared by its two halves: jinja_parser.c (statements) and
 * jinja_expression.c. Nobody else includes this. */
#ifndef ENGINE_JINJA_PARSER_STATE_H
#define ENGINE_JINJA_PARSER_STATE_H

#include "engine/jinja_lexer.h"
#include "engine/jinja_parser.h"

enum { SYMBOL_SLOTS = 2 * JINJA_SYMBOLS_MAX };

struct jinja_parse {
    struct jinja_template *t;
    struct error *err;
    const struct jinja_token *at; /* never behind EOF */
    uint32_t depth;
    uint32_t num_loops;            /* loops around this place, for break and continue */
    uint32_t num_fors;             /* the same, not starting over in macros, for the name `loop` */
    struct jinja_node *unknown;    /* youngest unknown filter or test that may be an error */
    struct jinja_macro_def *macro; /* innermost macro, or NULL */
    uint32_t slots[SYMBOL_SLOTS];  /* symbol + 1 by hash of its name */
    uint32_t num_symbols;
};

/* A growing array of nodes on the heap, moved into the arena when complete. */
struct jinja_nodes {
    struct jinja_node **items;
    size_t count, cap;
};

static inline void jinja_nodes_deinit(struct jinja_nodes *n) {
    free(n->items);
}
#define AUTO_NODES __attribute__((cleanup(jinja_nodes_deinit))) struct jinja_nodes
void jinja_nodes_add(struct jinja_nodes *n, struct jinja_node *node);
struct jinja_node **jinja_nodes_keep(struct jinja_parse *p, const struct jinja_nodes *n);

/* False after "line N: ..." was written to p->err, N being the line of the current token. */
bool jinja_parse_fail(struct jinja_parse *p, const char *fmt, ...) PRINTF(2, 3);
bool jinja_parse_is_name(const struct jinja_parse *p, const char *word);
bool jinja_parse_skip(struct jinja_parse *p, enum jinja_token_type type); /* true: was there */
bool jinja_parse_skip_name(struct jinja_parse *p, const char *word);
MUST_CHECK bool jinja_parse_expect(struct jinja_parse *p, enum jinja_token_type type);
MUST_CHECK bool jinja_parse_enter(struct jinja_parse *p);
MUST_CHECK bool jinja_parse_symbol(struct jinja_parse *p, const char *name, uint32_t *ret);
struct jinja_node *jinja_parse_node(struct jinja_parse *p, enum jinja_node_kind kind,
                                    uint32_t line);

/* Expressions. `condition` allows `a if b else c`; `end_word` (or NULL) ends a tuple. */
MUST_CHECK bool jinja_parse_expression(struct jinja_parse *p, bool condition,
                                       struct jinja_node **ret);
MUST_CHECK bool jinja_parse_tuple(struct jinja_parse *p, bool condition, const char *end_word,
                                  struct jinja_node **ret);
/* `| filter | filter`, around a NULL input; *ret stays NULL when there is none. */
MUST_CHECK bool jinja_parse_filters(struct jinja_parse *p, struct jinja_node *input,
                                    bool start_inline, struct jinja_node **ret);
/* What `set` and `for` assign to: names, tuples, with `namespaces` also ns.attribute. */
MUST_CHECK bool jinja_parse_target(struct jinja_parse *p, bool namespaces, const char *end_word,
                                   struct jinja_node **ret);
MUST_CHECK bool jinja_parse_target_name(struct jinja_parse *p, struct jinja_node **ret);

#endif
