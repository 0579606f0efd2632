/* The autoscaler's loop, thin around the deciders (core/scale).
 *
 *   gateway ──traffic_load──▶ sample ──▶ decide ──▶ Deployment.spec.replicas ──▶ Event, log,
 * metrics
 *
 * What it measures of a service is the mean number of requests that were with replicas or held
 * since the last look (the integral over time: what came and went in between counts), and how long
 * the last replica took from its start to its readiness. What the replicas say of themselves
 * (replica_figures.h) was asked for by another thread, and is read as it is.
 *
 * A service that is not in the traffic table yet has no measurements; deciders keep what is there
 * then. A Deployment that somebody scaled to 0 although minReplicas is above it stays there, as
 * with a HorizontalPodAutoscaler: that is how autoscaling is switched off for a while.
 *
 * What is remembered (windows, histograms) is lost with the daemon and learned anew. */
#include "core/control/autoscale.h"

#include <stdio.h>

#include "core/base/log.h"
#include "core/control/autoscale_plan.h"
#include "core/control/events.h"
#include "core/control/isvc_predictor.h"
#include "core/control/replica_figures.h"
#include "core/control/scaled_object.h"
#include "core/decision_log.h"
#include "core/owners.h"

static const char COMPONENT[] = "autoscaler";

enum { SAMPLE_MS_MIN = 200, START_MS_UNKNOWN = 10000, BUCKETS = 1024 };

/* Where a record counts: looked up once, for the registry's list is long. */
struct counters {
    struct metric *desired, *ready, *decisions;
    const char *reason; /* of `decisions` */
};

struct autoscale_record {
    struct autoscale_record *next; /* in its bucket */
    char *ns, *name;
    int64_t revision; /* of the InferenceService that the plan was made from */
    struct autoscale_plan plan;
    struct inference *inference; /* one of these two */
    struct kpa *kpa;
    struct traffic_load_view seen; /* at the last look */
    int64_t seen_ms;               /* -1: not yet */
    double in_flight, rps;         /* of the last while; -1: not measured */
    int32_t ready;
    bool had_figures, figures_lost; /* its replicas told of themselves once, and do not now */
    bool found;                     /* in this round */
    struct scale_decision told;     /* the last one in the decision log */
    struct counters counters;
};

struct autoscale_table {
    struct autoscale_record *buckets[BUCKETS]; /* by namespace and name */
    struct replica_figures *figures;           /* of this round; may be NULL */
};

static const struct metric_family desired_replicas = {
    .type = METRIC_GAUGE,
    .name = "inferd_autoscaler_desired_replicas",
    .help = "Replicas that the autoscaler asks for.",
    .labels = {"namespace", "inferenceservice"},
};
static const struct metric_family ready_replicas = {
    .type = METRIC_GAUGE,
    .name = "inferd_autoscaler_ready_replicas",
    .help = "Replicas that serve.",
    .labels = {"namespace", "inferenceservice"},
};
static const struct metric_family decisions_total = {
    .type = METRIC_COUNTER,
    .name = "inferd_autoscaler_decisions_total",
    .help = "Looks at a service, by the reason for what was decided.",
    .labels = {"namespace", "inferenceservice", "reason"},
};

/* ---- records ---- */

struct autoscale_table *autoscale_table_create(void) {
    return mem_alloc(sizeof(struct autoscale_table));
}

static void drop_deciders(struct autoscale_record *r) {
    inference_destroy(steal(r->inference));
    kpa_destroy(steal(r->kpa));
}

static void record_destroy(struct autoscale_record *r) {
    drop_deciders(r);
    free(r->ns);
    free(r->name);
    free(r);
}

void autoscale_table_destroy(struct autoscale_table *t) {
    if (!t)
        return;
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct autoscale_record *r = t->buckets[i], *next; r; r = next) {
            next = r->next;
            record_destroy(r);
        }
    }
    free(t);
}

