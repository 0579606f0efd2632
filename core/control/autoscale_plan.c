/* One table of Knative's annotations, with their bounds, reads them and refuses them.
 *
 * Whoever writes one of them that only Knative's rule knows gets Knative's rule. Without, a service
 * whose maxReplicas is above its minReplicas, or whose minReplicas is 0, gets inferd's own: the
 * target is scaleTarget (requests in flight per replica), else containerConcurrency, else
 * CONCURRENCY_DEFAULT, which is what an engine decodes together at little cost to each.
 *
 * serving.kserve.io/autoscalerClass none or external: somebody else sets the replicas. A metric of
 * the CPU or of memory: an object of the service's own does (isvc_autoscaler.h). */
#include "core/control/autoscale_plan.h"

#include <ctype.h>
#include <stddef.h>
#include <stdio.h>

#include "core/control/isvc_autoscaler.h"

#define KNATIVE "autoscaling.knative.dev/"

enum { CONCURRENCY_DEFAULT = 8, SCALE_MAX = 10000 };

enum row_type { ROW_NUMBER, ROW_COUNT, ROW_PERCENT_AS_SHARE, ROW_DURATION, ROW_SECONDS };

struct row {
    const char *name;
    enum row_type type;
    double min, max; /* durations in seconds */
    size_t offset;   /* into struct kpa_spec */
    bool own_too;    /* inferd's rule knows it as well: it does not ask for Knative's */
};
#define AT(field) offsetof(struct kpa_spec, field)

static const struct row rows[] = {
    {"target", ROW_NUMBER, 0.01, 1e9, AT(target), false},
    {"target-utilization-percentage", ROW_PERCENT_AS_SHARE, 1, 100, AT(target_utilization), false},
    {"window", ROW_DURATION, 6, 3600, AT(window_ms), false},
    {"panic-window-percentage", ROW_NUMBER, 1, 100, AT(panic_window_percentage), false},
    {"panic-threshold-percentage", ROW_NUMBER, 110, 1000, AT(panic_threshold), false},
    {"scale-down-delay", ROW_DURATION, 0, 3600, AT(scale_down_delay_ms), false},
    {"initial-scale", ROW_COUNT, 0, SCALE_MAX, AT(initial_scale), true},
    {"activation-scale", ROW_COUNT, 1, SCALE_MAX, AT(activation_scale), false},
    {"min-scale", ROW_COUNT, 0, SCALE_MAX, AT(min_scale), true},
    {"max-scale", ROW_COUNT, 0, SCALE_MAX, AT(max_scale), true},
    {"scale-to-zero-pod-retention-period", ROW_DURATION, 0, 86400, AT(pod_retention_ms), true},
};

/* The knobs of inferd's own rule; offsets into struct inference_spec. */
#define OWN           "inferd.dev/"
#define OWN_AT(field) offsetof(struct inference_spec, field)

static const struct row own_rows[] = {
    {"scale-window", ROW_DURATION, 1, SCALE_WINDOW_SECONDS_MAX, OWN_AT(window_ms), true},
    {"scale-readiness", ROW_NUMBER, 0, 0.99, OWN_AT(readiness), true},
    {"ttft-p95-goal", ROW_SECONDS, 0.001, 3600, OWN_AT(ttft_goal_seconds), true},
    {"itl-p95-goal", ROW_SECONDS, 0.001, 3600, OWN_AT(itl_goal_seconds), true},
    {"queued-tokens-per-replica", ROW_NUMBER, 1, 1e9, OWN_AT(queued_tokens), true},
};

const char *autoscale_annotation(const json_t *isvc, const char *key) {
    const json_t *own = object_at(isvc, "spec.predictor.annotations");
    const char *value = json_string_value(json_object_get(own, key));
    return value ? value : object_annotation(isvc, key);
}

static const char *knative(const json_t *isvc, const char *name) {
    AUTO_FREE char *key = mem_printf(KNATIVE "%s", name);
    const char *value = autoscale_annotation(isvc, key);
    if (value || !strchr(name, '-'))
        return value;
    char *out = key + strlen(KNATIVE); /* the older spelling: minScale for min-scale */
    for (const char *in = out; *in; in++)
        *out++ = *in != '-' ? *in : (char)toupper((unsigned char)*++in);
    *out = '\0';
    return autoscale_annotation(isvc, key);
}

static const char *own(const json_t *isvc, const char *name) {
    AUTO_FREE char *key = mem_printf(OWN "%s", name);
    return autoscale_annotation(isvc, key);
}

