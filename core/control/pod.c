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
 * A reconcile reads the Pod, asks the driver about the process of its uid, and brings the one in
 * line with the other. What it remembers between two looks (the table below: back-off, when the
 * drain ends) may be lost: a daemon that starts anew finds pods without processes and starts them,
 * with the restartCount they had, because the pod did not fail.
 *
 * Deleting: the pod turns unready and leaves the traffic table first; POD_DRAIN_DELAY_MS later it
 * gets SIGTERM, and SIGKILL after its grace period; its Pod goes from the store when the process
 * is gone. A Pod that vanished (grace period 0) leaves a record behind, whose process is killed. */
#include "core/control/pod.h"

#include "core/control/events.h"
#include "core/control/placement.h"
#include "core/control/pod_env.h"
#include "core/control/pod_status.h"
#include "core/control/pod_user.h"
#include "core/control/restart.h"
#include "core/control/scheduler.h"
#include "core/node/replica_command.h"

static const char COMPONENT[] = "kubelet";

enum { START_RETRY_MS_MIN = 1000, GRACE_SECONDS_DEFAULT = 30 };

/* A pod of this node that has, had or waits for a process. */
struct pod_record {
    struct pod_record *next;
    char *ns, *name, *uid;
    char *home_dir;                 /* of a host pod's run */
    struct replica_command command; /* of the current run */
    bool has_command;
    uint32_t restarts;                /* restartCount of the current or the next run */
    int64_t backoff_ms;               /* restart_decide()'s; -1: has not ended yet */
    int64_t start_at_ms;              /* monotonic: no start before */
    int64_t start_retry_ms;           /* after a start that did not come about */
    char *wait_reason, *wait_message; /* why it has not been started; NULL: nothing is in the way */
    int64_t
        evict_at_ms;    /* monotonic: a NoExecute taint is tolerated until then; 0: none is there */
    int64_t stop_at_ms; /* monotonic: SIGTERM when the drain delay is over; 0: not deleting */
    bool unhealthy_told;
    uint32_t user; /* of a host pod; 0: of another */
};

struct pod_table {
    struct pod_record *records;
};

struct pod_table *pod_table_create(void) {
    return mem_alloc(sizeof(struct pod_table));
}

static void clear_command(struct pod_record *r) {
    if (r->has_command)
        replica_command_deinit(&r->command);
    r->has_command = false;
}

/* Takes the message. */
static void set_wait(struct pod_record *r, const char *reason, char *message) {
    free(r->wait_reason);
    free(r->wait_message);
    r->wait_reason = mem_strdup(reason);
    r->wait_message = message;
}

static void record_destroy(struct pod_record *r) {
    clear_command(r);
    set_wait(r, NULL, NULL);
    free(r->ns);
    free(r->name);
    free(r->uid);
    free(r->home_dir);
    free(r);
}

void pod_table_destroy(struct pod_table *t) {
    if (!t)
        return;
    for (struct pod_record *r = t->records, *next; r; r = next) {
        next = r->next;
        record_destroy(r);
    }
    free(t);
}

static struct pod_record *find_record(const struct world *w, const char *uid) {
    for (struct pod_record *r = w->pods->records; r; r = r->next) {
        if (!strcmp(r->uid, uid))
            return r;
    }
    return NULL;
}

static struct pod_record *open_record(struct world *w, const json_t *pod) {
    struct pod_record *r = find_record(w, object_uid(pod));
    if (r)
        return r;
    r = mem_alloc(sizeof(*r));
    r->ns = mem_strdup(object_namespace(pod));
    r->name = mem_strdup(object_name(pod));
    r->uid = mem_strdup(object_uid(pod));
    r->backoff_ms = -1;
    r->restarts = pod_status_restarts(pod);
    /* An earlier daemon was waiting to restart it; the run that crashed keeps its number. */
    const char *waiting = pod_status_waiting(pod);
    if (waiting && !strcmp(waiting, "CrashLoopBackOff"))
        r->restarts++;
    r->next = w->pods->records;
    w->pods->records = r;
    return r;
}

static void close_record(struct world *w, struct pod_record *r) {
    struct pod_record **at = &w->pods->records;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    if (w->podlog)
        podlog_remove(w->podlog, r->ns, r->name, r->uid);
    record_destroy(r);
}

void pod_changed(struct world *w, const char *uid) {
    struct pod_record *r = find_record(w, uid);
    if (r)
        world_enqueue(w, KIND_POD, r->ns, r->name);
}

