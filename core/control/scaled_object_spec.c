/* Fields of a ScaledObject. Those that inferd does not act by are refused, not passed over: an
 * object that seems to work and scales otherwise is worse than one that says what it lacks. */
#include "core/control/scaled_object_spec.h"

#include <stdio.h>

#include "core/control/pod_autoscaler_spec.h"
#include "core/object.h"

static const char PAUSED[] = "autoscaling.keda.sh/paused";
static const char PAUSED_REPLICAS[] = "autoscaling.keda.sh/paused-replicas";

enum { REPLICAS_MAX = 10000, POLLING_SECONDS = 30, SECONDS_MAX = 86400 * 365 };

static enum errc read_int(const json_t *o, const char *path, int64_t otherwise, int64_t max,
                          int64_t *ret, struct error *err) {
    *ret = object_int(o, path, otherwise);
    if (*ret == otherwise || (*ret >= 0 && *ret <= max))
        return OK;
    return err_field(err, ERR_INVALID, path, "%s: %lld is not within 0..%lld", path,
                     (long long)*ret, (long long)max);
}

static enum errc read_bounds(const json_t *o, struct keda_spec *k, struct error *err) {
    int64_t min, max, idle;
    if (read_int(o, "spec.minReplicaCount", k->min_replicas, REPLICAS_MAX, &min, err) ||
        read_int(o, "spec.maxReplicaCount", k->max_replicas, REPLICAS_MAX, &max, err) ||
        read_int(o, "spec.idleReplicaCount", -1, REPLICAS_MAX, &idle, err))
        return err->code;
    if (min > max || max < 1)
        return err_set(err, ERR_INVALID,
                       "MinReplicaCount=%lld must be less than MaxReplicaCount=%lld",
                       (long long)min, (long long)max);
    if (idle >= 0 && idle >= min)
        return err_set(err, ERR_INVALID,
                       "IdleReplicaCount=%lld must be less than MinReplicaCount=%lld",
                       (long long)idle, (long long)min);
    k->min_replicas = (int32_t)min;
    k->max_replicas = (int32_t)max;
    k->idle_replicas = (int32_t)idle;
    return OK;
}

static enum errc read_times(const json_t *o, struct scaled_object_spec *s, struct error *err) {
    int64_t polling, cooldown, initial;
    if (read_int(o, "spec.pollingInterval", POLLING_SECONDS, SECONDS_MAX, &polling, err) ||
        read_int(o, "spec.cooldownPeriod", s->keda.cooldown_ms / 1000, SECONDS_MAX, &cooldown,
                 err) ||
        read_int(o, "spec.initialCooldownPeriod", 0, SECONDS_MAX, &initial, err))
        return err->code;
    s->polling_ms = (polling ? polling : 1) * 1000;
    s->keda.cooldown_ms = cooldown * 1000;
    s->keda.initial_cooldown_ms = initial * 1000;
    return OK;
}

static enum errc read_fallback(const json_t *o, struct keda_spec *k, struct error *err) {
    static const struct {
        const char *name;
        enum keda_fallback behavior;
    } rows[] = {
        {"static", KEDA_FALLBACK_STATIC},
        {"currentReplicas", KEDA_FALLBACK_CURRENT},
        {"currentReplicasIfHigher", KEDA_FALLBACK_CURRENT_IF_HIGHER},
        {"currentReplicasIfLower", KEDA_FALLBACK_CURRENT_IF_LOWER},
    };
    const char *behavior = object_str(o, "spec.fallback.behavior");
    int64_t replicas, failures;
    size_t i = 0;
    if (!object_at(o, "spec.fallback"))
        return OK;
    while (behavior && i < ARRAY_LEN(rows) && strcmp(rows[i].name, behavior) != 0)
        i++;
    if (i == ARRAY_LEN(rows))
        return err_set(err, ERR_INVALID, "spec.fallback.behavior: \"%.60s\" is not supported",
                       behavior);
    if (read_int(o, "spec.fallback.replicas", 0, REPLICAS_MAX, &replicas, err) ||
        read_int(o, "spec.fallback.failureThreshold", k->fallback_failures, 1000000, &failures,
                 err))
        return err->code;
    k->fallback = rows[i].behavior;
    k->fallback_replicas = (int32_t)replicas;
    k->fallback_failures = (uint32_t)failures;
    return OK;
}

static enum errc read_annotations(const json_t *o, struct keda_spec *k, struct error *err) {
    const char *paused = object_annotation(o, PAUSED), *end;
    const char *replicas = object_annotation(o, PAUSED_REPLICAS);
    k->paused = paused && strcmp(paused, "false") != 0;
    if (!replicas)
        return OK;
    long n = strtol(replicas, (char **)(uintptr_t)&end, 10);
    if (end == replicas || *end || n < 0 || n > REPLICAS_MAX)
        return err_set(err, ERR_INVALID, "metadata.annotations[%s]: \"%.40s\" is not within 0..%d",
                       PAUSED_REPLICAS, replicas, REPLICAS_MAX);
    k->paused_replicas = (int32_t)n;
    return OK;
}

/* The part above one is a HorizontalPodAutoscaler's, with its behaviour. */
static void read_hpa(const json_t *o, struct scaled_object_spec *s) {
    json_t *behavior = object_at(o, "spec.advanced.horizontalPodAutoscalerConfig.behavior");
    json_t *hpa = json_object();
    int32_t min = s->keda.min_replicas > 1 ? s->keda.min_replicas : 1;
    object_set(hpa, "spec.minReplicas", json_integer(min));
    object_set(hpa, "spec.maxReplicas", json_integer(s->keda.max_replicas));
    if (behavior)
        object_set(hpa, "spec.behavior", json_incref(behavior));
    s->hpa = pod_autoscaler_spec(hpa);
    json_decref(hpa);
}

enum errc scaled_object_spec(const json_t *o, struct scaled_object_spec *ret, struct error *err) {
    struct scaled_object_spec s = {.keda = keda_spec_default()};
    if (json_object_size(object_at(o, "spec.advanced.scalingModifiers")))
        return err_set(err, ERR_INVALID, "spec.advanced.scalingModifiers is not supported");
    if (json_array_size(object_at(o, "spec.triggers")) > KEDA_TRIGGERS_MAX)
        return err_set(err, ERR_INVALID, "spec.triggers: %zu, at most %d are possible",
                       json_array_size(object_at(o, "spec.triggers")), KEDA_TRIGGERS_MAX);
    if (!json_array_size(object_at(o, "spec.triggers")))
        return err_set(err, ERR_INVALID, "no triggers defined in the ScaledObject");
    if (read_bounds(o, &s.keda, err) || read_times(o, &s, err) || read_fallback(o, &s.keda, err) ||
        read_annotations(o, &s.keda, err))
        return err->code;
    read_hpa(o, &s);
    *ret = s;
    return OK;
}

json_t *scaled_object_target(const json_t *o) {
    const char *kind = object_str(o, "spec.scaleTargetRef.kind");
    const char *version = object_str(o, "spec.scaleTargetRef.apiVersion");
    const char *name = object_str(o, "spec.scaleTargetRef.name");
    return json_pack("{s:s,s:s,s:s}", "apiVersion", version && *version ? version : "apps/v1",
                     "kind", kind && *kind ? kind : "Deployment", "name", name ? name : "");
}
