/* Reading the kinds. The documents are YAML, embedded at build (kinds.cmake); they are read once at
 * start into plain structs in one arena, and the JSON is dropped. A definition that a user applies
 * is read by the same functions into an arena of its own (crd.c); a snapshot only points to it. */
#include "kube-compat/kinds.h"

#include <stdio.h>

#include "core/base/yaml.h"
#include "core/object.h"
#include "kube-compat/crd.h"

#define EMBEDDED(symbol) extern const char symbol##_start[], symbol##_end[]
EMBEDDED(kinds_core_yaml);
EMBEDDED(kinds_apiextensions_yaml);
EMBEDDED(kinds_apps_yaml);
EMBEDDED(kinds_workloads_yaml);
EMBEDDED(kinds_rbac_yaml);
EMBEDDED(kinds_serving_yaml);
EMBEDDED(kinds_metrics_yaml);
EMBEDDED(kinds_metrics_types);
EMBEDDED(kinds_kubernetes_types);
EMBEDDED(kinds_workloads_types);
EMBEDDED(kinds_serving_types);
EMBEDDED(kinds_apiextensions_types);
EMBEDDED(kinds_descriptions);

enum { KINDS_MAX = 256, FIELDS_MAX = 32 };

struct kinds {
    _Atomic uint32_t refs;
    struct kinds *embedded; /* a reference; NULL: this is the table of the embedded kinds */
    struct arena *arena;    /* of embedded kinds, like types and own */
    struct schema_types *types;
    struct kind *own;
    struct crd **crds; /* references */
    size_t num_crds;
    const struct kind **all;
    size_t num;
};

struct reader {
    struct arena *arena;
    const char *document; /* metadata.name */
    struct error *err;
};

static enum errc fail(const struct reader *r, const char *field, const char *what) {
    return err_field(r->err, ERR_INVALID, field, "kind %s: %s: %s", r->document, field, what);
}

static const char *keep(const struct reader *r, const char *text) {
    return arena_strdup(r->arena, text);
}

static const char *kept(const struct reader *r, const json_t *o, const char *key) {
    return keep(r, json_string_value(json_object_get(o, key)));
}

static const char **strings(const struct reader *r, const json_t *list) {
    const char **all = arena_alloc(r->arena, (json_array_size(list) + 1) * sizeof(all[0]));
    for (size_t i = 0; i < json_array_size(list); i++)
        all[i] = keep(r, json_string_value(json_array_get(list, i)));
    return all;
}

/* ".spec.replicas" to "spec.replicas". */
static const char *path_of(const struct reader *r, const char *json_path) {
    return keep(r, json_path && json_path[0] == '.' ? json_path + 1 : json_path);
}

static void read_columns(const struct reader *r, struct kind *k, const json_t *list) {
    k->num_columns = (uint32_t)json_array_size(list);
    k->columns = arena_alloc(r->arena, (k->num_columns + 1) * sizeof(k->columns[0]));
    for (uint32_t i = 0; i < k->num_columns; i++) {
        const json_t *c = json_array_get(list, i);
        k->columns[i] = (struct kind_column){
            .name = kept(r, c, "name"),
            .type = kept(r, c, "type"),
            .format = kept(r, c, "format"),
            .description = kept(r, c, "description"),
            .json_path = kept(r, c, "jsonPath"),
            .cell = kept(r, c, "x-cell"),
            .empty = kept(r, c, "x-empty"),
            .priority = (int)json_integer_value(json_object_get(c, "priority")),
        };
    }
    if (k->num_columns)
        return;
    k->columns[0] = (struct kind_column){
        .name = "Age", .type = "date", .json_path = ".metadata.creationTimestamp"};
    k->num_columns = 1;
}

static void read_fields(const struct reader *r, struct kind *k, const json_t *list) {
    k->num_fields = (uint32_t)json_array_size(list);
    k->fields = arena_alloc(r->arena, (k->num_fields + 1) * sizeof(k->fields[0]));
    for (uint32_t i = 0; i < k->num_fields; i++) {
        const json_t *f = json_array_get(list, i);
        k->fields[i].path = path_of(r, json_string_value(json_object_get(f, "jsonPath")));
        k->fields[i].cell = kept(r, f, "x-cell");
    }
}

