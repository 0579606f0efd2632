/* Patches: JSON patch (RFC 6902), merge patch (RFC 7386), Kubernetes' strategic merge patch. Pure:
 * the document is never changed, the result is a new one that the caller owns. */
#ifndef KUBE_COMPAT_PATCH_H
#define KUBE_COMPAT_PATCH_H

#include <jansson.h>

#include "kube-compat/schema.h"

enum {
    PATCH_OPERATIONS_MAX = 10000,
    PATCH_COPIED_VALUES_MAX = 1000000, /* by all `copy` operations of one JSON patch */
    PATCH_POINTER_BYTES_MAX = 4096,
};

/* ERR_MALFORMED: not a JSON patch; ERR_TOO_LARGE: more operations than the bound; ERR_INVALID: an
 * operation does not apply, or a test fails. */
MUST_CHECK enum errc patch_json(const json_t *doc, const json_t *operations, json_t **ret_doc,
                                struct error *err);

/* Cannot fail: gives the merged document. */
json_t *patch_merge(const json_t *doc, const json_t *patch);

/* Merge keys come from the schema. ERR_MALFORMED: a directive or list item that makes no sense. */
MUST_CHECK enum errc patch_strategic(const struct schema *schema, const json_t *doc,
                                     const json_t *patch, json_t **ret_doc, struct error *err);

#endif
