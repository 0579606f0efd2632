/* Definitions are checked in two steps: crd_check() looks at everything around the schemas, and
 * crd_read() reads those; a definition that passes both is stored, and whether its names are free
 * is decided afterwards (crds.c). Versions are ordered as Kubernetes ranks them: v2 before v1
 * before v1beta1 before v1alpha1, and what is no such name last. */
#include "kube-compat/crd.h"

#include <ctype.h>
#include <stdio.h>

#include "core/object.h"
#include "kube-compat/names.h"
#include "kube-compat/schema_json.h"

enum { FIELD_BYTES_MAX = 256 };

static const char approved_annotation[] = "api-approved.kubernetes.io";

struct crd {
    _Atomic uint32_t refs;
    struct arena *arena;
    struct schema_pool *pool;
    const char *uid;
    int64_t generation;
    bool deleting;
    struct kind *kinds;
    size_t num_kinds;
};

static void set_default(json_t *o, const char *key, json_t *value) {
    const char *have = object_str(o, key);
    if (json_is_object(o) && !(have && *have))
        json_object_set(o, key, value);
    json_decref(value);
}

void crd_default(json_t *definition) {
    json_t *spec = json_object_get(definition, "spec"), *names = json_object_get(spec, "names");
    const char *kind = object_str(names, "kind");
    if (kind) {
        AUTO_FREE char *lower = mem_strdup(kind);
        for (char *c = lower; *c; c++)
            *c = (char)tolower((unsigned char)*c);
        set_default(names, "singular", json_string(lower));
        set_default(names, "listKind", json_sprintf("%sList", kind));
    }
    if (json_is_object(spec) && !json_object_get(spec, "conversion"))
        json_object_set_new(spec, "conversion", json_pack("{s:s}", "strategy", "None"));
    if (json_is_false(json_object_get(spec, "preserveUnknownFields")))
        json_object_del(spec, "preserveUnknownFields");
}

static void check_label(const json_t *names, const char *key, json_t *causes) {
    const char *name = object_str(names, key);
    char field[FIELD_BYTES_MAX], lower[NAME_SUBDOMAIN_BYTES_MAX] = "";
    snprintf(field, sizeof(field), "spec.names.%s", key);
    snprintf(lower, sizeof(lower), "%s", name ? name : "");
    bool any_case = !strcmp(key, "kind") || !strcmp(key, "listKind");
    for (char *c = lower; any_case && *c; c++)
        *c = (char)tolower((unsigned char)*c);
    if (!name || !*name)
        cause_add(causes, CAUSE_REQUIRED, field, "Required value");
    else if (!name_is_dns1035_label(lower))
        cause_add(causes, CAUSE_INVALID, field, "Invalid value: \"%.100s\": %s", name,
                  name_dns1035_label_rule);
}

static void check_names(const json_t *definition, json_t *causes) {
    static const char *const keys[] = {"plural", "singular", "kind", "listKind"};
    const json_t *spec = json_object_get(definition, "spec");
    const json_t *names = json_object_get(spec, "names");
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        check_label(names, keys[i], causes);
    static const char *const lists[] = {"shortNames", "categories"};
    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        const json_t *list = json_object_get(names, lists[l]);
        for (size_t i = 0; i < json_array_size(list); i++) {
            const char *name = json_string_value(json_array_get(list, i));
            char field[FIELD_BYTES_MAX];
            snprintf(field, sizeof(field), "spec.names.%s[%zu]", lists[l], i);
            if (name && !name_is_dns1035_label(name))
                cause_add(causes, CAUSE_INVALID, field, "Invalid value: \"%.100s\": %s", name,
                          name_dns1035_label_rule);
        }
    }
    const char *group = object_str(spec, "group"), *plural = object_str(names, "plural");
    if (!group || !name_is_dns1123_subdomain(group) || !strchr(group, '.')) {
        cause_add(causes, CAUSE_INVALID, "spec.group",
                  "Invalid value: \"%.100s\": should be a domain with at least one dot",
                  group ? group : "");
        return;
    }
    AUTO_FREE char *name = mem_printf("%s.%s", plural ? plural : "", group);
    const char *have = object_name(definition);
    if (have && strcmp(have, name) != 0)
        cause_add(causes, CAUSE_INVALID, "metadata.name",
                  "Invalid value: \"%.253s\": must be spec.names.plural+\".\"+spec.group", have);
    size_t len = strlen(group);
    bool is_protected = (len > 7 && !strcmp(group + len - 7, ".k8s.io")) ||
                        (len > 14 && !strcmp(group + len - 14, ".kubernetes.io"));
    if (is_protected && !object_annotation(definition, approved_annotation))
        cause_add(causes, CAUSE_REQUIRED, "metadata.annotations[api-approved.kubernetes.io]",
                  "Required value: protected groups must have approval annotation "
                  "\"api-approved.kubernetes.io\"");
}

