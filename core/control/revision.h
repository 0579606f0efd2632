/* Revisions of a service: their numbers and names, and which of them gets which share of the
 * requests. Pure: works on objects, reads no store. */
#ifndef CORE_CONTROL_REVISION_H
#define CORE_CONTROL_REVISION_H

#include <jansson.h>

#include "core/base/mem.h"

#define REVISION_ANNOTATION         "deployment.kubernetes.io/revision"
#define REVISION_HISTORY_ANNOTATION "deployment.kubernetes.io/revision-history"
/* On a Deployment: the name of the ReplicaSet that keeps its replicas beside the newest one. */
#define REVISION_STABLE_ANNOTATION "inferd.io/stable-replica-set"

/* Of a Deployment or a ReplicaSet; 0: it has none yet. */
int64_t revision_number(const json_t *deployment_or_set);
/* "demo-predictor-00002". Gives text. */
char *revision_name(const json_t *deployment_or_set, const char *deployment_name);
/* The set has the number at the end of `name`, or had it before an old template came back and was
 * numbered anew. */
bool revision_is_named(const json_t *set, const char *name);

/* spec.predictor.canaryTrafficPercent when it asks for a split: 0..99; -1: all to the newest, or
 * spec.canary says who gets what. */
int64_t revision_canary_percent(const json_t *isvc);
/* The set of status.latestRolledoutRevision, which a canary leaves in place; NULL: none was rolled
 * out, or its set is gone. Borrowed from `sets`. */
const json_t *revision_rolled_out_set(const json_t *isvc, const json_t *const *sets,
                                      size_t num_sets);
/* The set of status.previousRolledoutRevision: what a service goes back to when it is split
 * although its newest revision was rolled out whole. NULL: there is no other than the newest. */
const json_t *revision_previous_set(const json_t *isvc, const json_t *newest,
                                    const json_t *const *sets, size_t num_sets);
/* Of the highest number; NULL: there is none. */
const json_t *revision_newest_set(const json_t *const *sets, size_t num_sets);
/* The set that stays beside the newest one, by the Deployment's annotation. NULL: one version is to
 * run. Borrowed from `sets`. */
const json_t *revision_stable_set(const json_t *deployment, const json_t *newest,
                                  const json_t *const *sets, size_t num_sets);

/* The newest set of a split may take its share: all its replicas are available, or they were once
 * (it is `latest_ready`, which may be NULL) and one still is. */
bool revision_takes_share(const json_t *newest, const char *latest_ready,
                          const char *deployment_name);

/* The stable set of a split may take its share: it has one already, or all its replicas are
 * available. It has none yet when a service goes back to a revision that was scaled down. */
bool revision_stays_with_share(const json_t *stable, const json_t *traffic);

/* status.components.predictor.traffic as KServe writes it: latest_ready, the newest revision that
 * is ready, gets `percent`, and `stable` the rest with the tag "prev". stable NULL: no split. While
 * the canary is not ready latest_ready is the stable one and both lines name it. Gives an array. */
json_t *revision_traffic(const char *latest_ready, int64_t percent, const char *stable);
/* What `traffic` gives to the set; 0: nothing. */
uint32_t revision_share(const json_t *traffic, const json_t *set);

#endif