static void read_subresources(const struct reader *r, struct kind *k, const json_t *list) {
    k->num_subresources = (uint32_t)json_array_size(list);
    k->subresources = arena_alloc(r->arena, (k->num_subresources + 1) * sizeof(k->subresources[0]));
    for (uint32_t i = 0; i < k->num_subresources; i++) {
        const json_t *s = json_array_get(list, i);
        k->subresources[i] = (struct kind_subresource){
            .name = kept(r, s, "name"),
            .group = kept(r, s, "group"),
            .version = kept(r, s, "version"),
            .kind = kept(r, s, "kind"),
            .verbs = strings(r, json_object_get(s, "verbs")),
        };
    }
}

static void read_options(const struct reader *r, struct kind *k, const json_t *options) {
    const char *rule = object_str(options, "nameRule");
    k->name_rule = !rule                    ? KIND_NAME_SUBDOMAIN
                   : !strcmp(rule, "label") ? KIND_NAME_LABEL
                                            : KIND_NAME_ANY;
    k->built_in = object_bool(options, "builtIn", false);
    k->generation = object_bool(options, "generation", true);
    k->keeps_collection = !object_bool(options, "deleteCollection", true);
    k->name_column = object_bool(options, "nameColumn", true);
    const char *view = object_str(options, "view");
    k->view = !view                     ? KIND_VIEW_NONE
              : !strcmp(view, "events") ? KIND_VIEW_EVENTS
                                        : KIND_VIEW_AUTOSCALING;
    k->store_group = k->view == KIND_VIEW_EVENTS || !*k->group ? "core" : k->group;
    k->not_run = kept(r, options, "notRun");
    k->measured = object_bool(options, "measured", false);
    read_subresources(r, k, json_object_get(options, "subresources"));
}

static void read_names(const struct reader *r, struct kind *k, const json_t *spec) {
    const json_t *names = json_object_get(spec, "names");
    k->kind = kept(r, names, "kind");
    k->plural = kept(r, names, "plural");
    k->singular = kept(r, names, "singular");
    k->list_kind = kept(r, names, "listKind");
    if (!k->list_kind)
        k->list_kind = arena_printf(r->arena, "%sList", k->kind);
    k->short_names = strings(r, json_object_get(names, "shortNames"));
    k->categories = strings(r, json_object_get(names, "categories"));
    k->qualified = *k->group ? arena_printf(r->arena, "%s.%s", k->plural, k->group) : k->plural;
    k->api_version = *k->group ? arena_printf(r->arena, "%s/%s", k->group, k->version) : k->version;
}

enum errc kind_read(struct arena *arena, const char *document, const json_t *spec,
                    const json_t *version, struct kind *k, struct error *err) {
    const struct reader reader = {.arena = arena, .document = document, .err = err}, *r = &reader;
    *k = (struct kind){0};
    k->group = kept(r, spec, "group");
    k->version = kept(r, version, "name");
    if (!k->group || !k->version || !object_str(spec, "names.kind") ||
        !object_str(spec, "names.plural"))
        return fail(r, "spec", "group, names and versions[].name are required");
    read_names(r, k, spec);
    const char *scope = object_str(spec, "scope");
    k->namespaced = scope && !strcmp(scope, "Namespaced");
    k->has_status = object_at(version, "subresources.status") != NULL;
    const json_t *scale = object_at(version, "subresources.scale");
    if (scale) {
        k->has_scale = true;
        k->scale_spec_path = path_of(r, object_str(scale, "specReplicasPath"));
        k->scale_status_path = path_of(r, object_str(scale, "statusReplicasPath"));
        k->scale_selector_path = path_of(r, object_str(scale, "labelSelectorPath"));
    }
    read_options(r, k, json_object_get(spec, "x-inferd"));
    read_columns(r, k, json_object_get(version, "additionalPrinterColumns"));
    read_fields(r, k, json_object_get(version, "selectableFields"));
    return OK;
}

