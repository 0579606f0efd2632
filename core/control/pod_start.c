/* Starting a container: its environment is looked up, its image and arguments become a command, a
 * host pod gets its user, and the driver starts the process. What is missing may still come (a
 * model, a ConfigMap, a free user), so every failure is tried again, ever more seldom. */
#include "core/control/pod_start.h"

#include "core/control/events.h"
#include "core/control/pod.h"
#include "core/control/pod_devices.h"
#include "core/control/pod_env.h"
#include "core/control/pod_memory.h"
#include "core/control/pod_model.h"
#include "core/control/pod_probes.h"
#include "core/control/pod_serve.h"
#include "core/control/pod_token.h"
#include "core/control/pod_user.h"
#include "core/node/device_reader.h"
#include "core/quantity.h"

static const char COMPONENT[] = "kubelet";

enum { START_RETRY_MS_MIN = 1000 };

/* Gives its place for messages. */
static char *container_path(const struct pod_container *c) {
    return mem_printf("spec.%s[%zu]", c->role == POD_ROLE_MAIN ? "containers" : "initContainers",
                      c->index);
}

static enum errc make_command(struct world *w, const json_t *pod, struct pod_container *c,
                              struct pod_model *model, struct error *err) {
    json_t *resolved = NULL;
    AUTO_FREE char *path = container_path(c);
    pod_container_clear_command(c);
    if (pod_env_resolve(w, pod, pod_container_spec(pod, c), &resolved, err))
        return err->code = ERR_UNAVAILABLE; /* not a missing model: that is ERR_NOT_FOUND */
    pod_devices_set_env(device_reader_current(w->device_reader), pod, pod_container_spec(pod, c),
                        resolved);
    model->container = resolved;
    if (pod_serve_prepare(w, pod, c, resolved, model, err)) {
        model->container = NULL;
        json_decref(resolved);
        return err->code;
    }
    struct replica_command_options opt = {
        .program = w->program,
        .run_dir = w->run_dir,
        .models = {.models_dir = w->models_dir, .hf_cache_dir = w->hf_cache_dir},
        .find_model = pod_model_find,
        .user = model,
        .container = resolved,
        .path = path,
        .kv_cache_bytes = pod_memory_kv_cache_bytes(pod),
    };
    enum errc rc = replica_command_make(pod, &opt, &c->command, err);
    c->has_command = !rc;
    model->container = NULL;
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

/* A host pod gets its user, which it keeps, and its token; the container the folder of this run. */
static enum errc give_user(struct world *w, const json_t *pod, struct pod_record *r,
                           struct pod_container *c, struct error *err) {
    if (!c->command.host)
        return OK;
    if (!w->config->host_processes)
        return err_set(err, ERR_INVALID,
                       "the image \"host\" is turned off on this machine (hostProcesses)");
    const struct pod_user_range range = {(uint32_t)w->config->host_user_first,
                                         (uint32_t)w->config->host_user_last, user_taken, w};
    if (!r->user && pod_user_pick(pod, &range, &r->user, err))
        return err->code;
    int64_t own = object_int(pod_container_spec(pod, c), "securityContext.runAsUser", r->user);
    if (own != r->user)
        return err_set(
            err, ERR_INVALID,
            "container %s: runAsUser %lld: the containers of a pod share one user, which "
            "is %u",
            c->name, (long long)own, r->user);
    if (pod_token_give(w, pod, r, err)) {
        if (err->code == ERR_NOT_FOUND)
            err->code = ERR_UNAVAILABLE; /* not a missing model */
        return err->code;
    }
    free(c->home_dir);
    c->home_dir = mem_printf("%s/%s/%s-%u", w->config->host_pods_dir, r->uid, c->name, c->restarts);
    return OK;
}

/* Init containers have no probes; engines are asked over their own socket. */
static enum errc read_probes(const struct world *w, const json_t *pod, const struct pod_record *r,
                             const struct pod_container *c, struct probes *ret_probes,
                             bool *ret_any, struct error *err) {
    const json_t *spec = pod_container_spec(pod, c);
    AUTO_FREE char *path = container_path(c);
    *ret_any = false;
    if (!c->command.host || c->role == POD_ROLE_INIT)
        return OK;
    if (pod_probes_read(spec, path, w->node_ip, ret_probes, ret_any, err))
        return err->code;
    if (c->serving.port) {
        pod_serve_adapt_probes(spec, &c->serving, r->user, ret_probes);
        *ret_any = true;
    }
    return OK;
}

/* In bytes; 0: none. */
static int64_t memory_limit(const json_t *container) {
    int64_t milli;
    const json_t *limit = object_at(container, "resources.limits.memory");
    return limit && quantity_milli(limit, &milli) ? milli / 1000 : 0;
}

static enum errc start_process(struct world *w, const json_t *pod, const struct pod_record *r,
                               const struct pod_container *c, struct error *err) {
    struct probes probes = {0};
    bool any;
    if (read_probes(w, pod, r, c, &probes, &any, err))
        return err->code;
    char **env = pod_token_env(w, r, c->command.env);
    struct replica_spec spec = {
        .ns = r->ns,
        .pod = r->name,
        .uid = r->uid,
        .container = c->name,
        .restart = c->restarts,
        .argv = (const char *const *)c->command.argv,
        .env = (const char *const *)env,
        .uds_path = c->command.uds_path,
        .health_path = "/health",
        .open_files_max = w->config->replica_open_files_max,
        .user = c->command.host ? r->user : 0,
        .home_dir = c->home_dir,
        .work_dir = c->command.work_dir,
        .probes = any ? &probes : NULL,
        .memory_bytes_max = c->command.host ? memory_limit(pod_container_spec(pod, c)) : 0,
        .shares_weights = !c->command.host,
        .grace_ms = pod_grace_ms(pod),
        .serve_port = c->serving.port,
    };
    enum errc rc = w->driver.start(w->driver.self, &spec, err);
    pod_token_env_free(env);
    probes_deinit(&probes);
    return rc;
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

static void put_off(struct world *w, const json_t *pod, struct pod_container *c,
                    const struct error *why) {
    bool told = c->wait_message && !strcmp(c->wait_message, why->text);
    pod_container_set_wait(c, start_failure(why->code), mem_strdup(why->text));
    c->start_retry_ms = c->start_retry_ms ? c->start_retry_ms * 2 : START_RETRY_MS_MIN;
    if (c->start_retry_ms > POD_MODEL_RETRY_MS_MAX)
        c->start_retry_ms = POD_MODEL_RETRY_MS_MAX;
    c->start_at_ms = w->mono_ms + c->start_retry_ms;
    if (!told)
        event_emit(w, pod, EVENT_WARNING, why->code == ERR_NOT_FOUND ? "ModelNotFound" : "Failed",
                   COMPONENT, "%s", why->text);
}

static void tell_start(struct world *w, const json_t *pod, const struct pod_container *c) {
    if (!c->command.host)
        event_emit(w, pod, EVENT_NORMAL, "ModelFound", COMPONENT, "Model \"%s\" is at %s",
                   c->command.model_reference, c->command.model_path);
    else if (c->serving.model_path)
        event_emit(w, pod, EVENT_NORMAL, "ModelFound", COMPONENT, "Model \"%s\" is at %s",
                   object_annotation(pod, REPLICA_SOURCE_URI_ANNOTATION), c->serving.model_path);
    for (char **warning = c->command.warnings; warning && *warning; warning++)
        event_emit(w, pod, EVENT_WARNING, "OptionIgnored", COMPONENT, "%s", *warning);
    event_emit(w, pod, EVENT_NORMAL, "Created", COMPONENT, "Created container: %s", c->name);
    event_emit(w, pod, EVENT_NORMAL, "Started", COMPONENT, "Started container %s", c->name);
}

bool pod_start(struct world *w, const json_t *pod, struct pod_record *r, struct pod_container *c) {
    struct error err = ERROR_INIT;
    struct pod_model model = {.w = w, .pod = pod, .r = r};
    if (make_command(w, pod, c, &model, &err) || give_user(w, pod, r, c, &err) ||
        start_process(w, pod, r, c, &err)) {
        pod_container_clear_command(c);
        pod_container_clear_serving(c);
        if (!pod_model_wait(&model, c))
            put_off(w, pod, c, &err);
        pod_model_deinit(&model);
        return false;
    }
    pod_model_arrived(&model, c);
    pod_model_deinit(&model);
    pod_container_set_wait(c, NULL, NULL);
    c->start_retry_ms = 0;
    c->unhealthy_told = false;
    tell_start(w, pod, c);
    return true;
}
