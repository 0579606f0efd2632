/* Pod status. A host pod's containers all run; of another pod the first one does, as `inferd
 * engine`, and the others are listed as waiting, with the reason, so that nobody takes them for
 * running. */
#include "core/control/pod_status.h"

#include "core/base/clock.h"
#include "core/node/replica_command.h"

static const char NOT_SUPPORTED[] = "NotSupported";

json_t *pod_status_of(const json_t *pod, const char *container) {
    static const char *const lists[] = {"status.containerStatuses", "status.initContainerStatuses"};
    json_t *found = NULL;
    for (size_t l = 0; l < ARRAY_LEN(lists) && !found; l++)
        found = object_find_named(object_at(pod, lists[l]), container);
    return found;
}

static json_t *new_status(const json_t *container, json_t *waiting) {
    const char *image = object_str(container, "image"), *name = object_str(container, "name");
    return json_pack("{s:s, s:s, s:s, s:b, s:b, s:i, s:{s:o}, s:{}}", "name", name ? name : "",
                     "image", image ? image : "", "imageID", "", "ready", 0, "started", 0,
                     "restartCount", 0, "state", "waiting", waiting, "lastState");
}

static void init_containers(json_t *pod, bool host) {
    const json_t *init = host ? object_at(pod, "spec.initContainers") : NULL;
    json_t *statuses = json_array(), *c;
    size_t i;
    json_array_foreach (object_at(pod, "spec.containers"), i, c) {
        const char *reason = json_array_size(init) ? "PodInitializing" : "ContainerCreating";
        json_t *waiting =
            host || !i ? json_pack("{s:s}", "reason", reason)
                       : json_pack("{s:s, s:s}", "reason", NOT_SUPPORTED, "message",
                                   "inferd runs the first container of a pod that serves a model "
                                   "only");
        json_array_append_new(statuses, new_status(c, waiting));
    }
    object_set(pod, "status.containerStatuses", statuses);
    if (!json_array_size(init))
        return;
    statuses = json_array();
    json_array_foreach (init, i, c)
        json_array_append_new(statuses,
                              new_status(c, json_pack("{s:s}", "reason", "PodInitializing")));
    object_set(pod, "status.initContainerStatuses", statuses);
}

/* Guaranteed: limits equal requests for cpu and memory everywhere; BestEffort: none anywhere. */
const char *pod_status_qos_class(const json_t *pod) {
    static const char *const names[] = {"cpu", "memory"};
    bool guaranteed = true, any = false;
    size_t i;
    json_t *c;
    json_array_foreach (object_at(pod, "spec.containers"), i, c) {
        for (size_t n = 0; n < ARRAY_LEN(names); n++) {
            json_t *limit = json_object_get(object_at(c, "resources.limits"), names[n]);
            json_t *request = json_object_get(object_at(c, "resources.requests"), names[n]);
            any = any || limit || request;
            guaranteed = guaranteed && limit && (!request || json_equal(limit, request));
        }
    }
    return !any ? "BestEffort" : guaranteed ? "Guaranteed" : "Burstable";
}

void pod_status_init(const struct world *w, json_t *pod) {
    if (!object_str(pod, "status.qosClass"))
        object_set(pod, "status.qosClass", json_string(pod_status_qos_class(pod)));
    if (!object_str(pod, "status.startTime"))
        object_set(pod, "status.startTime", world_timestamp(w));
    object_set(pod, "status.hostIP", json_string(w->node_ip));
    object_set(pod, "status.hostIPs", json_pack("[{s:s}]", "ip", w->node_ip));
    object_set(pod, "status.podIP", json_string(w->node_ip));
    object_set(pod, "status.podIPs", json_pack("[{s:s}]", "ip", w->node_ip));
    if (json_array_size(object_at(pod, "status.containerStatuses")))
        return;
    init_containers(pod, replica_command_is_host(pod));
}

const char *pod_status_waiting(const json_t *pod) {
    return object_str(pod, "status.containerStatuses.0.state.waiting.reason");
}

bool pod_status_running(const json_t *pod) {
    return object_at(pod, "status.containerStatuses.0.state.running") != NULL;
}

/* Takes the new state. */
static void set_state(json_t *cs, const char *name, json_t *detail) {
    json_t *terminated = object_at(cs, "state.terminated");
    if (terminated && strcmp(name, "terminated") != 0)
        object_set(cs, "lastState", json_pack("{s:O}", "terminated", terminated));
    object_set(cs, "state", json_pack("{s:o}", name, detail));
}

void pod_status_set_waiting(json_t *cs, const char *reason, const char *message) {
    json_t *detail = json_pack("{s:s}", "reason", reason);
    if (message && *message)
        json_object_set_new(detail, "message", object_text(message));
    set_state(cs, "waiting", detail);
    object_set(cs, "ready", json_false());
    object_set(cs, "started", json_false());
}

static json_t *timestamp(int64_t wall_ms) {
    char text[CLOCK_RFC3339_BYTES];
    return json_string(clock_rfc3339(wall_ms, text));
}

static void set_container_id(const json_t *pod, json_t *cs, uint32_t restarts) {
    AUTO_FREE char *id =
        mem_printf("inferd://%s/%s/%u", object_uid(pod), object_str(cs, "name"), restarts);
    object_set(cs, "containerID", json_string(id));
    /* There are no images here: what was asked for is what is used. */
    object_set(cs, "imageID", json_incref(json_object_get(cs, "image")));
}

