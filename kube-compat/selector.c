/* Selectors.
 *
 * Labels have a small grammar with words that are only keywords in their place ("notin=in" asks for
 * the label "notin"), so the parser reads one character of context at a time and never tokenizes
 * ahead. Fields are simpler: terms split at unescaped commas, each with one operator. */
#include "kube-compat/selector.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

#include "core/base/buf.h"
#include "kube-compat/names.h"

struct parser {
    const char *at;
    struct selector *s;
    struct error *err;
};

static enum errc fail(struct parser *p, const char *what, const char *found) {
    return err_set(p->err, ERR_MALFORMED, "unable to parse requirement: %s%s%.60s%s", what,
                   found ? ": found '" : "", found ? found : "", found ? "'" : "");
}

static struct selector *selector_create(void) {
    struct selector *s = mem_alloc(sizeof(*s));
    s->arena = arena_create();
    s->requirements = arena_alloc(s->arena, SELECTOR_REQUIREMENTS_MAX * sizeof(s->requirements[0]));
    return s;
}

void selector_destroy(struct selector *s) {
    if (!s)
        return;
    arena_destroy(s->arena);
    free(s);
}

static void skip_space(struct parser *p) {
    while (isspace((unsigned char)*p->at))
        p->at++;
}

/* A run of characters that are neither space nor punctuation of the grammar; "" when there is none.
 */
static char *word(struct parser *p) {
    skip_space(p);
    size_t len = strcspn(p->at, " \t\r\n!,()=<>");
    char *text = arena_strndup(p->s->arena, p->at, len);
    p->at += len;
    return text;
}

static enum errc add_value(struct parser *p, struct selector_requirement *r, const char *value) {
    if (r->num_values == SELECTOR_VALUES_MAX)
        return fail(p, "too many values", value);
    if (!name_is_label_value(value))
        return err_set(
            p->err, ERR_MALFORMED,
            "unable to parse requirement: values[%zu][%s]: Invalid value: \"%.100s\": %s",
            r->num_values, r->key, value, name_label_value_rule);
    r->values[r->num_values++] = value;
    return OK;
}

/* "(x, y)" after in or notin. */
static enum errc parse_set(struct parser *p, struct selector_requirement *r) {
    skip_space(p);
    if (*p->at++ != '(')
        return fail(p, "expected '('", NULL);
    r->values = arena_alloc(p->s->arena, SELECTOR_VALUES_MAX * sizeof(r->values[0]));
    for (;;) {
        enum errc code = add_value(p, r, word(p));
        if (code)
            return code;
        skip_space(p);
        if (*p->at == ',') {
            p->at++;
            continue;
        }
        if (*p->at++ == ')')
            return OK;
        p->at--;
        return fail(p, "expected ',' or ')'", p->at);
    }
}

static enum errc parse_comparison(struct parser *p, struct selector_requirement *r, char op) {
    r->op = op == '>' ? SELECTOR_GREATER : SELECTOR_LESS;
    const char *value = word(p);
    char *end;
    errno = 0;
    (void)strtoll(value, &end, 10);
    if (!*value || *end || errno)
        return fail(p, "for 'Gt', 'Lt' operators, the value must be an integer", value);
    r->values = arena_alloc(p->s->arena, sizeof(r->values[0]));
    r->values[r->num_values++] = value;
    return OK;
}

static enum errc parse_operator(struct parser *p, struct selector_requirement *r) {
    skip_space(p);
    char c = *p->at;
    if (!c || c == ',') {
        r->op = SELECTOR_EXISTS;
        return OK;
    }
    if (c == '>' || c == '<') {
        p->at++;
        return parse_comparison(p, r, c);
    }
    if (c == '=' || (c == '!' && p->at[1] == '=')) {
        r->op = c == '=' ? SELECTOR_IN : SELECTOR_NOT_IN;
        p->at += c == '!' || p->at[1] == '=' ? 2 : 1;
        r->values = arena_alloc(p->s->arena, sizeof(r->values[0]));
        return add_value(p, r, word(p));
    }
    const char *name = word(p);
    if (strcmp(name, "in") != 0 && strcmp(name, "notin") != 0)
        return fail(p, "expected: in, notin, =, ==, !=, gt, lt", *name ? name : p->at);
    r->op = *name == 'i' ? SELECTOR_IN : SELECTOR_NOT_IN;
    return parse_set(p, r);
}

