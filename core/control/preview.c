/* The scheduler, in thought. The pods that an object would have are made as its controller would
 * make them, and placed one after the other by the function that places them in earnest, in a room
 * of its own: nothing of it is written, and the next dry run knows nothing of this one.
 *
 * It is a look at this moment: what other writers do until then is not in it. */
#include "core/control/preview.h"

#include <inttypes.h>
#include <pthread.h>

#include "core/base/clock.h"
#include "core/control/admission.h"
#include "core/control/isvc_predictor.h"
#include "core/control/labels.h"
#include "core/control/placement.h"
#include "core/control/scheduler.h"

struct preview {
    pthread_mutex_t lock; /* of all below */
    bool furnished;
    struct store *store;
    const struct config *config;
    memory_need_fn *memory_need;
    void *memory_gauge;
    char *node_name, *node_ip, *program, *run_dir, *models_dir, *hf_cache_dir;
    struct model_driver models; /* for whether there is a store; nothing is wanted of it */
    struct devices *devices;    /* NULL: none */
};

struct preview *preview_create(void) {
    struct preview *p = mem_alloc(sizeof(*p));
    pthread_mutex_init(&p->lock, NULL);
    return p;
}

void preview_destroy(struct preview *p) {
    if (!p)
        return;
    devices_destroy(p->devices);
    free(p->node_name);
    free(p->node_ip);
    free(p->program);
    free(p->run_dir);
    free(p->models_dir);
    free(p->hf_cache_dir);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

void preview_furnish(struct preview *p, const struct world *w) {
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    ASSERT(!p->furnished);
    p->store = w->store;
    p->config = w->config;
    p->memory_need = w->memory_need;
    p->memory_gauge = w->memory_gauge;
    p->node_name = mem_strdup(w->node_name);
    p->node_ip = mem_strdup(w->node_ip);
    p->program = mem_strdup(w->program);
    p->run_dir = mem_strdup(w->run_dir);
    p->models_dir = mem_strdup(w->models_dir);
    p->models = w->models;
    p->hf_cache_dir = mem_strdup(w->hf_cache_dir);
    p->furnished = true;
    pthread_mutex_unlock(&p->lock);
}

void preview_set_devices(struct preview *p, const struct devices *d) {
    if (!p)
        return;
    struct devices *copy = d ? mem_dup(d, sizeof(*d)) : NULL;
    pthread_mutex_lock(&p->lock);
    struct devices *was = p->devices;
    p->devices = copy;
    pthread_mutex_unlock(&p->lock);
    devices_destroy(was);
}

/* ---- one look ---- */

/* Everything that one look needs, as it is at its beginning. */
struct look {
    struct world w; /* for reading */
    struct devices *devices;
    struct store_object *node; /* NULL: there is none */
    struct store_list pods, budgets;
    struct placement_room *room;
    json_t *placed;      /* the pods of this look, which the room borrows */
    bool *gone;          /* by place in the room: taken away in thought */
    size_t num_known;    /* how many of `gone` there are */
    const json_t *owner; /* of which old pods may leave for new ones; NULL: nobody's */
    bool by_label;       /* the owner is an InferenceService */
    json_t *warnings;    /* borrowed */
    int64_t deadline_ms;
};

/* False: there is nothing to look at yet. */
static bool look_begin(struct preview *p, struct look *l, json_t *warnings) {
    *l = (struct look){.warnings = warnings, .deadline_ms = clock_mono_ms() + PREVIEW_MS_MAX};
    pthread_mutex_lock(&p->lock);
    bool furnished = p->furnished;
    l->w = (struct world){.store = p->store,
                          .config = p->config,
                          .memory_need = p->memory_need,
                          .memory_gauge = p->memory_gauge,
                          .node_name = p->node_name,
                          .node_ip = p->node_ip,
                          .program = p->program,
                          .run_dir = p->run_dir,
                          .models = p->models,
                          .models_dir = p->models_dir,
                          .hf_cache_dir = p->hf_cache_dir,
                          .wall_ms = clock_wall_ms(),
                          .mono_ms = clock_mono_ms()};
    l->devices = p->devices ? mem_dup(p->devices, sizeof(*p->devices)) : NULL;
    pthread_mutex_unlock(&p->lock);
    if (!furnished)
        return false;
    l->node = world_get(&l->w, KIND_NODE, NULL, l->w.node_name);
    world_list(&l->w, KIND_POD, NULL, &l->pods);
    world_list(&l->w, KIND_POD_DISRUPTION_BUDGET, NULL, &l->budgets);
    l->placed = json_array();
    return true;
}

static void look_end(struct look *l) {
    placement_room_destroy(l->room);
    json_decref(l->placed);
    free(l->gone);
    store_list_deinit(&l->pods);
    store_list_deinit(&l->budgets);
    store_object_unref(l->node);
    devices_destroy(l->devices);
}

/* Who counts depends on how important the pod is; all pods of a look are alike. */
static void make_room(struct look *l, const json_t *pod) {
    if (l->room)
        return;
    l->room = placement_room_create(l->node ? l->node->json : NULL, l->devices);
    for (size_t i = 0; i < l->pods.num_items; i++) {
        if (placement_counts(l->pods.items[i]->json, pod, l->w.node_name))
            placement_room_add(l->room, l->pods.items[i]->json);
    }
    l->num_known = placement_room_num(l->room);
    l->gone = mem_array(l->num_known + 1, sizeof(l->gone[0]));
}

static void take_away(struct look *l, const json_t *pod) {
    for (size_t i = 0; i < l->num_known; i++) {
        if (placement_room_pod(l->room, i) == pod && !l->gone[i]) {
            placement_room_remove(l->room, i);
            l->gone[i] = true;
        }
    }
}

/* ---- words ---- */

static void put_bytes(struct buf *out, int64_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < ARRAY_LEN(units)) {
        value /= 1024;
        unit++;
    }
    buf_printf(out, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

/* What it takes, as placement has counted it. */
static void put_memory(struct buf *out, const json_t *asking, const struct error *why) {
    static const struct {
        const char *name, *part;
    } parts[] = {{"weights", "weights"},     {"model file", "modelFile"}, {"KV cache", "kvCache"},
                 {"workspace", "workspace"}, {"requests", "requests"},    {"process", "process"}};
    const char *text = object_annotation(asking, PLACEMENT_MEMORY_ANNOTATION);
    json_t *need = text ? json_loads(text, 0, NULL) : NULL;
    int64_t bytes = object_int(need, "bytes", 0);
    int64_t asked = placement_request(asking, "memory") / 1000;
    if (bytes || asked) {
        buf_puts(out, "; it takes ");
        put_bytes(out, bytes ? bytes : asked);
        buf_puts(out, " of memory");
    } else if (why->code) {
        buf_printf(out, "; how much memory it takes is not known: %.200s", why->text);
    }
    bool any = false;
    for (size_t i = 0; bytes && i < ARRAY_LEN(parts); i++) {
        int64_t part = object_int(need, parts[i].part, 0);
        if (!part)
            continue;
        buf_printf(out, "%s%s ", any ? ", " : " (", parts[i].name);
        put_bytes(out, part);
        any = true;
    }
    buf_puts(out, any ? ")" : "");
    json_decref(need);
}

static void put_devices(const struct look *l, struct buf *out, const json_t *given) {
    const char *resource;
    json_t *list, *uuid;
    size_t i;
    json_object_foreach ((json_t *)(uintptr_t)given, resource, list) {
        json_array_foreach (list, i, uuid) {
            const struct device *d = devices_find(l->devices, json_string_value(uuid));
            buf_printf(out, ", %s %s (%s)", resource, json_string_value(uuid),
                       d ? l->devices->gpus[d->gpu].product : "gone");
        }
    }
}

/* Names of another namespace are nobody's business here. */
static void put_victims(struct buf *out, const json_t *pod, const struct placement *p) {
    for (size_t v = 0; v < p->num_victims; v++) {
        const json_t *victim = p->victims[v];
        const char *ns = object_namespace(victim), *own = object_namespace(pod);
        bool mine = ns && own && !strcmp(ns, own);
        buf_printf(out, "%s%s%s (priority %" PRId64 ")", v ? ", " : " would preempt ",
                   mine ? "pod " : "a pod of another namespace", mine ? object_name(victim) : "",
                   placement_priority(victim));
    }
    if (p->num_violations)
        buf_puts(out, ", against their disruption budget");
}

/* ---- placing ---- */

static bool is_own(const struct look *l, const json_t *pod) {
    const char *ns = object_namespace(pod), *own = object_namespace(l->owner);
    if (!l->owner || !ns || !own || strcmp(ns, own) != 0)
        return false;
    const char *isvc = object_label(pod, ISVC_LABEL);
    return l->by_label ? isvc && !strcmp(isvc, object_name(l->owner))
                       : labels_selector_match(object_at(l->owner, "spec.selector"),
                                               object_at(pod, "metadata.labels"));
}

/* Lets pods of the present revision go, one after the other, until the new one fits. */
static bool fits_when_old_ones_leave(struct look *l, const json_t *asking,
                                     const struct placement_options *opt, struct placement *p) {
    for (size_t i = 0; i < l->num_known && !p->fits; i++) {
        if (l->gone[i] || !is_own(l, placement_room_pod(l->room, i)))
            continue;
        take_away(l, placement_room_pod(l->room, i));
        placement_deinit(p);
        placement_decide(asking, opt, p);
    }
    return p->fits;
}

/* It stays in the room. */
static void settle(struct look *l, const json_t *asking, const struct placement *p) {
    json_t *bound = json_deep_copy(asking);
    AUTO_FREE char *devices = p->devices ? json_dumps(p->devices, JSON_COMPACT) : NULL;
    object_set(bound, "spec.nodeName", json_string(l->w.node_name));
    if (devices && !object_at(bound, "metadata.annotations"))
        object_set(bound, "metadata.annotations", json_object());
    if (devices)
        json_object_set_new(object_at(bound, "metadata.annotations"), PLACEMENT_DEVICES_ANNOTATION,
                            json_string(devices));
    placement_room_add(l->room, bound);
    json_array_append_new(l->placed, bound);
}

/* Places one pod and tells of it. */
static void tell_pod(struct look *l, const json_t *pod, const char *label) {
    AUTO_BUF out = BUF_INIT;
    struct error why = ERROR_INIT;
    struct placement p;
    make_room(l, pod);
    const struct placement_options opt = {.node = l->node ? l->node->json : NULL,
                                          .room = l->room,
                                          .budgets = &l->budgets,
                                          .cpu_fallback = l->w.config->cpu_fallback};
    json_t *asking = scheduler_ask(&l->w, pod, l->room, &why);
    placement_decide(asking, &opt, &p);
    buf_puts(&out, label);
    bool waits_for_old = !p.fits && fits_when_old_ones_leave(l, asking, &opt, &p);
    if (!p.fits && p.num_victims) {
        put_victims(&out, pod, &p);
        for (size_t v = 0; v < p.num_victims; v++)
            take_away(l, p.victims[v]);
        placement_deinit(&p);
        placement_decide(asking, &opt, &p);
        buf_puts(&out, p.fits ? " and" : "");
    }
    if (p.fits) {
        buf_printf(&out, " would go to node %s", l->w.node_name);
        put_devices(l, &out, p.devices);
        if (*p.fallback)
            buf_printf(&out, ", on the CPU for want of %s", p.fallback);
        if (waits_for_old)
            buf_puts(&out, ", when a replica of the present revision has left");
        settle(l, asking, &p);
    } else {
        buf_printf(&out, " would be Pending: %s", p.message);
    }
    put_memory(&out, asking, &why);
    json_array_append_new(l->warnings, json_string(out.data));
    placement_deinit(&p);
    json_decref(asking);
}

/* Gives the pod that a controller would make of the template; NULL: it would be refused, as told.
 */
static json_t *make_pod(struct look *l, const json_t *owner, const json_t *template) {
    struct error err = ERROR_INIT;
    json_t *pod = json_deep_copy(template);
    object_set(pod, "metadata.name", json_sprintf("%.200s-preview", object_name(owner)));
    object_set(pod, "metadata.namespace", json_string(object_namespace(owner)));
    object_set(pod, "metadata.uid", json_string("00000000-0000-4000-8000-000000000000"));
    if (!admission_assign(l->w.store, "core", "pods", pod, NULL, &err))
        return pod;
    json_array_append_new(l->warnings, json_sprintf("no replica would be created: %s", err.text));
    json_decref(pod);
    return NULL;
}

static void tell_replicas(struct look *l, const json_t *owner, const json_t *template,
                          int64_t num) {
    json_t *pod = num > 0 ? make_pod(l, owner, template) : NULL;
    int64_t i = 0;
    for (; pod && i < num && i < PREVIEW_REPLICAS_MAX && clock_mono_ms() < l->deadline_ms; i++) {
        AUTO_FREE char *label = mem_printf("replica %" PRId64 " of %" PRId64, i + 1, num);
        tell_pod(l, pod, label);
    }
    if (pod && i < num)
        json_array_append_new(l->warnings, json_sprintf("%lld more replicas were not looked at",
                                                        (long long)(num - i)));
    json_decref(pod);
}

/* ---- by kind ---- */

/* A changed template is a revision of its own, beside the present one; else only what is added. */
static void tell_change(struct look *l, const json_t *object, const json_t *template,
                        const json_t *old_template, const int64_t num[2]) {
    bool same = old_template &&
                json_equal((json_t *)(uintptr_t) template, (json_t *)(uintptr_t)old_template);
    l->owner = old_template && !same ? object : NULL;
    tell_replicas(l, object, template, same ? num[0] - num[1] : num[0]);
}

static void tell_replicated(struct look *l, const json_t *object, const json_t *old) {
    tell_change(l, object, object_at(object, "spec.template"),
                old ? object_at(old, "spec.template") : NULL,
                (int64_t[]){object_int(object, "spec.replicas", 1),
                            old ? object_int(old, "spec.replicas", 1) : 0});
}

static void tell_isvc(struct look *l, const json_t *object, const json_t *old) {
    struct isvc_plan now, was = {0};
    int64_t num = object_int(object, "spec.predictor.minReplicas", 1);
    isvc_predictor_plan(&l->w, object, &now);
    if (old)
        isvc_predictor_plan(&l->w, old, &was);
    l->by_label = true;
    if (!now.template)
        json_array_append_new(
            l->warnings, json_sprintf("no replica would run: %s: %s", now.reason, now.message));
    else if (num > 0)
        tell_change(l, object, now.template, was.template,
                    (int64_t[]){num, old ? object_int(old, "spec.predictor.minReplicas", 1) : 0});
    else if (!was.template || !json_equal(now.template, was.template)) {
        json_t *pod = make_pod(l, object, now.template);
        if (pod)
            tell_pod(l, pod, "minReplicas is 0: the replica that the first request starts");
        json_decref(pod);
    }
    isvc_plan_deinit(&now);
    isvc_plan_deinit(&was);
}

void preview_tell(void *self, const char *group, const char *resource, const json_t *object,
                  const json_t *old, json_t *warnings) {
    struct preview *p = self;
    struct look l;
    bool pods = !strcmp(group, "core") && !strcmp(resource, "pods");
    bool replicated = !strcmp(group, "apps") &&
                      (!strcmp(resource, "deployments") || !strcmp(resource, "replicasets"));
    bool services = !strcmp(group, "serving.kserve.io") && !strcmp(resource, "inferenceservices");
    if (!pods && !replicated && !services)
        return;
    if (look_begin(p, &l, warnings)) {
        if (services)
            tell_isvc(&l, object, old);
        else if (replicated)
            tell_replicated(&l, object, old);
        else if (!old && !object_str(object, "spec.nodeName"))
            tell_pod(&l, object, "the pod");
    }
    look_end(&l);
}
