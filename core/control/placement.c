/* Placement on one node. The filters run in kube-scheduler's order, and the first that fails is
 * told, with all that it has to say: unschedulable, taints, node selector and required node
 * affinity, then resources (placement_room.c).
 *
 * Only the last of these can be helped by pushing others off. Who is less important is taken away
 * in thought; does the pod fit then, they are given back one by one, while it still fits: first
 * those that a PodDisruptionBudget would not let go, then the others, of each the most important
 * first. The rest are its victims; budgets are heeded where that is possible, not always. Source:
 * kubernetes/pkg/scheduler (behaviour, order, texts). */
#include "core/control/placement.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/control/disruption.h"
#include "core/control/labels.h"
#include "core/object.h"

static const char NODES[] = "0/1 nodes are available: ";

/* Filters. Each tells why not; "": it has nothing against the pod. */

static bool text_equal(const char *a, const char *b) {
    return !strcmp(a ? a : "", b ? b : "");
}

/* The toleration that meets the taint, or NULL. */
static const json_t *toleration(const json_t *pod, const json_t *taint) {
    size_t i;
    json_t *t;
    json_array_foreach (object_at(pod, "spec.tolerations"), i, t) {
        const char *op = object_str(t, "operator"), *key = object_str(t, "key");
        const char *effect = object_str(t, "effect");
        bool exists = op && !strcmp(op, "Exists");
        if (effect && *effect && !text_equal(effect, object_str(taint, "effect")))
            continue;
        if (!key || !*key
                ? exists
                : text_equal(key, object_str(taint, "key")) &&
                      (exists || text_equal(object_str(t, "value"), object_str(taint, "value"))))
            return t;
    }
    return NULL;
}

static bool tolerated(const json_t *pod, const json_t *taint) {
    return toleration(pod, taint) != NULL;
}

static void check_cordon(const json_t *pod, const json_t *node, struct buf *out) {
    if (!object_bool(node, "spec.unschedulable", false))
        return;
    json_t *cordon =
        json_pack("{s:s, s:s}", "key", "node.kubernetes.io/unschedulable", "effect", "NoSchedule");
    if (!tolerated(pod, cordon))
        buf_puts(out, "1 node(s) were unschedulable");
    json_decref(cordon);
}

static void check_taints(const json_t *pod, const json_t *node, struct buf *out) {
    size_t i;
    json_t *taint;
    json_array_foreach (object_at(node, "spec.taints"), i, taint) {
        const char *effect = object_str(taint, "effect"), *value = object_str(taint, "value");
        /* A cordon is told once, by the word above. */
        if (text_equal(object_str(taint, "key"), "node.kubernetes.io/unschedulable") || !effect ||
            !strcmp(effect, "PreferNoSchedule") || tolerated(pod, taint))
            continue;
        buf_printf(out, "1 node(s) had untolerated taint {%s: %s}", object_str(taint, "key"),
                   value ? value : "");
        return; /* kube-scheduler names the first */
    }
}

/* A term is met when all its expressions are; an empty term never is. */
static bool term_matches(const json_t *term, const json_t *node) {
    static const char *const fields[] = {"matchExpressions", "matchFields"};
    json_t *by_field = json_pack("{s:s}", "metadata.name", object_name(node));
    size_t num = 0, i;
    bool all = true;
    json_t *e;
    for (size_t f = 0; f < ARRAY_LEN(fields); f++) {
        json_array_foreach (json_object_get(term, fields[f]), i, e) {
            all = all &&
                  labels_requirement_match(e, f ? by_field : object_at(node, "metadata.labels"));
            num++;
        }
    }
    json_decref(by_field);
    return all && num;
}

int64_t placement_stay_seconds(const json_t *pod, const json_t *node) {
    int64_t stay = -1;
    size_t i;
    json_t *taint;
    json_array_foreach (object_at(node, "spec.taints"), i, taint) {
        if (!text_equal(object_str(taint, "effect"), "NoExecute"))
            continue;
        const json_t *t = toleration(pod, taint);
        int64_t seconds = t ? object_int(t, "tolerationSeconds", -1) : 0;
        if (seconds >= 0 && (stay < 0 || seconds < stay))
            stay = seconds;
    }
    return stay;
}