bool pod_endpoint(const struct world *w, const char *uid, const char **ret_uds_path,
                  const char *const **ret_served_names) {
    const struct pod_record *r = find_record(w, uid);
    if (!r || !r->has_command || r->command.host)
        return false;
    *ret_uds_path = r->command.uds_path;
    *ret_served_names = (const char *const *)r->command.served_names;
    return true;
}

/* Starting. */

static const char *container_name(const json_t *pod) {
    const char *name = object_str(pod, "spec.containers.0.name");
    return name ? name : "";
}

static enum errc make_command(struct world *w, const json_t *pod, struct pod_record *r,
                              struct error *err) {
    json_t *resolved = NULL;
    if (pod_env_resolve(w, pod, &resolved, err))
        return err->code = ERR_UNAVAILABLE; /* not a missing model: that is ERR_NOT_FOUND */
    struct replica_command_options opt = {
        .program = w->program,
        .run_dir = w->run_dir,
        .models = {.models_dir = w->models_dir, .hf_cache_dir = w->hf_cache_dir},
    };
    clear_command(r);
    enum errc rc = replica_command_make(resolved, &opt, &r->command, err);
    r->has_command = !rc;
    json_decref(resolved);
    return rc;
}

static bool user_taken(const void *user, uint32_t id) {
    const struct world *w = user;
    for (const struct pod_record *r = w->pods->records; r; r = r->next) {
        if (r->user == id)
            return true;
    }
    return false;
}

/* A host pod gets its user, which it keeps, and the folder of this run. */
static enum errc give_user(struct world *w, const json_t *pod, struct pod_record *r,
                           struct error *err) {
    if (!r->command.host)
        return OK;
    if (!w->config->host_processes)
        return err_set(err, ERR_INVALID,
                       "the image \"host\" is turned off on this machine (hostProcesses)");
    const struct pod_user_range range = {(uint32_t)w->config->host_user_first,
                                         (uint32_t)w->config->host_user_last, user_taken, w};
    if (!r->user && pod_user_pick(pod, &range, &r->user, err))
        return err->code;
    free(r->home_dir);
    r->home_dir = mem_printf("%s/%s-%u", w->config->host_pods_dir, r->uid, r->restarts);
    return OK;
}

static enum errc start_process(struct world *w, const json_t *pod, struct pod_record *r,
                               struct error *err) {
    struct replica_spec spec = {
        .ns = r->ns,
        .pod = r->name,
        .uid = r->uid,
        .container = container_name(pod),
        .restart = r->restarts,
        .argv = (const char *const *)r->command.argv,
        .env = (const char *const *)r->command.env,
        .uds_path = r->command.uds_path,
        .health_path = "/health",
        .open_files_max = w->config->replica_open_files_max,
        .user = r->command.host ? r->user : 0,
        .home_dir = r->home_dir,
        .work_dir = r->command.work_dir,
    };
    return w->driver.start(w->driver.self, &spec, err);
}

/* What the container waits for, in the kubelet's words where it has them. */
static const char *start_failure(enum errc rc) {
    switch (rc) {
    case ERR_NOT_FOUND:
        return "ModelNotFound";
    case ERR_UNAVAILABLE:
        return "CreateContainerConfigError";
    case ERR_INVALID:
        return "InvalidContainer";
    default:
        return "RunContainerError";
    }
}

static void put_off_start(struct world *w, const struct store_object *o, struct pod_record *r,
                          const struct error *why) {
    bool told = r->wait_message && !strcmp(r->wait_message, why->text);
    set_wait(r, start_failure(why->code), mem_strdup(why->text));
    r->start_retry_ms = r->start_retry_ms ? r->start_retry_ms * 2 : START_RETRY_MS_MIN;
    if (r->start_retry_ms > POD_MODEL_RETRY_MS_MAX)
        r->start_retry_ms = POD_MODEL_RETRY_MS_MAX;
    r->start_at_ms = w->mono_ms + r->start_retry_ms;
    if (!told)
        event_emit(w, o->json, EVENT_WARNING,
                   why->code == ERR_NOT_FOUND ? "ModelNotFound" : "Failed", COMPONENT, "%s",
                   why->text);
}

static void tell_start(struct world *w, const json_t *pod, const struct pod_record *r) {
    const char *container = container_name(pod);
    if (!r->command.host)
        event_emit(w, pod, EVENT_NORMAL, "ModelFound", COMPONENT, "Model \"%s\" is at %s",
                   r->command.model_reference, r->command.model_path);
    for (char **warning = r->command.warnings; warning && *warning; warning++)
        event_emit(w, pod, EVENT_WARNING, "OptionIgnored", COMPONENT, "%s", *warning);
    event_emit(w, pod, EVENT_NORMAL, "Created", COMPONENT, "Created container: %s", container);
    event_emit(w, pod, EVENT_NORMAL, "Started", COMPONENT, "Started container %s", container);
}

