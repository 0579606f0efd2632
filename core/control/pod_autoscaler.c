/* The controller of HorizontalPodAutoscalers, thin around core/scale/hpa.h.
 *
 *   target's scale ──▶ each metric's proposal ──▶ the greatest ──▶ windows, rates, bounds ──▶ scale
 *
 * One look, in Kubernetes' order: a target that is scaled to zero by hand is left alone; one that
 * is outside the bounds goes to the nearest; else the metrics are asked. If none can be told, or
 * one cannot and the others would go down, nothing is done: no loss of metrics scales down. Each
 * step leaves its condition (AbleToScale, ScalingActive, ScalingLimited) with the reason and the
 * words that `kubectl describe hpa` is known for.
 *
 * The windows are kept here by the object's uid and are lost with the daemon; the first look after
 * a start takes what is there for a recommendation, as kube-controller-manager does, so a restart
 * never makes a sudden step down. Source: kubernetes/pkg/controller/podautoscaler/horizontal.go
 * (order, reasons, messages). */
#include "core/control/pod_autoscaler.h"

#include <stdio.h>

#include "core/base/log.h"
#include "core/control/events.h"
#include "core/control/pod_autoscaler_metrics.h"
#include "core/control/scale_target.h"
#include "core/decision_log.h"

static const char COMPONENT[] = "horizontal-pod-autoscaler";
static const char ABLE[] = "AbleToScale", ACTIVE[] = "ScalingActive", LIMITED[] = "ScalingLimited";

/* ---- what is remembered ---- */

struct record {
    struct record *next;
    char *ns, *name, *uid;
    char *told; /* the last line in the decision log, without its numbers of before; may be NULL */
    struct hpa_history history;
};

struct pod_autoscaler_table {
    struct record *records;
};

struct pod_autoscaler_table *pod_autoscaler_table_create(void) {
    return mem_alloc(sizeof(struct pod_autoscaler_table));
}

static void record_free(struct record *r) {
    free(r->ns);
    free(r->name);
    free(r->uid);
    free(r->told);
    free(r);
}

void pod_autoscaler_table_destroy(struct pod_autoscaler_table *t) {
    if (!t)
        return;
    for (struct record *r = t->records, *next; r; r = next) {
        next = r->next;
        record_free(r);
    }
    free(t);
}

static void forget(struct pod_autoscaler_table *t, const char *ns, const char *name) {
    for (struct record **at = &t->records; *at; at = &(*at)->next) {
        struct record *r = *at;
        if (strcmp(r->name, name) != 0 || strcmp(r->ns, ns) != 0)
            continue;
        *at = r->next;
        record_free(r);
        return;
    }
}

static struct record *open_record(struct pod_autoscaler_table *t, const json_t *hpa) {
    const char *ns = object_namespace(hpa), *name = object_name(hpa), *uid = object_uid(hpa);
    uid = uid ? uid : "";
    for (struct record *r = t->records; r; r = r->next) {
        if (!strcmp(r->uid, uid) && !strcmp(r->name, name) && !strcmp(r->ns, ns))
            return r;
    }
    forget(t, ns, name); /* one of the same name that is gone */
    struct record *r = mem_alloc(sizeof(*r));
    *r = (struct record){
        .next = t->records, .ns = mem_strdup(ns), .name = mem_strdup(name), .uid = mem_strdup(uid)};
    t->records = r;
    return r;
}

/* ---- one look ---- */

struct look {
    struct world *w;
    json_t *hpa; /* a copy that gets the new status */
    struct record *record;
    struct scale_target target;
    struct hpa_spec spec;
    json_t *current_metrics;
    struct buf inputs; /* what each metric said, for the decision log */
    char *metric;      /* the one that asks for the most; NULL: none was asked */
    int32_t desired;
    bool rescaled;
};

static void say(struct look *l, const char *type, bool status, const char *reason,
                const char *message) {
    object_set_condition(l->hpa, type, status ? "True" : "False", reason, message, l->w->wall_ms);
}

static void warn(struct look *l, const char *reason, const char *message) {
    event_emit(l->w, l->hpa, EVENT_WARNING, reason, COMPONENT, "%s", message);
}

/* Warns, and says that no number can be computed. */
static void say_inactive(struct look *l, const char *reason, const char *message) {
    warn(l, reason, message);
    say(l, ACTIVE, false, reason, message);
}

