/* From a scaleTargetRef to the object behind it.
 *
 * The version in a reference does not matter: kinds have one stored form, and what is asked for is
 * the group. Built-in kinds are rows of a table here; the others say in their definition where
 * replicas are asked for, counted, and by what labels their pods are known. An InferenceService
 * stands for the Deployment of its predictor. */
#include "core/control/scale_target.h"

#include <ctype.h>
#include <stdio.h>

#include "core/control/autoscale_plan.h"
#include "core/control/isvc_predictor.h"
#include "core/owners.h"

enum { PARTS_MAX = 64 }; /* of a selector's text */

/* ---- a selector's text ---- */

/* One of "a=b", "a!=b", "a in (b,c)", "a notin (b)", "a", "!a". */
static json_t *parse_part(char *part) {
    char key[320], word[8] = "", values[1024] = "";
    int taken = 0;
    while (isspace((unsigned char)*part))
        part++;
    bool absent = *part == '!' && part[1];
    part += absent;
    size_t len = strcspn(part, " =!()");
    if (!len || len >= sizeof(key))
        return NULL;
    snprintf(key, sizeof(key), "%.*s", (int)len, part);
    const char *rest = part + len + strspn(part + len, " ");
    if (!*rest)
        return json_pack("{s:s, s:s}", "key", key, "operator", absent ? "DoesNotExist" : "Exists");
    if (absent)
        return NULL;
    bool is_not = !strncmp(rest, "!=", 2);
    if (is_not || *rest == '=') {
        rest += strspn(rest, "!=");
        rest += strspn(rest, " ");
        len = strcspn(rest, " ");
        return json_pack("{s:s, s:s, s:[s%]}", "key", key, "operator", is_not ? "NotIn" : "In",
                         "values", rest, len);
    }
    if (sscanf(rest, "%7[a-z] ( %1023[^)])%n", word, values, &taken) != 2 || !taken ||
        rest[taken + (int)strspn(rest + taken, " ")] ||
        (strcmp(word, "in") != 0 && strcmp(word, "notin") != 0))
        return NULL;
    json_t *list = json_array();
    char *save = NULL;
    for (char *v = strtok_r(values, ", ", &save); v; v = strtok_r(NULL, ", ", &save))
        json_array_append_new(list, json_string(v));
    return json_pack("{s:s, s:s, s:o}", "key", key, "operator", strcmp(word, "in") ? "NotIn" : "In",
                     "values", list);
}

json_t *scale_target_parse_selector(const char *text) {
    AUTO_FREE char *copy = mem_strdup(text);
    json_t *terms = json_array();
    char *part = copy;
    while (part && json_array_size(terms) < PARTS_MAX) {
        char *end = part;
        for (int depth = 0; *end && (*end != ',' || depth); end++)
            depth += *end == '(' ? 1 : *end == ')' ? -1 : 0;
        char *next = *end ? end + 1 : NULL;
        *end = '\0';
        json_t *term = parse_part(part);
        if (!term) {
            json_decref(terms);
            return NULL;
        }
        json_array_append_new(terms, term);
        part = next;
    }
    if (part) {
        json_decref(terms);
        return NULL;
    }
    return json_pack("{s:o}", "matchExpressions", terms);
}

/* ---- finding ---- */

static bool is(const char *text, const char *word) {
    return text && !strcmp(text, word);
}

/* ".spec.replicas" as the walks here have it. */
static char *path_of(const char *json_path) {
    return mem_strdup(json_path && *json_path == '.' ? json_path + 1 : "");
}

static enum errc not_found(const char *resource, const char *name, struct error *err) {
    return err_set(err, ERR_NOT_FOUND, "%s \"%s\" not found", resource, name);
}

/* A Deployment or ReplicaSet. */
static enum errc open_built_in(struct world *w, enum kind kind, const char *ns, const char *name,
                               struct scale_target *t, struct error *err) {
    t->resource = mem_printf("%s.%s", kind_row(kind)->resource, kind_row(kind)->group);
    t->object = world_get(w, kind, ns, name);
    if (!t->object)
        return not_found(t->resource, name, err);
    const json_t *o = t->object->json;
    t->replicas_path = mem_strdup("spec.replicas");
    t->replicas = (int32_t)object_int(o, "spec.replicas", 1);
    t->status_replicas = (int32_t)object_int(o, "status.replicas", 0);
    t->selector = json_incref(object_at(o, "spec.selector"));
    return OK;
}

static enum errc open_predictor(struct world *w, const char *ns, const char *name,
                                struct scale_target *t, struct error *err) {
    AUTO(store_object) isvc = world_get(w, KIND_INFERENCE_SERVICE, ns, name);
    if (!isvc)
        return not_found("inferenceservices.serving.kserve.io", name, err);
    AUTO_FREE char *child = isvc_predictor_child(isvc->json);
    return open_built_in(w, KIND_DEPLOYMENT, ns, child, t, err);
}

/* The part `scale` of the definition's version that is asked for, or of the first that has one. */
static const json_t *scale_of(const json_t *definition, const char *version) {
    const json_t *found = NULL, *each;
    size_t i;
    json_array_foreach (object_at(definition, "spec.versions"), i, each) {
        const json_t *scale = object_at(each, "subresources.scale");
        if (scale && (!found || is(object_str(each, "name"), version)))
            found = scale;
    }
    return found;
}

