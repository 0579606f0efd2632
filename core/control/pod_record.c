/* Records of pods. A daemon that starts anew makes them from what the Pods say: main containers
 * that had ended for good stay so, everything else is run again from the first init container on,
 * as after a reboot; a container that was waiting in back-off goes on with the next number. */
#include "core/control/pod_record.h"

#include "core/control/pod.h"
#include "core/control/pod_model.h"
#include "core/control/pod_status.h"
#include "core/control/restart.h"

enum { GRACE_SECONDS_DEFAULT = 30 };

struct pod_table *pod_table_create(void) {
    return mem_alloc(sizeof(struct pod_table));
}

void pod_container_clear_command(struct pod_container *c) {
    if (c->has_command)
        replica_command_deinit(&c->command);
    c->has_command = false;
}

void pod_container_clear_serving(struct pod_container *c) {
    free(c->serving.address);
    free(c->serving.model_path);
    c->serving = (struct pod_serving){0};
}

void pod_container_set_wait(struct pod_container *c, const char *reason, char *message) {
    free(c->wait_reason);
    free(c->wait_message);
    c->wait_reason = mem_strdup(reason);
    c->wait_message = message;
}

static void record_destroy(struct pod_record *r) {
    for (size_t i = 0; i < r->num_containers; i++) {
        struct pod_container *c = &r->containers[i];
        pod_container_clear_command(c);
        pod_container_clear_serving(c);
        pod_container_set_wait(c, NULL, NULL);
        free(c->name);
        free(c->home_dir);
    }
    traffic_replica_unref(r->replica);
    free(r->containers);
    free(r->ns);
    free(r->name);
    free(r->uid);
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

struct pod_record *pod_record_find(const struct world *w, const char *uid) {
    for (struct pod_record *r = w->pods->records; r; r = r->next) {
        if (!strcmp(r->uid, uid))
            return r;
    }
    return NULL;
}

struct pod_container *pod_record_first_main(const struct pod_record *r) {
    for (size_t i = 0; i < r->num_containers; i++) {
        if (r->containers[i].role == POD_ROLE_MAIN)
            return &r->containers[i];
    }
    return NULL;
}

const json_t *pod_container_spec(const json_t *pod, const struct pod_container *c) {
    const char *list = c->role == POD_ROLE_MAIN ? "spec.containers" : "spec.initContainers";
    return json_array_get(object_at(pod, list), c->index);
}

int64_t pod_grace_ms(const json_t *pod) {
    int64_t grace =
        object_int(pod, "metadata.deletionGracePeriodSeconds",
                   object_int(pod, "spec.terminationGracePeriodSeconds", GRACE_SECONDS_DEFAULT));
    return grace > 0 ? grace * 1000 : 0;
}

/* What an earlier daemon has seen of the container. */
static void recall(const json_t *pod, struct pod_container *c) {
    const json_t *status = pod_status_of(pod, c->name);
    const json_t *terminated = object_at(status, "state.terminated");
    const char *waiting = object_str(status, "state.waiting.reason");
    int64_t ignored_ms = -1;
    struct restart_run run = {
        .policy = pod_plan_restart_policy(c->role, object_str(pod, "spec.restartPolicy")),
        .exit_code = (int)object_int(terminated, "exitCode", 1)};
    c->restarts = (uint32_t)object_int(status, "restartCount", 0);
    /* It was waiting to be restarted; the run that crashed keeps its number. */
    if (waiting && !strcmp(waiting, "CrashLoopBackOff"))
        c->restarts++;
    c->ended = terminated && c->role == POD_ROLE_MAIN && !restart_decide(&run, &ignored_ms);
    c->exit_code = run.exit_code;
}

static void add_containers(struct pod_record *r, const json_t *pod, const char *list, bool init) {
    const json_t *all = object_at(pod, list);
    size_t num = json_array_size(all);
    if (!r->host) /* `inferd engine` is the first; pod_status.c says so of the others */
        num = init ? 0 : num ? 1 : 0;
    for (size_t i = 0; i < num; i++) {
        const json_t *spec = json_array_get(all, i);
        const char *name = object_str(spec, "name"), *policy = object_str(spec, "restartPolicy");
        struct pod_container *c = &r->containers[r->num_containers++];
        *c = (struct pod_container){.name = mem_strdup(name ? name : ""),
                                    .role = !init                                 ? POD_ROLE_MAIN
                                            : policy && !strcmp(policy, "Always") ? POD_ROLE_SIDECAR
                                                                                  : POD_ROLE_INIT,
                                    .index = i,
                                    .backoff_ms = -1};
        recall(pod, c);
    }
}

struct pod_record *pod_record_open(struct world *w, const json_t *pod) {
    struct pod_record *r = pod_record_find(w, object_uid(pod));
    if (r)
        return r;
    r = mem_alloc(sizeof(*r));
    r->ns = mem_strdup(object_namespace(pod));
    r->name = mem_strdup(object_name(pod));
    r->uid = mem_strdup(object_uid(pod));
    r->host = replica_command_is_host(pod);
    r->containers = mem_array(json_array_size(object_at(pod, "spec.containers")) +
                                  json_array_size(object_at(pod, "spec.initContainers")) + 1,
                              sizeof(r->containers[0]));
    add_containers(r, pod, "spec.initContainers", true);
    add_containers(r, pod, "spec.containers", false);
    r->next = w->pods->records;
    w->pods->records = r;
    return r;
}

void pod_record_close(struct world *w, struct pod_record *r) {
    struct pod_record **at = &w->pods->records;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    w->driver.forget_pod(w->driver.self, r->uid);
    pod_model_release(w, r);
    if (w->podlog)
        podlog_remove(w->podlog, r->ns, r->name, r->uid);
    record_destroy(r);
}
