/* The pod controller.
 *
 *          no node ──scheduler──▶ bound ──start──▶ running ◀─────────────┐
 *                                   │ ▲               │ ended            │ start, restartCount + 1
 *      model missing, bad options   │ │ again later   ▼                  │
 *                                   ▼ │            terminated ──▶ CrashLoopBackOff
 *                                 waiting             │ restartPolicy says no
 *                                                     ▼
 *                                                 Succeeded, Failed
 *
 * That is a container's way; which containers may run, and when the pod is done, pod_plan.c says.
 *
 * A reconcile reads the Pod, asks the driver about the processes of its containers, and brings the
 * one in line with the other. What it remembers between two looks (pod_record.h) may be lost: a
 * daemon that starts anew finds pods without processes and starts them, with the restartCount they
 * had, because the pod did not fail.
 *
 * Deleting: the pod turns unready and leaves the traffic table first; POD_DRAIN_DELAY_MS later its
 * containers get SIGTERM, the sidecars when the others have ended, and SIGKILL after the grace
 * period; the Pod goes from the store when the last process is gone. A Pod that vanished (grace
 * period 0) leaves a record behind, whose processes are killed. */
#include "core/control/pod.h"

#include "core/control/events.h"
#include "core/control/placement.h"
#include "core/control/pod_devices.h"
#include "core/control/pod_memory.h"
#include "core/control/pod_record.h"
#include "core/control/pod_start.h"
#include "core/control/pod_status.h"
#include "core/control/pod_token.h"
#include "core/control/restart.h"
#include "core/control/scheduler.h"
#include "core/node/device_reader.h"

static const char COMPONENT[] = "kubelet";

enum { GRACE_LEFT_MS_MIN = 2000 }; /* for SIGTERM, when others have used up the pod's grace */

void pod_changed(struct world *w, const char *uid) {
    struct pod_record *r = pod_record_find(w, uid);
    if (r)
        world_enqueue(w, KIND_POD, r->ns, r->name);
}

bool pod_endpoint(struct world *w, const char *uid, struct traffic_replica **ret_replica,
                  const char *const **ret_served_names) {
    static const char *const no_names[] = {NULL};
    struct pod_record *r = pod_record_find(w, uid);
    const struct pod_container *c = r ? pod_record_first_main(r) : NULL;
    const char *address = !c || !c->has_command ? NULL
                          : r->host             ? c->serving.address
                                                : c->command.uds_path;
    if (!address)
        return false;
    if (!r->replica || strcmp(r->replica->address, address) != 0) { /* a run at another port */
        traffic_replica_unref(r->replica);
        r->replica = traffic_replica_create(r->name, address);
    }
    *ret_replica = r->replica;
    *ret_served_names = r->host ? no_names : (const char *const *)c->command.served_names;
    return true;
}

/* One look at a pod: its containers as they are now. */
struct look {
    struct pod_record *r;
    struct pod_plan_container *plan; /* one a container, like the next */
    struct replica_state **exited;   /* of those whose end is not written down yet; else NULL */
    bool any_exited;
};

static bool get_state(struct world *w, const struct pod_record *r, const struct pod_container *c,
                      struct replica_state *ret_state) {
    const struct replica_key key = pod_container_key(r, c);
    return w->driver.get(w->driver.self, &key, ret_state);
}

/* The container's process has ended: for good? */
static void look_at_exit(const json_t *pod, struct look *l, size_t i,
                         const struct replica_state *state) {
    const struct pod_container *c = &l->r->containers[i];
    struct restart_run run = {
        .policy = pod_plan_restart_policy(c->role, object_str(pod, "spec.restartPolicy")),
        .exit_code = state->exit_code,
        .ran_ms = state->finished_ms - state->started_ms,
    };
    int64_t backoff_ms = c->backoff_ms;
    l->exited[i] = mem_dup(state, sizeof(*state));
    l->any_exited = true;
    if (!restart_decide(&run, &backoff_ms)) {
        l->plan[i].phase = POD_CONTAINER_ENDED;
        l->plan[i].exit_code = state->exit_code;
    }
}