/* True: the process runs. */
static bool start(struct world *w, const struct store_object *o, struct pod_record *r) {
    struct error err = ERROR_INIT;
    if (make_command(w, o->json, r, &err) || give_user(w, o->json, r, &err) ||
        start_process(w, o->json, r, &err)) {
        clear_command(r);
        put_off_start(w, o, r, &err);
        return false;
    }
    set_wait(r, NULL, NULL);
    r->start_retry_ms = 0;
    r->unhealthy_told = false;
    tell_start(w, o->json, r);
    return true;
}

static bool finished(const json_t *pod) {
    const char *phase = object_str(pod, "status.phase");
    return phase && (!strcmp(phase, "Succeeded") || !strcmp(phase, "Failed"));
}

static enum errc write_status(struct world *w, const struct store_object *o, json_t *pod, bool done,
                              struct error *err) {
    bool was_ready = pod_status_ready(o->json);
    pod_status_settle(w, pod, done);
    if (was_ready != pod_status_ready(pod))
        w->traffic_stale = true;
    return world_update(w, o, pod, NULL, err);
}

/* Running and ending. */

static void tell_unhealthy(struct world *w, const struct store_object *o, struct pod_record *r,
                           const struct replica_state *state) {
    if (state->phase == REPLICA_UNREADY && !r->unhealthy_told)
        event_emit(w, o->json, EVENT_WARNING, "Unhealthy", COMPONENT,
                   "Readiness probe failed: GET /health is not answered with 200");
    r->unhealthy_told = state->phase == REPLICA_UNREADY;
}

static void tell_exit(struct world *w, const struct store_object *o,
                      const struct replica_state *state) {
    if (!state->exit_code)
        return;
    event_emit(w, o->json, EVENT_WARNING, "Failed", COMPONENT, "Container %s ended with %s %d: %s",
               container_name(o->json), state->signal ? "signal" : "exit code",
               state->signal ? state->signal : state->exit_code,
               *state->message ? state->message : "it left no message");
}

static void begin_backoff(struct world *w, const struct store_object *o, struct pod_record *r) {
    set_wait(r, "CrashLoopBackOff",
             mem_printf("back-off %llds restarting failed container=%s pod=%s_%s(%s)",
                        (long long)(r->backoff_ms / 1000), container_name(o->json), r->name, r->ns,
                        r->uid));
    event_emit(w, o->json, EVENT_WARNING, "BackOff", COMPONENT,
               "Back-off restarting failed container %s in pod %s_%s(%s)", container_name(o->json),
               r->name, r->ns, r->uid);
}

