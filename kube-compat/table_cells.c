/* Cells that no path can name: counts, states put together from several fields, joined lists. The
 * rules are those by which kubectl's own printers speak, so that a reader sees what he knows. */
#include "kube-compat/table.h"

#include <ctype.h>
#include <stdio.h>

#include "core/object.h"
#include "kube-compat/table_cells.h"

static void age(const json_t *o, int64_t now_ms, struct buf *out) {
    char text[32];
    table_age(object_str(o, "metadata.creationTimestamp"), now_ms, text);
    buf_puts(out, text);
}

static void puts_or(struct buf *out, const char *text, const char *otherwise) {
    buf_puts(out, text && *text ? text : otherwise);
}

/* Joins item.KEY of a list with commas. */
static void join(const json_t *list, const char *key, struct buf *out) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const char *text = key ? object_str(item, key) : json_string_value(item);
        buf_printf(out, "%s%s", i ? "," : "", text ? text : "");
    }
}

/* "a=b,c=d" of an object of strings. */
static void join_pairs(const json_t *map, struct buf *out) {
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)map, key, value) {
        buf_printf(out, "%s%s=%s", out->len ? "," : "", key,
                   json_string_value(value) ? json_string_value(value) : "");
    }
}

/* Pods. */

static void pod_ready(const json_t *o, int64_t now_ms, struct buf *out) {
    const json_t *statuses = object_at(o, "status.containerStatuses");
    size_t ready = 0;
    for (size_t i = 0; i < json_array_size(statuses); i++)
        ready += object_bool(json_array_get(statuses, i), "ready", false);
    buf_printf(out, "%zu/%zu", ready, json_array_size(object_at(o, "spec.containers")));
}

/* Why an init container holds the pod up, written to out; false: none does. */
static bool init_state(const json_t *o, struct buf *out) {
    const json_t *statuses = object_at(o, "status.initContainerStatuses");
    size_t total = json_array_size(object_at(o, "spec.initContainers"));
    for (size_t i = 0; i < json_array_size(statuses); i++) {
        const json_t *s = json_array_get(statuses, i);
        const json_t *terminated = object_at(s, "state.terminated");
        if (terminated && object_int(terminated, "exitCode", 0) == 0)
            continue;
        const char *reason =
            object_str(s, terminated ? "state.terminated.reason" : "state.waiting.reason");
        if (reason && *reason && strcmp(reason, "PodInitializing") != 0)
            buf_printf(out, "Init:%s", reason);
        else if (terminated)
            buf_printf(out, "Init:ExitCode:%lld", (long long)object_int(terminated, "exitCode", 0));
        else
            buf_printf(out, "Init:%zu/%zu", i, total);
        return true;
    }
    return false;
}

static void pod_status(const json_t *o, int64_t now_ms, struct buf *out) {
    if (object_deleting(o)) {
        buf_puts(out, "Terminating");
        return;
    }
    const char *reason = object_str(o, "status.reason");
    if (!reason || !*reason)
        reason = object_str(o, "status.phase");
    char state[64] = "";
    snprintf(state, sizeof(state), "%s", reason ? reason : "Unknown");
    if (init_state(o, out))
        return;
    const json_t *statuses = object_at(o, "status.containerStatuses");
    bool running = false;
    for (size_t i = json_array_size(statuses); i-- > 0;) {
        const json_t *s = json_array_get(statuses, i);
        const json_t *terminated = object_at(s, "state.terminated");
        const char *waiting = object_str(s, "state.waiting.reason");
        const char *ended = object_str(terminated, "reason");
        if (waiting && *waiting)
            snprintf(state, sizeof(state), "%s", waiting);
        else if (ended && *ended)
            snprintf(state, sizeof(state), "%s", ended);
        else if (terminated && object_int(terminated, "signal", 0))
            snprintf(state, sizeof(state), "Signal:%lld",
                     (long long)object_int(terminated, "signal", 0));
        else if (terminated)
            snprintf(state, sizeof(state), "ExitCode:%lld",
                     (long long)object_int(terminated, "exitCode", 0));
        else if (object_bool(s, "ready", false) && object_at(s, "state.running"))
            running = true;
    }
    if (running && !strcmp(state, "Completed"))
        snprintf(state, sizeof(state), "Running");
    buf_puts(out, state);
}

