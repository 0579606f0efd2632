/* Metrics that are not of a container: what /metrics of the daemon and of the replicas says.
 *
 *   Pods      the series of that name with pod="NAME", for each pod of the target
 *   Object    those with the object's kind in lower case as a label: inferenceservice="NAME"
 *   External  all of that name
 *
 * each narrowed by the metric's selector, and added up where several remain. An object sees its own
 * namespace only: series with another in their label `namespace` are left out; those without one
 * (the machine's GPUs) are everybody's. */
#include "core/control/pod_autoscaler_series.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "core/base/buf.h"
#include "core/quantity.h"

enum { MATCHERS_MAX = 32 };
static const double MILLI_MAX = 9e15; /* what a double counts exactly */

/* ---- which series ---- */

struct matchers {
    struct matcher items[MATCHERS_MAX];
    uint32_t num;
};

static void matchers_deinit(struct matchers *m) {
    for (uint32_t i = 0; i < m->num; i++)
        matcher_deinit(&m->items[i]);
}
#define AUTO_MATCHERS __attribute__((cleanup(matchers_deinit))) struct matchers

static enum errc add(struct matchers *m, const char *name, enum matcher_op op, const char *value,
                     struct error *err) {
    if (m->num == MATCHERS_MAX)
        return err_set(err, ERR_INVALID, "metric.selector: more than %d terms", MATCHERS_MAX);
    enum errc rc = matcher_init(&m->items[m->num], name, op, value, err);
    m->num += !rc;
    return rc;
}

/* "a|b", with what means something in a regular expression escaped. */
static char *alternatives(const json_t *values) {
    AUTO_BUF out = BUF_INIT;
    size_t i;
    json_t *v;
    json_array_foreach ((json_t *)values, i, v) {
        if (i)
            buf_putc(&out, '|');
        for (const char *p = json_string_value(v); p && *p; p++) {
            if (!isalnum((unsigned char)*p) && *p != '_' && *p != '-')
                buf_putc(&out, '\\');
            buf_putc(&out, *p);
        }
    }
    return buf_steal(&out);
}

static enum errc add_term(struct matchers *m, const json_t *term, struct error *err) {
    const char *key = object_str(term, "key"), *op = object_str(term, "operator");
    if (!key || !op)
        return err_set(err, ERR_INVALID, "metric.selector: a term without key or operator");
    if (!strcmp(op, "Exists"))
        return add(m, key, MATCHER_NOT_EQUAL, "", err);
    if (!strcmp(op, "DoesNotExist"))
        return add(m, key, MATCHER_EQUAL, "", err);
    AUTO_FREE char *values = alternatives(json_object_get(term, "values"));
    if (!strcmp(op, "In"))
        return add(m, key, MATCHER_REGEX, values, err);
    if (!strcmp(op, "NotIn"))
        return add(m, key, MATCHER_NOT_REGEX, values, err);
    return err_set(err, ERR_INVALID, "metric.selector: operator %.32s", op);
}

static enum errc add_selector(struct matchers *m, const json_t *selector, struct error *err) {
    const char *key;
    json_t *value;
    size_t i;
    json_object_foreach (json_object_get(selector, "matchLabels"), key, value) {
        if (add(m, key, MATCHER_EQUAL, json_string_value(value) ? json_string_value(value) : "",
                err))
            return err->code;
    }
    json_array_foreach (json_object_get(selector, "matchExpressions"), i, value) {
        if (add_term(m, value, err))
            return err->code;
    }
    return OK;
}

static enum errc select_all(const struct metric_scope *s, const struct metric_spec *spec,
                            struct matchers *m, struct error *err) {
    AUTO_FREE char *ns = mem_printf("(%s)?", object_namespace(s->target->object->json));
    if (add(m, LABEL_NAME, MATCHER_EQUAL, spec->name, err) ||
        add(m, "namespace", MATCHER_REGEX, ns, err))
        return err->code;
    return spec->selector ? add_selector(m, spec->selector, err) : OK;
}

/* ---- their values ---- */

static enum errc read_series(const struct metric_scope *s, const struct matchers *m,
                             struct series_ranges *ret, struct error *err) {
    if (!s->w->series)
        return err_set(err, ERR_UNAVAILABLE, "no metrics are kept");
    return series_latest(s->w->series, m->items, m->num, s->w->wall_ms, ret, err);
}

static bool add_up(const struct series_ranges *ranges, const char *pod, int64_t *ret_milli) {
    double sum = 0;
    bool any = false;
    for (size_t i = 0; i < ranges->num_items; i++) {
        const struct series_range *r = &ranges->items[i];
        if (pod && strcmp(labels_get(r->labels, "pod"), pod) != 0)
            continue;
        sum += r->samples[r->num_samples - 1].value;
        any = true;
    }
    if (!any || !isfinite(sum) || fabs(sum * 1000) > MILLI_MAX)
        return false;
    *ret_milli = (int64_t)ceil(sum * 1000 - 1e-6);
    return true;
}

static json_t *milli_json(int64_t milli) {
    char text[QUANTITY_BYTES_MAX], plain[32];
    snprintf(plain, sizeof(plain), "%" PRId64 "m", milli);
    return json_string(quantity_canonical(plain, text) ? plain : text);
}

/* An item of status.currentMetrics; `shown` is "value" or "averageValue". */
static json_t *current_of(const struct metric_spec *m, const char *shown, int64_t milli) {
    json_t *metric = json_pack("{s:s, s:O*}", "name", m->name, "selector", m->selector);
    json_t *member =
        json_pack("{s:o, s:{s:o}}", "metric", metric, "current", shown, milli_json(milli));
    if (m->source == METRIC_SOURCE_OBJECT)
        json_object_set(member, "describedObject", (json_t *)m->object);
    return json_pack("{s:s, s:o}", "type", metric_source_name(m->source),
                     metric_source_member(m->source), member);
}

