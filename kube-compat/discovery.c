/* Discovery documents, made from the table of kinds on each request: clients cache them for hours.
 *
 * The aggregated form answers everything in two requests (/api and /apis); the client picks its
 * decoder from the Content-Type, whose parameters must be repeated. The legacy form is one document
 * a group version, still asked for by `kubectl auth can-i` and by other languages' clients. */
#include "kube-compat/discovery.h"

#include <stdio.h>

#include "core/object.h"
#include "kube-compat/reviews.h"

void discovery_version(struct http_exchange *x) {
    json_t *v = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "major", "1", "minor",
                          KUBERNETES_MINOR, "gitVersion", KUBERNETES_VERSION, "gitCommit", "",
                          "gitTreeState", "clean", "buildDate", "1970-01-01T00:00:00Z", "goVersion",
                          "none", "compiler", "gcc", "platform", "linux/amd64");
    http_reply_json(x, 200, v);
    json_decref(v);
}

static json_t *strings(const char *const *list) {
    json_t *a = json_array();
    for (; *list; list++)
        json_array_append_new(a, json_string(*list));
    return a;
}

static const char *const all_verbs[] = {
    "create", "delete", "deletecollection", "get", "list", "patch", "update", "watch", NULL};
static const char *const single_verbs[] = {"create", "delete", "get",   "list",
                                           "patch",  "update", "watch", NULL};
static const char *const read_verbs[] = {"get", "list", "watch", NULL};
static const char *const measured_verbs[] = {"get", "list", NULL};
static const char *const status_verbs[] = {"get", "patch", "update", NULL};
static const char *const create_verbs[] = {"create", NULL};

static const char *const *verbs_of(const struct kind *k) {
    return k->measured           ? measured_verbs
           : k->not_run          ? read_verbs
           : k->keeps_collection ? single_verbs
                                 : all_verbs;
}

static void put_list(json_t *o, const char *key, const char **list) {
    if (list[0])
        json_object_set_new(o, key, strings((const char *const *)list));
}

/* Legacy. */

static json_t *legacy_entry(const char *name, const struct kind *k, const char *kind,
                            const char *const *verbs) {
    return json_pack("{s:s, s:s, s:b, s:s, s:o}", "name", name, "singularName", "", "namespaced",
                     k->namespaced, "kind", kind, "verbs", strings(verbs));
}

static void legacy_kind(const struct kind *k, json_t *resources) {
    json_t *o = legacy_entry(k->plural, k, k->kind, verbs_of(k));
    json_object_set_new(o, "singularName", json_string(k->singular));
    put_list(o, "shortNames", k->short_names);
    put_list(o, "categories", k->categories);
    json_array_append_new(resources, o);
    char name[256];
    for (uint32_t i = 0; i < k->num_subresources; i++) {
        const struct kind_subresource *s = &k->subresources[i];
        snprintf(name, sizeof(name), "%s/%s", k->plural, s->name);
        o = legacy_entry(name, k, s->kind, (const char *const *)s->verbs);
        if (s->group) {
            json_object_set_new(o, "group", json_string(s->group));
            json_object_set_new(o, "version", json_string(s->version));
        }
        json_array_append_new(resources, o);
    }
    if (k->has_scale) {
        snprintf(name, sizeof(name), "%s/scale", k->plural);
        o = legacy_entry(name, k, "Scale", status_verbs);
        json_object_set_new(o, "group", json_string("autoscaling"));
        json_object_set_new(o, "version", json_string("v1"));
        json_array_append_new(resources, o);
    }
    if (k->has_status) {
        snprintf(name, sizeof(name), "%s/status", k->plural);
        json_array_append_new(resources, legacy_entry(name, k, k->kind, status_verbs));
    }
}

/* Gives the resources of a group version in legacy form; an empty array when there are none. */
static json_t *legacy_resources(const struct kinds *kinds, const char *group, const char *version) {
    json_t *resources = json_array();
    for (size_t i = 0; i < kinds_count(kinds); i++) {
        const struct kind *k = kinds_at(kinds, i);
        if (!strcmp(k->group, group) && !strcmp(k->version, version))
            legacy_kind(k, resources);
    }
    for (size_t i = 0; i < reviews_count(); i++) {
        const struct review *r = reviews_at(i);
        if (strcmp(r->group, group) != 0 || strcmp(version, "v1") != 0)
            continue;
        json_array_append_new(resources,
                              json_pack("{s:s, s:s, s:b, s:s, s:o}", "name", r->resource,
                                        "singularName", "", "namespaced", r->namespaced, "kind",
                                        r->kind, "verbs", strings(create_verbs)));
    }
    return resources;
}