static struct autoscale_record **bucket_of(struct autoscale_table *t, const char *ns,
                                           const char *name) {
    uint32_t h = 2166136261u; /* FNV-1a */
    for (const char *p = ns; *p; p++)
        h = (h ^ (uint8_t)*p) * 16777619u;
    for (const char *p = name; *p; p++)
        h = (h ^ (uint8_t)*p) * 16777619u;
    return &t->buckets[h % BUCKETS];
}

static struct autoscale_record *open_record(struct autoscale_table *t, const char *ns,
                                            const char *name) {
    struct autoscale_record **bucket = bucket_of(t, ns, name);
    for (struct autoscale_record *r = *bucket; r; r = r->next) {
        if (!strcmp(r->ns, ns) && !strcmp(r->name, name))
            return r;
    }
    struct autoscale_record *r = mem_alloc(sizeof(*r));
    r->ns = mem_strdup(ns);
    r->name = mem_strdup(name);
    r->seen_ms = -1;
    r->next = *bucket;
    *bucket = r;
    return r;
}

static uint32_t sweep_bucket(struct autoscale_record **bucket) {
    uint32_t num = 0;
    for (struct autoscale_record **at = bucket; *at;) {
        struct autoscale_record *r = *at;
        if (r->found) {
            r->found = false;
            num++;
            at = &r->next;
        } else {
            *at = r->next;
            record_destroy(r);
        }
    }
    return num;
}

/* Services that are gone, or do not scale any more. Gives how many are left. */
static uint32_t sweep(struct autoscale_table *t) {
    uint32_t num = 0;
    for (size_t i = 0; i < BUCKETS; i++)
        num += sweep_bucket(&t->buckets[i]);
    return num;
}

/* A status write changes the object's revision as well: only another plan costs the windows. */
static void renew_plan(struct world *w, struct autoscale_record *r, const struct store_object *o) {
    struct autoscale_plan plan;
    if (r->revision == o->revision)
        return;
    r->revision = o->revision;
    autoscale_plan(o->json, w->config, &plan);
    if (autoscale_plan_equal(&plan, &r->plan))
        return;
    r->had_figures = false;
    drop_deciders(r);
    r->plan = plan;
    if (plan.rule == AUTOSCALE_KNATIVE)
        r->kpa = kpa_create(&plan.kpa);
    else if (plan.rule == AUTOSCALE_INFERENCE)
        r->inference = inference_create(&plan.inference);
}

/* ---- measuring ---- */

/* From the start of the process to its readiness, of the replica that was ready last. */
static void measure_start(struct world *w, const struct autoscale_record *r,
                          struct traffic_load *load) {
    AUTO_STORE_LIST pods = {0};
    int64_t latest_ms = 0;
    world_list(w, KIND_POD, r->ns, &pods);
    for (size_t i = 0; i < pods.num_items; i++) {
        const json_t *pod = pods.items[i]->json;
        const char *of = object_label(pod, ISVC_LABEL);
        const struct replica_key key = {object_uid(pod), object_str(pod, "spec.containers.0.name")};
        struct replica_state s;
        if (!of || strcmp(of, r->name) != 0 || !key.uid || !key.container ||
            !w->driver.get(w->driver.self, &key, &s) || s.ready_ms <= latest_ms)
            continue;
        latest_ms = s.ready_ms;
        int64_t took_ms = s.ready_ms - s.started_ms;
        load->start_ms = took_ms < 1 ? 1 : took_ms;
    }
}

static void sample(struct world *w, struct autoscale_record *r, const struct traffic_service *s) {
    r->in_flight = r->rps = -1;
    if (!s || !s->turn)
        return;
    struct traffic_load_view v;
    traffic_load_read(&s->turn->load, w->mono_ms * 1000000, &v);
    int32_t ready = (int32_t)traffic_num_ready(s);
    if (ready > r->ready)
        measure_start(w, r, &s->turn->load);
    if (ready)
        s->turn->load.starting_since_ms = 0;
    r->ready = ready;
    int64_t since_ms = w->mono_ms - r->seen_ms;
    if (r->seen_ms < 0 || since_ms < SAMPLE_MS_MIN) {
        r->in_flight = v.open;
        r->rps = v.open;
        if (r->seen_ms >= 0)
            return;
    } else {
        double seconds = (double)since_ms / 1000;
        r->in_flight = (v.request_seconds - r->seen.request_seconds) / seconds;
        r->rps = (double)(v.arrivals - r->seen.arrivals) / seconds;
    }
    r->seen = v;
    r->seen_ms = w->mono_ms;
}

