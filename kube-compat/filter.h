/* What a list or watch selects: labels and fields of one kind. */
#ifndef KUBE_COMPAT_FILTER_H
#define KUBE_COMPAT_FILTER_H

#include "kube-compat/kinds.h"
#include "kube-compat/selector.h"

struct filter {
    const struct kind *kind;
    struct selector *labels, *fields; /* NULL: everything */
};

/* Parses both selectors (NULL or "": none). ERR_MALFORMED: syntax, or a field that the kind does
 * not offer. */
MUST_CHECK enum errc filter_init(struct filter *f, const struct kind *kind, const char *labels,
                                 const char *fields, struct error *err);
void filter_deinit(struct filter *f);
bool filter_match(const struct filter *f, const json_t *object);
bool filter_empty(const struct filter *f);

#endif