static enum errc read_version(struct kinds *k, const char *document, const json_t *spec,
                              const json_t *version, struct error *err) {
    struct reader r = {.arena = k->arena, .document = document, .err = err};
    if (k->num == KINDS_MAX)
        return fail(&r, "spec.versions", "too many kinds");
    struct kind *kind = &k->own[k->num];
    enum errc code = kind_read(k->arena, document, spec, version, kind, err);
    if (code)
        return code;
    const json_t *ref = json_object_get(object_at(version, "schema.openAPIV3Schema"), "$ref");
    kind->schema = json_is_string(ref) ? schema_types_find(k->types, json_string_value(ref)) : NULL;
    k->all[k->num++] = kind;
    return kind->schema ? OK : fail(&r, "schema.openAPIV3Schema.$ref", "no such type");
}

static enum errc read_text(struct kinds *k, const char *start, const char *end, struct error *err) {
    json_t *docs;
    enum errc code = yaml_parse_all(start, (size_t)(end - start), &docs, err);
    if (code)
        return code;
    size_t i, j;
    json_t *doc, *version;
    json_array_foreach (docs, i, doc) {
        const json_t *spec = json_object_get(doc, "spec");
        json_array_foreach (json_object_get(spec, "versions"), j, version) {
            code = read_version(k, object_name(doc), spec, version, err);
            if (code)
                break;
        }
        if (code)
            break;
    }
    json_decref(docs);
    return code;
}

static const struct kind *stored_as(const struct kinds *k, const struct kind *kind) {
    switch (kind->view) {
    case KIND_VIEW_EVENTS:
        return kinds_find(k, "", "v1", "events");
    case KIND_VIEW_AUTOSCALING:
        return kinds_find(k, "autoscaling", "v2", kind->plural);
    case KIND_VIEW_NONE:
        break;
    }
    return kind;
}

enum errc kinds_create(struct kinds **ret_k, struct error *err) {
    AUTO(kinds) k = mem_alloc(sizeof(*k));
    k->arena = arena_create();
    k->refs = 1;
    k->own = mem_array(KINDS_MAX, sizeof(k->own[0]));
    k->all = mem_array(KINDS_MAX, sizeof(k->all[0]));
    const struct schema_table tables[] = {
        {"kubernetes.types", kinds_kubernetes_types_start,
         (size_t)(kinds_kubernetes_types_end - kinds_kubernetes_types_start)},
        {"workloads.types", kinds_workloads_types_start,
         (size_t)(kinds_workloads_types_end - kinds_workloads_types_start)},
        {"serving.types", kinds_serving_types_start,
         (size_t)(kinds_serving_types_end - kinds_serving_types_start)},
        {"apiextensions.types", kinds_apiextensions_types_start,
         (size_t)(kinds_apiextensions_types_end - kinds_apiextensions_types_start)},
        {"metrics.types", kinds_metrics_types_start,
         (size_t)(kinds_metrics_types_end - kinds_metrics_types_start)},
    };
    const struct schema_table descriptions = {
        "descriptions.text", kinds_descriptions_start,
        (size_t)(kinds_descriptions_end - kinds_descriptions_start)};
    enum errc code = schema_types_create(tables, ARRAY_LEN(tables), &k->types, err);
    if (!code)
        code = schema_types_describe(k->types, &descriptions, err);
    if (!code)
        code = read_text(k, kinds_core_yaml_start, kinds_core_yaml_end, err);
    if (!code)
        code = read_text(k, kinds_apps_yaml_start, kinds_apps_yaml_end, err);
    if (!code)
        code = read_text(k, kinds_workloads_yaml_start, kinds_workloads_yaml_end, err);
    if (!code)
        code = read_text(k, kinds_rbac_yaml_start, kinds_rbac_yaml_end, err);
    if (!code)
        code = read_text(k, kinds_serving_yaml_start, kinds_serving_yaml_end, err);
    if (!code)
        code = read_text(k, kinds_apiextensions_yaml_start, kinds_apiextensions_yaml_end, err);
    if (!code)
        code = read_text(k, kinds_metrics_yaml_start, kinds_metrics_yaml_end, err);
    if (code)
        return err_wrap(err, "embedded kinds");
    for (size_t i = 0; i < k->num; i++)
        k->own[i].storage = stored_as(k, &k->own[i]);
    *ret_k = steal(k);
    return OK;
}