/* How the run ended is written first; only when that is stored is the run forgotten. */
static enum errc handle_exit(struct world *w, const struct store_object *o, json_t *pod,
                             struct pod_record *r, const struct replica_state *state,
                             struct error *err) {
    struct restart_run run = {
        .policy = object_str(pod, "spec.restartPolicy"),
        .exit_code = state->exit_code,
        .ran_ms = state->finished_ms - state->started_ms,
    };
    int64_t backoff_ms = r->backoff_ms;
    bool again = restart_decide(&run, &backoff_ms);
    pod_status_set_terminated(pod, state);
    if (write_status(w, o, pod, !again, err))
        return err->code;
    w->driver.forget(w->driver.self, r->uid);
    clear_command(r);
    tell_exit(w, o, state);
    if (!again)
        return OK;
    r->backoff_ms = backoff_ms;
    r->restarts++;
    int64_t wait_ms = backoff_ms - (w->wall_ms - state->finished_ms);
    r->start_at_ms = w->mono_ms + (wait_ms > 0 ? wait_ms : 0);
    if (wait_ms > 0)
        begin_backoff(w, o, r);
    world_enqueue(w, KIND_POD, r->ns, r->name);
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

static enum errc evict(struct world *w, const struct store_object *o, struct error *err) {
    event_emit(w, o->json, EVENT_NORMAL, "TaintManagerEviction", "taint-eviction-controller",
               "Marking for deletion Pod %s/%s", object_namespace(o->json), object_name(o->json));
    return world_delete(w, o, err);
}

static enum errc run(struct world *w, const struct store_object *o, struct error *err) {
    struct pod_record *r = open_record(w, o->json);
    if (must_leave(w, o, r))
        return evict(w, o, err);
    struct replica_state state;
    json_t *pod = json_deep_copy(o->json);
    pod_status_init(w, pod);
    bool known = w->driver.get(w->driver.self, r->uid, &state);
    if (known && state.phase == REPLICA_EXITED)
        return handle_exit(w, o, pod, r, &state, err);
    if (!known && w->mono_ms >= r->start_at_ms)
        known = start(w, o, r) && w->driver.get(w->driver.self, r->uid, &state);
    if (known) {
        tell_unhealthy(w, o, r, &state);
        pod_status_set_running(pod, &state, r->restarts);
    } else {
        if (r->wait_reason)
            pod_status_set_waiting(pod, r->wait_reason, r->wait_message);
        world_enqueue_after(w, KIND_POD, r->ns, r->name, r->start_at_ms - w->mono_ms);
    }
    return write_status(w, o, pod, false, err);
}

/* Deleting. */

static int64_t grace_ms(const json_t *pod) {
    int64_t grace =
        object_int(pod, "metadata.deletionGracePeriodSeconds",
                   object_int(pod, "spec.terminationGracePeriodSeconds", GRACE_SECONDS_DEFAULT));
    return grace > 0 ? grace * 1000 : 0;
}

static enum errc begin_drain(struct world *w, const struct store_object *o, struct pod_record *r,
                             bool serves, struct error *err) {
    r->stop_at_ms = w->mono_ms + (serves ? POD_DRAIN_DELAY_MS : 0);
    w->traffic_stale = true;
    event_emit(w, o->json, EVENT_NORMAL, "Killing", COMPONENT, "Stopping container %s",
               container_name(o->json));
    world_enqueue_after(w, KIND_POD, r->ns, r->name, r->stop_at_ms - w->mono_ms);
    json_t *pod = json_deep_copy(o->json);
    if (object_at(pod, "status.containerStatuses.0"))
        object_set(pod, "status.containerStatuses.0.ready", json_false());
    pod_status_settle(w, pod, false);
    return world_update(w, o, pod, NULL, err);
}

/* The process is gone: the last status, then the Pod itself unless somebody holds on to it. */
static enum errc finish_delete(struct world *w, const struct store_object *o, struct error *err) {
    struct pod_record *r = find_record(w, object_uid(o->json));
    if (r)
        close_record(w, r);
    if (!json_array_size(object_at(o->json, "metadata.finalizers")))
        return world_remove(w, o, err);
    json_t *pod = json_deep_copy(o->json);
    pod_status_init(w, pod);
    if (pod_status_running(pod))
        pod_status_set_waiting(pod, "Terminated", NULL);
    return write_status(w, o, pod, false, err);
}

static enum errc delete (struct world *w, const struct store_object *o, struct error *err) {
    struct pod_record *r = find_record(w, object_uid(o->json)); struct replica_state state;
    bool known = r && w->driver.get(w->driver.self, r->uid, &state);
    if (known && state.phase == REPLICA_EXITED){w->driver.forget(w->driver.self, r->uid);
                                                known = false;}
if (!known) return finish_delete(w, o, err);
if (!r->stop_at_ms)
    return begin_drain(w, o, r, state.phase == REPLICA_READY, err);
if (w->mono_ms < r->stop_at_ms) {
    world_enqueue_after(w, KIND_POD, r->ns, r->name, r->stop_at_ms - w->mono_ms);
    return OK;
}
w->driver.stop(w->driver.self, r->uid, grace_ms(o->json)); /* its exit brings us back */
return OK;
}

/* Processes of pods that had this name and are not in the store any more. */
static void end_strays(struct world *w, const char *ns, const char *name, const char *uid) {
    for (struct pod_record *r = w->pods->records, *next; r; r = next) {
        struct replica_state state;
        next = r->next;
        if (strcmp(r->ns, ns) != 0 || strcmp(r->name, name) != 0 || (uid && !strcmp(r->uid, uid)))
            continue;
        bool known = w->driver.get(w->driver.self, r->uid, &state);
        if (known && state.phase != REPLICA_EXITED) {
            w->driver.stop(w->driver.self, r->uid, 0);
            w->traffic_stale = true;
            continue;
        }
        if (known)
            w->driver.forget(w->driver.self, r->uid);
        close_record(w, r);
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
        return delete (w, o, err);
    if (finished(o->json))
        return OK;
    return node ? run(w, o, err) : scheduler_bind(w, o, err);
}
