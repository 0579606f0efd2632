/* Revisions. Each pod template of a Deployment is a ReplicaSet with a number; the revision's name
 * is made of the Deployment's name and that number. An old template that comes back keeps its
 * ReplicaSet and with it its processes, but gets the next number, as Kubernetes has it; the numbers
 * it had before stay noted, so that a status that still says one of them finds the same replicas.
 *
 * A split has two sides: the stable set, which was rolled out last, and the newest. The stable
 * side is written down in the Deployment in the same commit as the new template, so there is no
 * moment at which the old replicas could be taken for outdated ones. */
#include "core/control/revision.h"

#include <inttypes.h>

#include "core/object.h"

enum { WHOLE_PERCENT = 100 };

int64_t revision_number(const json_t *deployment_or_set) {
    const char *text = object_annotation(deployment_or_set, REVISION_ANNOTATION);
    return text ? atoll(text) : 0;
}

char *revision_name(const json_t *deployment_or_set, const char *deployment_name) {
    return mem_printf("%s-%05" PRId64, deployment_name, revision_number(deployment_or_set));
}

bool revision_is_named(const json_t *set, const char *name) {
    const char *dash = name ? strrchr(name, '-') : NULL;
    const char *owner = object_str(object_controller_of(set), "name");
    int64_t number = dash ? atoll(dash + 1) : 0;
    if (number <= 0)
        return false;
    size_t len = (size_t)(dash - name);
    if (owner && (strlen(owner) != len || strncmp(owner, name, len) != 0))
        return false; /* of another Deployment */
    if (revision_number(set) == number)
        return true;
    const char *had = object_annotation(set, REVISION_HISTORY_ANNOTATION);
    while (had) { /* "1,4,7" */
        if (atoll(had) == number)
            return true;
        had = strchr(had, ',');
        had = had ? had + 1 : NULL;
    }
    return false;
}

int64_t revision_canary_percent(const json_t *isvc) {
    if (json_array_size(object_at(isvc, "spec.canary")))
        return -1; /* the other way to a canary */
    int64_t percent = object_int(isvc, "spec.predictor.canaryTrafficPercent", WHOLE_PERCENT);
    return percent >= 0 && percent < WHOLE_PERCENT ? percent : -1;
}

static const json_t *find_named(const char *name, const json_t *const *sets, size_t num_sets) {
    for (size_t i = 0; i < num_sets; i++) {
        if (!object_deleting(sets[i]) && revision_is_named(sets[i], name))
            return sets[i];
    }
    return NULL;
}

const json_t *revision_rolled_out_set(const json_t *isvc, const json_t *const *sets,
                                      size_t num_sets) {
    return find_named(object_str(isvc, "status.components.predictor.latestRolledoutRevision"), sets,
                      num_sets);
}

const json_t *revision_previous_set(const json_t *isvc, const json_t *newest,
                                    const json_t *const *sets, size_t num_sets) {
    const json_t *set = find_named(
        object_str(isvc, "status.components.predictor.previousRolledoutRevision"), sets, num_sets);
    return set != newest ? set : NULL;
}

const json_t *revision_newest_set(const json_t *const *sets, size_t num_sets) {
    const json_t *newest = NULL;
    for (size_t i = 0; i < num_sets; i++) {
        if (!newest || revision_number(sets[i]) > revision_number(newest))
            newest = sets[i];
    }
    return newest;
}

const json_t *revision_stable_set(const json_t *deployment, const json_t *newest,
                                  const json_t *const *sets, size_t num_sets) {
    const char *name = object_annotation(deployment, REVISION_STABLE_ANNOTATION);
    for (size_t i = 0; name && i < num_sets; i++) {
        if (sets[i] != newest && !object_deleting(sets[i]) && !strcmp(object_name(sets[i]), name))
            return sets[i];
    }
    return NULL;
}

bool revision_takes_share(const json_t *newest, const char *latest_ready,
                          const char *deployment_name) {
    int64_t desired = object_int(newest, "spec.replicas", 0);
    if (desired > 0 && object_int(newest, "status.availableReplicas", 0) >= desired)
        return true;
    AUTO_FREE char *name = revision_name(newest, deployment_name);
    return latest_ready && !strcmp(latest_ready, name) &&
           object_int(newest, "status.readyReplicas", 0) > 0;
}

bool revision_stays_with_share(const json_t *stable, const json_t *traffic) {
    int64_t desired = object_int(stable, "spec.replicas", 0);
    return revision_share(traffic, stable) > 0 ||
           (desired > 0 && object_int(stable, "status.availableReplicas", 0) >= desired);
}

json_t *revision_traffic(const char *latest_ready, int64_t percent, const char *stable) {
    json_t *traffic = json_array();
    int64_t latest_percent = stable ? percent : WHOLE_PERCENT;
    json_array_append_new(traffic,
                          json_pack("{s:b, s:I, s:s}", "latestRevision", 1, "percent",
                                    (json_int_t)latest_percent, "revisionName", latest_ready));
    if (stable)
        json_array_append_new(traffic, json_pack("{s:b, s:I, s:s, s:s}", "latestRevision", 0,
                                                 "percent", (json_int_t)(WHOLE_PERCENT - percent),
                                                 "revisionName", stable, "tag", "prev"));
    return traffic;
}

uint32_t revision_share(const json_t *traffic, const json_t *set) {
    int64_t share = 0;
    size_t i;
    json_t *target;
    json_array_foreach ((json_t *)traffic, i, target) {
        if (revision_is_named(set, object_str(target, "revisionName")))
            share += object_int(target, "percent", 0);
    }
    return share > 0 ? (uint32_t)share : 0;
}
