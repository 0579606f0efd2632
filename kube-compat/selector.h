/* Label and field selectors: parsing and matching. Pure. */
#ifndef KUBE_COMPAT_SELECTOR_H
#define KUBE_COMPAT_SELECTOR_H

#include "core/base/buf.h"

enum { SELECTOR_REQUIREMENTS_MAX = 256, SELECTOR_VALUES_MAX = 1024 };

enum selector_op {
    SELECTOR_EXISTS,
    SELECTOR_NOT_EXISTS,
    SELECTOR_IN,
    SELECTOR_NOT_IN,
    SELECTOR_GREATER,
    SELECTOR_LESS,
};

struct selector_requirement {
    const char *key;
    enum selector_op op;
    const char **values;
    size_t num_values;
};

struct selector {
    struct arena *arena;
    struct selector_requirement *requirements; /* all must hold */
    size_t num_requirements;
};

/* a=b, a==b, a!=b, a in (x,y), a notin (x), a, !a, a>1, a<1, joined by commas.
 * ERR_MALFORMED: "unable to parse requirement: ...". */
MUST_CHECK enum errc selector_parse_labels(const char *text, struct selector **ret_s,
                                           struct error *err);

/* a=b, a==b, a!=b joined by commas; \, \= and \\ escape in values. ERR_MALFORMED. */
MUST_CHECK enum errc selector_parse_fields(const char *text, struct selector **ret_s,
                                           struct error *err);

void selector_destroy(struct selector *s);
DEFINE_AUTO(selector, selector_destroy)

/* Gives the subject's value of a key, NULL when it has none; borrowed until the next call. */
typedef const char *selector_value_fn(const void *subject, const char *key);
bool selector_match(const struct selector *s, selector_value_fn *value_of, const void *subject);

#endif
