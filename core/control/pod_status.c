/* Pod status. inferd runs the first container of a pod; others are listed as waiting, with the
 * reason, so that nobody takes them for running. */
#include "core/control/pod_status.h"

#include <stdio.h>

#include "core/base/clock.h"

static const char FIRST[] = "status.containerStatuses.0";

static json_t *first_status(const json_t *pod) {
    return object_at(pod, FIRST);
}

static json_t *new_container_status(const json_t *container, bool runs_here) {
    const char *image = object_str(container, "image"), *name = object_str(container, "name");
    json_t *state = runs_here ? json_pack("{s:s}", "reason", "ContainerCreating")
                              : json_pack("{s:s, s:s}", "reason", "NotSupported", "message",
                                          "inferd runs the first container of a pod only");
    return json_pack("{s:s, s:s, s:s, s:b, s:b, s:i, s:{s:o}, s:{}}", "name", name ? name : "",
                     "image", image ? image : "", "imageID", "", "ready", 0, "started", 0,
                     "restartCount", 0, "state", "waiting", state, "lastState");
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
    json_t *statuses = json_array();
    size_t i;
    json_t *c;
    json_array_foreach (object_at(pod, "spec.containers"), i, c)
        json_array_append_new(statuses, new_container_status(c, i == 0));
    object_set(pod, "status.containerStatuses", statuses);
}

uint32_t pod_status_restarts(const json_t *pod) {
    return (uint32_t)object_int(first_status(pod), "restartCount", 0);
}

const char *pod_status_waiting(const json_t *pod) {
    return object_str(first_status(pod), "state.waiting.reason");
}

bool pod_status_running(const json_t *pod) {
    return object_at(first_status(pod), "state.running") != NULL;
}

/* Takes the new state. */
static void set_state(json_t *cs, const char *name, json_t *detail) {
    json_t *terminated = object_at(cs, "state.terminated");
    if (terminated && strcmp(name, "terminated") != 0)
        object_set(cs, "lastState", json_pack("{s:O}", "terminated", terminated));
    object_set(cs, "state", json_pack("{s:o}", name, detail));
}

void pod_status_set_waiting(json_t *pod, const char *reason, const char *message) {
    json_t *cs = first_status(pod);
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
    AUTO_FREE char *id = mem_printf("inferd://%s/%u", object_uid(pod), restarts);
    object_set(cs, "containerID", json_string(id));
    /* There are no images here: what was asked for is what is used. */
    object_set(cs, "imageID", json_incref(json_object_get(cs, "image")));
}

void pod_status_set_running(json_t *pod, const struct replica_state *state, uint32_t restarts) {
    json_t *cs = first_status(pod);
    bool ready = state->phase == REPLICA_READY;
    set_state(cs, "running", json_pack("{s:o}", "startedAt", timestamp(state->started_ms)));
    object_set(cs, "ready", json_boolean(ready));
    object_set(cs, "started", json_boolean(state->ready_ms != 0));
    object_set(cs, "restartCount", json_integer(restarts));
    set_container_id(pod, cs, restarts);
}

void pod_status_set_terminated(json_t *pod, const struct replica_state *state) {
    json_t *cs = first_status(pod);
    json_t *detail =
        json_pack("{s:i, s:s, s:o, s:o}", "exitCode", state->exit_code, "reason",
                  state->exit_code ? "Error" : "Completed", "startedAt",
                  timestamp(state->started_ms), "finishedAt", timestamp(state->finished_ms));
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

static void set_phase(json_t *pod, bool done) {
    const json_t *cs = first_status(pod);
    const char *phase = "Pending";
    if (done)
        phase = object_int(cs, "state.terminated.exitCode", 1) ? "Failed" : "Succeeded";
    else if (object_at(cs, "state.running") || object_at(cs, "lastState.terminated") ||
             object_at(cs, "state.terminated"))
        phase = "Running";
    object_set(pod, "status.phase", json_string(phase));
}

void pod_status_settle(const struct world *w, json_t *pod, bool done) {
    bool ready = object_bool(first_status(pod), "ready", false);
    const char *name = object_str(pod, "spec.containers.0.name");
    char message[300];
    const char *reason = done ? "PodCompleted" : "ContainersNotReady";
    snprintf(message, sizeof(message), "containers with unready status: [%s]", name ? name : "");
    set_phase(pod, done);
    object_set_condition(pod, "PodScheduled", "True", NULL, NULL, w->wall_ms);
    object_set_condition(pod, "Initialized", "True", done ? reason : NULL, NULL, w->wall_ms);
    object_set_condition(pod, "ContainersReady", ready ? "True" : "False", ready ? NULL : reason,
                         ready || done ? NULL : message, w->wall_ms);
    object_set_condition(pod, "Ready", ready ? "True" : "False", ready ? NULL : reason,
                         ready || done ? NULL : message, w->wall_ms);
}

bool pod_status_ready(const json_t *pod) {
    const char *ready = object_condition(pod, "Ready");
    return ready && !strcmp(ready, "True") && !object_deleting(pod);
}
