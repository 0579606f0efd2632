/* From one item of spec.metrics to a number of replicas.
 *
 * Resource and ContainerResource are what metrics.k8s.io shows: the latest snapshot of what
 * containers use. A pod without a figure is not a pod that uses nothing: the replica calculator
 * (core/scale/hpa.h) guesses it against the change, and with no figure at all there is no answer,
 * and nothing is scaled.
 *
 * Source: kubernetes/pkg/controller/podautoscaler, replica_calculator.go (groupPods, messages). */
#include "core/control/pod_autoscaler_metrics.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/base/clock.h"
#include "core/control/labels.h"
#include "core/control/pod_autoscaler_series.h"
#include "core/node/replica_command.h"
#include "core/quantity.h"

static bool is(const char *text, const char *word) {
    return text && !strcmp(text, word);
}

/* ---- the pods ---- */

void metric_scope_open(struct metric_scope *s, struct world *w, const struct scale_target *target) {
    *s = (struct metric_scope){.w = w, .target = target};
    s->usage = w->usage ? usage_latest(w->usage) : NULL;
    world_list(w, KIND_POD, object_namespace(target->object->json), &s->all);
    s->pods = mem_array(s->all.num_items + 1, sizeof(s->pods[0]));
    for (size_t i = 0; i < s->all.num_items; i++) {
        const json_t *pod = s->all.items[i]->json;
        if (labels_selector_match(target->selector, object_at(pod, "metadata.labels")))
            s->pods[s->num_pods++] = pod;
    }
}

void metric_scope_close(struct metric_scope *s) {
    usage_snapshot_unref(s->usage);
    store_list_deinit(&s->all);
    free(s->pods);
    *s = (struct metric_scope){0};
}

void metric_reading_deinit(struct metric_reading *r) {
    free(r->name);
    json_decref(r->current);
    *r = (struct metric_reading){0};
}

static bool is_gone(const json_t *pod) {
    return object_deleting(pod) || is(object_str(pod, "status.phase"), "Failed");
}

static bool is_ready(const json_t *pod) {
    return is(object_condition(pod, "Ready"), "True");
}

static int64_t time_of(const json_t *o, const char *path) {
    const char *text = object_str(o, path);
    return text ? clock_parse_rfc3339(text) : -1;
}

/* ---- what they ask for ---- */

/* The named one counts, or all do. */
static bool counts(const json_t *container, const char *name) {
    return !name || is(object_str(container, "name"), name);
}

static enum errc read_request(const json_t *pod, const struct metric_spec *m, struct hpa_pod *p,
                              struct error *err) {
    size_t i;
    json_t *c;
    json_array_foreach (object_at(pod, "spec.containers"), i, c) {
        const json_t *amount = json_object_get(object_at(c, "resources.requests"), m->resource);
        int64_t milli;
        if (!counts(c, m->container))
            continue;
        if (!amount) /* a limit alone is asked for as well */
            amount = json_object_get(object_at(c, "resources.limits"), m->resource);
        if (!amount || !quantity_milli(amount, &milli))
            return err_set(err, ERR_INVALID, "missing request for %s in container %s of Pod %s",
                           m->resource, object_str(c, "name"), object_name(pod));
        p->request_milli += milli;
        p->has_request = true;
    }
    if (!p->has_request)
        return err_set(err, ERR_INVALID, "container %s not found in Pod %s",
                       m->container ? m->container : "", object_name(pod));
    return OK;
}

/* ---- what they use ---- */

static const struct usage_figures *figures_of(const struct usage_snapshot *s, const char *uid,
                                              const char *container) {
    for (size_t i = 0; i < s->num_containers; i++) {
        if (!strcmp(s->containers[i].uid, uid) && !strcmp(s->containers[i].container, container))
            return &s->containers[i].figures;
    }
    return NULL;
}

/* A pod of which a container is missing has no value: a part would look like little load. */
static void read_usage(const struct usage_snapshot *s, const json_t *pod,
                       const struct metric_spec *m, struct hpa_pod *p, int64_t *ret_window_ms) {
    const char *uid = object_uid(pod);
    bool first_only = !replica_command_is_host(pod); /* the others do not run: see admit.c */
    bool cpu = is(m->resource, "cpu"), any = false;
    size_t i;
    json_t *c;
    *ret_window_ms = 0;
    json_array_foreach (object_at(pod, "spec.containers"), i, c) {
        const char *name = object_str(c, "name");
        if (!counts(c, m->container) || (i && first_only))
            continue;
        const struct usage_figures *f = uid && name ? figures_of(s, uid, name) : NULL;
        if (!f)
            return;
        any = true;
        p->value_milli += cpu ? (f->cpu_nano + 999999) / 1000000 : f->memory_bytes * 1000;
        *ret_window_ms = f->window_ms > *ret_window_ms ? f->window_ms : *ret_window_ms;
    }
    p->has_value = any;
}

