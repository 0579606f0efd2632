/* The controller of ScaledObjects, thin around core/scale/keda.h and hpa.h.
 *
 *   poll ──▶ triggers: here at once, elsewhere by the series thread ──▶ all there? ──▶ decide
 *     ▲                                             answers, by the inbox ─┘             │
 *     └── pollingInterval (with replicas: the HorizontalPodAutoscaler's period too) ◀────┘
 *
 * In a cluster KEDA makes a HorizontalPodAutoscaler for the part above one, which asks KEDA for the
 * metrics again. Here one look does both parts: activation between zero and one, then the HPA's
 * rule with its behaviour; there is no second object (ADR 26).
 *
 * What is remembered: since when nobody asks (also in status.lastActiveTime, so a restart does not
 * forget it), how often each trigger failed in a row, and the HPA's windows. An error of a trigger
 * never scales down; see core/scale/keda.c.
 *
 * Source: keda.sh/docs; reasons and messages as KEDA's, which people and tools look for. */
#include "core/control/scaled_object.h"

#include <pthread.h>
#include <stdio.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/control/events.h"
#include "core/control/pod_autoscaler_metrics.h"
#include "core/control/scale_target.h"
#include "core/control/scaled_object_spec.h"
#include "core/control/scaled_object_status.h"
#include "core/control/trigger.h"
#include "core/control/trigger_auth.h"
#include "core/decision_log.h"

static const char COMPONENT[] = "keda-operator";

enum { WAKE_TRIES_MAX = 5 }; /* while others write the Deployment */

struct answer {
    struct answer *next;
    char *ns, *name;
    uint64_t poll;
    uint32_t sensor;
    int status;
    char *body, *error;
    size_t body_len;
};

struct inbox {
    pthread_mutex_t lock;
    struct answer *first, **end;
    void (*notify)(void *user);
    void *user;
};

struct record {
    struct record *next;
    char *ns, *name, *uid;
    json_t *object; /* a copy, which specs and triggers borrow from */
    struct scaled_object_spec spec;
    struct error broken; /* why it does not scale; no code: it does */
    struct keda_state keda;
    struct hpa_history history;
    struct sensor sensors[KEDA_TRIGGERS_MAX];
    uint32_t num_sensors;
    char *target_key; /* of the store; NULL: not found yet */
    uint64_t poll;    /* which one it is */
    int64_t next_poll_ms;
    bool undecided;          /* a poll is over, or nearly */
    const char *told_reason; /* in the decision log, last; NULL: nothing */
    int32_t told_replicas;
};

struct scaled_object_table {
    struct record *records;
    struct inbox inbox;
};

/* ---- records ---- */

struct scaled_object_table *scaled_object_table_create(void (*notify)(void *user), void *user) {
    struct scaled_object_table *t = mem_alloc(sizeof(*t));
    pthread_mutex_init(&t->inbox.lock, NULL);
    t->inbox.end = &t->inbox.first;
    t->inbox.notify = notify;
    t->inbox.user = user;
    return t;
}

static void drop_sensors(struct record *r) {
    for (uint32_t i = 0; i < r->num_sensors; i++)
        trigger_deinit(&r->sensors[i].trigger);
    memset(r->sensors, 0, sizeof(r->sensors));
    r->num_sensors = 0;
}

static void record_free(struct record *r) {
    drop_sensors(r);
    json_decref(r->object);
    free(r->ns);
    free(r->name);
    free(r->uid);
    free(r->target_key);
    free(r);
}

static void answer_free(struct answer *a) {
    free(a->ns);
    free(a->name);
    free(a->body);
    free(a->error);
    free(a);
}

void scaled_object_table_destroy(struct scaled_object_table *t) {
    if (!t)
        return;
    for (struct record *r = t->records, *next; r; r = next) {
        next = r->next;
        record_free(r);
    }
    for (struct answer *a = t->inbox.first, *next; a; a = next) {
        next = a->next;
        answer_free(a);
    }
    pthread_mutex_destroy(&t->inbox.lock);
    free(t);
}

static struct record *find(struct scaled_object_table *t, const char *ns, const char *name) {
    struct record *r = t->records;
    while (r && (strcmp(r->name, name) != 0 || strcmp(r->ns, ns) != 0))
        r = r->next;
    return r;
}