static bool open_target(struct look *l) {
    struct error err = ERROR_INIT;
    if (scale_target_open(l->w, object_namespace(l->hpa), object_at(l->hpa, "spec.scaleTargetRef"),
                          &l->target, &err)) {
        AUTO_FREE char *text = mem_printf(
            "the HPA controller was unable to get the target's current scale: %s", err.text);
        warn(l, "FailedGetScale", err.text);
        say(l, ABLE, false, "FailedGetScale", text);
        return false;
    }
    say(l, ABLE, true, "SucceededGetScale",
        "the HPA controller was able to get the target's current scale");
    return true;
}

/* ---- whose pods they are ---- */

static bool same_target(const json_t *a, const json_t *b) {
    static const char *const parts[] = {"kind", "name"};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        const char *x = object_str(object_at(a, "spec.scaleTargetRef"), parts[i]);
        const char *y = object_str(object_at(b, "spec.scaleTargetRef"), parts[i]);
        if (!x || !y || strcmp(x, y) != 0)
            return false;
    }
    return true;
}

/* Two that scale the same pods would undo each other's work: both stop, and say so. */
static bool is_ambiguous(struct look *l) {
    AUTO_STORE_LIST all = {0};
    AUTO_BUF names = BUF_INIT;
    uint32_t num = 0;
    AUTO(store_object) service = scale_target_service(l->w, &l->target);
    if (service) {
        AUTO_FREE char *text =
            mem_printf("InferenceService %s scales these pods itself; its annotation "
                       "serving.kserve.io/autoscalerClass: external leaves them to this object",
                       object_name(service->json));
        say_inactive(l, "AmbiguousSelector", text);
        return true;
    }
    world_list(l->w, KIND_HORIZONTAL_POD_AUTOSCALER, object_namespace(l->hpa), &all);
    for (size_t i = 0; i < all.num_items; i++) {
        const json_t *other = all.items[i]->json;
        if (!same_target(l->hpa, other))
            continue;
        num++;
        buf_printf(&names, "%s%s/%s", names.len ? " " : "", object_namespace(other),
                   object_name(other));
    }
    if (num < 2)
        return false;
    AUTO_FREE char *text =
        mem_printf("pods by selector of %s are controlled by multiple HPAs: [%.800s]",
                   l->target.resource, names.data);
    say_inactive(l, "AmbiguousSelector", text);
    return true;
}

/* ---- the metrics ---- */

/* The first failure is told in the condition; each is an Event. */
struct failures {
    uint32_t num;
    char reason[64];
    struct error first;
};

static void note_failure(struct look *l, const struct metric_spec *m, const struct error *err,
                         struct failures *f) {
    char reason[64] = "InvalidMetricSourceType";
    if (m->source < METRIC_SOURCES)
        snprintf(reason, sizeof(reason), "FailedGet%sMetric", metric_source_name(m->source));
    warn(l, reason, err->text);
    if (f->num++)
        return;
    snprintf(f->reason, sizeof(f->reason), "%s", reason);
    f->first = *err;
}

/* False: no number comes of them, and the reason is told. */
static bool fail(struct look *l, struct failures *f, uint32_t num_metrics,
                 const struct metric_spec *first) {
    AUTO_FREE char *condition =
        mem_printf("the HPA was unable to compute the replica count: %s", f->first.text);
    static const char *const kinds[] = {[METRIC_SOURCE_RESOURCE] = "resource",
                                        [METRIC_SOURCE_CONTAINER_RESOURCE] = "container resource",
                                        [METRIC_SOURCE_PODS] = "pods",
                                        [METRIC_SOURCE_OBJECT] = "object",
                                        [METRIC_SOURCE_EXTERNAL] = "external",
                                        [METRIC_SOURCES] = "unknown"};
    const char *what = first->resource ? first->resource : first->name ? first->name : "";
    AUTO_FREE char *event =
        mem_printf("invalid metrics (%u invalid out of %u), first error is: failed to get %s %s "
                   "metric value: %s",
                   f->num, num_metrics, what, kinds[first->source], f->first.text);
    say(l, ACTIVE, false, f->reason, condition);
    warn(l, "FailedComputeMetricsReplicas", event);
    return false;
}