/* Go's "1m30s", in seconds. */
static bool read_duration(const char *text, double *ret_seconds) {
    static const struct {
        const char *name;
        double seconds;
    } units[] = {{"ms", 0.001}, {"h", 3600}, {"m", 60}, {"s", 1}};
    double sum = 0;
    if (!strcmp(text, "0")) {
        *ret_seconds = 0;
        return true;
    }
    for (const char *p = text; *p || p == text;) {
        char *end;
        size_t u = 0;
        if (*p < '0' || *p > '9')
            return false;
        double value = strtod(p, &end);
        while (u < ARRAY_LEN(units) && strncmp(end, units[u].name, strlen(units[u].name)) != 0)
            u++;
        if (u == ARRAY_LEN(units))
            return false;
        sum += value * units[u].seconds;
        p = end + strlen(units[u].name);
    }
    *ret_seconds = sum;
    return true;
}

static bool read_value(const struct row *r, const char *text, double *ret_value) {
    char *end;
    if (r->type == ROW_DURATION || r->type == ROW_SECONDS) {
        if (!read_duration(text, ret_value))
            return false;
    } else {
        *ret_value = strtod(text, &end);
        if (end == text || *end)
            return false;
    }
    bool whole = r->type != ROW_COUNT || *ret_value == (double)(int64_t)*ret_value;
    return *ret_value >= r->min && *ret_value <= r->max && whole;
}

static void store_value(const struct row *r, double value, void *spec) {
    char *at = (char *)spec + r->offset;
    if (r->type == ROW_DURATION)
        *(int64_t *)(void *)at = (int64_t)(value * 1000);
    else if (r->type == ROW_COUNT)
        *(int32_t *)(void *)at = (int32_t)value;
    else
        *(double *)(void *)at = r->type == ROW_PERCENT_AS_SHARE ? value / 100 : value;
}

/* text NULL: not given. */
static enum errc check_row(const struct row *r, const char *prefix, const char *text,
                           struct error *err) {
    double value;
    if (!text || read_value(r, text, &value))
        return OK;
    AUTO_FREE char *field = mem_printf("metadata.annotations[%s%s]", prefix, r->name);
    bool time = r->type == ROW_DURATION || r->type == ROW_SECONDS;
    const char *what = time                   ? "a duration such as 60s"
                       : r->type == ROW_COUNT ? "a whole number"
                                              : "a number";
    const char *unit = time ? "s" : "";
    return err_field(err, ERR_INVALID, field,
                     "%s: Invalid value: \"%.100s\": must be %s within %g%s..%g%s", field, text,
                     what, r->min, unit, r->max, unit);
}

enum errc autoscale_check(const json_t *isvc, struct error *err) {
    const char *metric = knative(isvc, "metric");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (check_row(&rows[i], KNATIVE, knative(isvc, rows[i].name), err))
            return err->code;
    for (size_t i = 0; i < ARRAY_LEN(own_rows); i++)
        if (check_row(&own_rows[i], OWN, own(isvc, own_rows[i].name), err))
            return err->code;
    if (metric && strcmp(metric, "concurrency") != 0 && strcmp(metric, "rps") != 0 &&
        strcmp(metric, "cpu") != 0 && strcmp(metric, "memory") != 0)
        return err_field(err, ERR_INVALID, "metadata.annotations[" KNATIVE "metric]",
                         "metadata.annotations[" KNATIVE "metric]: Unsupported value: \"%.100s\": "
                         "supported values: \"concurrency\", \"rps\", \"cpu\", \"memory\"",
                         metric);
    return OK;
}

static bool says(const char *text, const char *word) {
    return text && !strcmp(text, word);
}

/* Reads the annotations; true: one of them asks for Knative's rule. */
static bool read_annotations(const json_t *isvc, struct kpa_spec *spec) {
    const char *class = knative(isvc, "class");
    bool asks = says(class, "kpa.autoscaling.knative.dev") || says(knative(isvc, "metric"), "rps");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *text = knative(isvc, rows[i].name);
        double value;
        if (!text || !read_value(&rows[i], text, &value))
            continue;
        store_value(&rows[i], value, spec);
        asks = asks || !rows[i].own_too;
    }
    return asks;
}

static void read_own(const json_t *isvc, struct inference_spec *spec) {
    for (size_t i = 0; i < ARRAY_LEN(own_rows); i++) {
        const char *text = own(isvc, own_rows[i].name);
        double value;
        if (text && read_value(&own_rows[i], text, &value))
            store_value(&own_rows[i], value, spec);
    }
}

static bool is_set_by_others(const json_t *isvc) {
    const char *class = autoscale_annotation(isvc, "serving.kserve.io/autoscalerClass");
    return says(autoscale_annotation(isvc, "serving.kserve.io/stop"), "true") ||
           says(class, "none") || says(class, "external");
}