static enum errc open_defined(struct world *w, const json_t *definition, const char *version,
                              const char *ns, const char *name, struct scale_target *t,
                              struct error *err) {
    const char *group = object_str(definition, "spec.group");
    const char *plural = object_str(definition, "spec.names.plural");
    const json_t *scale = scale_of(definition, version);
    struct object_key key;
    struct error none = ERROR_INIT;
    t->resource = mem_printf("%s.%s", plural, group);
    if (!scale)
        return err_set(err, ERR_INVALID,
                       "the server could not find the requested resource: %s "
                       "have no scale",
                       t->resource);
    bool namespaced = is(object_str(definition, "spec.scope"), "Namespaced");
    object_key(&key, group, plural, namespaced ? ns : NULL, name);
    if (store_get(w->store, key.text, &t->object, &none))
        return not_found(t->resource, name, err);
    AUTO_FREE char *counted = path_of(object_str(scale, "statusReplicasPath"));
    AUTO_FREE char *labels = path_of(object_str(scale, "labelSelectorPath"));
    const json_t *o = t->object->json;
    t->replicas_path = path_of(object_str(scale, "specReplicasPath"));
    t->replicas = (int32_t)object_int(o, t->replicas_path, 0);
    t->status_replicas = (int32_t)object_int(o, counted, 0);
    const char *selector = *labels ? object_str(o, labels) : NULL;
    t->selector = selector && *selector ? scale_target_parse_selector(selector) : NULL;
    return OK;
}

static enum errc find(struct world *w, const char *ns, const json_t *ref, struct scale_target *t,
                      struct error *err) {
    const char *api_version = object_str(ref, "apiVersion"), *kind_name = object_str(ref, "kind");
    const char *name = object_str(ref, "name");
    if (!kind_name || !name)
        return err_set(err, ERR_INVALID, "spec.scaleTargetRef: kind and name are required");
    api_version = api_version ? api_version : "";
    const char *slash = strchr(api_version, '/');
    const char *version = slash ? slash + 1 : api_version;
    AUTO_FREE char *group = mem_strndup(api_version, slash ? (size_t)(slash - api_version) : 0);
    enum kind kind = kind_find(api_version, kind_name);
    if (kind == KIND_DEPLOYMENT || kind == KIND_REPLICA_SET)
        return open_built_in(w, kind, ns, name, t, err);
    if (kind == KIND_INFERENCE_SERVICE)
        return open_predictor(w, ns, name, t, err);
    AUTO_STORE_LIST all = {0};
    struct object_key prefix;
    store_list(w->store,
               object_key(&prefix, "apiextensions.k8s.io", "customresourcedefinitions", NULL, NULL),
               &all);
    for (size_t i = 0; i < all.num_items && *group && kind == KIND_COUNT; i++) {
        const json_t *definition = all.items[i]->json;
        if (is(object_str(definition, "spec.group"), group) &&
            is(object_str(definition, "spec.names.kind"), kind_name))
            return open_defined(w, definition, version, ns, name, t, err);
    }
    return err_set(err, ERR_INVALID,
                   "unable to determine resource for scale target reference: no matches for kind "
                   "\"%s\" in group \"%s\"",
                   kind_name, group);
}

enum errc scale_target_open(struct world *w, const char *ns, const json_t *ref,
                            struct scale_target *ret_t, struct error *err) {
    AUTO_SCALE_TARGET t = {0};
    if (find(w, ns, ref, &t, err))
        return err->code;
    *ret_t = t;
    t = (struct scale_target){0};
    return OK;
}

void scale_target_close(struct scale_target *t) {
    store_object_unref(t->object);
    json_decref(t->selector);
    free(t->replicas_path);
    free(t->resource);
    *t = (struct scale_target){0};
}

/* ---- writing ---- */

enum errc scale_target_set(struct world *w, const struct scale_target *t, int32_t replicas,
                           struct error *err) {
    const struct owner owner = {.manager = "kube-controller-manager",
                                .api_version = object_str(t->object->json, "apiVersion"),
                                .subresource = "scale",
                                .wall_ms = w->wall_ms};
    json_t *updated = json_deep_copy(t->object->json);
    object_set(updated, t->replicas_path, json_integer(replicas));
    if (kind_of_key(t->object->key) == KIND_COUNT) /* world_update() counts for its own kinds */
        object_set(updated, "metadata.generation",
                   json_integer(object_int(updated, "metadata.generation", 0) + 1));
    owners_take(updated, t->replicas_path, &owner);
    return world_update(w, t->object, updated, NULL, err);
}

struct store_object *scale_target_service(struct world *w, const struct scale_target *t) {
    struct autoscale_plan plan;
    const json_t *o = t->object->json, *ref = object_controller_of(o);
    if (!is(object_str(ref, "kind"), "InferenceService") || !object_str(ref, "name"))
        return NULL;
    AUTO(store_object)
    isvc = world_get(w, KIND_INFERENCE_SERVICE, object_namespace(o), object_str(ref, "name"));
    if (!isvc || !object_controlled_by(o, isvc->json))
        return NULL;
    autoscale_plan(isvc->json, w->config, &plan);
    return autoscale_decides(plan.rule) ? steal(isvc) : NULL;
}