static void pod_restarts(const json_t *o, int64_t now_ms, struct buf *out) {
    const json_t *statuses = object_at(o, "status.containerStatuses");
    long long restarts = 0;
    const char *last = NULL;
    for (size_t i = 0; i < json_array_size(statuses); i++) {
        const json_t *s = json_array_get(statuses, i);
        restarts += object_int(s, "restartCount", 0);
        const char *finished = object_str(s, "lastState.terminated.finishedAt");
        if (finished && (!last || strcmp(finished, last) > 0))
            last = finished;
    }
    buf_printf(out, "%lld", restarts);
    if (!restarts || !last)
        return;
    char text[32];
    table_age(last, now_ms, text);
    buf_printf(out, " (%s ago)", text);
}

static void pod_readiness_gates(const json_t *o, int64_t now_ms, struct buf *out) {
    const json_t *gates = object_at(o, "spec.readinessGates");
    size_t num = json_array_size(gates), ready = 0;
    for (size_t i = 0; i < num; i++) {
        const char *type = object_str(json_array_get(gates, i), "conditionType");
        const char *status = type ? object_condition(o, type) : NULL;
        ready += status && !strcmp(status, "True");
    }
    if (num)
        buf_printf(out, "%zu/%zu", ready, num);
    else
        buf_puts(out, "<none>");
}

/* Workloads. */

static void deployment_ready(const json_t *o, int64_t now_ms, struct buf *out) {
    buf_printf(out, "%lld/%lld", (long long)object_int(o, "status.readyReplicas", 0),
               (long long)object_int(o, "spec.replicas", 1));
}

static void template_containers(const json_t *o, int64_t now_ms, struct buf *out) {
    join(object_at(o, "spec.template.spec.containers"), "name", out);
}

static void template_images(const json_t *o, int64_t now_ms, struct buf *out) {
    join(object_at(o, "spec.template.spec.containers"), "image", out);
}

static void label_selector(const json_t *o, int64_t now_ms, struct buf *out) {
    join_pairs(object_at(o, "spec.selector.matchLabels"), out);
    const json_t *list = object_at(o, "spec.selector.matchExpressions");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *e = json_array_get(list, i);
        const char *key = object_str(e, "key"), *op = object_str(e, "operator");
        if (out->len)
            buf_putc(out, ',');
        if (!key || !op)
            continue;
        if (!strcmp(op, "Exists") || !strcmp(op, "DoesNotExist")) {
            buf_printf(out, "%s%s", *op == 'D' ? "!" : "", key);
            continue;
        }
        buf_printf(out, "%s %s (", key, strcmp(op, "In") ? "notin" : "in");
        join(json_object_get(e, "values"), NULL, out);
        buf_putc(out, ')');
    }
    if (!out->len)
        buf_puts(out, "<none>");
}

/* Services. */

static void service_external_ip(const json_t *o, int64_t now_ms, struct buf *out) {
    const char *type = object_str(o, "spec.type");
    const json_t *external = object_at(o, "spec.externalIPs");
    if (type && !strcmp(type, "ExternalName")) {
        puts_or(out, object_str(o, "spec.externalName"), "<none>");
        return;
    }
    if (type && !strcmp(type, "LoadBalancer")) {
        const json_t *ingress = object_at(o, "status.loadBalancer.ingress");
        for (size_t i = 0; i < json_array_size(ingress); i++) {
            const json_t *entry = json_array_get(ingress, i);
            const char *ip = object_str(entry, "ip"), *host = object_str(entry, "hostname");
            buf_printf(out, "%s%s", out->len ? "," : "", ip ? ip : host ? host : "");
        }
    }
    if (json_array_size(external) && out->len)
        buf_putc(out, ',');
    join(external, NULL, out);
    if (!out->len)
        buf_puts(out, type && !strcmp(type, "LoadBalancer") ? "<pending>" : "<none>");
}