static bool has_group(const struct kinds *k, const char *group) {
    for (size_t i = 0; i < k->num; i++) {
        if (!strcmp(k->all[i]->group, group))
            return true;
    }
    return false;
}

/* Puts a user's kind where discovery shows it: the versions of a group in order of preference,
 * whoever defined them; groups that only users have behind the others, in order of their names. */
static void insert(struct kinds *k, const struct kind *kind) {
    bool is_new = !has_group(k, kind->group);
    int64_t rank = crd_version_rank(kind->version);
    size_t at = 0;
    for (; at < k->num; at++) {
        const struct kind *other = k->all[at];
        int order = strcmp(kind->group, other->group);
        if (order ? is_new && order < 0 && !has_group(k->embedded, other->group)
                  : !other->built_in && rank > crd_version_rank(other->version))
            break;
    }
    memmove((void *)&k->all[at + 1], (const void *)&k->all[at], (k->num - at) * sizeof(k->all[0]));
    k->all[at] = kind;
    k->num++;
}

struct kinds *kinds_extend(struct kinds *embedded, struct crd *const *crds, size_t num_crds) {
    struct kinds *k = mem_alloc(sizeof(*k));
    k->refs = 1;
    k->embedded = kinds_ref(embedded);
    k->crds = mem_array(num_crds + 1, sizeof(k->crds[0]));
    k->num_crds = num_crds;
    size_t num = embedded->num;
    for (size_t i = 0; i < num_crds; i++) {
        k->crds[i] = crd_ref(crds[i]);
        num += crd_num_kinds(crds[i]);
    }
    k->all = mem_array(num, sizeof(k->all[0]));
    memcpy((void *)k->all, (const void *)embedded->all, embedded->num * sizeof(k->all[0]));
    k->num = embedded->num;
    for (size_t i = 0; i < num_crds; i++) {
        for (size_t j = 0; j < crd_num_kinds(crds[i]); j++)
            insert(k, crd_kind(crds[i], j));
    }
    return k;
}

struct kinds *kinds_ref(struct kinds *k) {
    k->refs++;
    return k;
}

void kinds_unref(struct kinds *k) {
    if (!k || --k->refs)
        return;
    for (size_t i = 0; i < k->num_crds; i++)
        crd_unref(k->crds[i]);
    free(k->crds);
    free((void *)k->all);
    if (k->embedded) {
        kinds_unref(k->embedded);
    } else {
        schema_types_destroy(k->types);
        arena_destroy(k->arena);
        free(k->own);
    }
    free(k);
}

bool kind_is_crd(const struct kind *kind) {
    return kind->built_in && !strcmp(kind->plural, "customresourcedefinitions");
}

size_t kinds_count(const struct kinds *k) {
    return k->num;
}

const struct kind *kinds_at(const struct kinds *k, size_t index) {
    return k->all[index];
}

const struct kind *kinds_find(const struct kinds *k, const char *group, const char *version,
                              const char *plural) {
    for (size_t i = 0; i < k->num; i++) {
        const struct kind *kind = k->all[i];
        if (!strcmp(kind->plural, plural) && !strcmp(kind->group, group) &&
            !strcmp(kind->version, version))
            return kind;
    }
    return NULL;
}

const struct kind *kinds_named(const struct kinds *k, const char *group, const char *plural,
                               const char *kind) {
    for (size_t i = 0; i < k->num; i++) {
        const struct kind *have = k->all[i];
        if (!strcmp(have->group, group) &&
            ((plural && !strcmp(have->plural, plural)) || (kind && !strcmp(have->kind, kind))))
            return have;
    }
    return NULL;
}

const struct schema_types *kinds_types(const struct kinds *k) {
    return k->embedded ? k->embedded->types : k->types;
}
