/* Deployment status: what `kubectl rollout status` and `kubectl wait` read.
 *
 * Progressing is True while something moves and after it arrived (NewReplicaSetAvailable), False
 * when nothing moved for progressDeadlineSeconds. Its lastUpdateTime is the time of the last move
 * and the clock of the deadline. A canary has arrived (CanaryAvailable) when both versions are
 * whole; one that does not get there misses the deadline like any rollout. */
#include "core/control/deployment_status.h"

#include "core/base/clock.h"
#include "core/control/deployment.h"

static const char CANARY_AVAILABLE[] = "CanaryAvailable";

enum { PROGRESS_SECONDS_DEFAULT = 600, PROGRESS_SECONDS_NONE = INT32_MAX };

static void touch(const struct world *w, json_t *deployment, const char *type) {
    json_object_set_new(object_find_condition(deployment, type), "lastUpdateTime",
                        world_timestamp(w));
}

void deployment_status_progress(const struct world *w, json_t *deployment, const char *status,
                                const char *reason, const char *message) {
    object_set_condition(deployment, "Progressing", status, reason, message, w->wall_ms);
    touch(w, deployment, "Progressing");
}

static void set_available(const struct world *w, json_t *deployment) {
    int64_t surge, unavailable;
    deployment_bounds(deployment, &surge, &unavailable);
    bool enough = object_int(deployment, "status.availableReplicas", 0) >=
                  object_int(deployment, "spec.replicas", 1) - unavailable;
    bool changed =
        enough
            ? object_set_condition(deployment, "Available", "True", "MinimumReplicasAvailable",
                                   "Deployment has minimum availability.", w->wall_ms)
            : object_set_condition(deployment, "Available", "False", "MinimumReplicasUnavailable",
                                   "Deployment does not have minimum availability.", w->wall_ms);
    if (changed)
        touch(w, deployment, "Available");
}

bool deployment_status_complete(const json_t *deployment) {
    int64_t desired = object_int(deployment, "spec.replicas", 1);
    return object_int(deployment, "status.updatedReplicas", 0) == desired &&
           object_int(deployment, "status.replicas", 0) == desired &&
           object_int(deployment, "status.availableReplicas", 0) == desired &&
           object_int(deployment, "status.observedGeneration", 0) >=
               object_int(deployment, "metadata.generation", 0);
}

bool deployment_status_split_complete(const json_t *deployment) {
    int64_t desired = object_int(deployment, "spec.replicas", 1);
    return object_int(deployment, "status.updatedReplicas", 0) == desired &&
           object_int(deployment, "status.replicas", 0) == 2 * desired &&
           object_int(deployment, "status.availableReplicas", 0) == 2 * desired &&
           object_int(deployment, "status.observedGeneration", 0) >=
               object_int(deployment, "metadata.generation", 0);
}

static void set_counts(json_t *deployment, const struct deployment_sets *sets) {
    static const char *const fields[] = {"replicas", "readyReplicas", "availableReplicas"};
    int64_t asked = 0, sums[ARRAY_LEN(fields)] = {0};
    for (size_t i = 0; i < sets->num_sets; i++) {
        const json_t *status = json_object_get(sets->sets[i], "status");
        asked += object_int(sets->sets[i], "spec.replicas", 0);
        for (size_t f = 0; f < ARRAY_LEN(fields); f++)
            sums[f] += object_int(status, fields[f], 0);
    }
    json_t *status = json_object_get(deployment, "status");
    if (!json_is_object(status))
        object_set(deployment, "status", status = json_object());
    for (size_t f = 0; f < ARRAY_LEN(fields); f++)
        json_object_set_new(status, fields[f], json_integer(sums[f]));
    int64_t missing = asked - sums[2];
    json_object_set_new(status, "updatedReplicas",
                        json_integer(object_int(sets->new_set, "status.replicas", 0)));
    json_object_set_new(status, "unavailableReplicas", json_integer(missing > 0 ? missing : 0));
    json_object_set_new(status, "observedGeneration",
                        json_integer(object_int(deployment, "metadata.generation", 0)));
}

/* Something moved between the two statuses. */
static bool moved(const json_t *was, const json_t *now) {
    int64_t old_was = object_int(was, "replicas", 0) - object_int(was, "updatedReplicas", 0);
    int64_t old_now = object_int(now, "replicas", 0) - object_int(now, "updatedReplicas", 0);
    return object_int(now, "updatedReplicas", 0) > object_int(was, "updatedReplicas", 0) ||
           old_now < old_was ||
           object_int(now, "readyReplicas", 0) > object_int(was, "readyReplicas", 0) ||
           object_int(now, "availableReplicas", 0) > object_int(was, "availableReplicas", 0);
}