static void forget(struct world *w, const char *ns, const char *name) {
    for (struct record **at = &w->scaled_objects->records; *at; at = &(*at)->next) {
        struct record *r = *at;
        if (strcmp(r->name, name) != 0 || strcmp(r->ns, ns) != 0)
            continue;
        *at = r->next;
        record_free(r);
        w->traffic_stale = true; /* who woke by it does not any more */
        return;
    }
}

/* Times of the wall, as this round's clock counts; never: -1. */
static int64_t mono_of(const struct world *w, const char *text) {
    int64_t wall_ms = text ? clock_parse_rfc3339(text) : -1;
    return wall_ms < 0 ? -1 : w->mono_ms - (w->wall_ms - wall_ms);
}

/* Before this clock began counts as its beginning. */
static int64_t at_least_zero(int64_t ms) {
    return ms < 0 ? 0 : ms;
}

static struct record *open_record(struct world *w, const json_t *o) {
    const char *ns = object_namespace(o), *name = object_name(o), *uid = object_uid(o);
    struct record *r = find(w->scaled_objects, ns, name);
    if (r && !strcmp(r->uid, uid ? uid : ""))
        return r;
    forget(w, ns, name); /* one of the same name that is gone */
    r = mem_alloc(sizeof(*r));
    r->ns = mem_strdup(ns);
    r->name = mem_strdup(name);
    r->uid = mem_strdup(uid ? uid : "");
    const char *active = object_str(o, "status.lastActiveTime");
    r->keda.created_ms = at_least_zero(mono_of(w, object_str(o, "metadata.creationTimestamp")));
    r->keda.active_ms = active ? at_least_zero(mono_of(w, active)) : -1;
    r->next = w->scaled_objects->records;
    w->scaled_objects->records = r;
    return r;
}

static bool same_part(const json_t *a, const json_t *b, const char *path) {
    const json_t *x = object_at(a, path), *y = object_at(b, path);
    return x == y || (x && y && json_equal(x, y));
}

bool scaled_object_is_news(const struct store_event *e) {
    return e->type != STORE_MODIFIED || !e->previous || object_deleting(e->object->json) ||
           !same_part(e->previous->json, e->object->json, "spec") ||
           !same_part(e->previous->json, e->object->json, "metadata.annotations");
}

static enum errc make_sensors(struct world *w, struct record *r, struct error *err) {
    const json_t *list = object_at(r->object, "spec.triggers");
    if (scaled_object_spec(r->object, &r->spec, err))
        return err->code;
    bool all_resources = true;
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct trigger *t = &r->sensors[i].trigger;
        if (trigger_parse(json_array_get(list, i), (uint32_t)i, w->gateway_url, t, err))
            return err_wrap(err, "error getting scaler for trigger #%zu", i);
        r->num_sensors++;
        all_resources = all_resources && trigger_is_resource(t);
    }
    if (all_resources && !r->spec.keda.min_replicas)
        return err_set(err, ERR_INVALID,
                       "scaledobject has only cpu/memory triggers AND "
                       "minReplica is 0 (scale to zero doesn't work in this "
                       "case)");
    return OK;
}

/* Another spec begins another poll; answers of the old one count no more. */
static void renew(struct world *w, struct record *r, const json_t *o) {
    if (r->object && same_part(r->object, o, "spec") &&
        same_part(r->object, o, "metadata.annotations"))
        return;
    bool triggers_stay = r->object && same_part(r->object, o, "spec.triggers");
    struct sensor before[KEDA_TRIGGERS_MAX];
    memcpy(before, r->sensors, sizeof(before));
    uint32_t num_before = r->num_sensors;
    memset(r->sensors, 0, sizeof(r->sensors));
    r->num_sensors = 0;
    json_t *old = r->object;
    r->object = json_deep_copy(o);
    r->broken = ERROR_INIT;
    if (make_sensors(w, r, &r->broken))
        drop_sensors(r);
    for (uint32_t i = 0; i < num_before; i++) {
        if (triggers_stay && i < r->num_sensors)
            r->sensors[i].num_failures = before[i].num_failures;
        trigger_deinit(&before[i].trigger);
    }
    json_decref(old);
    r->poll++;
    r->next_poll_ms = 0;
    r->undecided = false;
}