/* A selector as Go prints it, which is how Events of Kubernetes show it. */
static char *selector_text(const json_t *selector) {
    AUTO_BUF out = BUF_INIT;
    const char *key;
    json_t *value;
    if (!selector)
        return mem_strdup("nil");
    buf_puts(&out, "&LabelSelector{MatchLabels:map[string]string{");
    json_object_foreach (json_object_get(selector, "matchLabels"), key, value)
        buf_printf(&out, "%s: %s,", key, json_string_value(value) ? json_string_value(value) : "");
    size_t num = json_array_size(json_object_get(selector, "matchExpressions"));
    buf_printf(&out, "},MatchExpressions:[]LabelSelectorRequirement{%s},}", num ? "..." : "");
    return buf_steal(&out);
}

/* ---- Pods ---- */

static enum errc read_pods(const struct metric_scope *s, const struct metric_spec *m,
                           const struct series_ranges *ranges, struct metric_reading *ret_r,
                           struct error *err) {
    struct hpa_pod *pods = mem_array(s->num_pods + 1, sizeof(pods[0]));
    struct hpa_proposal p = {0};
    for (uint32_t i = 0; i < s->num_pods; i++) {
        const char *phase = object_str(s->pods[i], "status.phase");
        pods[i].gone = object_deleting(s->pods[i]) || (phase && !strcmp(phase, "Failed"));
        pods[i].unready = phase && !strcmp(phase, "Pending");
        pods[i].has_value = add_up(ranges, object_name(s->pods[i]), &pods[i].value_milli);
    }
    enum errc rc =
        hpa_by_pod_average(pods, s->num_pods, m->average_milli, s->target->replicas, &p, err);
    free(pods);
    if (rc)
        return err_set(err, rc,
                       "unable to get metric %s: no metrics returned from custom metrics API",
                       m->name);
    *ret_r = (struct metric_reading){.replicas = p.replicas,
                                     .name = mem_printf("pods metric %s", m->name),
                                     .current = current_of(m, "averageValue", p.average_milli)};
    metric_show(ret_r, p.average_milli, m->average_milli);
    return OK;
}

/* ---- Object, External ---- */

static int32_t num_ready(const struct metric_scope *s) {
    int32_t num = 0;
    for (uint32_t i = 0; i < s->num_pods; i++) {
        const char *ready = object_condition(s->pods[i], "Ready");
        num += ready && !strcmp(ready, "True") && !object_deleting(s->pods[i]);
    }
    return num;
}

static char *name_of(const struct metric_spec *m) {
    if (m->source == METRIC_SOURCE_OBJECT)
        return mem_printf("%s metric %s", object_str(m->object, "kind"), m->name);
    AUTO_FREE char *selector = selector_text(m->selector);
    return mem_printf("external metric %s(%.300s)", m->name, selector);
}

static enum errc read_sum(const struct metric_scope *s, const struct metric_spec *m,
                          const struct series_ranges *ranges, struct metric_reading *ret_r,
                          struct error *err) {
    struct hpa_proposal p;
    int64_t milli;
    const char *ns = object_namespace(s->target->object->json);
    if (!add_up(ranges, NULL, &milli)) {
        AUTO_FREE char *selector = selector_text(m->selector);
        if (m->source == METRIC_SOURCE_OBJECT)
            return err_set(err, ERR_UNAVAILABLE, "unable to get metric %s: %s on %s %s", m->name,
                           object_str(m->object, "kind"), ns, object_str(m->object, "name"));
        return err_set(err, ERR_UNAVAILABLE,
                       "unable to get external metric %s/%s/%.300s: no metrics returned from "
                       "external metrics API",
                       ns, m->name, selector);
    }
    bool average = m->average_milli > 0;
    if (average)
        hpa_by_average_value(milli, m->average_milli, s->target->status_replicas, &p);
    else
        hpa_by_value(milli, m->value_milli, num_ready(s), s->target->replicas, &p);
    *ret_r = (struct metric_reading){
        .replicas = p.replicas,
        .name = name_of(m),
        .current = current_of(m, average ? "averageValue" : "value", p.average_milli)};
    metric_show(ret_r, p.average_milli, average ? m->average_milli : m->value_milli);
    return OK;
}

enum errc metric_read_series(const struct metric_scope *s, const struct metric_spec *m,
                             struct metric_reading *ret_r, struct error *err) {
    AUTO_MATCHERS matchers = {0};
    AUTO_SERIES_RANGES ranges = {0};
    enum errc rc = select_all(s, m, &matchers, err);
    if (!rc && m->source == METRIC_SOURCE_OBJECT) {
        AUTO_FREE char *label = mem_strdup(object_str(m->object, "kind"));
        for (char *c = label; *c; c++)
            *c = (char)tolower((unsigned char)*c);
        rc = add(&matchers, label, MATCHER_EQUAL, object_str(m->object, "name"), err);
    }
    if (!rc)
        rc = read_series(s, &matchers, &ranges, err);
    if (!rc)
        rc = m->source == METRIC_SOURCE_PODS ? read_pods(s, m, &ranges, ret_r, err)
                                             : read_sum(s, m, &ranges, ret_r, err);
    if (rc)
        return err_wrap(err, "failed to get %s metric %s",
                        m->source == METRIC_SOURCE_PODS     ? "pods"
                        : m->source == METRIC_SOURCE_OBJECT ? "object"
                                                            : "external",
                        m->name);
    return OK;
}