static void service_ports(const json_t *o, int64_t now_ms, struct buf *out) {
    const json_t *ports = object_at(o, "spec.ports");
    for (size_t i = 0; i < json_array_size(ports); i++) {
        const json_t *p = json_array_get(ports, i);
        const char *protocol = object_str(p, "protocol");
        buf_printf(out, "%s%lld", i ? "," : "", (long long)object_int(p, "port", 0));
        if (object_int(p, "nodePort", 0))
            buf_printf(out, ":%lld", (long long)object_int(p, "nodePort", 0));
        buf_printf(out, "/%s", protocol ? protocol : "TCP");
    }
    if (!out->len)
        buf_puts(out, "<none>");
}

static void service_selector(const json_t *o, int64_t now_ms, struct buf *out) {
    join_pairs(object_at(o, "spec.selector"), out);
    if (!out->len)
        buf_puts(out, "<none>");
}

/* Nodes. */

static void node_status(const json_t *o, int64_t now_ms, struct buf *out) {
    const char *ready = object_condition(o, "Ready");
    buf_puts(out, !ready ? "Unknown" : !strcmp(ready, "True") ? "Ready" : "NotReady");
    if (object_bool(o, "spec.unschedulable", false))
        buf_puts(out, ",SchedulingDisabled");
}

static void node_roles(const json_t *o, int64_t now_ms, struct buf *out) {
    static const char prefix[] = "node-role.kubernetes.io/";
    const char *key;
    json_t *value;
    json_object_foreach (object_at(o, "metadata.labels"), key, value) {
        if (strncmp(key, prefix, sizeof(prefix) - 1) != 0 || !key[sizeof(prefix) - 1])
            continue;
        buf_printf(out, "%s%s", out->len ? "," : "", key + sizeof(prefix) - 1);
    }
    if (!out->len)
        buf_puts(out, "<none>");
}

static void node_address(const json_t *o, const char *type, struct buf *out) {
    const json_t *addresses = object_at(o, "status.addresses");
    for (size_t i = 0; i < json_array_size(addresses) && !out->len; i++) {
        const json_t *a = json_array_get(addresses, i);
        const char *have = object_str(a, "type"), *address = object_str(a, "address");
        if (have && address && !strcmp(have, type))
            buf_puts(out, address);
    }
    if (!out->len)
        buf_puts(out, "<none>");
}

static void node_internal_ip(const json_t *o, int64_t now_ms, struct buf *out) {
    node_address(o, "InternalIP", out);
}

static void node_external_ip(const json_t *o, int64_t now_ms, struct buf *out) {
    node_address(o, "ExternalIP", out);
}

/* Events, in the spelling of either group. */

static const char *either(const json_t *o, const char *a, const char *b) {
    const char *text = object_str(o, a);
    return text && *text ? text : object_str(o, b);
}

static void event_last_seen(const json_t *o, int64_t now_ms, struct buf *out) {
    const char *when = object_str(o, "series.lastObservedTime");
    if (!when)
        when = either(o, "lastTimestamp", "deprecatedLastTimestamp");
    if (!when)
        when = either(o, "eventTime", "metadata.creationTimestamp");
    char text[32];
    table_age(when, now_ms, text);
    buf_puts(out, text);
}

static void event_first_seen(const json_t *o, int64_t now_ms, struct buf *out) {
    const char *when = either(o, "firstTimestamp", "deprecatedFirstTimestamp");
    if (!when)
        when = either(o, "eventTime", "metadata.creationTimestamp");
    char text[32];
    table_age(when, now_ms, text);
    buf_puts(out, text);
}

static void event_object(const json_t *o, int64_t now_ms, struct buf *out) {
    const char *kind = either(o, "involvedObject.kind", "regarding.kind");
    const char *name = either(o, "involvedObject.name", "regarding.name");
    for (const char *c = kind ? kind : ""; *c; c++)
        buf_putc(out, (char)tolower((unsigned char)*c));
    buf_printf(out, "/%s", name ? name : "");
}

