/* Canaries by name. KServe has two ways to a canary: canaryTrafficPercent splits one Deployment by
 * revision (revision.c), spec.canary[] lists predictors that stand beside the stable one, any
 * number of them, each with a name. A canary's predictor is laid over the stable one, so that it
 * says only what differs; the name makes its Deployment. Promotion is a change of names:
 * spec.predictor.name becomes the canary's, its entry goes, and the Deployment that runs already is
 * the stable one from then on.
 *
 * Shares come into force by status.canaryStatuses, which the table of the gateway is built from: a
 * canary that is not ready has 0 there. */
#include "core/control/canary.h"

#include <inttypes.h>

#include "core/control/isvc_predictor.h"
#include "core/object.h"

enum { WHOLE_PERCENT = 100, APP_LABEL_BYTES_MAX = 63 };

/* A canary's replicas do not move by themselves. */
static const char *const scaling_fields[] = {"maxReplicas", "scaleTarget", "scaleMetric",
                                             "scaleMetricType", "autoScaling"};

static const json_t *entry(const json_t *isvc, size_t i) {
    return json_array_get(object_at(isvc, "spec.canary"), i);
}

size_t canary_count(const json_t *isvc) {
    size_t num = json_array_size(object_at(isvc, "spec.canary"));
    return num < CANARY_MAX ? num : CANARY_MAX;
}

const char *canary_name(const json_t *isvc, size_t i) {
    const char *name = object_str(entry(isvc, i), "predictor.name");
    return name ? name : "";
}

int64_t canary_percent(const json_t *isvc, size_t i) {
    return object_int(entry(isvc, i), "trafficPercent", 0);
}

int64_t canary_replicas(const json_t *isvc, size_t i) {
    int64_t stable = object_int(isvc, "spec.predictor.minReplicas", 1);
    int64_t share = (stable * canary_percent(isvc, i) + WHOLE_PERCENT - 1) / WHOLE_PERCENT;
    return object_int(entry(isvc, i), "predictor.minReplicas", share < 1 ? 1 : share);
}

/* Checking. */

static enum errc check_name(const json_t *isvc, size_t i, struct error *err) {
    const char *name = canary_name(isvc, i), *stable = object_str(isvc, "spec.predictor.name");
    AUTO_FREE char *path = mem_printf("spec.canary[%zu].predictor.name", i);
    if (!*name)
        return err_field(err, ERR_INVALID, path, "%s: Required value", path);
    size_t len = strlen(name);
    if (strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != len || name[0] == '-' ||
        name[len - 1] == '-')
        return err_field(err, ERR_INVALID, path,
                         "%s: Invalid value: \"%.100s\": must consist of lower case alphanumeric "
                         "characters or '-', and start and end with an alphanumeric character",
                         path, name);
    size_t label = strlen("isvc.--predictor") + len;
    label += object_name(isvc) ? strlen(object_name(isvc)) : 0;
    if (label > APP_LABEL_BYTES_MAX)
        return err_field(err, ERR_INVALID, path,
                         "%s: Invalid value: \"%.100s\": with the name of the InferenceService and "
                         "\"isvc.--predictor\" %zu characters, at most %d",
                         path, name, label, APP_LABEL_BYTES_MAX);
    if (stable && !strcmp(stable, name))
        return err_field(err, ERR_INVALID, path,
                         "%s: Invalid value: \"%s\": is the name of the stable predictor", path,
                         name);
    for (size_t k = 0; k < i; k++) {
        if (!strcmp(canary_name(isvc, k), name))
            return err_field(err, ERR_INVALID, path, "%s: Duplicate value: \"%s\"", path, name);
    }
    return OK;
}

static enum errc check_replicas(const json_t *isvc, size_t i, struct error *err) {
    const json_t *predictor = object_at(entry(isvc, i), "predictor");
    const json_t *min = json_object_get(predictor, "minReplicas");
    int64_t stable = object_int(isvc, "spec.predictor.minReplicas", 1);
    for (size_t f = 0; f < ARRAY_LEN(scaling_fields); f++) {
        const json_t *v = json_object_get(predictor, scaling_fields[f]);
        bool zero = json_is_integer(v) && !json_integer_value(v);
        if (!v || json_is_null(v) || zero)
            continue;
        AUTO_FREE char *path = mem_printf("spec.canary[%zu].predictor.%s", i, scaling_fields[f]);
        return err_field(err, ERR_INVALID, path,
                         "%s: Forbidden: a canary has a fixed number of replicas", path);
    }
    AUTO_FREE char *path = mem_printf("spec.canary[%zu].predictor.minReplicas", i);
    if (json_is_integer(min) && json_integer_value(min) < 0)
        return err_field(err, ERR_INVALID, path,
                         "%s: Invalid value: %" PRId64 ": must be greater than or equal to 0", path,
                         (int64_t)json_integer_value(min));
    if (json_is_integer(min) && json_integer_value(min) > stable)
        return err_field(err, ERR_INVALID, path,
                         "%s: Invalid value: %" PRId64
                         ": must not be above minReplicas of the stable predictor (%" PRId64 ")",
                         path, (int64_t)json_integer_value(min), stable);
    return OK;
}

/* Sticky clients. */

static const char BY_KEY[] = "api-key", BY_HEADER[] = "header:";

const char *canary_sticky_header(const json_t *isvc) {
    const char *by = object_annotation(isvc, ISVC_STICKY_ANNOTATION);
    if (!by)
        return NULL;
    return !strcmp(by, BY_KEY)                              ? "Authorization"
           : !strncmp(by, BY_HEADER, sizeof(BY_HEADER) - 1) ? by + sizeof(BY_HEADER) - 1
                                                            : NULL;
}