/* ---- answers from elsewhere ---- */

struct question {
    struct inbox *inbox;
    struct answer *answer; /* addressed already */
};

/* In the series thread. */
static void on_answer(void *user, const struct http_got *got) {
    struct question *q = user;
    struct answer *a = q->answer;
    a->status = got->status;
    a->body = mem_strndup(got->body, got->body_len);
    a->body_len = got->body_len;
    a->error = mem_strdup(got->error);
    pthread_mutex_lock(&q->inbox->lock);
    *q->inbox->end = a;
    q->inbox->end = &a->next;
    pthread_mutex_unlock(&q->inbox->lock);
    if (q->inbox->notify)
        q->inbox->notify(q->inbox->user);
    free(q);
}

static void sensed(struct sensor *s, enum errc rc, const struct error *err) {
    s->asking = false;
    s->fails = rc != OK;
    s->num_failures = rc ? s->num_failures + 1 : 0;
    if (rc)
        s->error = *err;
}

static bool all_answered(const struct record *r) {
    for (uint32_t i = 0; i < r->num_sensors; i++) {
        if (r->sensors[i].asking)
            return false;
    }
    return true;
}

static void take_answer(struct world *w, const struct answer *a) {
    struct record *r = find(w->scaled_objects, a->ns, a->name);
    if (!r || r->poll != a->poll || a->sensor >= r->num_sensors || !r->sensors[a->sensor].asking)
        return; /* of a spec that is gone */
    struct sensor *s = &r->sensors[a->sensor];
    const struct http_got got = {a->status, a->body, a->body_len, a->error};
    struct error err = ERROR_INIT;
    sensed(s, trigger_answer(&s->trigger, &got, &s->value, &err), &err);
    if (all_answered(r))
        world_enqueue(w, KIND_SCALED_OBJECT, r->ns, r->name);
}

void scaled_object_take_answers(struct world *w) {
    struct inbox *in = &w->scaled_objects->inbox;
    pthread_mutex_lock(&in->lock);
    struct answer *a = steal(in->first);
    in->end = &in->first;
    pthread_mutex_unlock(&in->lock);
    for (struct answer *next; a; a = next) {
        next = a->next;
        take_answer(w, a);
        answer_free(a);
    }
}

/* ---- polling ---- */

static enum errc ask(struct world *w, struct record *r, uint32_t i, struct error *err) {
    json_t *auth = NULL;
    const struct trigger *t = &r->sensors[i].trigger;
    if (trigger_auth_open(w, r->ns, t->json, &auth, err))
        return err->code;
    struct question *q = mem_alloc(sizeof(*q));
    q->inbox = &w->scaled_objects->inbox;
    q->answer = mem_alloc(sizeof(*q->answer));
    *q->answer = (struct answer){
        .ns = mem_strdup(r->ns), .name = mem_strdup(r->name), .poll = r->poll, .sensor = i};
    enum errc rc = trigger_ask(t, auth, w->wall_ms, w->getter, on_answer, q, err);
    if (rc) {
        answer_free(q->answer);
        free(q);
    }
    json_decref(auth);
    return rc;
}

static void read_resource(struct world *w, const struct scale_target *target, struct sensor *s) {
    struct error err = ERROR_INIT;
    struct metric_reading reading;
    AUTO_METRIC_SCOPE scope;
    s->replicas = 0;
    if (!target->replicas) { /* nothing runs, nothing is used */
        sensed(s, OK, &err);
        return;
    }
    metric_scope_open(&scope, w, target);
    enum errc rc = metric_read(&scope, &s->trigger.resource, &reading, &err);
    sensed(s, rc, &err);
    if (rc)
        return;
    s->replicas = reading.replicas;
    metric_reading_deinit(&reading);
}

