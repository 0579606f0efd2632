/* Server-side apply: a configuration is merged over the live object, and the fields that this
 * applier owned, no longer names, and shares with nobody, go. Pure. */
#ifndef KUBE_COMPAT_APPLY_H
#define KUBE_COMPAT_APPLY_H

#include <jansson.h>

#include "kube-compat/managed_fields.h"

struct apply_request {
    const struct schema *schema;
    const json_t *live; /* NULL: there is no object yet */
    const json_t *config;
    struct managed_writer writer;
    bool force;
};

/* Gives the new object and its managedFields entries. ERR_CONFLICT: others own fields that would
 * change; causes (appended to) say which, the error is Kubernetes' message. ERR_INVALID with
 * causes: items of an associative list without keys, or twice. */
MUST_CHECK enum errc apply_config(const struct apply_request *rq, json_t **ret_object,
                                  json_t **ret_entries, json_t *causes, struct error *err);

/* Gives live with config laid over it: maps and associative lists by their parts. */
json_t *apply_merge(const struct schema *s, const json_t *live, const json_t *config);

/* Removes from object what is in `last` and not in `keep`. */
void apply_prune(const struct schema *s, json_t *object, const json_t *last, const json_t *keep);

#endif