static enum errc check_sticky(const json_t *isvc, struct error *err) {
    static const char FIELD[] = "metadata.annotations[" ISVC_STICKY_ANNOTATION "]";
    static const char TOKEN[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const char *by = object_annotation(isvc, ISVC_STICKY_ANNOTATION);
    const char *header = canary_sticky_header(isvc);
    if (!by || (header && *header && !header[strspn(header, TOKEN)]))
        return OK;
    return err_field(err, ERR_INVALID, FIELD,
                     "%s: Invalid value: \"%.100s\": must be api-key or header:NAME", FIELD, by);
}

enum errc canary_check(const json_t *isvc, struct error *err) {
    size_t num = json_array_size(object_at(isvc, "spec.canary"));
    int64_t sum = 0;
    if (check_sticky(isvc, err))
        return err->code;
    if (num > CANARY_MAX)
        return err_field(err, ERR_INVALID, "spec.canary",
                         "spec.canary: Too many: %zu: must have at most %d items", num, CANARY_MAX);
    for (size_t i = 0; i < num; i++) {
        const json_t *percent = json_object_get(entry(isvc, i), "trafficPercent");
        AUTO_FREE char *path = mem_printf("spec.canary[%zu].trafficPercent", i);
        if (!json_is_integer(percent))
            return err_field(err, ERR_INVALID, path, "%s: Required value", path);
        if (json_integer_value(percent) < 0 || json_integer_value(percent) > WHOLE_PERCENT)
            return err_field(err, ERR_INVALID, path,
                             "%s: Invalid value: %" PRId64 ": must be within 0..%d", path,
                             (int64_t)json_integer_value(percent), WHOLE_PERCENT);
        sum += json_integer_value(percent);
        if (check_name(isvc, i, err) || check_replicas(isvc, i, err))
            return err->code;
    }
    if (sum > WHOLE_PERCENT)
        return err_field(err, ERR_INVALID, "spec.canary",
                         "spec.canary: Invalid value: the sum of trafficPercent is %" PRId64
                         ", at most %d",
                         sum, WHOLE_PERCENT);
    return OK;
}

/* What a canary runs. */

/* A canary that says what serves it (a framework, or containers) has it instead of the stable
 * predictor's, unless it is of the same kind. */
static void drop_other_implementations(json_t *merged, const json_t *canary) {
    bool has_any = json_array_size(json_object_get(canary, "containers")) > 0;
    for (const char *const *f = isvc_predictor_frameworks(); *f; f++)
        has_any = has_any || json_is_object(json_object_get(canary, *f));
    for (const char *const *f = isvc_predictor_frameworks(); *f && has_any; f++) {
        if (!json_is_object(json_object_get(canary, *f)))
            json_object_del(merged, *f);
    }
    if (has_any)
        json_object_del(merged, "containers");
}

json_t *canary_service(const json_t *isvc, size_t i) {
    const json_t *canary = object_at(entry(isvc, i), "predictor");
    json_t *service = json_deep_copy(isvc);
    json_t *merged = object_at(service, "spec.predictor");
    drop_other_implementations(merged, canary);
    json_t *copy = json_deep_copy(canary);
    json_object_update_recursive(merged, copy);
    json_decref(copy);
    for (size_t f = 0; f < ARRAY_LEN(scaling_fields); f++)
        json_object_del(merged, scaling_fields[f]);
    json_object_del(merged, "canaryTrafficPercent");
    json_object_set_new(merged, "minReplicas", json_integer(canary_replicas(isvc, i)));
    json_object_del(json_object_get(service, "spec"), "canary");
    json_t *annotations = object_at(service, "metadata.annotations");
    if (!json_is_object(annotations))
        object_set(service, "metadata.annotations", annotations = json_object());
    json_object_set_new(annotations, "serving.kserve.io/autoscalerClass", json_string("none"));
    return service;
}

int canary_of_deployment(const json_t *isvc, const char *deployment) {
    for (size_t i = 0; i < canary_count(isvc); i++) {
        AUTO_FREE char *has =
            mem_printf("%s-%s-predictor", object_name(isvc), canary_name(isvc, i));
        if (!strcmp(has, deployment))
            return (int)i;
    }
    return -1;
}

/* What the status says. */

bool canary_is_ready(const json_t *deployment, bool was_ready) {
    int64_t desired = object_int(deployment, "spec.replicas", 1);
    int64_t available = object_int(deployment, "status.availableReplicas", 0);
    return desired > 0 && available > 0 && (available >= desired || was_ready);
}

static const json_t *status_of(const json_t *isvc, const char *name) {
    size_t i;
    json_t *s;
    json_array_foreach (object_at(isvc, "status.canaryStatuses"), i, s) {
        const char *has = object_str(s, "name");
        if (has && !strcmp(has, name))
            return s;
    }
    return NULL;
}

bool canary_was_ready(const json_t *isvc, const char *name) {
    return object_bool(status_of(isvc, name), "ready", false);
}

uint32_t canary_share(const json_t *isvc, const char *name) {
    int64_t percent = object_int(status_of(isvc, name), "trafficPercent", 0);
    return percent < 0 ? 0 : percent > WHOLE_PERCENT ? WHOLE_PERCENT : (uint32_t)percent;
}

int64_t canary_relief(const json_t *isvc) {
    int64_t sum = 0;
    for (size_t i = 0; i < canary_count(isvc); i++)
        sum += canary_was_ready(isvc, canary_name(isvc, i)) ? canary_replicas(isvc, i) : 0;
    return sum;
}