/* Aggregated. */

static json_t *response_kind(const char *group, const char *version, const char *kind) {
    return json_pack("{s:s, s:s, s:s}", "group", group, "version", version, "kind", kind);
}

static json_t *aggregated_subresource(const char *name, json_t *kind, const char *const *verbs) {
    return json_pack("{s:s, s:o, s:o}", "subresource", name, "responseKind", kind, "verbs",
                     strings(verbs));
}

static json_t *aggregated_kind(const struct kind *k) {
    json_t *o = json_pack("{s:s, s:o, s:s, s:s, s:o}", "resource", k->plural, "responseKind",
                          response_kind(k->group, k->version, k->kind), "scope",
                          k->namespaced ? "Namespaced" : "Cluster", "singularResource", k->singular,
                          "verbs", strings(verbs_of(k)));
    put_list(o, "shortNames", k->short_names);
    put_list(o, "categories", k->categories);
    json_t *subresources = json_array();
    for (uint32_t i = 0; i < k->num_subresources; i++) {
        const struct kind_subresource *s = &k->subresources[i];
        json_array_append_new(
            subresources,
            aggregated_subresource(s->name,
                                   response_kind(s->group ? s->group : k->group,
                                                 s->version ? s->version : k->version, s->kind),
                                   (const char *const *)s->verbs));
    }
    if (k->has_scale)
        json_array_append_new(
            subresources, aggregated_subresource(
                              "scale", response_kind("autoscaling", "v1", "Scale"), status_verbs));
    if (k->has_status)
        json_array_append_new(subresources,
                              aggregated_subresource("status",
                                                     response_kind(k->group, k->version, k->kind),
                                                     status_verbs));
    if (json_array_size(subresources))
        json_object_set(o, "subresources", subresources);
    json_decref(subresources);
    return o;
}

/* Gives the item of the group in list, appending it when it is new; likewise for its version. */
static json_t *group_item(json_t *list, const char *group) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = object_str(json_array_get(list, i), "metadata.name");
        if (!strcmp(name ? name : "", group))
            return json_array_get(list, i);
    }
    json_t *metadata = *group ? json_pack("{s:s}", "name", group) : json_object();
    json_array_append_new(list, json_pack("{s:o, s:[]}", "metadata", metadata, "versions"));
    return json_array_get(list, json_array_size(list) - 1);
}

static json_t *version_resources(json_t *list, const char *group, const char *version) {
    json_t *versions = json_object_get(group_item(list, group), "versions");
    for (size_t i = 0; i < json_array_size(versions); i++) {
        json_t *v = json_array_get(versions, i);
        if (!strcmp(object_str(v, "version"), version))
            return json_object_get(v, "resources");
    }
    json_array_append_new(versions, json_pack("{s:s, s:s, s:[]}", "version", version, "freshness",
                                              "Current", "resources"));
    return json_object_get(json_array_get(versions, json_array_size(versions) - 1), "resources");
}

/* Gives the aggregated items of the core group or of all others, in the order of the kinds. */
static json_t *aggregated_items(const struct kinds *kinds, bool core) {
    json_t *items = json_array();
    for (size_t i = 0; i < kinds_count(kinds); i++) {
        const struct kind *k = kinds_at(kinds, i);
        if (!*k->group == core)
            json_array_append_new(version_resources(items, k->group, k->version),
                                  aggregated_kind(k));
    }
    for (size_t i = 0; !core && i < reviews_count(); i++) {
        const struct review *r = reviews_at(i);
        json_array_append_new(version_resources(items, r->group, "v1"),
                              json_pack("{s:s, s:o, s:s, s:s, s:o}", "resource", r->resource,
                                        "responseKind", response_kind(r->group, "v1", r->kind),
                                        "scope", r->namespaced ? "Namespaced" : "Cluster",
                                        "singularResource", "", "verbs", strings(create_verbs)));
    }
    return items;
}

/* The legacy APIGroup of an aggregated item. */
static json_t *legacy_group(const json_t *item) {
    const char *name = object_str(item, "metadata.name");
    json_t *versions = json_array();
    size_t i;
    json_t *v;
    json_array_foreach (json_object_get(item, "versions"), i, v) {
        const char *version = object_str(v, "version");
        json_array_append_new(versions,
                              json_pack("{s:o, s:s}", "groupVersion",
                                        json_sprintf("%s/%s", name, version), "version", version));
    }
    return json_pack("{s:s, s:o, s:O}", "name", name, "versions", versions, "preferredVersion",
                     json_array_get(versions, 0));
}

