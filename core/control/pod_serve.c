/* What a runtime's process is told, and how it is known to serve.
 *
 * On a cluster a container has a network of its own, listens on 8080, and finds its model at
 * /mnt/models. Here processes share the network of the machine: each run gets a port from a range
 * of the configuration, in $PORT, and $MODEL_PATH says where the model lies. Whatever else the spec
 * says of the port that the container declares first (its probes) means that port.
 *
 * Nothing keeps another process of the machine from listening on a port that was just given. So a
 * replica gets traffic only after a process of the pod's user was seen to listen there. */
#include "core/control/pod_serve.h"

#include <stdio.h>

#include "core/control/isvc_predictor.h"
#include "core/control/pod_env.h"
#include "core/node/listener.h"

enum {
    LISTEN_STARTING_MS = 50, /* between two looks whether it listens: some programs start at once */
    LISTEN_READY_MS = 1000,
    LISTEN_TIMEOUT_MS = 1000,
    LISTEN_FAILURES = 3,
};

/* FNV-1a */
static uint32_t hash(const char *text, uint32_t salt) {
    uint32_t h = 2166136261 ^ salt;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 16777619;
    return h;
}

enum errc pod_serve_pick_port(const char *uid, uint32_t restart, const struct pod_port_range *range,
                              uint16_t *ret_port, struct error *err) {
    uint32_t num = (uint32_t)range->last - range->first + 1;
    uint32_t start = hash(uid, restart) % num;
    for (uint32_t i = 0; i < num; i++) {
        uint16_t port = (uint16_t)(range->first + (start + i) % num);
        if (range->taken(range->user, port))
            continue;
        *ret_port = port;
        return OK;
    }
    return err_set(err, ERR_EXHAUSTED,
                   "all ports %u..%u of runtimes are taken (servePortFirst, "
                   "servePortLast)",
                   range->first, range->last);
}

static bool port_taken(const void *user, uint16_t port) {
    const struct world *w = user;
    for (const struct pod_record *r = w->pods->records; r; r = r->next) {
        for (size_t i = 0; i < r->num_containers; i++) {
            if (r->containers[i].serving.port == port)
                return true;
        }
    }
    return !listener_port_free(port);
}

static bool serves(const json_t *pod, const struct pod_container *c) {
    return c->role == POD_ROLE_MAIN && !c->index && replica_command_is_host(pod) &&
           object_label(pod, ISVC_LABEL);
}

/* The file or folder that storageUri stands for. */
static enum errc find_model(const struct world *w, const json_t *pod, struct pod_model *model,
                            char **ret_path, struct error *err) {
    const char *uri = object_annotation(pod, REPLICA_SOURCE_URI_ANNOTATION);
    const struct model_path_options opt = {.models_dir = w->models_dir,
                                           .hf_cache_dir = w->hf_cache_dir};
    AUTO_FREE char *path = NULL;
    if (!uri)
        return OK;
    if (model_path_resolve(uri, &opt, &path, err)) {
        AUTO_FREE char *found = NULL;
        if (pod_model_find(model, uri, &found, err) || model_path_resolve(found, &opt, &path, err))
            return err->code;
    }
    if (*path != '/')
        return err_set(err, ERR_INVALID,
                       "storageUri \"%s\": is no file that a process of its own can read", uri);
    *ret_path = steal(path);
    return OK;
}

enum errc pod_serve_prepare(struct world *w, const json_t *pod, struct pod_container *c,
                            json_t *resolved, struct pod_model *model, struct error *err) {
    const struct pod_port_range range = {(uint16_t)w->config->serve_port_first,
                                         (uint16_t)w->config->serve_port_last, port_taken, w};
    struct pod_serving s = {0};
    pod_container_clear_serving(c);
    if (!serves(pod, c))
        return OK;
    if (find_model(w, pod, model, &s.model_path, err) ||
        pod_serve_pick_port(object_uid(pod), c->restarts, &range, &s.port, err)) {
        free(s.model_path);
        return err->code;
    }
    s.address = mem_printf("127.0.0.1:%u", s.port);
    pod_env_set(resolved, POD_SERVE_PORT_VARIABLE, strchr(s.address, ':') + 1);
    if (s.model_path)
        pod_env_set(resolved, POD_SERVE_MODEL_VARIABLE, s.model_path);
    c->serving = s;
    return OK;
}

static void move_question(struct question *q, int64_t declared, uint16_t port, uint32_t user) {
    bool is_socket = q->way == QUESTION_HTTP || q->way == QUESTION_TCP;
    if (!is_socket || q->port != declared)
        return;
    free(q->host);
    q->host = mem_strdup("127.0.0.1");
    q->port = port;
    q->listener_user = user;
}

/* For as long as it takes: a model may be big. */
static void ask_whether_it_listens(struct probes *probes, enum health_probe probe, uint16_t port,
                                   uint32_t user) {
    probes->rules[probe] = (struct health_rule){
        .asked = true,
        .period_ms = probe == HEALTH_STARTUP ? LISTEN_STARTING_MS : LISTEN_READY_MS,
        .timeout_ms = LISTEN_TIMEOUT_MS,
        .success_threshold = 1,
        .failure_threshold = probe == HEALTH_STARTUP ? INT32_MAX : LISTEN_FAILURES,
        .grace_ms = -1};
    probes->questions[probe] = (struct question){.way = QUESTION_TCP,
                                                 .host = mem_strdup("127.0.0.1"),
                                                 .port = port,
                                                 .listener_user = user,
                                                 .quiet = probe == HEALTH_STARTUP};
}

void pod_serve_adapt_probes(const json_t *container, const struct pod_serving *serving,
                            uint32_t user, struct probes *probes) {
    int64_t declared = object_int(container, "ports.0.containerPort", 0);
    for (int i = 0; i < HEALTH_PROBES; i++)
        move_question(&probes->questions[i], declared, serving->port, user);
    for (int i = 0; i < HOOKS; i++)
        move_question(&probes->hooks[i], declared, serving->port, user);
    bool fatal = probes->rules[HEALTH_STARTUP].asked || probes->rules[HEALTH_LIVENESS].asked;
    if (!fatal)
        ask_whether_it_listens(probes, HEALTH_STARTUP, serving->port, user);
    else if (!probes->rules[HEALTH_READINESS].asked)
        ask_whether_it_listens(probes, HEALTH_READINESS, serving->port, user);
}