static void poll_triggers(struct world *w, struct record *r, const struct scale_target *target) {
    r->poll++;
    for (uint32_t i = 0; i < r->num_sensors; i++) {
        struct sensor *s = &r->sensors[i];
        struct error err = ERROR_INIT;
        if (trigger_is_resource(&s->trigger)) {
            read_resource(w, target, s);
        } else if (!trigger_is_remote(&s->trigger)) {
            enum errc rc = trigger_read(&s->trigger, w->series, r->ns, w->wall_ms, &s->value, &err);
            sensed(s, rc, &err);
        } else {
            s->asking = true;
            enum errc rc = ask(w, r, i, &err);
            if (rc)
                sensed(s, rc, &err);
        }
    }
    r->undecided = true;
}

/* ---- deciding ---- */

struct look {
    struct world *w;
    struct record *r;
    struct scale_target target;
    json_t *object; /* a copy that gets the new status */
    bool active;
    bool fallback;
};

static void list_triggers(const struct record *r, struct keda_trigger *out) {
    for (uint32_t i = 0; i < r->num_sensors; i++) {
        const struct sensor *s = &r->sensors[i];
        out[i] = (struct keda_trigger){.threshold = s->trigger.threshold,
                                       .activation_threshold = s->trigger.activation_threshold,
                                       .is_value = s->trigger.is_value,
                                       .fails = s->fails,
                                       .num_failures = s->num_failures,
                                       .value = s->value,
                                       .is_resource = trigger_is_resource(&s->trigger),
                                       .replicas = s->replicas};
    }
}

/* "Scaled apps/v1.Deployment default/web from 0 to 1": as KEDA tells it. */
static void tell(const struct look *l, int32_t from, int32_t to, const char *reason,
                 const char *inputs) {
    const json_t *o = l->target.object->json;
    const char *version = object_str(o, "apiVersion"), *kind = object_str(o, "kind");
    const char *name = object_name(o);
    struct log_quoted q;
    log_info(
        "scaled", "namespace=%s scaledobject=%s target=%s/%s from=%d to=%d reason=%s inputs=%s",
        l->r->ns, l->r->name, l->target.resource, name, from, to, reason, log_quote(&q, inputs));
    if (!from)
        event_emit(l->w, l->object, EVENT_NORMAL, "KEDAScaleTargetActivated", COMPONENT,
                   "Scaled %s.%s %s/%s from 0 to %d, triggered by %s", version, kind, l->r->ns,
                   name, to, inputs);
    else if (!to)
        event_emit(l->w, l->object, EVENT_NORMAL, "KEDAScaleTargetDeactivated", COMPONENT,
                   "Deactivated %s.%s %s/%s from %d to 0", version, kind, l->r->ns, name, from);
    else
        event_emit(l->w, l->object, EVENT_NORMAL, "SuccessfulRescale", COMPONENT,
                   "New size: %d (was %d); reason: %s; %s", to, from, reason, inputs);
}

static enum errc set_replicas(struct look *l, int32_t to, const char *reason, const char *inputs,
                              struct error *err) {
    int32_t from = l->target.replicas;
    if (to == from)
        return OK;
    if (scale_target_set(l->w, &l->target, to, err))
        return err->code;
    hpa_history_changed(&l->r->history, l->w->mono_ms, from, to);
    tell(l, from, to, reason, inputs);
    return OK;
}

/* Above one it is the HorizontalPodAutoscaler's business how fast. */
static int32_t paced(struct look *l, int32_t wanted) {
    struct hpa_decision h;
    hpa_decide(&l->r->history, &l->r->spec.hpa, l->w->mono_ms, l->target.replicas, wanted, &h);
    return h.replicas;
}

/* Into the decision log, where it is not what was decided before. */
static void note(struct record *r, struct world *w, int32_t current, int32_t to,
                 const struct scale_decision *d) {
    if (r->told_reason && !strcmp(r->told_reason, d->reason) && r->told_replicas == to &&
        current == to)
        return;
    decision_log_add(w->decisions, w->wall_ms,
                     "rule=keda namespace=%s scaledobject=%s from=%d to=%d reason=%s %s", r->ns,
                     r->name, current, to, d->reason, d->inputs);
    r->told_reason = d->reason;
    r->told_replicas = to;
}