void pod_status_set_running(const json_t *pod, json_t *cs, const struct replica_state *state,
                            uint32_t restarts) {
    bool ready = state->phase == REPLICA_READY;
    set_state(cs, "running", json_pack("{s:o}", "startedAt", timestamp(state->started_ms)));
    object_set(cs, "ready", json_boolean(ready));
    object_set(cs, "started", json_boolean(state->started));
    object_set(cs, "restartCount", json_integer(restarts));
    set_container_id(pod, cs, restarts);
}

void pod_status_set_terminated(json_t *cs, const struct replica_state *state) {
    json_t *detail = json_pack("{s:i, s:s, s:o, s:o}", "exitCode", state->exit_code, "reason",
                               state->oom_killed  ? "OOMKilled"
                               : state->exit_code ? "Error"
                                                  : "Completed",
                               "startedAt", timestamp(state->started_ms), "finishedAt",
                               timestamp(state->finished_ms));
    if (*state->message)
        json_object_set_new(detail, "message", object_text(state->message));
    if (state->signal)
        json_object_set_new(detail, "signal", json_integer(state->signal));
    const char *id = object_str(cs, "containerID");
    if (id)
        json_object_set_new(detail, "containerID", json_string(id));
    set_state(cs, "terminated", detail);
    object_set(cs, "ready", json_false());
    object_set(cs, "started", json_false());
}

/* Was it started, ever? */
static bool has_begun(const json_t *cs) {
    return object_at(cs, "state.running") || object_at(cs, "state.terminated") ||
           object_at(cs, "lastState.terminated");
}

static bool is_supported(const json_t *cs) {
    const char *reason = object_str(cs, "state.waiting.reason");
    return !reason || strcmp(reason, NOT_SUPPORTED) != 0;
}

static void set_phase(json_t *pod, const struct pod_plan *plan) {
    bool begun = plan->initialized;
    size_t i;
    json_t *cs;
    json_array_foreach (object_at(pod, "status.containerStatuses"), i, cs)
        begun = begun && (has_begun(cs) || !is_supported(cs));
    const char *phase = plan->done ? (plan->failed ? "Failed" : "Succeeded")
                        : begun    ? "Running"
                                   : "Pending";
    object_set(pod, "status.phase", json_string(phase));
}

/* Appends the names of the containers that are not what they should be: init containers complete,
 * others ready. */
static void list_unready(const json_t *pod, bool init, struct buf *out) {
    const json_t *statuses =
        object_at(pod, init ? "status.initContainerStatuses" : "status.containerStatuses");
    size_t i;
    json_t *cs;
    json_array_foreach (statuses, i, cs) {
        if (!object_bool(cs, "ready", false) && is_supported(cs))
            buf_printf(out, "%s%s", out->len ? " " : "", object_str(cs, "name"));
    }
}

/* Sidecars count like main containers. */
static void list_unready_sidecars(const json_t *pod, struct buf *out) {
    size_t i;
    json_t *c;
    json_array_foreach (object_at(pod, "spec.initContainers"), i, c) {
        const char *policy = object_str(c, "restartPolicy"), *name = object_str(c, "name");
        const json_t *cs = name ? pod_status_of(pod, name) : NULL;
        if (policy && !strcmp(policy, "Always") && cs && !object_bool(cs, "ready", false))
            buf_printf(out, "%s%s", out->len ? " " : "", name);
    }
}

void pod_status_settle(const struct world *w, json_t *pod, const struct pod_plan *plan) {
    AUTO_BUF unready = BUF_INIT;
    AUTO_BUF incomplete = BUF_INIT;
    list_unready_sidecars(pod, &unready);
    list_unready(pod, false, &unready);
    list_unready(pod, true, &incomplete);
    bool ready = !unready.len && plan->initialized, done = plan->done;
    const char *reason = done && plan->failed ? "PodFailed"
                         : done               ? "PodCompleted"
                         : ready              ? NULL
                                              : "ContainersNotReady";
    AUTO_FREE char *message =
        mem_printf("containers with unready status: [%s]", unready.data ? unready.data : "");
    AUTO_FREE char *waits = mem_printf("containers with incomplete status: [%s]",
                                       incomplete.data ? incomplete.data : "");
    set_phase(pod, plan);
    object_set_condition(pod, "PodScheduled", "True", NULL, NULL, w->wall_ms);
    if (plan->initialized)
        object_set_condition(pod, "Initialized", "True", done ? "PodCompleted" : NULL, NULL,
                             w->wall_ms);
    else
        object_set_condition(pod, "Initialized", "False", "ContainersNotInitialized", waits,
                             w->wall_ms);
    object_set_condition(pod, "ContainersReady", ready ? "True" : "False", reason,
                         ready || done ? NULL : message, w->wall_ms);
    object_set_condition(pod, "Ready", ready ? "True" : "False", reason,
                         ready || done ? NULL : message, w->wall_ms);
}

bool pod_status_ready(const json_t *pod) {
    const char *ready = object_condition(pod, "Ready");
    return ready && !strcmp(ready, "True") && !object_deleting(pod);
}