static bool ask_metrics(struct look *l, int32_t *ret_wanted) {
    const json_t *metrics = object_at(l->hpa, "spec.metrics"), *metric;
    int32_t proposals[POD_AUTOSCALER_METRICS_MAX];
    struct failures failures = {0};
    struct metric_spec failed = {0};
    uint32_t num = 0, num_metrics = 0;
    size_t i;
    AUTO_METRIC_SCOPE scope;
    metric_scope_open(&scope, l->w, &l->target);
    json_array_foreach ((json_t *)metrics, i, metric) {
        struct metric_spec m = metric_spec_read(metric);
        struct metric_reading r;
        struct error err = ERROR_INIT;
        if (num_metrics == POD_AUTOSCALER_METRICS_MAX)
            break;
        num_metrics++;
        if (metric_read(&scope, &m, &r, &err)) {
            buf_printf(&l->inputs, "%s%s=failed", num_metrics > 1 ? ", " : "",
                       m.resource ? m.resource
                       : m.name   ? m.name
                                  : "metric");
            failed = failures.num ? failed : m;
            note_failure(l, &m, &err, &failures);
            continue;
        }
        if (!num || r.replicas > *ret_wanted) {
            *ret_wanted = r.replicas;
            free(l->metric);
            l->metric = mem_strdup(r.name);
        }
        proposals[num++] = r.replicas;
        buf_printf(&l->inputs, "%s%s=%s wants %d", num_metrics > 1 ? ", " : "",
                   m.resource ? m.resource : m.name, r.shown, r.replicas);
        json_array_append(l->current_metrics, r.current);
        metric_reading_deinit(&r);
    }
    if (!hpa_combine(proposals, num, failures.num, l->target.replicas, ret_wanted))
        return fail(l, &failures, num_metrics, &failed);
    AUTO_FREE char *text =
        mem_printf("the HPA was able to successfully calculate a replica count from %s", l->metric);
    say(l, ACTIVE, true, "ValidMetricFound", text);
    return true;
}

/* ---- from what is wanted to what is done ---- */

static const struct {
    const char *reason, *message;
} words[] = {
    {"ScaleUpStabilized",
     "recent recommendations were lower than current one, applying the lowest recent "
     "recommendation"},
    {"ScaleDownStabilized",
     "recent recommendations were higher than current one, applying the highest recent "
     "recommendation"},
    {"ReadyForNewScale", "recommended size matches current size"},
    {"ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate"},
    {"ScaleDownLimit",
     "the desired replica count is decreasing faster than the maximum scale rate"},
    {"TooManyReplicas", "the desired replica count is more than the maximum replica count"},
    {"TooFewReplicas", "the desired replica count is less than the minimum replica count"},
    {"DesiredWithinRange", "the desired count is within the acceptable range"},
};

static const char *words_of(const char *reason) {
    size_t i = 0;
    while (i < ARRAY_LEN(words) && strcmp(words[i].reason, reason) != 0)
        i++;
    ASSERT(i < ARRAY_LEN(words)); /* the deciders give no others */
    return words[i].message;
}

/* What to do, and the reason for an Event. False: nothing. */
static bool decide(struct look *l, char **ret_reason) {
    int32_t current = l->target.replicas, wanted = 0;
    if (!current && l->spec.min_replicas) {
        say(l, ACTIVE, false, "ScalingDisabled",
            "scaling is disabled since the replica count of the target is zero");
        l->desired = 0;
        return false;
    }
    l->desired = current;
    if (!json_object_size(l->target.selector)) {
        say_inactive(l, "InvalidSelector", "the HPA target's scale is missing a selector");
        return false;
    }
    if (is_ambiguous(l))
        return false;
    if (current > l->spec.max_replicas || current < l->spec.min_replicas) {
        bool above = current > l->spec.max_replicas;
        l->desired = above ? l->spec.max_replicas : l->spec.min_replicas;
        *ret_reason = mem_strdup(above ? "Current number of replicas above Spec.MaxReplicas"
                                       : "Current number of replicas below Spec.MinReplicas");
        return true;
    }
    if (!ask_metrics(l, &wanted))
        return false;
    struct hpa_decision d;
    hpa_decide(&l->record->history, &l->spec, l->w->mono_ms, current, wanted, &d);
    l->desired = d.replicas;
    say(l, ABLE, true, d.able_reason, words_of(d.able_reason));
    say(l, LIMITED, strcmp(d.limit_reason, "DesiredWithinRange") != 0, d.limit_reason,
        words_of(d.limit_reason));
    *ret_reason = d.replicas > current ? mem_printf("%s above target", l->metric)
                                       : mem_strdup("All metrics below target");
    return d.replicas != current;
}