static enum errc parse_requirement(struct parser *p) {
    if (p->s->num_requirements == SELECTOR_REQUIREMENTS_MAX)
        return fail(p, "too many requirements", NULL);
    struct selector_requirement *r = &p->s->requirements[p->s->num_requirements++];
    skip_space(p);
    bool negated = *p->at == '!';
    if (negated)
        p->at++;
    r->key = word(p);
    if (!name_is_qualified(r->key))
        return err_set(p->err, ERR_MALFORMED,
                       "unable to parse requirement: <nil>: Invalid value: \"%.100s\": %s", r->key,
                       name_qualified_rule);
    if (!negated)
        return parse_operator(p, r);
    r->op = SELECTOR_NOT_EXISTS;
    return OK;
}

enum errc selector_parse_labels(const char *text, struct selector **ret_s, struct error *err) {
    AUTO(selector) s = selector_create();
    struct parser p = {.at = text, .s = s, .err = err};
    skip_space(&p);
    while (*p.at) {
        enum errc code = parse_requirement(&p);
        if (code)
            return code;
        skip_space(&p);
        if (*p.at && *p.at != ',')
            return fail(&p, "expected: ',' or end of string", p.at);
        if (!*p.at)
            break;
        p.at++;
        skip_space(&p);
        if (!*p.at)
            return fail(&p, "found end of string, expected: identifier after ','", NULL);
    }
    *ret_s = steal(s);
    return OK;
}

/* Copies a value up to an unescaped comma or the end; false on a lone backslash or bare '='. */
static bool unescape(struct parser *p, const char **ret_value) {
    AUTO_BUF out = BUF_INIT;
    for (; *p->at && *p->at != ','; p->at++) {
        char c = *p->at;
        if (c == '=')
            return false;
        if (c == '\\') {
            c = *++p->at;
            if (c != '\\' && c != ',' && c != '=')
                return false;
        }
        buf_putc(&out, c);
    }
    *ret_value = arena_strndup(p->s->arena, out.data ? out.data : "", out.len);
    return true;
}

enum errc selector_parse_fields(const char *text, struct selector **ret_s, struct error *err) {
    AUTO(selector) s = selector_create();
    struct parser p = {.at = text, .s = s, .err = err};
    while (*p.at) {
        if (*p.at == ',') {
            p.at++;
            continue;
        }
        if (s->num_requirements == SELECTOR_REQUIREMENTS_MAX)
            return err_set(err, ERR_MALFORMED, "invalid selector: too many terms");
        struct selector_requirement *r = &s->requirements[s->num_requirements++];
        const char *term = p.at;
        size_t len = strcspn(p.at, "=!,\\");
        r->key = arena_strndup(s->arena, p.at, len);
        p.at += len;
        bool negated = p.at[0] == '!' && p.at[1] == '=';
        if (!negated && *p.at != '=')
            return err_set(err, ERR_MALFORMED,
                           "invalid selector: '%.100s'; can't understand '%.100s'", text, term);
        p.at += negated || p.at[1] == '=' ? 2 : 1;
        r->op = negated ? SELECTOR_NOT_IN : SELECTOR_IN;
        r->values = arena_alloc(s->arena, sizeof(r->values[0]));
        if (!unescape(&p, &r->values[0]))
            return err_set(err, ERR_MALFORMED,
                           "invalid selector: '%.100s'; can't understand '%.100s'", text, term);
        r->num_values = 1;
    }
    *ret_s = steal(s);
    return OK;
}

static bool holds(const struct selector_requirement *r, const char *value) {
    if (r->op == SELECTOR_EXISTS || r->op == SELECTOR_NOT_EXISTS)
        return (value != NULL) == (r->op == SELECTOR_EXISTS);
    if (r->op == SELECTOR_GREATER || r->op == SELECTOR_LESS) {
        if (!value)
            return false;
        char *end;
        errno = 0;
        long long have = strtoll(value, &end, 10), want = strtoll(r->values[0], NULL, 10);
        if (!*value || *end || errno)
            return false;
        return r->op == SELECTOR_GREATER ? have > want : have < want;
    }
    bool found = false;
    for (size_t i = 0; value && !found && i < r->num_values; i++)
        found = !strcmp(value, r->values[i]);
    return found == (r->op == SELECTOR_IN);
}

bool selector_match(const struct selector *s, selector_value_fn *value_of, const void *subject) {
    for (size_t i = 0; i < s->num_requirements; i++) {
        if (!holds(&s->requirements[i], value_of(subject, s->requirements[i].key)))
            return false;
    }
    return true;
}
