/* The body of a PATCH: which of the patches it is, and what it makes of a document. */
#ifndef KUBE_COMPAT_PATCH_BODY_H
#define KUBE_COMPAT_PATCH_BODY_H

#include "kube-compat/request.h"

enum patch_type { PATCH_JSON, PATCH_MERGE, PATCH_STRATEGIC };

struct patch_body {
    enum patch_type type;
    json_t *json;
    json_t *duplicates; /* notes about keys that stand twice */
};

/* The request's Content-Type, without parameters, is this one. */
bool patch_body_is(const struct request *rq, const char *media_type);

/* Reads the body, for patch_body_deinit(). ERR_MEDIA_TYPE: not a patch, or one that this kind does
 * not take (strategic); ERR_MALFORMED; ERR_TOO_LARGE. */
MUST_CHECK enum errc patch_body_read(const struct request *rq, bool strategic_fits,
                                     struct patch_body *p, struct error *err);
void patch_body_deinit(struct patch_body *p);

/* Gives the patched document, an object with metadata. */
MUST_CHECK enum errc patch_body_apply(const struct patch_body *p, const struct schema *schema,
                                      const json_t *doc, json_t **ret_doc, struct error *err);

#endif