/* What its replicas say. Those that once did and do not answer now are no reason to go down; those
 * that never did, answer without it, or were not asked yet (they have just started) are. */
static void add_figures(const struct autoscale_table *t, struct autoscale_record *r,
                        struct inference_sample *m) {
    const struct replica_figure *f = replica_figures_find(t->figures, r->ns, r->name);
    if (f) {
        m->kv_usage = f->kv_usage;
        m->queued_tokens = f->queued_tokens;
        m->ttft_p95_seconds = f->ttft_p95_seconds;
        m->itl_p95_seconds = f->itl_p95_seconds;
        m->tokens_per_second = f->tokens_per_second;
    }
    r->had_figures = r->had_figures || m->kv_usage >= 0;
    r->figures_lost = r->had_figures && r->ready > 0 && f && f->up < 1 && m->kv_usage < 0;
}

/* ---- deciding ---- */

static void decide(struct world *w, struct autoscale_record *r, const struct traffic_service *s,
                   int32_t current, struct scale_decision *d) {
    if (r->kpa) {
        double load = r->plan.kpa.metric == KPA_RPS ? r->rps : r->in_flight;
        if (load >= 0)
            kpa_record(r->kpa, w->mono_ms, load);
        kpa_decide(r->kpa, w->mono_ms, r->ready, current, d);
    } else {
        int64_t start_ms = s && s->turn ? s->turn->load.start_ms : 0;
        struct inference_sample m = {.in_flight = r->in_flight,
                                     .queued_tokens = -1,
                                     .kv_usage = -1,
                                     .ttft_p95_seconds = -1,
                                     .itl_p95_seconds = -1,
                                     .tokens_per_second = -1,
                                     .start_ms = start_ms ? start_ms : START_MS_UNKNOWN,
                                     .ready = r->ready,
                                     .current = current};
        add_figures(w->autoscale, r, &m);
        inference_decide(r->inference, w->mono_ms, &m, d);
        if (r->figures_lost && d->replicas < current && current <= r->plan.max) {
            d->replicas = current;
            d->reason = "MissingMetrics";
        }
    }
    if (s && s->turn && atomic_exchange(&s->turn->load.waiting, false) && !d->replicas) {
        d->replicas =
            r->plan.kpa.activation_scale < r->plan.max ? r->plan.kpa.activation_scale : r->plan.max;
        d->reason = "RequestWaits";
    }
}

static void count(struct world *w, struct autoscale_record *r, const struct scale_decision *d) {
    struct counters *c = &r->counters;
    if (!w->metrics)
        return;
    const char *values[] = {r->ns, r->name, d->reason};
    if (!c->desired) {
        c->desired = metrics_get(w->metrics, &desired_replicas, values);
        c->ready = metrics_get(w->metrics, &ready_replicas, values);
    }
    if (!c->reason || strcmp(c->reason, d->reason) != 0) {
        c->decisions = metrics_get(w->metrics, &decisions_total, values);
        c->reason = d->reason;
    }
    metric_set(c->desired, d->replicas);
    metric_set(c->ready, r->ready);
    metric_add(c->decisions, 1);
}

static const char *rule_name(enum autoscale_rule rule) {
    return rule == AUTOSCALE_KNATIVE ? "knative" : "inference";
}

/* A decision that says the same from the same is no news. */
static void note(struct world *w, struct autoscale_record *r, int32_t current,
                 const struct scale_decision *d) {
    struct log_quoted q;
    bool same = r->told.reason && r->told.replicas == d->replicas &&
                !strcmp(r->told.reason, d->reason) && !strcmp(r->told.inputs, d->inputs);
    if (same)
        return;
    r->told = *d;
    decision_log_add(w->decisions, w->wall_ms,
                     "namespace=%s inferenceservice=%s rule=%s from=%d to=%d reason=%s inputs=%s",
                     r->ns, r->name, rule_name(r->plan.rule), current, d->replicas, d->reason,
                     log_quote(&q, d->inputs));
}