static void set_bounds(const json_t *isvc, struct autoscale_plan *p) {
    int64_t max = object_int(isvc, "spec.predictor.maxReplicas", 0);
    int64_t min = object_int(isvc, "spec.predictor.minReplicas",
                             knative(isvc, "min-scale") ? p->kpa.min_scale : 1);
    if (max <= 0)
        max = p->kpa.max_scale;
    min = min < 0 ? 0 : min > SCALE_MAX ? SCALE_MAX : min;
    max = max > SCALE_MAX ? SCALE_MAX : max;
    p->min = (int32_t)min;
    p->max = (int32_t)(max < min ? min : max);
    if (p->max < 1)
        p->max = 1;
    p->kpa.min_scale = p->inference.min_replicas = p->min;
    p->kpa.max_scale = p->inference.max_replicas = p->max;
    p->initial = p->kpa.initial_scale;
    p->initial = p->initial < p->min ? p->min : p->initial > p->max ? p->max : p->initial;
    p->kpa.initial_scale = 0; /* the Deployment begins with it; nothing is held up afterwards */
}

void autoscale_plan(const json_t *isvc, const struct config *config, struct autoscale_plan *ret) {
    struct autoscale_plan p = {.kpa = kpa_spec_default(), .inference = inference_spec_default()};
    int64_t concurrency = object_int(isvc, "spec.predictor.containerConcurrency", 0);
    int64_t target = object_int(isvc, "spec.predictor.scaleTarget", 0);
    const char *metric = object_str(isvc, "spec.predictor.scaleMetric");
    if (config) {
        p.kpa.zero_grace_ms = config->scale_to_zero_grace_seconds * 1000;
        p.inference.idle_ms = config->scale_to_zero_idle_seconds * 1000;
    }
    bool in_requests = !metric || says(metric, "concurrency") || says(metric, "rps");
    p.kpa.target = in_requests && target > 0 ? (double)target : 0;
    p.kpa.container_concurrency = concurrency > 0 ? (uint32_t)concurrency : 0;
    read_own(isvc, &p.inference);
    bool asks = read_annotations(isvc, &p.kpa) || says(metric, "rps");
    if (says(metric, "rps") || says(knative(isvc, "metric"), "rps"))
        p.kpa.metric = KPA_RPS;
    if (p.kpa.pod_retention_ms > 0)
        p.inference.idle_ms = p.kpa.pod_retention_ms;
    p.inference.concurrency = p.kpa.target > 0  ? p.kpa.target
                              : concurrency > 0 ? (double)concurrency
                                                : CONCURRENCY_DEFAULT;
    set_bounds(isvc, &p);
    bool object = isvc_autoscaler_asked(isvc);
    if (object && p.min < 1)
        p.min = 1; /* such an object does not go to zero */
    if (!is_set_by_others(isvc) && (p.min == 0 || p.max > p.min))
        p.rule = object ? AUTOSCALE_OBJECT : asks ? AUTOSCALE_KNATIVE : AUTOSCALE_INFERENCE;
    *ret = p;
}

static bool kpa_equal(const struct kpa_spec *a, const struct kpa_spec *b) {
    return a->metric == b->metric && a->target == b->target &&
           a->target_utilization == b->target_utilization && a->window_ms == b->window_ms &&
           a->panic_window_percentage == b->panic_window_percentage &&
           a->panic_threshold == b->panic_threshold &&
           a->scale_down_delay_ms == b->scale_down_delay_ms &&
           a->zero_grace_ms == b->zero_grace_ms && a->pod_retention_ms == b->pod_retention_ms &&
           a->min_scale == b->min_scale && a->max_scale == b->max_scale &&
           a->activation_scale == b->activation_scale &&
           a->container_concurrency == b->container_concurrency;
}

bool autoscale_plan_equal(const struct autoscale_plan *a, const struct autoscale_plan *b) {
    return a->rule == b->rule && a->min == b->min && a->max == b->max && a->initial == b->initial &&
           kpa_equal(&a->kpa, &b->kpa) && a->inference.concurrency == b->inference.concurrency &&
           a->inference.idle_ms == b->inference.idle_ms &&
           a->inference.window_ms == b->inference.window_ms &&
           a->inference.readiness == b->inference.readiness &&
           a->inference.ttft_goal_seconds == b->inference.ttft_goal_seconds &&
           a->inference.itl_goal_seconds == b->inference.itl_goal_seconds &&
           a->inference.queued_tokens == b->inference.queued_tokens;
}

bool autoscale_decides(enum autoscale_rule rule) {
    return rule == AUTOSCALE_INFERENCE || rule == AUTOSCALE_KNATIVE;
}

bool autoscale_wakes(const json_t *isvc) {
    struct autoscale_plan p;
    autoscale_plan(isvc, NULL, &p);
    return autoscale_decides(p.rule) && p.min == 0;
}