/* A path like ".spec.replicas" below one of the roots (NULL ends them; none: anywhere). */
static void check_path(const char *path, const char *field, const char *const *roots,
                       json_t *causes) {
    bool good = path && *path == '.' && strlen(path) <= CRD_PATH_BYTES_MAX;
    bool below = !roots[0];
    for (; good && !below && *roots; roots++)
        below = !strncmp(path, *roots, strlen(*roots));
    if (!good || !below)
        cause_add(causes, CAUSE_INVALID, field,
                  "Invalid value: \"%.100s\": should be a json path of at most %d bytes%s",
                  path ? path : "", CRD_PATH_BYTES_MAX,
                  roots[0] || !below ? " under .spec or .status" : " that begins with a dot");
}

static void check_scale(const json_t *version, const char *at, json_t *causes) {
    static const char *const none[] = {NULL}, *const spec[] = {".spec.", NULL},
                             *const status[] = {".status.", NULL},
                             *const both[] = {".spec.", ".status.", NULL};
    const json_t *scale = object_at(version, "subresources.scale");
    char field[FIELD_BYTES_MAX];
    if (scale) {
        snprintf(field, sizeof(field), "%s.subresources.scale.specReplicasPath", at);
        check_path(object_str(scale, "specReplicasPath"), field, spec, causes);
        snprintf(field, sizeof(field), "%s.subresources.scale.statusReplicasPath", at);
        check_path(object_str(scale, "statusReplicasPath"), field, status, causes);
        const char *selector = object_str(scale, "labelSelectorPath");
        snprintf(field, sizeof(field), "%s.subresources.scale.labelSelectorPath", at);
        if (selector && *selector)
            check_path(selector, field, both, causes);
    }
    const json_t *fields = json_object_get(version, "selectableFields");
    for (size_t i = 0; i < json_array_size(fields); i++) {
        snprintf(field, sizeof(field), "%s.selectableFields[%zu].jsonPath", at, i);
        check_path(object_str(json_array_get(fields, i), "jsonPath"), field, none, causes);
    }
    snprintf(field, sizeof(field), "%s.selectableFields", at);
    if (json_array_size(fields) > CRD_FIELDS_MAX)
        cause_add(causes, "FieldValueTooMany", field, "Too many: %zu: must have at most %d items",
                  json_array_size(fields), CRD_FIELDS_MAX);
}

static void check_columns(const json_t *version, const char *at, json_t *causes) {
    static const char *const none[] = {NULL};
    static const char *const types[] = {"integer", "number", "string", "boolean", "date"};
    const json_t *columns = json_object_get(version, "additionalPrinterColumns");
    char field[FIELD_BYTES_MAX];
    for (size_t i = 0; i < json_array_size(columns); i++) {
        const json_t *c = json_array_get(columns, i);
        const char *type = object_str(c, "type");
        bool known = false;
        for (size_t t = 0; type && !known && t < ARRAY_LEN(types); t++)
            known = !strcmp(type, types[t]);
        snprintf(field, sizeof(field), "%s.additionalPrinterColumns[%zu].type", at, i);
        if (!known)
            cause_add(causes, CAUSE_INVALID, field,
                      "Invalid value: \"%.64s\": must be one of "
                      "\"boolean\",\"date\",\"integer\",\"number\",\"string\"",
                      type ? type : "");
        snprintf(field, sizeof(field), "%s.additionalPrinterColumns[%zu].jsonPath", at, i);
        check_path(object_str(c, "jsonPath"), field, none, causes);
    }
    snprintf(field, sizeof(field), "%s.additionalPrinterColumns", at);
    if (json_array_size(columns) > CRD_COLUMNS_MAX)
        cause_add(causes, "FieldValueTooMany", field, "Too many: %zu: must have at most %d items",
                  json_array_size(columns), CRD_COLUMNS_MAX);
}