static enum errc decide(struct look *l, struct error *err) {
    struct record *r = l->r;
    struct keda_trigger triggers[KEDA_TRIGGERS_MAX];
    struct scale_decision d;
    int32_t current = l->target.replicas, replicas;
    list_triggers(r, triggers);
    keda_decide(&r->keda, &r->spec.keda, triggers, r->num_sensors, l->w->mono_ms, current, &d);
    l->active = r->keda.active_ms == l->w->mono_ms;
    l->fallback = !strcmp(d.reason, "Fallback");
    bool voted = !strcmp(d.reason, "Triggers") || !strcmp(d.reason, "Cooldown");
    replicas = voted && current > 0 ? paced(l, d.replicas) : d.replicas;
    note(r, l->w, current, replicas, &d);
    return set_replicas(l, replicas, d.reason, d.inputs, err);
}

/* ---- whose pods they are ---- */

static enum errc managed_by(const struct look *l, const char *kind, const char *name,
                            struct error *err) {
    return err_set(
        err, ERR_INVALID, "the workload '%s' of type '%s.%s' is already managed by the %s '%s'",
        object_name(l->target.object->json), object_str(l->target.object->json, "apiVersion"),
        object_str(l->target.object->json, "kind"), kind, name);
}

static bool is(const char *text, const char *word) {
    return text && !strcmp(text, word);
}

/* Two that scale the same pods would undo each other's work: the one that came later does not. */
static enum errc check_alone(struct look *l, struct error *err) {
    AUTO(store_object) service = scale_target_service(l->w, &l->target);
    AUTO_STORE_LIST hpas = {0};
    if (service)
        return err_set(err, ERR_INVALID,
                       "InferenceService %s scales these pods itself; its annotation "
                       "serving.kserve.io/autoscalerClass: external leaves them to this object",
                       object_name(service->json));
    for (const struct record *other = l->w->scaled_objects->records; other; other = other->next) {
        if (other != l->r && is(other->target_key, l->target.object->key) && !other->broken.code)
            return managed_by(l, "ScaledObject", other->name, err);
    }
    world_list(l->w, KIND_HORIZONTAL_POD_AUTOSCALER, l->r->ns, &hpas);
    for (size_t i = 0; i < hpas.num_items; i++) {
        AUTO_SCALE_TARGET t = {0};
        struct error none = ERROR_INIT;
        const json_t *hpa = hpas.items[i]->json;
        if (!scale_target_open(l->w, l->r->ns, object_at(hpa, "spec.scaleTargetRef"), &t, &none) &&
            !strcmp(t.object->key, l->target.object->key))
            return managed_by(l, "hpa", object_name(hpa), err);
    }
    return OK;
}

static void set_target_key(struct look *l, const char *key) {
    if ((!key && !l->r->target_key) || is(l->r->target_key, key ? key : ""))
        return;
    free(l->r->target_key);
    l->r->target_key = mem_strdup(key);
    l->w->traffic_stale = true; /* its service wakes now, or does not any more */
}

static enum errc open_target(struct look *l, struct error *err) {
    json_t *ref = scaled_object_target(l->object);
    enum errc rc = scale_target_open(l->w, l->r->ns, ref, &l->target, err);
    json_decref(ref);
    if (!rc && check_alone(l, err)) {
        scale_target_close(&l->target);
        rc = err->code;
    }
    set_target_key(l, rc ? NULL : l->target.object->key);
    return rc ? err_wrap(err, "ScaledObject doesn't have correct scaleTargetRef specification")
              : OK;
}

/* ---- one look ---- */

static int64_t period_ms(const struct look *l) {
    int64_t sync_ms = l->w->config->hpa_sync_seconds * 1000;
    return l->target.replicas && sync_ms < l->r->spec.polling_ms ? sync_ms : l->r->spec.polling_ms;
}

static void write_status(struct look *l, const char *problem) {
    const struct scaled_object_view v = {.sensors = l->r->sensors,
                                         .num_sensors = l->r->num_sensors,
                                         .keda = &l->r->spec.keda,
                                         .target = problem ? NULL : &l->target,
                                         .problem = problem,
                                         .active = l->active,
                                         .fallback = l->fallback};
    scaled_object_status(l->w, l->object, &v);
}

