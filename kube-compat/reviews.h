/* Reviews: questions to the API server that store nothing. */
#ifndef KUBE_COMPAT_REVIEWS_H
#define KUBE_COMPAT_REVIEWS_H

#include "kube-compat/request.h"

struct review {
    const char *group, *api_version, *resource, *kind, *type; /* type: in the type tables */
    bool namespaced;
};
size_t reviews_count(void);
const struct review *reviews_at(size_t index);
const struct review *reviews_find(const char *group, const char *version, const char *resource);

/* Answers a POST. */
void reviews_create(struct request *rq, const struct review *review);

#endif