static void check_versions(const json_t *spec, json_t *causes) {
    const json_t *versions = json_object_get(spec, "versions");
    size_t num = json_array_size(versions), num_stored = 0;
    if (!num || num > CRD_VERSIONS_MAX)
        cause_add(causes, CAUSE_INVALID, "spec.versions",
                  "Invalid value: %zu: must have between 1 and %d versions", num, CRD_VERSIONS_MAX);
    json_t *seen = json_object();
    for (size_t i = 0; i < num && num <= CRD_VERSIONS_MAX; i++) {
        const json_t *v = json_array_get(versions, i);
        const char *name = object_str(v, "name");
        char at[64], field[FIELD_BYTES_MAX];
        snprintf(at, sizeof(at), "spec.versions[%zu]", i);
        snprintf(field, sizeof(field), "%s.name", at);
        if (!name || !name_is_dns1035_label(name))
            cause_add(causes, CAUSE_INVALID, field, "Invalid value: \"%.100s\": %s",
                      name ? name : "", name_dns1035_label_rule);
        else if (json_object_get(seen, name))
            cause_add(causes, CAUSE_DUPLICATE, field, "Duplicate value: \"%s\"", name);
        else
            json_object_set_new(seen, name, json_true());
        num_stored += object_bool(v, "storage", false);
        snprintf(field, sizeof(field), "%s.schema.openAPIV3Schema", at);
        if (!object_at(v, "schema.openAPIV3Schema"))
            cause_add(causes, CAUSE_REQUIRED, field, "Required value: schemas are required");
        check_scale(v, at, causes);
        check_columns(v, at, causes);
    }
    json_decref(seen);
    if (num && num_stored != 1)
        cause_add(causes, CAUSE_INVALID, "spec.versions",
                  "Invalid value: %zu are: must have exactly one version marked as storage version",
                  num_stored);
}

static bool has_version(const json_t *spec, const char *name) {
    const json_t *versions = json_object_get(spec, "versions");
    for (size_t i = 0; i < json_array_size(versions); i++) {
        const char *have = object_str(json_array_get(versions, i), "name");
        if (have && !strcmp(have, name))
            return true;
    }
    return false;
}

static void check_update(const json_t *definition, const json_t *old, json_t *causes) {
    static const char *const immutable[] = {"spec.group", "spec.scope", "spec.names.plural",
                                            "spec.names.kind"};
    for (size_t i = 0; i < ARRAY_LEN(immutable); i++) {
        const char *now = object_str(definition, immutable[i]),
                   *was = object_str(old, immutable[i]);
        if (now && was && strcmp(now, was) != 0)
            cause_add(causes, CAUSE_INVALID, immutable[i],
                      "Invalid value: \"%.100s\": field is immutable", now);
    }
    const json_t *stored = object_at(old, "status.storedVersions");
    for (size_t i = 0; i < json_array_size(stored); i++) {
        const char *name = json_string_value(json_array_get(stored, i));
        char field[64];
        snprintf(field, sizeof(field), "status.storedVersions[%zu]", i);
        if (name && !has_version(json_object_get(definition, "spec"), name))
            cause_add(causes, CAUSE_INVALID, field,
                      "Invalid value: \"%.100s\": missing from spec.versions; it was stored", name);
    }
}

void crd_check(const json_t *definition, const json_t *old, json_t *causes) {
    const json_t *spec = json_object_get(definition, "spec");
    check_names(definition, causes);
    check_versions(spec, causes);
    const char *strategy = object_str(spec, "conversion.strategy");
    if (strategy && strcmp(strategy, "None") != 0)
        cause_add(causes, CAUSE_NOT_SUPPORTED, "spec.conversion.strategy",
                  "Unsupported value: \"%.64s\": supported values: \"None\"", strategy);
    if (object_bool(spec, "preserveUnknownFields", false))
        cause_add(causes, CAUSE_INVALID, "spec.preserveUnknownFields",
                  "Invalid value: true: must be false");
    if (old)
        check_update(definition, old, causes);
}

int64_t crd_version_rank(const char *version) {
    unsigned major = 0, minor = 0;
    char stage[8] = "";
    int end = 0;
    if (sscanf(version, "v%5u%n", &major, &end) == 1 && !version[end])
        return (int64_t)(3u << 20 | major) << 32;
    end = 0;
    if (sscanf(version, "v%5u%7[a-z]%5u%n", &major, stage, &minor, &end) == 3 && !version[end] &&
        (!strcmp(stage, "beta") || !strcmp(stage, "alpha")))
        return (int64_t)((stage[0] == 'b' ? 2u : 1u) << 20 | major) << 32 | minor;
    return 0;
}

static int compare_kinds(const void *a, const void *b) {
    const struct kind *x = a, *y = b;
    int64_t left = crd_version_rank(x->version), right = crd_version_rank(y->version);
    return left != right ? (left < right ? 1 : -1) : strcmp(x->version, y->version);
}