static bool is_unready(const struct metric_scope *s, const json_t *pod, bool cpu,
                       int64_t window_ms) {
    const json_t *ready = object_find_condition(pod, "Ready");
    const struct hpa_pod_times times = {.ready = is_ready(pod),
                                        .started_ms = time_of(pod, "status.startTime"),
                                        .changed_ms = time_of(ready, "lastTransitionTime"),
                                        .measured_ms = s->usage ? s->usage->wall_ms : 0,
                                        .window_ms = window_ms};
    if (is(object_str(pod, "status.phase"), "Pending"))
        return true;
    return cpu && (!ready || hpa_pod_unready(&times, s->w->wall_ms));
}

/* ---- Resource, ContainerResource ---- */

/* Fills `pods`, one for each of the scope. ERR_UNAVAILABLE: not one has a figure. */
static enum errc read_pods(const struct metric_scope *s, const struct metric_spec *m,
                           struct hpa_pod *pods, struct error *err) {
    bool any = false;
    for (uint32_t i = 0; i < s->num_pods; i++) {
        const json_t *pod = s->pods[i];
        struct hpa_pod *p = &pods[i];
        int64_t window_ms = 0;
        p->gone = is_gone(pod);
        if (s->usage)
            read_usage(s->usage, pod, m, p, &window_ms);
        any = any || p->has_value;
        if (p->gone)
            continue;
        p->unready = is_unready(s, pod, is(m->resource, "cpu") && p->has_value, window_ms);
        if (m->utilization > 0 && read_request(pod, m, p, err))
            return err->code;
    }
    if (!s->num_pods)
        return err_set(err, ERR_UNAVAILABLE,
                       "no pods returned by selector while calculating replica count");
    if (!any)
        return err_set(err, ERR_UNAVAILABLE,
                       "unable to get metrics for resource %s: no metrics returned from resource "
                       "metrics API",
                       m->resource);
    return OK;
}

/* A number of thousandths as Kubernetes writes it: "250m", "12", "4096". */
static json_t *milli_json(int64_t milli) {
    char text[QUANTITY_BYTES_MAX], plain[32];
    snprintf(plain, sizeof(plain), "%" PRId64 "m", milli);
    return json_string(quantity_canonical(plain, text) ? plain : text);
}

static json_t *resource_current(const struct metric_spec *m, const struct hpa_proposal *p) {
    json_t *value = json_pack("{s:o}", "averageValue", milli_json(p->average_milli));
    if (m->utilization > 0)
        json_object_set_new(value, "averageUtilization", json_integer(p->utilization));
    return json_pack("{s:s, s:{s:s, s:s*, s:o}}", "type", metric_source_name(m->source),
                     metric_source_member(m->source), "name", m->resource, "container",
                     m->container, "current", value);
}

void metric_show(struct metric_reading *r, int64_t milli, int64_t target_milli) {
    snprintf(r->shown, sizeof(r->shown), "%g/%g", (double)milli / 1000,
             (double)target_milli / 1000);
}

static enum errc read_resource(const struct metric_scope *s, const struct metric_spec *m,
                               struct metric_reading *ret_r, struct error *err) {
    bool share = m->utilization > 0;
    struct hpa_pod *pods = mem_array(s->num_pods + 1, sizeof(pods[0]));
    struct hpa_proposal p = {0};
    int32_t current = s->target->replicas;
    enum errc rc = read_pods(s, m, pods, err);
    if (!rc)
        rc = share ? hpa_by_utilization(pods, s->num_pods, m->utilization, current, &p, err)
                   : hpa_by_pod_average(pods, s->num_pods, m->average_milli, current, &p, err);
    if (rc == ERR_UNAVAILABLE && !strncmp(err->text, "no metrics", 10))
        rc = err_set(err, ERR_UNAVAILABLE,
                     "did not receive metrics for targeted pods (pods might be unready)");
    free(pods);
    if (rc)
        return err_wrap(err, "failed to get %s %s", m->resource, share ? "utilization" : "usage");
    *ret_r = (struct metric_reading){
        .replicas = p.replicas,
        .name = mem_printf("%s %sresource%s", m->resource, m->container ? "container " : "",
                           share ? " utilization (percentage of request)" : ""),
        .current = resource_current(m, &p)};
    if (share)
        snprintf(ret_r->shown, sizeof(ret_r->shown), "%" PRId64 "%%/%" PRId64 "%%", p.utilization,
                 m->utilization);
    else
        metric_show(ret_r, p.average_milli, m->average_milli);
    return OK;
}

enum errc metric_read(const struct metric_scope *s, const struct metric_spec *m,
                      struct metric_reading *ret_r, struct error *err) {
    switch (m->source) {
    case METRIC_SOURCE_RESOURCE:
    case METRIC_SOURCE_CONTAINER_RESOURCE:
        return read_resource(s, m, ret_r, err);
    case METRIC_SOURCE_PODS:
    case METRIC_SOURCE_OBJECT:
    case METRIC_SOURCE_EXTERNAL:
        return metric_read_series(s, m, ret_r, err);
    case METRIC_SOURCES:
        break;
    }
    return err_set(err, ERR_INVALID, "unknown metric source type \"%.64s\"", m->type);
}
