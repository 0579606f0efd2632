/* Serving runtimes. A runtime is a recipe: which model formats it serves and the container that
 * does it. A model names one, or takes the best that offers itself (autoSelect) for its format. */
#include "core/control/runtime.h"

#include <stdio.h>

static bool text_equal(const char *a, const char *b) {
    return a && b && !strcmp(a, b);
}

/* The supportedModelFormats entry that fits, or NULL. One without a version serves them all. */
static const json_t *find_format(const json_t *runtime, const json_t *model, bool auto_only) {
    const char *name = object_str(model, "modelFormat.name");
    const char *version = object_str(model, "modelFormat.version");
    size_t i;
    json_t *f;
    json_array_foreach (object_at(runtime, "spec.supportedModelFormats"), i, f) {
        const char *offers = object_str(f, "version");
        if (text_equal(object_str(f, "name"), name) &&
            (!version || !offers || !strcmp(version, offers)) &&
            (!auto_only || object_bool(f, "autoSelect", false)))
            return f;
    }
    return NULL;
}

static bool speaks(const json_t *runtime, const json_t *model) {
    const char *protocol = object_str(model, "protocolVersion");
    const json_t *offers = object_at(runtime, "spec.protocolVersions");
    size_t i;
    json_t *p;
    if (!protocol || !json_array_size(offers))
        return true;
    json_array_foreach (offers, i, p) {
        if (text_equal(json_string_value(p), protocol))
            return true;
    }
    return false;
}

static bool none(struct runtime_choice *ret, const char *reason, const char *fmt, ...) PRINTF(3, 4);
static bool none(struct runtime_choice *ret, const char *reason, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(ret->message, sizeof(ret->message), fmt, args);
    va_end(args);
    ret->reason = reason;
    return false;
}

static bool select_named(struct world *w, const char *ns, const char *name, const json_t *model,
                         struct runtime_choice *ret) {
    AUTO(store_object) o = world_get(w, KIND_SERVING_RUNTIME, ns, name);
    if (!o)
        o = world_get(w, KIND_CLUSTER_SERVING_RUNTIME, NULL, name);
    if (!o)
        return none(ret, RUNTIME_NOT_RECOGNIZED,
                    "Waiting for runtime to become available: there is no ServingRuntime \"%s\" in "
                    "namespace %s and no ClusterServingRuntime of that name",
                    name, ns);
    if (object_bool(o->json, "spec.disabled", false))
        return none(ret, RUNTIME_DISABLED, "Specified runtime is disabled: \"%s\"", name);
    /* Without a format (a legacy form) the name alone decides. */
    if (object_str(model, "modelFormat.name") && !find_format(o->json, model, false))
        return none(ret, RUNTIME_NOT_SUPPORTING,
                    "Specified runtime does not support specified framework/version: \"%s\" does "
                    "not list model format \"%s\"",
                    name, object_str(model, "modelFormat.name"));
    if (!speaks(o->json, model))
        return none(ret, RUNTIME_NOT_SUPPORTING,
                    "Specified runtime does not support specified protocol version: \"%s\" does "
                    "not list \"%s\"",
                    name, object_str(model, "protocolVersion"));
    ret->object = steal(o);
    return true;
}

/* Whether a goes before b, both offering a fitting format. */
static bool better(const struct store_object *a, const struct store_object *b,
                   const json_t *model) {
    int64_t pa = object_int(find_format(a->json, model, true), "priority", 0);
    int64_t pb = object_int(find_format(b->json, model, true), "priority", 0);
    if (pa != pb)
        return pa > pb;
    if (a->create_revision != b->create_revision)
        return a->create_revision > b->create_revision;
    return strcmp(a->key, b->key) < 0;
}

static struct store_object *best_of(const struct store_list *list, const json_t *model) {
    struct store_object *best = NULL;
    for (size_t i = 0; i < list->num_items; i++) {
        struct store_object *o = list->items[i];
        if (!object_bool(o->json, "spec.disabled", false) && find_format(o->json, model, true) &&
            speaks(o->json, model) && (!best || better(o, best, model)))
            best = o;
    }
    return best ? store_object_ref(best) : NULL;
}

bool runtime_select(struct world *w, const char *ns, const json_t *model,
                    struct runtime_choice *ret) {
    *ret = (struct runtime_choice){0};
    const char *name = object_str(model, "runtime");
    if (name)
        return select_named(w, ns, name, model, ret);
    AUTO_STORE_LIST local = {0}, cluster = {0};
    world_list(w, KIND_SERVING_RUNTIME, ns, &local);
    world_list(w, KIND_CLUSTER_SERVING_RUNTIME, NULL, &cluster);
    ret->object = best_of(&local, model);
    if (!ret->object)
        ret->object = best_of(&cluster, model);
    if (ret->object)
        return true;
    const char *format = object_str(model, "modelFormat.name");
    const char *version = object_str(model, "modelFormat.version");
    return none(ret, RUNTIME_NOT_SUPPORTING,
                "No runtime found to support specified framework/version: %s%s%s (inferd serves "
                "huggingface, gguf, llama and vllm; other formats need a ServingRuntime whose "
                "image this machine can run)",
                format ? format : "", version ? " " : "", version ? version : "");
}

enum errc runtime_ensure_builtin(struct world *w, struct error *err) {
    static const char *const formats[] = {"huggingface", "gguf", "llama", "vllm"};
    json_t *list = json_array();
    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        json_array_append_new(list, json_pack("{s:s, s:b}", "name", formats[i], "autoSelect", 1));
    json_t *spec =
        json_pack("{s:o, s:[s, s], s:[{s:s, s:s, s:[s], s:[{s:i, s:s}]}]}", "supportedModelFormats",
                  list, "protocolVersions", "v2", "v1", "containers", "name", "kserve-container",
                  "image", "inferd/engine:" INFERD_VERSION, "args", "--model_name={{.Name}}",
                  "ports", "containerPort", 8080, "protocol", "TCP");
    ASSERT(spec);
    AUTO(store_object) was = world_get(w, KIND_CLUSTER_SERVING_RUNTIME, NULL, RUNTIME_BUILTIN_NAME);
    if (!was) {
        json_t *o = json_pack("{s:{s:s, s:{s:s}}, s:o}", "metadata", "name", RUNTIME_BUILTIN_NAME,
                              "labels", "app.kubernetes.io/managed-by", "inferd", "spec", spec);
        return world_create(w, KIND_CLUSTER_SERVING_RUNTIME, o, NULL, err);
    }
    /* A new version of inferd brings its own image tag; what a user changed otherwise stays. */
    json_t *o = json_deep_copy(was->json);
    const char *image = object_str(o, "spec.containers.0.image");
    if (image && !strncmp(image, "inferd/engine:", 14))
        object_set(o, "spec.containers.0.image", json_string("inferd/engine:" INFERD_VERSION));
    json_decref(spec);
    return world_update(w, was, o, NULL, err);
}