/* ms from now to the progress deadline, at least 1; 0: it has passed. */
static int64_t deadline_ms(const struct world *w, const json_t *deployment, int64_t seconds) {
    const char *at = object_str(object_find_condition(deployment, "Progressing"), "lastUpdateTime");
    int64_t due = (at ? clock_parse_rfc3339(at) : w->wall_ms) + seconds * 1000;
    return due > w->wall_ms ? due - w->wall_ms : 0;
}

static bool has_reason(const json_t *c, const char *reason) {
    const char *has = object_str(c, "reason");
    return has && !strcmp(has, reason);
}

static bool has_message(const json_t *c, const char *message) {
    const char *has = object_str(c, "message");
    return has && !strcmp(has, message);
}

static int64_t set_progressing(const struct world *w, json_t *deployment,
                               const struct deployment_sets *sets, bool has_moved) {
    bool split = sets->stable_set != NULL;
    const char *set_name = object_name(sets->new_set ? sets->new_set : deployment);
    const char *arrived = split ? CANARY_AVAILABLE : "NewReplicaSetAvailable";
    int64_t seconds =
        object_int(deployment, "spec.progressDeadlineSeconds", PROGRESS_SECONDS_DEFAULT);
    const json_t *now = object_find_condition(deployment, "Progressing");
    if (seconds >= PROGRESS_SECONDS_NONE || object_bool(deployment, "spec.paused", false))
        return 0;
    AUTO_FREE char *done =
        split ? mem_printf("ReplicaSet \"%s\" is available beside \"%s\".", set_name,
                           object_name(sets->stable_set))
              : mem_printf("ReplicaSet \"%s\" has successfully progressed.", set_name);
    AUTO_FREE char *moves = mem_printf("ReplicaSet \"%s\" is progressing.", set_name);
    AUTO_FREE char *late = mem_printf("ReplicaSet \"%s\" has timed out progressing.", set_name);
    if (split ? deployment_status_split_complete(deployment)
              : deployment_status_complete(deployment)) {
        if (!has_reason(now, arrived) || !has_message(now, done))
            deployment_status_progress(w, deployment, "True", arrived, done);
        return 0;
    }
    /* Complete before and scaled or broken since: not a rollout, no deadline. */
    if (has_reason(now, arrived) && has_message(now, done))
        return 0;
    /* A canary that is promoted may have stood for days: its clock starts now. */
    bool promoted = !split && has_reason(now, CANARY_AVAILABLE);
    if (has_moved || promoted || !now)
        deployment_status_progress(w, deployment, "True", "ReplicaSetUpdated", moves);
    int64_t due = deadline_ms(w, deployment, seconds);
    if (!due &&
        !has_reason(object_find_condition(deployment, "Progressing"), "ProgressDeadlineExceeded"))
        deployment_status_progress(w, deployment, "False", "ProgressDeadlineExceeded", late);
    return due;
}

/* A set that cannot make its pods, the new one before others, is the Deployment's trouble. */
static void set_replica_failure(const struct world *w, json_t *deployment,
                                const struct deployment_sets *sets) {
    const json_t *c = object_find_condition(sets->new_set, "ReplicaFailure");
    for (size_t i = 0; i < sets->num_sets && !c; i++)
        c = object_find_condition(sets->sets[i], "ReplicaFailure");
    if (!c) {
        object_remove_condition(deployment, "ReplicaFailure");
        return;
    }
    if (object_set_condition(deployment, "ReplicaFailure", "True", object_str(c, "reason"),
                             object_str(c, "message"), w->wall_ms))
        touch(w, deployment, "ReplicaFailure");
}

int64_t deployment_status_update(const struct world *w, json_t *deployment,
                                 const struct deployment_sets *sets) {
    json_t *was = json_deep_copy(json_object_get(deployment, "status"));
    set_counts(deployment, sets);
    set_available(w, deployment);
    bool has_moved = moved(was, json_object_get(deployment, "status"));
    json_decref(was);
    int64_t due_ms = set_progressing(w, deployment, sets, has_moved);
    set_replica_failure(w, deployment, sets);
    return due_ms;
}