static void look_at(struct world *w, const json_t *pod, struct pod_record *r, struct look *l) {
    struct replica_state state;
    *l = (struct look){.r = r,
                       .plan = mem_array(r->num_containers + 1, sizeof(l->plan[0])),
                       .exited = mem_array(r->num_containers + 1, sizeof(l->exited[0]))};
    for (size_t i = 0; i < r->num_containers; i++) {
        const struct pod_container *c = &r->containers[i];
        l->plan[i].role = c->role;
        if (c->ended) {
            l->plan[i].phase = POD_CONTAINER_ENDED;
            l->plan[i].exit_code = c->exit_code;
        } else if (get_state(w, r, c, &state)) {
            l->plan[i].started = state.started;
            l->plan[i].phase = POD_CONTAINER_RUNNING;
            if (state.phase == REPLICA_EXITED) {
                l->plan[i].phase = POD_CONTAINER_ABSENT;
                look_at_exit(pod, l, i, &state);
            }
        }
    }
}

static void look_deinit(struct look *l) {
    for (size_t i = 0; i < l->r->num_containers; i++)
        free(l->exited[i]);
    free(l->exited);
    free(l->plan);
}

static bool finished(const json_t *pod) {
    const char *phase = object_str(pod, "status.phase");
    return phase && (!strcmp(phase, "Succeeded") || !strcmp(phase, "Failed"));
}

static enum errc write_status(struct world *w, const struct store_object *o, json_t *pod,
                              const struct pod_plan *plan, struct error *err) {
    bool was_ready = pod_status_ready(o->json);
    pod_status_settle(w, pod, plan);
    if (was_ready != pod_status_ready(pod))
        w->traffic_stale = true;
    return world_update(w, o, pod, NULL, err);
}

/* Running and ending. */

/* What prober and hooks have to say, also of a container that has ended. */
static void tell_notes(struct world *w, const json_t *pod, const struct pod_record *r,
                       const struct pod_container *c) {
    struct replica_note note;
    const struct replica_key key = pod_container_key(r, c);
    while (w->driver.take_note(w->driver.self, &key, &note))
        event_emit(w, pod, note.warning ? EVENT_WARNING : EVENT_NORMAL, note.reason, COMPONENT,
                   "%s", note.text);
}

static void tell_health(struct world *w, const json_t *pod, const struct pod_record *r,
                        struct pod_container *c, const struct replica_state *state) {
    tell_notes(w, pod, r, c);
    if (!r->host && state->phase == REPLICA_UNREADY && !c->unhealthy_told)
        event_emit(w, pod, EVENT_WARNING, "Unhealthy", COMPONENT,
                   "Readiness probe failed: GET /health is not answered with 200");
    c->unhealthy_told = state->phase == REPLICA_UNREADY;
}

static void tell_exit(struct world *w, const json_t *pod, const struct pod_container *c,
                      const struct replica_state *state) {
    if (!state->exit_code)
        return;
    event_emit(w, pod, EVENT_WARNING, "Failed", COMPONENT, "Container %s ended with %s %d: %s",
               c->name, state->signal ? "signal" : "exit code",
               state->signal ? state->signal : state->exit_code,
               *state->message ? state->message : "it left no message");
}

static void begin_backoff(struct world *w, const json_t *pod, const struct pod_record *r,
                          struct pod_container *c) {
    pod_container_set_wait(c, "CrashLoopBackOff",
                           mem_printf("back-off %llds restarting failed container=%s "
                                      "pod=%s_%s(%s)",
                                      (long long)(c->backoff_ms / 1000), c->name, r->name, r->ns,
                                      r->uid));
    event_emit(w, pod, EVENT_WARNING, "BackOff", COMPONENT,
               "Back-off restarting failed container %s in pod %s_%s(%s)", c->name, r->name, r->ns,
               r->uid);
}

/* How a run ended is written down: the run is forgotten, and the next one planned. */
static void settle_exit(struct world *w, const json_t *pod, struct look *l, size_t i,
                        const struct pod_plan *plan) {
    struct pod_record *r = l->r;
    struct pod_container *c = &r->containers[i];
    const struct replica_state *state = l->exited[i];
    const struct replica_key key = pod_container_key(r, c);
    tell_health(w, pod, r, c, state);
    w->driver.forget(w->driver.self, &key);
    pod_container_clear_command(c);
    tell_exit(w, pod, c, state);
    c->ended = l->plan[i].phase == POD_CONTAINER_ENDED;
    c->exit_code = state->exit_code;
    c->served = state->ready_ms > 0;
    if (c->ended || plan->ended)
        return;
    struct restart_run run = {
        .policy = "Always", /* whether was decided before; how long to wait is not */
        .exit_code = state->exit_code,
        .ran_ms = state->finished_ms - state->started_ms,
    };
    ASSERT(restart_decide(&run, &c->backoff_ms));
    c->restarts++;
    int64_t wait_ms = c->backoff_ms - (w->wall_ms - state->finished_ms);
    c->start_at_ms = w->mono_ms + (wait_ms > 0 ? wait_ms : 0);
    if (wait_ms > 0)
        begin_backoff(w, pod, r, c);
}

