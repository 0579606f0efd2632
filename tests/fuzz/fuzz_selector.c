/* Selectors: one line, read as a label selector and as a field selector.
 *
 * Promises: what parses can be written down in one canonical form, which parses to the same, and
 * both select the same objects. */
#include "kube-compat/selector.h"
#include "tests/fuzz/fuzz.h"

typedef enum errc parse_fn(const char *text, struct selector **ret_s, struct error *err);

static void print_values(const struct selector_requirement *r, struct buf *out) {
    buf_puts(out, r->op == SELECTOR_IN ? " in (" : " notin (");
    for (size_t i = 0; i < r->num_values; i++)
        buf_printf(out, "%s%s", i ? "," : "", r->values[i]);
    buf_putc(out, ')');
}

static void print_labels(const struct selector *s, struct buf *out) {
    for (size_t i = 0; i < s->num_requirements; i++) {
        const struct selector_requirement *r = &s->requirements[i];
        buf_printf(out, "%s%s%s", i ? "," : "", r->op == SELECTOR_NOT_EXISTS ? "!" : "", r->key);
        if (r->op == SELECTOR_IN || r->op == SELECTOR_NOT_IN)
            print_values(r, out);
        else if (r->op == SELECTOR_GREATER || r->op == SELECTOR_LESS)
            buf_printf(out, "%c%s", r->op == SELECTOR_GREATER ? '>' : '<', r->values[0]);
    }
}

static void print_fields(const struct selector *s, struct buf *out) {
    for (size_t i = 0; i < s->num_requirements; i++) {
        const struct selector_requirement *r = &s->requirements[i];
        buf_printf(out, "%s%s%s", i ? "," : "", r->key, r->op == SELECTOR_IN ? "=" : "!=");
        for (const char *c = r->values[0]; *c; c++) {
            if (*c == '\\' || *c == ',' || *c == '=')
                buf_putc(out, '\\');
            buf_putc(out, *c);
        }
    }
}

static void expect_equal(const struct selector *a, const struct selector *b) {
    ASSERT(a->num_requirements == b->num_requirements);
    for (size_t i = 0; i < a->num_requirements; i++) {
        const struct selector_requirement *x = &a->requirements[i], *y = &b->requirements[i];
        ASSERT(x->op == y->op && !strcmp(x->key, y->key) && x->num_values == y->num_values);
        for (size_t v = 0; v < x->num_values; v++)
            ASSERT(!strcmp(x->values[v], y->values[v]));
    }
}

/* The subject is what every key has; NULL: nothing has a value. */
static const char *value_of(const void *subject, const char *key) {
    return subject;
}

static void round_trip(parse_fn *parse, const char *text,
                       void (*print)(const struct selector *s, struct buf *out)) {
    AUTO(selector) s = NULL;
    AUTO(selector) again = NULL;
    struct error err = ERROR_INIT;
    AUTO_BUF canonical = BUF_INIT;
    if (parse(text, &s, &err)) {
        ASSERT(err.code == ERR_MALFORMED && err.text[0] && !s);
        return;
    }
    print(s, &canonical);
    ASSERT(!parse(canonical.data ? canonical.data : "", &again, &err));
    expect_equal(s, again);
    static const char *const subjects[] = {"", "a", "5", "-9223372036854775808", NULL};
    for (size_t i = 0; i < ARRAY_LEN(subjects); i++)
        ASSERT(selector_match(s, value_of, subjects[i]) ==
               selector_match(again, value_of, subjects[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    AUTO_FREE char *text = mem_strndup(size ? (const char *)data : "", size);
    round_trip(selector_parse_labels, text, print_labels);
    round_trip(selector_parse_fields, text, print_fields);
    return 0;
}