/* The replicas are this controller's then, under the name that tools look for (Argo CD ignores what
 * kube-controller-manager owns), and who applies the Deployment anew meets a conflict. */
static enum errc set_replicas(struct world *w, const struct store_object *deployment,
                              int32_t replicas, struct error *err) {
    const struct owner owner = {.manager = "kube-controller-manager",
                                .api_version = "apps/v1",
                                .subresource = "scale",
                                .wall_ms = w->wall_ms};
    json_t *updated = json_deep_copy(deployment->json);
    object_set(updated, "spec.replicas", json_integer(replicas));
    owners_take(updated, "spec.replicas", &owner);
    return world_update(w, deployment, updated, NULL, err);
}

static void tell(struct world *w, const json_t *isvc, const struct autoscale_record *r,
                 int32_t current, const struct scale_decision *d) {
    bool changed = d->replicas != current;
    struct log_quoted q;
    if (changed) {
        log_info("scaled",
                 "namespace=%s inferenceservice=%s rule=%s from=%d to=%d reason=%s inputs=%s",
                 r->ns, r->name, rule_name(r->plan.rule), current, d->replicas, d->reason,
                 log_quote(&q, d->inputs));
        event_emit(w, isvc, EVENT_NORMAL, "SuccessfulRescale", COMPONENT,
                   "New size: %d (was %d); reason: %s", d->replicas, current, d->reason);
    } else {
        log_debug("not scaled", "namespace=%s inferenceservice=%s rule=%s replicas=%d reason=%s",
                  r->ns, r->name, rule_name(r->plan.rule), current, d->reason);
    }
}

static void look_at(struct world *w, const struct traffic_table *table,
                    const struct store_object *isvc) {
    const char *ns = object_namespace(isvc->json), *name = object_name(isvc->json);
    AUTO_FREE char *child = isvc_predictor_child(isvc->json);
    struct autoscale_record *r = open_record(w->autoscale, ns, name);
    renew_plan(w, r, isvc);
    const struct traffic_service *s = traffic_find(table, ns, name);
    if (!autoscale_decides(r->plan.rule)) {
        if (s && s->turn && atomic_exchange(&s->turn->load.waiting, false))
            scaled_object_wake(w, ns, child); /* else nobody here starts it */
        return;                               /* and the record is swept away */
    }
    r->found = true;
    AUTO(store_object) deployment = world_get(w, KIND_DEPLOYMENT, ns, child);
    if (!deployment || !object_controlled_by(deployment->json, isvc->json))
        return;
    int32_t current = (int32_t)object_int(deployment->json, "spec.replicas", 1);
    sample(w, r, s);
    if (!current && r->plan.min > 0)
        return; /* switched off by hand */
    struct scale_decision d;
    decide(w, r, s, current, &d);
    count(w, r, &d);
    note(w, r, current, &d);
    struct error err = ERROR_INIT;
    struct log_quoted q;
    if (d.replicas != current && set_replicas(w, deployment, d.replicas, &err)) {
        log_warn("replicas cannot be set, trying again",
                 "namespace=%s inferenceservice=%s replicas=%d error=%s", ns, name, d.replicas,
                 log_quote(&q, err.text));
        return;
    }
    if (!current && d.replicas && s && s->turn)
        s->turn->load.starting_since_ms = w->mono_ms;
    tell(w, isvc->json, r, current, &d);
}

uint32_t autoscale_tick(struct world *w) {
    AUTO_STORE_LIST all = {0};
    AUTO(traffic_table) table = traffic_current(w->traffic);
    AUTO(replica_figures) figures = w->figures ? figure_reader_latest(w->figures) : NULL;
    w->autoscale->figures = figures;
    world_list(w, KIND_INFERENCE_SERVICE, NULL, &all);
    for (size_t i = 0; i < all.num_items; i++) {
        if (!object_deleting(all.items[i]->json))
            look_at(w, table, all.items[i]);
    }
    w->autoscale->figures = NULL;
    return sweep(w->autoscale);
}