static enum errc handle_exits(struct world *w, const struct store_object *o, json_t *pod,
                              struct look *l, const struct pod_plan *plan, struct error *err) {
    for (size_t i = 0; i < l->r->num_containers; i++) {
        const struct pod_container *c = &l->r->containers[i];
        json_t *status = pod_status_of(pod, c->name);
        if (!l->exited[i])
            continue;
        pod_status_set_terminated(status, l->exited[i]);
        if (c->role == POD_ROLE_INIT && !l->exited[i]->exit_code)
            object_set(status, "ready", json_true()); /* as complete as it can be */
    }
    if (write_status(w, o, pod, plan, err))
        return err->code;
    for (size_t i = 0; i < l->r->num_containers; i++) {
        if (l->exited[i])
            settle_exit(w, o->json, l, i, plan);
    }
    if (!plan->done)
        world_enqueue(w, KIND_POD, l->r->ns, l->r->name);
    return OK;
}

/* True: a NoExecute taint of the node sends the pod away, now. */
static bool must_leave(struct world *w, const struct store_object *o, struct pod_record *r) {
    AUTO(store_object) node = world_get(w, KIND_NODE, NULL, w->node_name);
    int64_t stay = node ? placement_stay_seconds(o->json, node->json) : -1;
    if (stay < 0) {
        r->evict_at_ms = 0;
        return false;
    }
    if (!r->evict_at_ms)
        r->evict_at_ms = w->mono_ms + stay * 1000;
    if (w->mono_ms >= r->evict_at_ms)
        return true;
    world_enqueue_after(w, KIND_POD, r->ns, r->name, r->evict_at_ms - w->mono_ms);
    return false;
}

/* True: a device of the pod has failed. Its owner makes another, which gets another device. */
static bool lost_device(struct world *w, const struct store_object *o) {
    char why[POD_DEVICES_FAULT_BYTES];
    if (!pod_devices_fault(device_reader_current(w->device_reader), o->json, why))
        return false;
    event_emit(w, o->json, EVENT_WARNING, "DeviceFailed", COMPONENT,
               "The pod is deleted because of its device: %s", why);
    return true;
}

static enum errc evict(struct world *w, const struct store_object *o, struct error *err) {
    event_emit(w, o->json, EVENT_NORMAL, "TaintManagerEviction", "taint-eviction-controller",
               "Marking for deletion Pod %s/%s", object_namespace(o->json), object_name(o->json));
    return world_delete(w, o, err);
}

/* Starts, stops and describes one container. */
static void run_container(struct world *w, const struct store_object *o, json_t *pod,
                          struct look *l, size_t i, const struct pod_plan *plan) {
    struct pod_record *r = l->r;
    struct pod_container *c = &r->containers[i];
    const struct replica_key key = pod_container_key(r, c);
    struct replica_state state;
    json_t *status = pod_status_of(pod, c->name);
    bool known = l->plan[i].phase == POD_CONTAINER_RUNNING && get_state(w, r, c, &state);
    if (known && plan->stop_sidecars && state.phase != REPLICA_STOPPING) {
        event_emit(w, o->json, EVENT_NORMAL, "Killing", COMPONENT, "Stopping container %s",
                   c->name);
        w->driver.stop(w->driver.self, &key, pod_grace_ms(pod));
    }
    if (!known && l->plan[i].may_run && l->plan[i].phase == POD_CONTAINER_ABSENT) {
        if (w->mono_ms >= c->start_at_ms)
            known = pod_start(w, o->json, r, c) && get_state(w, r, c, &state);
        /* Look again: at what this lets on, or when it may be tried again. */
        int64_t wait_ms = known ? 0 : c->start_at_ms - w->mono_ms;
        if (!known || c->role != POD_ROLE_MAIN)
            world_enqueue_after(w, KIND_POD, r->ns, r->name, wait_ms);
    }
    if (known) {
        tell_health(w, o->json, r, c, &state);
        pod_status_set_running(pod, status, &state, c->restarts);
        pod_memory_note_measured(pod, state.memory_bytes);
        if (c->role == POD_ROLE_INIT)
            object_set(status, "ready", json_false()); /* when it is complete */
    } else if (c->wait_reason && l->plan[i].phase == POD_CONTAINER_ABSENT) {
        pod_status_set_waiting(status, c->wait_reason, c->wait_message);
    }
}

