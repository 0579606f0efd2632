/* metav1.Status: how the dialect says that something went wrong, or that a deletion is done. */
#ifndef KUBE_COMPAT_STATUS_H
#define KUBE_COMPAT_STATUS_H

#include <jansson.h>

#include "core/base/error.h"

/* What the failure is about; NULL members are left out of details. */
struct status_subject {
    const char *group, *resource, *kind, *name;
};

/* Gives a Failure. causes (borrowed, may be NULL) belong to ERR_INVALID and may go with others. */
json_t *status_failure(const struct error *err, const struct status_subject *about,
                       const json_t *causes);

/* Gives a Failure with any code and reason: what no errc stands for. */
json_t *status_failure_raw(int code, const char *reason, const char *message);

/* Gives the Success that answers a deletion. */
json_t *status_deleted(const struct status_subject *about, const char *uid);

int status_code(const json_t *status);

#endif
