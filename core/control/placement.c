/* Placement on one node. The checks run in kube-scheduler's order and every failing one is told:
 * unschedulable, taints, node selector and required node affinity, then resources in the order of
 * their names. Numbers are thousandths of the unit, so cpu and memory are handled alike. */
#include "core/control/placement.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/control/labels.h"
#include "core/quantity.h"
#include "core/object.h"

static int64_t container_request(const json_t *container, const char *resource) {
    static const char *const fields[] = {"resources.requests", "resources.limits"};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        int64_t milli;
        const json_t *value = json_object_get(object_at(container, fields[i]), resource);
        if (value && quantity_milli(value, &milli))
            return milli;
    }
    return 0;
}

int64_t placement_request(const json_t *pod, const char *resource) {
    int64_t sum = 0, init_max = 0;
    size_t i;
    json_t *c;
    json_array_foreach (object_at(pod, "spec.containers"), i, c)
        sum += container_request(c, resource);
    json_array_foreach (object_at(pod, "spec.initContainers"), i, c) {
        int64_t milli = container_request(c, resource);
        init_max = milli > init_max ? milli : init_max;
    }
    int64_t overhead = 0;
    const json_t *extra = json_object_get(object_at(pod, "spec.overhead"), resource);
    if (extra && !quantity_milli(extra, &overhead))
        overhead = 0;
    return (sum > init_max ? sum : init_max) + overhead;
}

static bool pod_counts(const json_t *pod, const char *node_name) {
    const char *bound = object_str(pod, "spec.nodeName");
    const char *phase = object_str(pod, "status.phase");
    return bound && !strcmp(bound, node_name) &&
           !(phase && (!strcmp(phase, "Succeeded") || !strcmp(phase, "Failed")));
}

/* Reasons are joined by ", " behind "0/1 nodes are available: ". */
static void reason(struct buf *out, const char *fmt, ...) PRINTF(2, 3);
static void reason(struct buf *out, const char *fmt, ...) {
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    buf_printf(out, "%s1 %s", out->len ? ", " : "", text);
}

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

static void check_taints(const json_t *pod, const json_t *node, struct buf *out) {
    json_t *cordon =
        json_pack("{s:s, s:s}", "key", "node.kubernetes.io/unschedulable", "effect", "NoSchedule");
    if (object_bool(node, "spec.unschedulable", false) && !tolerated(pod, cordon))
        reason(out, "node(s) were unschedulable");
    json_decref(cordon);
    size_t i;
    json_t *taint;
    json_array_foreach (object_at(node, "spec.taints"), i, taint) {
        const char *effect = object_str(taint, "effect"), *value = object_str(taint, "value");
        /* A cordon is told once, by the word above. */
        if (text_equal(object_str(taint, "key"), "node.kubernetes.io/unschedulable") || !effect ||
            !strcmp(effect, "PreferNoSchedule") || tolerated(pod, taint))
            continue;
        reason(out, "node(s) had untolerated taint {%s: %s}", object_str(taint, "key"),
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
        reason(out, "node(s) didn't match Pod's node affinity/selector");
}

static bool is_gpu(const char *resource) {
    return strstr(resource, "/gpu") || !strncmp(resource, "nvidia.com/", 11);
}

/* Names of all resources that the pod asks for, as keys of a JSON object. */
static json_t *requested_names(const json_t *pod) {
    static const char *const lists[] = {"spec.containers", "spec.initContainers"};
    static const char *const fields[] = {"resources.requests", "resources.limits"};
    json_t *names = json_object();
    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        size_t i;
        json_t *c, *value;
        const char *name;
        json_array_foreach (object_at(pod, lists[l]), i, c) {
            for (size_t f = 0; f < ARRAY_LEN(fields); f++) {
                json_object_foreach (object_at(c, fields[f]), name, value)
                    json_object_set_new(names, name, json_true());
            }
        }
    }
    return names;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void check_resources(const json_t *pod, const struct placement_options *opt,
                            struct placement *ret, struct buf *out) {
    const json_t *allocatable = object_at(opt->node, "status.allocatable");
    const char *node_name = object_name(opt->node);
    int64_t num_pods = 0, pods_max = 0;
    for (size_t i = 0; i < opt->num_pods; i++)
        num_pods += pod_counts(opt->pods[i], node_name);
    if (quantity_milli(json_object_get(allocatable, "pods"), &pods_max) &&
        num_pods * 1000 >= pods_max)
        reason(out, "Too many pods");
    json_t *names = requested_names(pod);
    size_t num_names = 0;
    const char **sorted = mem_array(json_object_size(names), sizeof(*sorted));
    const char *name;
    json_t *value;
    json_object_foreach (names, name, value)
        sorted[num_names++] = name;
    qsort(sorted, num_names, sizeof(*sorted), compare_names);
    for (size_t n = 0; n < num_names; n++) {
        int64_t want = placement_request(pod, sorted[n]), have = 0, used = 0;
        if (!quantity_milli(json_object_get(allocatable, sorted[n]), &have))
            have = 0;
        if (!want)
            continue;
        if (!have && is_gpu(sorted[n]) && opt->cpu_fallback) {
            snprintf(ret->fallback, sizeof(ret->fallback), "%s", sorted[n]);
            continue;
        }
        for (size_t i = 0; i < opt->num_pods; i++) {
            if (pod_counts(opt->pods[i], node_name))
                used += placement_request(opt->pods[i], sorted[n]);
        }
        if (want > have - used)
            reason(out, "Insufficient %s", sorted[n]);
    }
    free(sorted);
    json_decref(names);
}

void placement_decide(const json_t *pod, const struct placement_options *opt,
                      struct placement *ret) {
    AUTO_BUF reasons = BUF_INIT;
    *ret = (struct placement){0};
    if (!opt->node) {
        snprintf(ret->message, sizeof(ret->message), "no nodes available to schedule pods");
        return;
    }
    check_taints(pod, opt->node, &reasons);
    check_selector(pod, opt->node, &reasons);
    check_resources(pod, opt, ret, &reasons);
    ret->fits = !reasons.len;
    if (!ret->fits)
        snprintf(ret->message, sizeof(ret->message), "0/1 nodes are available: %s.", reasons.data);
}