static void check_selector(const json_t *pod, const json_t *node, struct buf *out) {
    const json_t *selector = object_at(pod, "spec.nodeSelector");
    const json_t *terms = object_at(pod, "spec.affinity.nodeAffinity."
                                         "requiredDuringSchedulingIgnoredDuringExecution."
                                         "nodeSelectorTerms");
    bool ok = !selector || !json_object_size(selector) ||
              object_labels_match(selector, object_at(node, "metadata.labels"));
    bool any_term = !json_is_array(terms);
    size_t i;
    json_t *term;
    json_array_foreach (terms, i, term)
        any_term = any_term || term_matches(term, node);
    if (!ok || !any_term)
        buf_puts(out, "1 node(s) didn't match Pod's node affinity/selector");
}

/* Who counts, and how much. */

int64_t placement_priority(const json_t *pod) {
    return json_integer_value(json_object_get(json_object_get(pod, "spec"), "priority"));
}

bool placement_counts(const json_t *other, const json_t *pod, const char *node_name) {
    const char *bound = object_str(other, "spec.nodeName");
    const char *phase = object_str(other, "status.phase");
    const char *nominated = object_str(other, "status.nominatedNodeName");
    if (phase && (!strcmp(phase, "Succeeded") || !strcmp(phase, "Failed")))
        return false;
    if (bound)
        return !strcmp(bound, node_name);
    return nominated && !strcmp(nominated, node_name) && !object_deleting(other) &&
           placement_priority(other) >= placement_priority(pod) &&
           !text_equal(object_uid(other), object_uid(pod));
}

/* Preemption. */

/* More important first: by priority, then who has run for longer. */
static int compare_importance(const void *a, const void *b) {
    const json_t *x = *(const json_t *const *)a, *y = *(const json_t *const *)b;
    int64_t px = placement_priority(x), py = placement_priority(y);
    if (px != py)
        return px > py ? -1 : 1;
    const char *sx = object_str(x, "status.startTime"), *sy = object_str(y, "status.startTime");
    return strcmp(sx ? sx : "~", sy ? sy : "~");
}

struct candidate {
    const json_t *pod; /* first: what compare_importance() sees */
    size_t index;      /* in the room */
    bool violates;     /* a budget has none left for it, when those before it go */
};

static bool is_disrupted(const json_t *budget, const json_t *pod) {
    const char *name = object_name(pod);
    return name && json_object_get(object_at(budget, "status.disruptedPods"), name);
}

/* Each candidate takes one disruption of every budget that covers it. */
static void charge_budgets(struct candidate *c, size_t num, const struct store_list *budgets) {
    for (size_t b = 0; budgets && b < budgets->num_items; b++) {
        const json_t *budget = budgets->items[b]->json;
        int64_t allowed = object_int(budget, "status.disruptionsAllowed", 0);
        for (size_t i = 0; i < num; i++) {
            if (text_equal(object_namespace(budget), object_namespace(c[i].pod)) &&
                disruption_covers(budget, c[i].pod) && !is_disrupted(budget, c[i].pod) &&
                --allowed < 0)
                c[i].violates = true;
        }
    }
}

/* Those that violate first; else as they were. */
static void put_violating_first(struct candidate *c, size_t num) {
    struct candidate *ordered = mem_array(num + 1, sizeof(*ordered));
    size_t n = 0;
    for (int violates = 1; violates >= 0; violates--) {
        for (size_t i = 0; i < num; i++) {
            if (c[i].violates == (violates == 1))
                ordered[n++] = c[i];
        }
    }
    memcpy(c, ordered, num * sizeof(*c));
    free(ordered);
}

/* Gives those that are less important than the pod, in the order in which they may stay. */
static struct candidate *find_candidates(const json_t *pod, const struct placement_options *opt,
                                         size_t *ret_num) {
    const struct placement_room *room = opt->room;
    size_t num = placement_room_num(room);
    struct candidate *found = mem_array(num + 1, sizeof(*found));
    *ret_num = 0;
    for (size_t i = 0; i < num; i++) {
        const json_t *other = placement_room_pod(room, i);
        if (object_str(other, "spec.nodeName") &&
            placement_priority(other) < placement_priority(pod))
            found[(*ret_num)++] = (struct candidate){.pod = other, .index = i};
    }
    if (*ret_num)
        qsort(found, *ret_num, sizeof(*found), compare_importance);
    charge_budgets(found, *ret_num, opt->budgets);
    put_violating_first(found, *ret_num);
    return found;
}

