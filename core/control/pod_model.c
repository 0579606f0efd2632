/* Pods that wait for their models.
 *
 * On a cluster an init container downloads the model, or the kubelet pulls an image that holds it;
 * here the daemon does, and says so in the kubelet's words: the container is ContainerCreating,
 * with how far it is in its message; Events Pulling, Pulled and Failed; after a failure it backs
 * off as for an image. The wait ends when the module that downloads says that something has
 * changed. */
#include "core/control/pod_model.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/control/events.h"
#include "core/control/isvc_predictor.h"
#include "core/control/model_env.h"
#include "core/model/model_ref.h"

static const char COMPONENT[] = "kubelet";

void pod_model_deinit(struct pod_model *p) {
    free(steal(p->reference));
}

static char *pod_user(const struct pod_record *r) {
    return mem_printf("pod %s", r->uid);
}

static char *service_user(const char *ns, const char *name) {
    return mem_printf("isvc %s/%s", ns, name);
}

/* Gives the reference as the store knows it; NULL: nothing that could be there. ORG/NAME is vLLM's
 * way to write hf://ORG/NAME. */
static char *stored_reference(const char *text) {
    if (model_ref_is_remote(text) || !strncmp(text, "file://", 7))
        return mem_strdup(text);
    const char *slash = strchr(text, '/');
    bool hub =
        !strstr(text, "://") && slash && slash != text && *text != '.' && !strchr(slash + 1, '/');
    return hub ? mem_printf("hf://%s", text) : NULL;
}

static void want(struct pod_model *p) {
    struct world *w = p->w;
    AUTO_FREE char *user = pod_user(p->r);
    const char *isvc = object_label(p->pod, ISVC_LABEL);
    json_t *env = model_env_make(w, p->pod, p->container, p->reference);
    w->models.want(w->models.self, user, p->reference, env, w->mono_ms, &p->state);
    json_decref(env);
    if (isvc) { /* its replicas come and go */
        AUTO_FREE char *service = service_user(p->r->ns, isvc);
        w->models.keep(w->models.self, service, p->reference);
    }
}

enum errc pod_model_find(void *user, const char *reference, char **ret_path, struct error *err) {
    struct pod_model *p = user;
    struct model_ref ref;
    AUTO_FREE char *stored = p->w->models.self ? stored_reference(reference) : NULL;
    if (!stored)
        return err->code;
    struct error why = *err; /* nobody has it: where it was looked for */
    if (model_ref_parse(stored, &ref, err))
        return err->code;
    bool is_file = ref.scheme == MODEL_FILE;
    model_ref_deinit(&ref);
    p->reference = steal(stored);
    want(p);
    if (p->state.phase == MODELS_READY) {
        *ret_path = mem_strdup(p->state.dir);
        return OK;
    }
    if (is_file) { /* a copy might have been added by hand; it is not downloaded */
        pod_model_deinit(p);
        *err = why;
        return err->code;
    }
    return err_set(err, ERR_UNAVAILABLE, "model \"%s\" is not here yet", p->reference);
}

/* "4.7 GiB" */
static const char *size_text(uint64_t bytes, char out[32]) {
    bool large = bytes >= 1ull << 30;
    snprintf(out, 32, "%.1f %s", (double)bytes / (large ? 1u << 30 : 1u << 20),
             large ? "GiB" : "MiB");
    return out;
}

static char *progress_text(const struct pod_model *p) {
    char done[32], total[32];
    const struct models_state *s = &p->state;
    if (!s->bytes_total)
        return mem_printf("pulling model \"%s\"", p->reference);
    return mem_printf("pulling model \"%s\": %s of %s (%" PRIu64 "%%)", p->reference,
                      size_text(s->bytes_done, done), size_text(s->bytes_total, total),
                      s->bytes_done * 100 / s->bytes_total);
}

static void wait_for_retry(const struct pod_model *p, struct pod_container *c) {
    struct world *w = p->w;
    const struct models_state *s = &p->state;
    int64_t wait_ms = s->retry_at_ms - w->mono_ms;
    pod_container_set_wait(
        c, POD_MODEL_BACKOFF,
        mem_printf("Back-off pulling model \"%s\": %s", p->reference, s->why.text));
    wait_ms = wait_ms < POD_MODEL_RETRY_MS_MIN ? POD_MODEL_RETRY_MS_MIN : wait_ms;
    c->start_at_ms = w->mono_ms + (wait_ms < MODELS_LOOK_MS ? wait_ms : MODELS_LOOK_MS);
    if (s->num_failures != c->model_failures)
        event_emit(w, p->pod, EVENT_WARNING, "Failed", COMPONENT, "Failed to pull model \"%s\": %s",
                   p->reference, s->why.text);
    c->model_failures = s->num_failures;
}

bool pod_model_wait(const struct pod_model *p, struct pod_container *c) {
    struct world *w = p->w;
    bool waited = c->waits_for_model;
    c->waits_for_model = p->reference && p->state.phase != MODELS_READY;
    if (!c->waits_for_model)
        return false;
    if (!waited)
        event_emit(w, p->pod, EVENT_NORMAL, "Pulling", COMPONENT, "Pulling model \"%s\"",
                   p->reference);
    if (p->state.phase == MODELS_FAILED) {
        wait_for_retry(p, c);
        return true;
    }
    pod_container_set_wait(c, POD_MODEL_LOADING, progress_text(p));
    c->start_at_ms = w->mono_ms + POD_MODEL_LOOK_MS;
    return true;
}

void pod_model_arrived(const struct pod_model *p, struct pod_container *c) {
    if (c->waits_for_model && p->reference && p->state.loading_ms)
        event_emit(p->w, p->pod, EVENT_NORMAL, "Pulled", COMPONENT,
                   "Successfully pulled model \"%s\" in %.1fs", p->reference,
                   (double)p->state.loading_ms / 1000);
    else if (p->reference)
        event_emit(p->w, p->pod, EVENT_NORMAL, "Pulled", COMPONENT,
                   "Model \"%s\" already present on machine", p->reference);
    c->waits_for_model = false;
    c->model_failures = 0;
}

void pod_model_wake(struct world *w) {
    if (!w->models.self || !w->models.take_changed(w->models.self))
        return;
    for (struct pod_record *r = w->pods->records; r; r = r->next) {
        for (size_t i = 0; i < r->num_containers; i++) {
            if (!r->containers[i].waits_for_model)
                continue;
            r->containers[i].start_at_ms = w->mono_ms;
            world_enqueue(w, KIND_POD, r->ns, r->name);
        }
    }
}

void pod_model_release(struct world *w, const struct pod_record *r) {
    AUTO_FREE char *user = pod_user(r);
    if (w->models.self)
        w->models.release(w->models.self, user);
}

void pod_model_keep_for_service(struct world *w, const json_t *isvc, const char *uri) {
    struct model_ref ref;
    struct error none = ERROR_INIT;
    if (!w->models.self || !uri || !model_ref_is_remote(uri) || model_ref_parse(uri, &ref, &none))
        return;
    AUTO_FREE char *user = service_user(object_namespace(isvc), object_name(isvc));
    w->models.keep(w->models.self, user, uri);
    model_ref_deinit(&ref);
}

void pod_model_release_service(struct world *w, const char *ns, const char *name) {
    AUTO_FREE char *user = service_user(ns, name);
    if (w->models.self)
        w->models.release(w->models.self, user);
}
