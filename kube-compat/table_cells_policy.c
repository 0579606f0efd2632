/* Cells of quotas, priority classes, endpoints and autoscalers, as kubectl's printers write them.
 */
#include "kube-compat/table_cells.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/mem.h"
#include "core/object.h"

enum { SHOWN_MAX = 3 }; /* of a long list: then "+ 2 more..." */

static const char *text_or(const json_t *o, const char *path, const char *otherwise) {
    const char *text = object_str(o, path);
    return text && *text ? text : otherwise;
}

/* Quotas. */

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* "pods: 1/4, requests.cpu: 0/2" of the resources that are limits, or of all others. */
static void quota(const json_t *o, bool limits, struct buf *out) {
    const json_t *hard = object_at(o, "status.hard"), *used = object_at(o, "status.used");
    const char **names = mem_array(json_object_size(hard) + 1, sizeof(*names)), *name;
    size_t num = 0;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)hard, name, value) {
        if (!strncmp(name, "limits.", 7) == limits)
            names[num++] = name;
    }
    qsort(names, num, sizeof(*names), compare_names);
    for (size_t i = 0; i < num; i++) {
        const char *max = json_string_value(json_object_get(hard, names[i]));
        const char *have = json_string_value(json_object_get(used, names[i]));
        buf_printf(out, "%s%s: %s/%s", i ? ", " : "", names[i], have ? have : "0", max ? max : "0");
    }
    free(names);
}

static void quota_requests(const json_t *o, int64_t now_ms, struct buf *out) {
    quota(o, false, out);
}

static void quota_limits(const json_t *o, int64_t now_ms, struct buf *out) {
    quota(o, true, out);
}

static void class_global_default(const json_t *o, int64_t now_ms, struct buf *out) {
    buf_puts(out, object_bool(o, "globalDefault", false) ? "true" : "false");
}

/* Endpoints. */

static void more(size_t num, struct buf *out) {
    if (num > SHOWN_MAX)
        buf_printf(out, " + %zu more...", num - SHOWN_MAX);
    if (!out->len)
        buf_puts(out, "<none>");
}

static void endpoints(const json_t *o, int64_t now_ms, struct buf *out) {
    size_t num = 0, s, i, p;
    json_t *subset, *address, *port;
    json_array_foreach (json_object_get(o, "subsets"), s, subset) {
        const json_t *ports = json_object_get(subset, "ports");
        json_array_foreach (json_object_get(subset, "addresses"), i, address) {
            const char *ip = text_or(address, "ip", "");
            if (!json_array_size(ports) && num++ < SHOWN_MAX)
                buf_printf(out, "%s%s", out->len ? "," : "", ip);
            json_array_foreach (ports, p, port) {
                if (num++ < SHOWN_MAX)
                    buf_printf(out, "%s%s:%lld", out->len ? "," : "", ip,
                               (long long)object_int(port, "port", 0));
            }
        }
    }
    more(num, out);
}

static void slice_ports(const json_t *o, int64_t now_ms, struct buf *out) {
    const json_t *ports = json_object_get(o, "ports");
    size_t i;
    json_t *port;
    json_array_foreach (ports, i, port) {
        if (i < SHOWN_MAX)
            buf_printf(out, "%s%lld", i ? "," : "", (long long)object_int(port, "port", 0));
    }
    if (!json_array_size(ports))
        buf_puts(out, "<unset>");
    else
        more(json_array_size(ports), out);
}

static void slice_endpoints(const json_t *o, int64_t now_ms, struct buf *out) {
    size_t num = 0, i, k;
    json_t *endpoint, *address;
    json_array_foreach (json_object_get(o, "endpoints"), i, endpoint) {
        json_array_foreach (json_object_get(endpoint, "addresses"), k, address) {
            if (num++ < SHOWN_MAX && json_is_string(address))
                buf_printf(out, "%s%s", out->len ? "," : "", json_string_value(address));
        }
    }
    if (!num)
        buf_puts(out, "<unset>");
    else
        more(num, out);
}

/* Autoscalers, of either version. */

static void hpa_reference(const json_t *o, int64_t now_ms, struct buf *out) {
    buf_printf(out, "%s/%s", text_or(o, "spec.scaleTargetRef.kind", ""),
               text_or(o, "spec.scaleTargetRef.name", ""));
}

/* The current value of the metric at the same place; NULL: not measured. */
static const json_t *current_of(const json_t *o, size_t index, const char *member) {
    const json_t *metric = json_array_get(object_at(o, "status.currentMetrics"), index);
    return object_at(json_object_get(metric, member), "current");
}

static void hpa_metric(const json_t *o, size_t index, const json_t *metric, struct buf *out) {
    static const char *const members[][2] = {{"Resource", "resource"},
                                             {"ContainerResource", "containerResource"},
                                             {"Pods", "pods"},
                                             {"Object", "object"},
                                             {"External", "external"}};
    const char *type = text_or(metric, "type", ""), *member = NULL;
    for (size_t i = 0; i < ARRAY_LEN(members) && !member; i++)
        member = strcmp(type, members[i][0]) ? NULL : members[i][1];
    if (!member) {
        buf_puts(out, "<unknown type>");
        return;
    }
    const json_t *source = json_object_get(metric, member);
    const json_t *now = current_of(o, index, member);
    bool resource = object_at(source, "name") != NULL;
    if (resource)
        buf_printf(out, "%s: ", text_or(source, "name", ""));
    const json_t *share = object_at(source, "target.averageUtilization");
    const json_t *have = json_object_get(now, "averageUtilization");
    if (share) {
        if (have)
            buf_printf(out, "%lld%%", (long long)json_integer_value(have));
        else
            buf_puts(out, "<unknown>");
        buf_printf(out, "/%lld%%", (long long)json_integer_value(share));
        return;
    }
    const char *average = object_str(source, "target.averageValue");
    const char *want = average ? average : text_or(source, "target.value", "<auto>");
    buf_printf(out, "%s/%s%s", text_or(now, average ? "averageValue" : "value", "<unknown>"), want,
               average && !resource && strcmp(member, "pods") != 0 ? " (avg)" : "");
}

static void hpa_targets(const json_t *o, int64_t now_ms, struct buf *out) {
    const json_t *metrics = object_at(o, "spec.metrics");
    const json_t *share = object_at(o, "spec.targetCPUUtilizationPercentage");
    const json_t *have = object_at(o, "status.currentCPUUtilizationPercentage");
    size_t i;
    json_t *metric;
    if (share) {
        if (have)
            buf_printf(out, "cpu: %lld%%", (long long)json_integer_value(have));
        else
            buf_puts(out, "cpu: <unknown>");
        buf_printf(out, "/%lld%%", (long long)json_integer_value(share));
    }
    json_array_foreach (metrics, i, metric) {
        if (i >= SHOWN_MAX)
            break;
        if (i)
            buf_puts(out, ", ");
        hpa_metric(o, i, metric, out);
    }
    more(json_array_size(metrics), out);
}

const struct table_cell_row table_cells_policy[] = {
    {"quota-requests", quota_requests, false},
    {"quota-limits", quota_limits, false},
    {"class-global-default", class_global_default, false},
    {"endpoints", endpoints, false},
    {"slice-ports", slice_ports, false},
    {"slice-endpoints", slice_endpoints, false},
    {"hpa-reference", hpa_reference, false},
    {"hpa-targets", hpa_targets, false},
    {NULL, NULL, false},
};