static enum errc rescale(struct look *l, const char *why, struct error *err) {
    int32_t from = l->target.replicas, to = l->desired;
    struct log_quoted q;
    if (scale_target_set(l->w, &l->target, to, err)) {
        AUTO_FREE char *text =
            mem_printf("the HPA controller was unable to update the target scale: %s", err->text);
        event_emit(l->w, l->hpa, EVENT_WARNING, "FailedRescale", COMPONENT,
                   "New size: %d; reason: %s; error: %s", to, why, err->text);
        say(l, ABLE, false, "FailedUpdateScale", text);
        l->desired = from;
        return err->code;
    }
    char text[96];
    snprintf(text, sizeof(text), "the HPA controller was able to update the target scale to %d",
             to);
    say(l, ABLE, true, "SucceededRescale", text);
    event_emit(l->w, l->hpa, EVENT_NORMAL, "SuccessfulRescale", COMPONENT,
               "New size: %d; reason: %s", to, why);
    log_info("scaled", "namespace=%s autoscaler=%s target=%s/%s from=%d to=%d reason=%s",
             l->record->ns, l->record->name, l->target.resource,
             object_name(l->target.object->json), from, to, log_quote(&q, why));
    hpa_history_changed(&l->record->history, l->w->mono_ms, from, to);
    l->rescaled = true;
    return OK;
}

static void fill_status(struct look *l) {
    object_set(l->hpa, "status.currentReplicas", json_integer(l->target.replicas));
    object_set(l->hpa, "status.desiredReplicas", json_integer(l->desired));
    if (json_array_size(l->current_metrics))
        object_set(l->hpa, "status.currentMetrics", json_incref(l->current_metrics));
    else
        object_delete(l->hpa, "status.currentMetrics");
    if (l->rescaled)
        object_set(l->hpa, "status.lastScaleTime", world_timestamp(l->w));
}

/* What was decided and from what, if it is not what was decided last. */
static void note(struct look *l, const char *why) {
    struct log_quoted q, w;
    const json_t *limited = object_find_condition(l->hpa, LIMITED);
    const json_t *able = object_find_condition(l->hpa, ABLE);
    const json_t *active = object_find_condition(l->hpa, ACTIVE);
    const char *reasons[] = {object_str(able, "reason"), object_str(active, "reason"),
                             object_str(limited, "reason")};
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        reasons[i] = reasons[i] ? reasons[i] : "";
    AUTO_FREE char *text =
        mem_printf("to=%d reason=%s able=%s active=%s limited=%s inputs=%s", l->desired,
                   log_quote(&w, why ? why : "none"), reasons[0], reasons[1], reasons[2],
                   log_quote(&q, l->inputs.data ? l->inputs.data : ""));
    if (l->record->told && !strcmp(l->record->told, text))
        return;
    decision_log_add(l->w->decisions, l->w->wall_ms,
                     "namespace=%s autoscaler=%s rule=horizontalpodautoscaler from=%d %s",
                     l->record->ns, l->record->name, l->target.replicas, text);
    free(l->record->told);
    l->record->told = steal(text);
}

static enum errc look(struct look *l, struct error *err) {
    AUTO_FREE char *why = NULL;
    enum errc rc = OK;
    if (!open_target(l))
        return OK;
    l->spec = pod_autoscaler_spec(l->hpa);
    if (decide(l, &why))
        rc = rescale(l, why, err);
    fill_status(l);
    note(l, l->rescaled ? why : NULL);
    return rc;
}

enum errc pod_autoscaler_reconcile(struct world *w, const char *ns, const char *name,
                                   struct error *err) {
    AUTO(store_object) o = world_get(w, KIND_HORIZONTAL_POD_AUTOSCALER, ns, name);
    if (!o || object_deleting(o->json)) {
        forget(w->pod_autoscalers, ns, name);
        return OK;
    }
    struct look l = {.w = w,
                     .hpa = json_deep_copy(o->json),
                     .record = open_record(w->pod_autoscalers, o->json),
                     .current_metrics = json_array()};
    enum errc rc = look(&l, err);
    struct error status_err = ERROR_INIT;
    enum errc status_rc = world_update(w, o, l.hpa, NULL, &status_err);
    if (!rc && status_rc) {
        *err = status_err;
        rc = status_rc;
    }
    scale_target_close(&l.target);
    json_decref(l.current_metrics);
    buf_deinit(&l.inputs);
    free(l.metric);
    world_enqueue_after(w, KIND_HORIZONTAL_POD_AUTOSCALER, ns, name,
                        w->config->hpa_sync_seconds * 1000);
    return rc;
}

bool pod_autoscaler_is_news(const struct store_event *e) {
    if (e->type != STORE_MODIFIED || !e->previous || object_deleting(e->object->json))
        return true;
    json_t *was = json_object_get(e->previous->json, "spec");
    json_t *now = json_object_get(e->object->json, "spec");
    return was != now && !(was && now && json_equal(was, now));
}
