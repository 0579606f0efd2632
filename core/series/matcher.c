/* Conditions on labels. Prometheus' regular expressions are RE2's; PCRE2 reads what dashboards use
 * of them alike, and bounds what a hostile one costs. */
#include "core/series/matcher.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

struct matcher_regex {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *context;
};

static void regex_destroy(struct matcher_regex *r) {
    if (!r)
        return;
    pcre2_match_context_free(r->context);
    pcre2_match_data_free(r->data);
    pcre2_code_free(r->code);
    free(r);
}

static enum errc regex_create(const char *text, struct matcher_regex **ret_r, struct error *err) {
    if (strlen(text) > MATCHER_REGEX_BYTES_MAX)
        return err_set(err, ERR_INVALID, "regular expression of %zu bytes, at most %d are possible",
                       strlen(text), MATCHER_REGEX_BYTES_MAX);
    int code;
    PCRE2_SIZE offset;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
                                         PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED |
                                             PCRE2_DOTALL | PCRE2_NEVER_BACKSLASH_C,
                                         &code, &offset, NULL);
    if (!compiled) {
        PCRE2_UCHAR why[256];
        pcre2_get_error_message(code, why, sizeof(why));
        return err_set(err, ERR_INVALID, "regular expression \"%.200s\", offset %zu: %s", text,
                       (size_t)offset, (char *)why);
    }
    struct matcher_regex *r = mem_alloc(sizeof(*r));
    r->code = compiled;
    r->data = pcre2_match_data_create_from_pattern(compiled, NULL);
    r->context = pcre2_match_context_create(NULL);
    ASSERT(r->data && r->context);
    pcre2_set_match_limit(r->context, MATCHER_STEPS_MAX);
    *ret_r = r;
    return OK;
}

enum errc matcher_init(struct matcher *m, const char *name, enum matcher_op op, const char *value,
                       struct error *err) {
    struct matcher_regex *regex = NULL;
    if (op >= MATCHER_REGEX && regex_create(value, &regex, err))
        return err->code;
    *m = (struct matcher){
        .op = op, .name = mem_strdup(name), .value = mem_strdup(value), .regex = regex};
    return OK;
}

void matcher_deinit(struct matcher *m) {
    free(m->name);
    free(m->value);
    regex_destroy(m->regex);
    *m = (struct matcher){0};
}

bool matcher_matches(const struct matcher *m, const struct labels *labels) {
    const char *has = labels_get(labels, m->name);
    if (m->op == MATCHER_EQUAL || m->op == MATCHER_NOT_EQUAL)
        return !strcmp(has, m->value) == (m->op == MATCHER_EQUAL);
    bool matches = pcre2_match(m->regex->code, (PCRE2_SPTR)has, strlen(has), 0, 0, m->regex->data,
                               m->regex->context) >= 0;
    return matches == (m->op == MATCHER_REGEX);
}