/* FNV-1a over the text, for an ETag: the documents change only with the program. */
static void reply_document(struct request *rq, const char *content_type, json_t *doc) {
    char *text = json_dumps(doc, JSON_COMPACT);
    json_decref(doc);
    uint64_t hash = 14695981039346656037u;
    for (const char *p = text; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 1099511628211u;
    char tag[24];
    snprintf(tag, sizeof(tag), "\"%016llX\"", (unsigned long long)hash);
    http_set_header(rq->x, "ETag", tag);
    http_set_header(rq->x, "Vary", "Accept");
    http_set_header(rq->x, "Cache-Control", "no-cache, private");
    const char *have = http_header(rq->x, "If-None-Match");
    if (have && !strcmp(have, tag))
        http_reply(rq->x, 304, content_type, "", 0);
    else
        http_reply(rq->x, 200, content_type, text, strlen(text));
    free(text);
}

static void aggregated_root(struct request *rq, bool core, bool beta) {
    json_t *doc = json_pack("{s:s, s:s, s:{}, s:o}", "kind", "APIGroupDiscoveryList", "apiVersion",
                            beta ? "apidiscovery.k8s.io/v2beta1" : "apidiscovery.k8s.io/v2",
                            "metadata", "items", aggregated_items(rq->kinds, core));
    reply_document(rq,
                   beta
                       ? "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
                       : "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                   doc);
}

void discovery_root(struct request *rq, bool core) {
    enum accept_form form = accept_choose(
        http_header(rq->x, "Accept"), ACCEPT_JSON | ACCEPT_DISCOVERY_V2 | ACCEPT_DISCOVERY_BETA);
    if (form == ACCEPT_DISCOVERY_V2 || form == ACCEPT_DISCOVERY_BETA) {
        aggregated_root(rq, core, form == ACCEPT_DISCOVERY_BETA);
        return;
    }
    if (core) {
        const char *address = rq->kube->opt.server_address;
        reply_document(rq, "application/json",
                       json_pack("{s:s, s:[s], s:[{s:s, s:s}]}", "kind", "APIVersions", "versions",
                                 "v1", "serverAddressByClientCIDRs", "clientCIDR", "0.0.0.0/0",
                                 "serverAddress", address ? address : ""));
        return;
    }
    json_t *items = aggregated_items(rq->kinds, false), *groups = json_array();
    size_t i;
    json_t *item;
    json_array_foreach (items, i, item) {
        json_array_append_new(groups, legacy_group(item));
    }
    json_decref(items);
    reply_document(
        rq, "application/json",
        json_pack("{s:s, s:s, s:o}", "kind", "APIGroupList", "apiVersion", "v1", "groups", groups));
}

void discovery_paths(struct request *rq) {
    static const char *const others[] = {
        "/.well-known/openid-configuration",
        "/debug/autoscaler",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    };
    json_t *paths = json_pack("[s, s, s]", "/api", "/api/v1", "/apis");
    json_t *items = aggregated_items(rq->kinds, false), *item, *v;
    size_t i, k;
    json_array_foreach (items, i, item) {
        const char *group = object_str(item, "metadata.name");
        json_array_append_new(paths, json_sprintf("/apis/%s", group));
        json_array_foreach (json_object_get(item, "versions"), k, v) {
            json_array_append_new(paths,
                                  json_sprintf("/apis/%s/%s", group, object_str(v, "version")));
        }
    }
    json_decref(items);
    for (size_t o = 0; o < ARRAY_LEN(others); o++)
        json_array_append_new(paths, json_string(others[o]));
    reply_document(rq, "application/json", json_pack("{s:o}", "paths", paths));
}

bool discovery_handle(struct request *rq, const char *group, const char *version) {
    if (version) {
        json_t *resources = legacy_resources(rq->kinds, group, version);
        if (!json_array_size(resources)) {
            json_decref(resources);
            return false;
        }
        json_t *gv = *group ? json_sprintf("%s/%s", group, version) : json_string(version);
        reply_document(rq, "application/json",
                       json_pack("{s:s, s:s, s:o, s:o}", "kind", "APIResourceList", "apiVersion",
                                 "v1", "groupVersion", gv, "resources", resources));
        return true;
    }
    json_t *items = aggregated_items(rq->kinds, false), *found = NULL;
    size_t i;
    json_t *item;
    json_array_foreach (items, i, item) {
        if (!found && !strcmp(object_str(item, "metadata.name"), group))
            found = legacy_group(item);
    }
    json_decref(items);
    if (!found)
        return false;
    json_object_set_new(found, "kind", json_string("APIGroup"));
    json_object_set_new(found, "apiVersion", json_string("v1"));
    reply_document(rq, "application/json", found);
    return true;
}