static bool fits_now(const json_t *pod, struct placement_room *room, struct buf *reasons) {
    const char *fallback;
    buf_clear(reasons);
    return placement_room_fits(room, pod,
                               &(struct placement_fit){.reasons = reasons, .fallback = &fallback});
}

/* Is one already going, for this pod, who was pushed off? Then nobody else need go. */
static bool waits_for_victims(const json_t *pod, const struct candidate *c, size_t num) {
    if (!object_str(pod, "status.nominatedNodeName"))
        return false;
    for (size_t i = 0; i < num; i++) {
        const json_t *why = object_find_condition(c[i].pod, "DisruptionTarget");
        if (object_deleting(c[i].pod) &&
            text_equal(object_str(why, "reason"), "PreemptionByScheduler"))
            return true;
    }
    return false;
}

/* Chooses victims, or says in kube-scheduler's words why there are none. */
static void preempt(const json_t *pod, const struct placement_options *opt, struct placement *ret,
                    struct buf *why) {
    AUTO_BUF reasons = BUF_INIT;
    struct placement_room *room = opt->room;
    size_t num;
    AUTO_FREE struct candidate *c = find_candidates(pod, opt, &num);
    if (text_equal(object_str(pod, "spec.preemptionPolicy"), "Never")) {
        buf_puts(why, "not eligible due to preemptionPolicy=Never.");
        return;
    }
    if (waits_for_victims(pod, c, num)) {
        ret->waits = true;
        buf_puts(why, "not eligible due to a terminating pod on the nominated node.");
        return;
    }
    if (!num) {
        buf_printf(why, "%s1 No preemption victims found for incoming pod.", NODES);
        return;
    }
    for (size_t i = 0; i < num; i++)
        placement_room_remove(room, c[i].index);
    bool helps = fits_now(pod, room, &reasons);
    if (!helps)
        buf_printf(why, "%s%s.", NODES, reasons.data);
    ret->victims = mem_array(num, sizeof(*ret->victims));
    for (size_t i = 0; i < num; i++) {
        placement_room_restore(room, c[i].index);
        if (!helps || fits_now(pod, room, &reasons))
            continue;
        placement_room_remove(room, c[i].index);
        ret->victims[ret->num_victims++] = c[i].pod;
        ret->num_violations += c[i].violates;
    }
    for (size_t i = 0; i < num; i++) {
        for (size_t v = 0; v < ret->num_victims; v++) {
            if (ret->victims[v] == c[i].pod)
                placement_room_restore(room, c[i].index);
        }
    }
}

/* All of it. */

static void refuse(struct placement *ret, const char *reasons, const char *preemption) {
    snprintf(ret->message, sizeof(ret->message), "%s%s.%s%s", NODES, reasons,
             *preemption ? " preemption: " : "", preemption);
}

void placement_decide(const json_t *pod, const struct placement_options *opt,
                      struct placement *ret) {
    static void (*const filters[])(const json_t *pod, const json_t *node,
                                   struct buf *out) = {check_cordon, check_taints, check_selector};
    AUTO_BUF reasons = BUF_INIT;
    AUTO_BUF preemption = BUF_INIT;
    const char *fallback = "";
    *ret = (struct placement){0};
    if (!opt->node) {
        snprintf(ret->message, sizeof(ret->message), "no nodes available to schedule pods");
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(filters) && !reasons.len; i++)
        filters[i](pod, opt->node, &reasons);
    if (reasons.len) {
        buf_printf(&preemption, "%s1 Preemption is not helpful for scheduling.", NODES);
        refuse(ret, reasons.data, preemption.data);
        return;
    }
    const struct placement_fit fit = {.cpu_fallback = opt->cpu_fallback,
                                      .reasons = &reasons,
                                      .fallback = &fallback,
                                      .devices = &ret->devices};
    ret->fits = placement_room_fits(opt->room, pod, &fit);
    snprintf(ret->fallback, sizeof(ret->fallback), "%s", ret->fits ? fallback : "");
    if (ret->fits)
        return;
    preempt(pod, opt, ret, &preemption);
    refuse(ret, reasons.data, preemption.data ? preemption.data : "");
}

void placement_deinit(struct placement *p) {
    json_decref(p->devices);
    free(p->victims);
    *p = (struct placement){0};
}
