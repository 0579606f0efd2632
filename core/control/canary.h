/* spec.canary[]: further predictors of one InferenceService. Each is a Deployment of its own,
 * NAME-CANARY-predictor, with a fixed number of replicas and a share of the requests. Pure: works
 * on objects, reads no store. */
#ifndef CORE_CONTROL_CANARY_H
#define CORE_CONTROL_CANARY_H

#include <jansson.h>

#include "core/base/mem.h"

enum { CANARY_MAX = 8 }; /* canaries of one service */

/* Admission. ERR_INVALID names the field. */
MUST_CHECK enum errc canary_check(const json_t *isvc, struct error *err);

size_t canary_count(const json_t *isvc); /* at most CANARY_MAX */
const char *canary_name(const json_t *isvc, size_t i);
int64_t canary_percent(const json_t *isvc, size_t i); /* what is asked for */
/* minReplicas of the canary; else its share of the stable predictor's replicas, 1 at least: one
 * that gets no requests by its share is there to be tried by name. */
int64_t canary_replicas(const json_t *isvc, size_t i);

/* Gives the InferenceService as the canary sees it: its predictor laid over the stable one, and
 * nothing that scales. */
json_t *canary_service(const json_t *isvc, size_t i);

/* The canary that has a Deployment of this name; -1: none has. */
int canary_of_deployment(const json_t *isvc, const char *deployment);

/* All its replicas are available, or they were once (`was_ready`) and one still is. */
bool canary_is_ready(const json_t *deployment, bool was_ready);

/* The header that clients are told apart by, as the annotation inferd.io/sticky-by says; NULL: they
 * are not. Borrowed. */
const char *canary_sticky_header(const json_t *isvc);

/* What the status says of a canary: whether it serves, and the share that it is given. */
bool canary_was_ready(const json_t *isvc, const char *name);
uint32_t canary_share(const json_t *isvc, const char *name);
/* Replicas that ready canaries take over from the stable predictor. */
int64_t canary_relief(const json_t *isvc);

#endif
