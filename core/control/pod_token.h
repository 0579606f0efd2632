/* The API as a host pod sees it: its address in the environment, and the ServiceAccount's token in
 * files (ADR 18). */
#ifndef CORE_CONTROL_POD_TOKEN_H
#define CORE_CONTROL_POD_TOKEN_H

#include "core/control/pod_record.h"

enum {
    POD_TOKEN_SECONDS = 3607,       /* as the kubelet asks for */
    POD_TOKEN_RETRY_MS = 10 * 1000, /* after one that could not be renewed */
};

/* The pod's user must be known. Writes the files, unless the pod or its account say no
 * (automountServiceAccountToken), or when they have been written lately. ERR_NOT_FOUND: there is no
 * such account. */
MUST_CHECK enum errc pod_token_give(struct world *w, const json_t *pod, struct pod_record *r,
                                    struct error *err);
/* Renews the token when most of its time is over; queues the pod for the next time. */
void pod_token_renew(struct world *w, const json_t *pod, struct pod_record *r);

/* Gives the environment of a container: the API's part, then `own`. NULL-terminated; released by
 * pod_token_env_free(). */
char **pod_token_env(const struct world *w, const struct pod_record *r, char *const *own);
void pod_token_env_free(char **env);

#endif