static void event_source_component(const json_t *o, int64_t now_ms, struct buf *out) {
    const char *component = either(o, "source.component", "deprecatedSource.component");
    if (!component || !*component)
        component = either(o, "reportingComponent", "reportingController");
    puts_or(out, component, "");
}

static void event_source(const json_t *o, int64_t now_ms, struct buf *out) {
    event_source_component(o, now_ms, out);
    const char *host = either(o, "source.host", "deprecatedSource.host");
    if (host && *host)
        buf_printf(out, ", %s", host);
}

static void event_message(const json_t *o, int64_t now_ms, struct buf *out) {
    const char *text = either(o, "message", "note");
    size_t len = text ? strlen(text) : 0;
    while (len && isspace((unsigned char)text[len - 1]))
        len--;
    buf_append(out, text ? text : "", len);
}

static void event_count(const json_t *o, int64_t now_ms, struct buf *out) {
    int64_t count = object_int(o, "series.count", 0);
    if (!count)
        count = object_int(o, "count", object_int(o, "deprecatedCount", 0));
    buf_printf(out, "%lld", (long long)(count ? count : 1));
}

/* Config. */

static void data_count(const json_t *o, int64_t now_ms, struct buf *out) {
    buf_printf(out, "%zu",
               json_object_size(json_object_get(o, "data")) +
                   json_object_size(json_object_get(o, "binaryData")));
}

static void secrets_count(const json_t *o, int64_t now_ms, struct buf *out) {
    buf_printf(out, "%zu", json_array_size(json_object_get(o, "secrets")));
}

static const struct table_cell_row cells[] = {
    {"age", age, false},
    {"pod-ready", pod_ready, false},
    {"pod-status", pod_status, false},
    {"pod-restarts", pod_restarts, false},
    {"pod-readiness-gates", pod_readiness_gates, false},
    {"deployment-ready", deployment_ready, false},
    {"template-containers", template_containers, false},
    {"template-images", template_images, false},
    {"label-selector", label_selector, false},
    {"service-external-ip", service_external_ip, false},
    {"service-ports", service_ports, false},
    {"service-selector", service_selector, false},
    {"node-status", node_status, false},
    {"node-roles", node_roles, false},
    {"node-internal-ip", node_internal_ip, false},
    {"node-external-ip", node_external_ip, false},
    {"event-last-seen", event_last_seen, false},
    {"event-first-seen", event_first_seen, false},
    {"event-object", event_object, false},
    {"event-source", event_source, false},
    {"event-source-component", event_source_component, false},
    {"event-message", event_message, false},
    {"event-count", event_count, false},
    {"data-count", data_count, true},
    {"secrets-count", secrets_count, true},
    {NULL, NULL, false},
};

static const struct table_cell_row *find_cell(const struct table_cell_row *row, const char *cell) {
    while (row->name && strcmp(row->name, cell) != 0)
        row++;
    return row->name ? row : NULL;
}

json_t *table_cell(const char *cell, const json_t *object, int64_t now_ms) {
    const struct table_cell_row *row = find_cell(cells, cell);
    if (!row)
        row = find_cell(table_cells_policy, cell);
    if (!row)
        row = find_cell(table_cells_rbac, cell);
    if (!row)
        row = find_cell(table_cells_usage, cell);
    if (!row)
        return json_null();
    AUTO_BUF text = BUF_INIT;
    row->fn(object, now_ms, &text);
    if (row->integer)
        return json_integer(strtoll(text.data, NULL, 10));
    return json_stringn(text.data ? text.data : "", text.len);
}

void table_cell_text(const char *cell, const json_t *object, char out[TABLE_CELL_BYTES_MAX]) {
    json_t *value = table_cell(cell, object, 0);
    snprintf(out, TABLE_CELL_BYTES_MAX, "%s",
             json_is_string(value) ? json_string_value(value) : "");
    json_decref(value);
}