/* False: it does not scale, and the status says why. */
static bool ready(struct look *l) {
    struct error err = ERROR_INIT;
    if (l->r->broken.code) {
        set_target_key(l, NULL);
        write_status(l, l->r->broken.text);
        return false;
    }
    if (open_target(l, &err)) {
        write_status(l, err.text);
        return false;
    }
    return true;
}

static bool is_paused(const struct record *r) {
    return r->spec.keda.paused || r->spec.keda.paused_replicas >= 0;
}

/* The next look is queued; OK also while answers are awaited. */
static enum errc look(struct look *l, struct error *err) {
    struct record *r = l->r;
    enum errc rc = OK;
    if (!ready(l)) {
        if (!r->broken.code) /* what is missing may come; a spec only changes with an event */
            world_enqueue_after(l->w, KIND_SCALED_OBJECT, r->ns, r->name, r->spec.polling_ms);
        return OK;
    }
    if (l->w->mono_ms >= r->next_poll_ms) {
        r->next_poll_ms = l->w->mono_ms + period_ms(l);
        if (is_paused(r))
            r->undecided = true;
        else
            poll_triggers(l->w, r, &l->target);
    }
    world_enqueue_after(l->w, KIND_SCALED_OBJECT, r->ns, r->name, r->next_poll_ms - l->w->mono_ms);
    if (!r->undecided || !all_answered(r))
        return OK;
    rc = decide(l, err);
    r->undecided = rc != OK; /* the object was written meanwhile, say: once more */
    write_status(l, NULL);
    return rc;
}

enum errc scaled_object_reconcile(struct world *w, const char *ns, const char *name,
                                  struct error *err) {
    AUTO(store_object) o = world_get(w, KIND_SCALED_OBJECT, ns, name);
    if (!o || object_deleting(o->json)) {
        forget(w, ns, name);
        return OK;
    }
    struct look l = {.w = w, .r = open_record(w, o->json), .object = json_deep_copy(o->json)};
    renew(w, l.r, o->json);
    enum errc rc = look(&l, err);
    struct error status_err = ERROR_INIT;
    enum errc status_rc = world_update(w, o, l.object, NULL, &status_err);
    if (!rc && status_rc) {
        *err = status_err;
        rc = status_rc;
    }
    scale_target_close(&l.target);
    return rc;
}

/* ---- requests that wait ---- */

static struct record *governor(struct world *w, const char *ns, const char *deployment) {
    const struct kind_row *row = kind_row(KIND_DEPLOYMENT);
    struct object_key key;
    object_key(&key, row->group, row->resource, ns, deployment);
    for (struct record *r = w->scaled_objects->records; r; r = r->next) {
        if (is(r->target_key, key.text) && !r->broken.code && !is_paused(r))
            return r;
    }
    return NULL;
}

bool scaled_object_governs(struct world *w, const char *ns, const char *deployment) {
    return governor(w, ns, deployment) != NULL;
}

static enum errc start_one(struct world *w, struct record *r, struct error *err) {
    struct look l = {.w = w, .r = r, .object = r->object};
    int32_t to = r->spec.keda.min_replicas > 1 ? r->spec.keda.min_replicas : 1;
    json_t *ref = scaled_object_target(r->object);
    enum errc rc = scale_target_open(w, r->ns, ref, &l.target, err);
    if (!rc && !l.target.replicas)
        rc = set_replicas(&l, to, "RequestWaits", "a request that waits", err);
    json_decref(ref);
    scale_target_close(&l.target);
    return rc;
}

void scaled_object_wake(struct world *w, const char *ns, const char *deployment) {
    struct record *r = governor(w, ns, deployment);
    struct error err = ERROR_INIT;
    struct log_quoted q;
    enum errc rc = ERR_CONFLICT;
    if (!r)
        return;
    r->keda.active_ms = w->mono_ms; /* the cooldown begins anew */
    for (int i = 0; rc == ERR_CONFLICT && i < WAKE_TRIES_MAX; i++)
        rc = start_one(w, r, &err);
    if (rc)
        log_warn("a request waits, and its replica cannot be started",
                 "namespace=%s scaledobject=%s error=%s", ns, r->name, log_quote(&q, err.text));
}