static enum errc run(struct world *w, const struct store_object *o, struct error *err) {
    struct pod_record *r = pod_record_open(w, o->json);
    if (must_leave(w, o, r))
        return evict(w, o, err);
    if (lost_device(w, o))
        return world_delete(w, o, err);
    struct look l;
    json_t *pod = json_deep_copy(o->json);
    pod_status_init(w, pod);
    look_at(w, o->json, r, &l);
    struct pod_plan plan = pod_plan_make(l.plan, r->num_containers, r->initialized);
    r->initialized = plan.initialized;
    enum errc rc;
    if (l.any_exited) {
        rc = handle_exits(w, o, pod, &l, &plan, err);
    } else {
        for (size_t i = 0; i < r->num_containers; i++)
            run_container(w, o, pod, &l, i, &plan);
        rc = write_status(w, o, pod, &plan, err);
    }
    look_deinit(&l);
    if (!rc && !plan.done)
        pod_token_renew(w, o->json, r);
    return rc;
}

/* Deleting. */

static enum errc begin_drain(struct world *w, const struct store_object *o, struct pod_record *r,
                             bool serves, struct error *err) {
    struct replica_state state;
    r->stop_at_ms = w->mono_ms + (serves ? POD_DRAIN_DELAY_MS : 0);
    w->traffic_stale = true;
    json_t *pod = json_deep_copy(o->json);
    for (size_t i = 0; i < r->num_containers; i++) {
        const struct pod_container *c = &r->containers[i];
        json_t *status = pod_status_of(pod, c->name);
        if (get_state(w, r, c, &state))
            event_emit(w, o->json, EVENT_NORMAL, "Killing", COMPONENT, "Stopping container %s",
                       c->name);
        if (status)
            object_set(status, "ready", json_false());
    }
    world_enqueue_after(w, KIND_POD, r->ns, r->name, r->stop_at_ms - w->mono_ms);
    pod_status_settle(w, pod, &(struct pod_plan){.initialized = r->initialized});
    return world_update(w, o, pod, NULL, err);
}

/* The processes are gone: the last status, then the Pod itself unless somebody holds on to it. */
static enum errc finish_delete(struct world *w, const struct store_object *o, struct error *err) {
    struct pod_record *r = pod_record_find(w, object_uid(o->json));
    bool initialized = !r || r->initialized;
    if (r)
        pod_record_close(w, r);
    if (!json_array_size(object_at(o->json, "metadata.finalizers")))
        return world_remove(w, o, err);
    json_t *pod = json_deep_copy(o->json), *status;
    pod_status_init(w, pod);
    size_t i;
    json_array_foreach (object_at(pod, "status.containerStatuses"), i, status) {
        if (object_at(status, "state.running"))
            pod_status_set_waiting(status, "Terminated", NULL);
    }
    return write_status(w, o, pod, &(struct pod_plan){.initialized = initialized}, err);
}

/* Forgets what has ended. Gives how many containers of the role still run; ret_ready: one of them
 * is ready. role POD_ROLE_MAIN: all but sidecars. */
static size_t count_running(struct world *w, const struct pod_record *r, enum pod_role role,
                            bool *ret_ready) {
    size_t num = 0;
    for (size_t i = 0; i < r->num_containers; i++) {
        const struct pod_container *c = &r->containers[i];
        const struct replica_key key = pod_container_key(r, c);
        struct replica_state state;
        if ((c->role == POD_ROLE_SIDECAR) != (role == POD_ROLE_SIDECAR) ||
            !get_state(w, r, c, &state))
            continue;
        if (state.phase == REPLICA_EXITED) {
            w->driver.forget(w->driver.self, &key);
            continue;
        }
        *ret_ready = *ret_ready || state.phase == REPLICA_READY;
        num++;
    }
    return num;
}

