/* Admission that depends on other objects. Both doors use it: the API server for what clients
 * create, world_create() for what controllers do. */
#ifndef CORE_CONTROL_ADMISSION_H
#define CORE_CONTROL_ADMISSION_H

#include "core/charges.h"

enum { ADMISSION_TRIES_MAX = 64 }; /* against racing writers of the same quota */

/* Fills in a new object (or a changed one: old is not NULL) what priority classes and limit ranges
 * give, and checks it against them. group: as in store keys. ERR_FORBIDDEN in the words of the
 * reference server. */
MUST_CHECK enum errc admission_assign(struct store *st, const char *group, const char *resource,
                                      json_t *object, const json_t *old, struct error *err);

/* The quotas in which a new object, or what a changed one adds, is counted; to be committed with
 * it.
 */
MUST_CHECK enum errc admission_charge(struct store *st, const char *group, const char *resource,
                                      const json_t *object, const json_t *old,
                                      struct charges *charges, struct error *err);

enum { ADMISSION_CAUSE_BYTES_MAX = 400 };
/* May the pod be evicted? disruption_charge(), where the API server can see it. */
MUST_CHECK enum errc admission_evict(struct store *st, const json_t *pod, int64_t wall_ms,
                                     struct charges *charges,
                                     char ret_cause[ADMISSION_CAUSE_BYTES_MAX], struct error *err);

#endif
