/* Patterns, by PCRE2. Kubernetes uses RE2, whose syntax PCRE2 reads; RE2 never backtracks, so a
 * match is bounded here by steps instead: a pattern that would take longer does not match. */
#include "kube-compat/schema_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum { MATCH_STEPS_MAX = 1000000 };

struct schema_pattern {
    pcre2_code *code;
};

enum errc schema_pattern_create(const char *text, struct schema_pattern **ret_p,
                                struct error *err) {
    size_t len = strlen(text), offset;
    int number;
    if (len > SCHEMA_PATTERN_BYTES_MAX)
        return err_set(err, ERR_INVALID, "the pattern has %zu bytes, more than %d", len,
                       SCHEMA_PATTERN_BYTES_MAX);
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)text, len, PCRE2_UTF | PCRE2_DOLLAR_ENDONLY,
                                     &number, &offset, NULL);
    if (!code) {
        PCRE2_UCHAR message[128];
        pcre2_get_error_message(number, message, sizeof(message));
        return err_set(err, ERR_INVALID, "at byte %zu: %s", offset, (const char *)message);
    }
    struct schema_pattern *p = mem_alloc(sizeof(*p));
    p->code = code;
    *ret_p = p;
    return OK;
}

void schema_pattern_destroy(struct schema_pattern *p) {
    if (!p)
        return;
    pcre2_code_free(p->code);
    free(p);
}

bool schema_pattern_find(const struct schema_pattern *p, const char *text, size_t len, size_t from,
                         size_t *ret_start, size_t *ret_end) {
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    if (context)
        pcre2_set_match_limit(context, MATCH_STEPS_MAX);
    int rc = data && context ? pcre2_match(p->code, (PCRE2_SPTR)text, len, from, 0, data, context)
                             : PCRE2_ERROR_NOMEMORY;
    if (rc >= 0) {
        const PCRE2_SIZE *place = pcre2_get_ovector_pointer(data);
        *ret_start = place[0] < place[1] ? place[0] : place[1]; /* \K may turn them around */
        *ret_end = place[1];
    }
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
    return rc >= 0;
}

bool schema_pattern_match(const struct schema_pattern *p, const char *text, size_t len) {
    size_t start, end;
    return schema_pattern_find(p, text, len, 0, &start, &end);
}