static void stop_containers(struct world *w, const struct pod_record *r, bool sidecars,
                            int64_t grace) {
    for (size_t i = 0; i < r->num_containers; i++) {
        const struct replica_key key = pod_container_key(r, &r->containers[i]);
        if ((r->containers[i].role == POD_ROLE_SIDECAR) == sidecars)
            w->driver.stop(w->driver.self, &key, grace);
    }
}

/* `inferd engine` finishes its answers on SIGTERM; other programs end at once, and are asked to
 * when they have answered. */
static bool still_answers(const struct pod_record *r) {
    return r->host && r->replica && r->replica->in_flight;
}

static enum errc delete_pod(struct world *w, const struct store_object *o, struct error *err) {
    struct pod_record *r = pod_record_find(w, object_uid(o->json));
    bool ready = false;
    for (size_t i = 0; r && i < r->num_containers; i++)
        tell_notes(w, o->json, r, &r->containers[i]);
    size_t num_mains = r ? count_running(w, r, POD_ROLE_MAIN, &ready) : 0;
    size_t num_sidecars = r ? count_running(w, r, POD_ROLE_SIDECAR, &ready) : 0;
    if (!num_mains && !num_sidecars)
        return finish_delete(w, o, err);
    if (!r->stop_at_ms)
        return begin_drain(w, o, r, ready, err);
    if (w->mono_ms < r->stop_at_ms) {
        world_enqueue_after(w, KIND_POD, r->ns, r->name, r->stop_at_ms - w->mono_ms);
        return OK;
    }
    int64_t all = pod_grace_ms(o->json), left = all - (w->mono_ms - r->stop_at_ms);
    if (left > 0 && still_answers(r)) {
        world_enqueue_after(w, KIND_POD, r->ns, r->name,
                            left < POD_ANSWERING_MS ? left : POD_ANSWERING_MS);
        return OK;
    }
    /* Their ends bring us back. What answers took of the grace the main containers have not, and
     * what those took of it the sidecars have not. */
    int64_t least = all < GRACE_LEFT_MS_MIN ? all : GRACE_LEFT_MS_MIN;
    stop_containers(w, r, false, left < least ? least : left);
    if (!num_mains)
        stop_containers(w, r, true, all && left < GRACE_LEFT_MS_MIN ? GRACE_LEFT_MS_MIN : left);
    return OK;
}

/* Ends what runs of a pod that is not in the store any more. True: nothing does. */
static bool end_stray(struct world *w, const struct pod_record *r) {
    bool gone = true;
    for (size_t i = 0; i < r->num_containers; i++) {
        const struct replica_key key = pod_container_key(r, &r->containers[i]);
        struct replica_state state;
        if (!get_state(w, r, &r->containers[i], &state))
            continue;
        if (state.phase == REPLICA_EXITED) {
            w->driver.forget(w->driver.self, &key);
            continue;
        }
        w->driver.stop(w->driver.self, &key, 0);
        w->traffic_stale = true;
        gone = false;
    }
    return gone;
}

/* Processes of pods that had this name and are not in the store any more. */
static void end_strays(struct world *w, const char *ns, const char *name, const char *uid) {
    for (struct pod_record *r = w->pods->records, *next; r; r = next) {
        next = r->next;
        if (strcmp(r->ns, ns) != 0 || strcmp(r->name, name) != 0 || (uid && !strcmp(r->uid, uid)))
            continue;
        if (end_stray(w, r))
            pod_record_close(w, r);
    }
}

enum errc pod_reconcile(struct world *w, const char *ns, const char *name, struct error *err) {
    AUTO(store_object) o = world_get(w, KIND_POD, ns, name);
    end_strays(w, ns, name, o ? object_uid(o->json) : NULL);
    if (!o)
        return OK;
    const char *node = object_str(o->json, "spec.nodeName");
    if (node && strcmp(node, w->node_name) != 0)
        return OK; /* another node's: nobody's here */
    if (object_deleting(o->json))
        return delete_pod(w, o, err);
    if (finished(o->json))
        return OK;
    return node ? run(w, o, err) : scheduler_bind(w, o, err);
}