static const char *stored_version(struct crd *crd, const json_t *spec) {
    const json_t *versions = json_object_get(spec, "versions");
    for (size_t i = 0; i < json_array_size(versions); i++) {
        const json_t *v = json_array_get(versions, i);
        if (object_bool(v, "storage", false))
            return arena_printf(crd->arena, "%s/%s", object_str(spec, "group"),
                                object_str(v, "name"));
    }
    return NULL;
}

/* Type names read "com.example.v1.Widget", as the reference server spells them. */
static const char *type_name(struct crd *crd, const struct kind *k) {
    AUTO_BUF reversed = BUF_INIT;
    size_t end = strlen(k->group);
    while (end) {
        size_t start = end;
        while (start && k->group[start - 1] != '.')
            start--;
        buf_append(&reversed, k->group + start, end - start);
        buf_putc(&reversed, '.');
        end = start ? start - 1 : 0;
    }
    return arena_printf(crd->arena, "%s%s.%s", reversed.data, k->version, k->kind);
}

static enum errc read_version(struct crd *crd, const json_t *definition, size_t index,
                              const struct schema_types *types, json_t *causes, json_t *warnings,
                              struct error *err) {
    const json_t *spec = json_object_get(definition, "spec");
    const json_t *version = json_array_get(json_object_get(spec, "versions"), index);
    struct kind kind, *k = &kind;
    enum errc code = kind_read(crd->arena, object_name(definition), spec, version, k, err);
    if (code)
        return code;
    char path[64];
    snprintf(path, sizeof(path), "spec.versions[%zu].schema.openAPIV3Schema", index);
    struct schema_json_options opt = {.name = type_name(crd, k),
                                      .path = path,
                                      .metadata = schema_types_find(types, "meta.ObjectMeta")};
    code = schema_json_read(crd->pool, object_at(version, "schema.openAPIV3Schema"), &opt, causes,
                            warnings, &k->schema, err);
    if (code || !object_bool(version, "served", false))
        return code;
    k->crd = crd;
    k->stored_version = stored_version(crd, spec);
    if (object_bool(version, "deprecated", false)) {
        const char *text = object_str(version, "deprecationWarning");
        k->warning = text
                         ? arena_strdup(crd->arena, text)
                         : arena_printf(crd->arena, "%s %s is deprecated", k->api_version, k->kind);
    }
    crd->kinds[crd->num_kinds++] = *k;
    return OK;
}

enum errc crd_read(const json_t *definition, const struct schema_types *types, json_t *causes,
                   json_t *warnings, struct crd **ret_crd, struct error *err) {
    AUTO(crd) crd = mem_alloc(sizeof(*crd));
    crd->refs = 1;
    crd->arena = arena_create();
    crd->pool = schema_pool_create();
    crd->uid = arena_strdup(crd->arena, object_uid(definition));
    crd->generation = object_int(definition, "metadata.generation", 0);
    crd->deleting = object_deleting(definition);
    size_t num = json_array_size(object_at(definition, "spec.versions"));
    if (num > CRD_VERSIONS_MAX)
        return err_set(err, ERR_INVALID, "spec.versions: %zu versions, more than %d", num,
                       CRD_VERSIONS_MAX);
    crd->kinds = arena_alloc(crd->arena, (num + 1) * sizeof(crd->kinds[0]));
    enum errc code = OK;
    for (size_t i = 0; i < num; i++) {
        enum errc one = read_version(crd, definition, i, types, causes, warnings, err);
        code = code ? code : one;
    }
    if (code)
        return code;
    schema_pool_seal(crd->pool);
    qsort(crd->kinds, crd->num_kinds, sizeof(crd->kinds[0]), compare_kinds);
    for (size_t i = 0; i < crd->num_kinds; i++)
        crd->kinds[i].storage = &crd->kinds[i];
    *ret_crd = steal(crd);
    return OK;
}

struct crd *crd_ref(struct crd *crd) {
    crd->refs++;
    return crd;
}

void crd_unref(struct crd *crd) {
    if (!crd || --crd->refs)
        return;
    schema_pool_destroy(crd->pool);
    arena_destroy(crd->arena);
    free(crd);
}

size_t crd_num_kinds(const struct crd *crd) {
    return crd->num_kinds;
}

const struct kind *crd_kind(const struct crd *crd, size_t index) {
    return &crd->kinds[index];
}

bool crd_deleting(const struct crd *crd) {
    return crd->deleting;
}

bool crd_is_of(const struct crd *crd, const json_t *definition) {
    const char *uid = object_uid(definition);
    return uid && crd->uid && !strcmp(uid, crd->uid) &&
           crd->generation == object_int(definition, "metadata.generation", 0);
}
