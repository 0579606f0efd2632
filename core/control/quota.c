/* Quotas.
 *
 *   hard name                        what counts
 *   pods                             pods that have not ended
 *   cpu, memory, requests.X, x.y/z   requests of such pods (limits stand in where none are given)
 *   limits.X                         their limits
 *   services.nodeports, ...          ports and balancers of services
 *   secrets, configmaps, ...         objects
 *   count/RESOURCE.GROUP             objects of any kind, users' own too
 *
 * What is used is always counted from the objects, never kept up: a count cannot drift. A create is
 * judged against the count and commits together with the quota it was judged by (core/charges.h),
 * so two creates that both saw the last free place cannot both have it. An update is judged by what
 * it adds: a Service that becomes a NodePort. Status follows deletions through the reconciler.
 *
 * A quota with scopes counts only the pods that have them.
 * Source: kubernetes/pkg/quota/v1 and plugin/pkg/admission/resourcequota (behaviour, texts). */
#include "core/control/quota.h"

#include <stdio.h>

#include "core/control/limits.h"
#include "core/control/pod_status.h"
#include "core/control/replicaset.h"
#include "core/quantity.h"

enum { RESOURCE_BYTES_MAX = 256 };

/* Which objects a hard name is about. */
struct counted {
    char group[RESOURCE_BYTES_MAX], resource[RESOURCE_BYTES_MAX];
    bool objects; /* each counts one */
};

static const char *const plain_counts[] = {"pods",
                                           "services",
                                           "secrets",
                                           "configmaps",
                                           "resourcequotas",
                                           "replicationcontrollers",
                                           "persistentvolumeclaims"};

static struct counted counted_by(const char *name) {
    struct counted c = {.group = "core", .resource = "pods"};
    if (!strncmp(name, "count/", 6)) {
        const char *dot = strchr(name + 6, '.');
        size_t len = dot ? (size_t)(dot - name - 6) : strlen(name + 6);
        snprintf(c.resource, sizeof(c.resource), "%.*s", (int)len, name + 6);
        snprintf(c.group, sizeof(c.group), "%s", dot ? dot + 1 : "core");
        c.objects = true;
    } else if (!strncmp(name, "services.", 9)) {
        snprintf(c.resource, sizeof(c.resource), "services");
    } else {
        for (size_t i = 0; i < ARRAY_LEN(plain_counts); i++) {
            if (strcmp(name, plain_counts[i]) != 0)
                continue;
            snprintf(c.resource, sizeof(c.resource), "%s", name);
            c.objects = true;
        }
    }
    return c;
}

static int64_t add(int64_t a, int64_t b) {
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

static bool has_ended(const json_t *pod) {
    const char *phase = object_str(pod, "status.phase");
    return phase && (!strcmp(phase, "Succeeded") || !strcmp(phase, "Failed"));
}

static int64_t pod_amount(const char *name, const json_t *pod) {
    int64_t milli = 0;
    if (has_ended(pod))
        return 0;
    if (!strcmp(name, "pods"))
        return 1000;
    bool limits = !strncmp(name, "limits.", 7);
    const char *resource = limits ? name + 7 : !strncmp(name, "requests.", 9) ? name + 9 : name;
    if (!limits_of_pod(pod, limits ? "limits" : "requests", resource, &milli) && !limits &&
        !limits_of_pod(pod, "limits", resource, &milli))
        return 0;
    return milli;
}

static int64_t service_amount(const char *name, const json_t *service) {
    const char *type = object_str(service, "spec.type");
    bool balancer = type && !strcmp(type, "LoadBalancer");
    bool node_port = balancer || (type && !strcmp(type, "NodePort"));
    if (!strcmp(name, "services.loadbalancers"))
        return balancer ? 1000 : 0;
    return node_port ? 1000 * (int64_t)json_array_size(object_at(service, "spec.ports")) : 0;
}

/* How much of the hard name one object is, in thousandths. */
static int64_t amount(const char *name, const struct counted *c, const json_t *object) {
    if (!strcmp(name, "pods"))
        return pod_amount(name, object);
    if (c->objects)
        return 1000;
    return !strcmp(c->resource, "services") ? service_amount(name, object)
                                            : pod_amount(name, object);
}

/* Scopes. */

static bool one_of(const json_t *values, const char *text) {
    size_t i;
    json_t *v;
    json_array_foreach (values, i, v) {
        if (json_is_string(v) && !strcmp(json_string_value(v), text))
            return true;
    }
    return false;
}

static bool in_scope(const json_t *pod, const char *scope, const char *op, const json_t *values) {
    bool best_effort = !strcmp(pod_status_qos_class(pod), "BestEffort");
    const char *priority = object_str(pod, "spec.priorityClassName");
    if (!strcmp(scope, "BestEffort"))
        return best_effort;
    if (!strcmp(scope, "NotBestEffort"))
        return !best_effort;
    if (!strcmp(scope, "Terminating"))
        return object_int(pod, "spec.activeDeadlineSeconds", -1) >= 0;
    if (!strcmp(scope, "NotTerminating"))
        return object_int(pod, "spec.activeDeadlineSeconds", -1) < 0;
    if (strcmp(scope, "PriorityClass") != 0)
        return false;
    bool named = priority && *priority;
    if (!strcmp(op, "In"))
        return named && one_of(values, priority);
    if (!strcmp(op, "NotIn"))
        return !named || !one_of(values, priority);
    return named == !strcmp(op, "Exists");
}

/* A quota with scopes is about pods that have all of them. */
static bool counts(const json_t *quota, const struct counted *c, const json_t *object) {
    const json_t *scopes = object_at(quota, "spec.scopes");
    const json_t *terms = object_at(quota, "spec.scopeSelector.matchExpressions");
    bool is_pod = !strcmp(c->group, "core") && !strcmp(c->resource, "pods"), all = true;
    size_t i;
    json_t *s;
    if (!is_pod)
        return !json_array_size(scopes) && !json_array_size(terms);
    json_array_foreach (scopes, i, s)
        all = all && in_scope(object, json_string_value(s), "Exists", NULL);
    json_array_foreach (terms, i, s) {
        const char *scope = object_str(s, "scopeName"), *op = object_str(s, "operator");
        all = all && scope && op && in_scope(object, scope, op, json_object_get(s, "values"));
    }
    return all;
}

/* Amounts as text. */

static json_t *quantity(const char *name, int64_t milli) {
    char text[QUANTITY_BYTES_MAX], out[QUANTITY_BYTES_MAX];
    bool binary = strstr(name, "memory") || strstr(name, "storage");
    if (binary && milli && milli % (1024 * 1000) == 0)
        snprintf(text, sizeof(text), "%lldKi", (long long)(milli / 1024000));
    else
        snprintf(text, sizeof(text), "%lldm", (long long)milli);
    return json_string(quantity_canonical(text, out) ? text : out);
}

static int64_t milli_of(const json_t *map, const char *name) {
    int64_t milli = 0;
    const json_t *value = json_object_get(map, name);
    return value && quantity_milli(value, &milli) ? milli : 0;
}

/* Gives what is used of every hard name. */
static json_t *count_used(struct store *st, const json_t *quota) {
    json_t *used = json_object(), *value;
    const char *name;
    json_object_foreach (object_at(quota, "spec.hard"), name, value) {
        struct counted c = counted_by(name);
        struct object_key prefix;
        AUTO_STORE_LIST all = {0};
        int64_t sum = 0;
        store_list(st, object_key(&prefix, c.group, c.resource, object_namespace(quota), NULL),
                   &all);
        for (size_t i = 0; i < all.num_items; i++) {
            if (counts(quota, &c, all.items[i]->json))
                sum = add(sum, amount(name, &c, all.items[i]->json));
        }
        json_object_set_new(used, name, quantity(name, sum));
    }
    return used;
}

/* Admission. */

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The keys of an object in order; to be freed. */
static const char **sorted_names(const json_t *map, size_t *ret_num) {
    const char **names = mem_array(json_object_size(map) + 1, sizeof(*names)), *name;
    json_t *value;
    *ret_num = 0;
    json_object_foreach ((json_t *)(uintptr_t)map, name, value)
        names[(*ret_num)++] = name;
    qsort(names, *ret_num, sizeof(*names), compare_names);
    return names;
}

/* "pods=1,requests.cpu=2" */
static void list_amounts(const json_t *map, struct buf *out) {
    size_t num;
    const char **names = sorted_names(map, &num);
    for (size_t i = 0; i < num; i++)
        buf_printf(out, "%s%s=%s", i ? "," : "", names[i],
                   json_string_value(json_object_get(map, names[i])));
    free(names);
}

/* The containers that say nothing about a resource: "c1,c2"; "" when all do. */
static void silent_containers(const json_t *pod, const char *name, struct buf *out) {
    static const char *const lists[] = {"spec.containers", "spec.initContainers"};
    bool limits = !strncmp(name, "limits.", 7);
    const char *resource = limits ? name + 7 : !strncmp(name, "requests.", 9) ? name + 9 : name;
    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        size_t i;
        json_t *c;
        json_array_foreach (object_at(pod, lists[l]), i, c) {
            const json_t *r = json_object_get(c, "resources");
            bool said = json_object_get(json_object_get(r, "limits"), resource) ||
                        (!limits && json_object_get(json_object_get(r, "requests"), resource));
            if (!said)
                buf_printf(out, "%s%s", out->len ? "," : "", object_str(c, "name"));
        }
    }
}

/* A bound on cpu or memory wants every container to say what it needs. */
static enum errc check_said(const json_t *quota, const json_t *pod, struct error *err) {
    static const char *const wanted[] = {"cpu",    "limits.cpu",   "limits.memory",
                                         "memory", "requests.cpu", "requests.memory"};
    AUTO_BUF missing = BUF_INIT;
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        AUTO_BUF who = BUF_INIT;
        if (!json_object_get(object_at(quota, "spec.hard"), wanted[i]))
            continue;
        silent_containers(pod, wanted[i], &who);
        if (who.len)
            buf_printf(&missing, "%s%s for: %s", missing.len ? "; " : "", wanted[i], who.data);
    }
    if (!missing.len)
        return OK;
    return err_set(err, ERR_FORBIDDEN, "failed quota: %s: must specify %s", object_name(quota),
                   missing.data);
}

/* What the object adds to what `old` (NULL: nothing) had, by hard name; NULL: nothing that this
 * quota counts. */
static json_t *added_by(const json_t *quota, const char *group, const char *resource,
                        const json_t *object, const json_t *old) {
    json_t *added = json_object(), *value;
    const char *name;
    json_object_foreach (object_at(quota, "spec.hard"), name, value) {
        struct counted c = counted_by(name);
        if (strcmp(c.group, group) != 0 || strcmp(c.resource, resource) != 0 ||
            !counts(quota, &c, object))
            continue;
        int64_t milli = amount(name, &c, object);
        if (old && counts(quota, &c, old))
            milli -= amount(name, &c, old);
        if (milli > 0)
            json_object_set_new(added, name, quantity(name, milli));
    }
    if (json_object_size(added))
        return added;
    json_decref(added);
    return NULL;
}

static enum errc exceeded(const json_t *quota, const json_t *over, const json_t *added,
                          const json_t *used, struct error *err) {
    const json_t *hard = object_at(quota, "spec.hard");
    json_t *requested = json_object(), *held = json_object(), *limited = json_object(), *value;
    const char *name;
    json_object_foreach ((json_t *)(uintptr_t)over, name, value) {
        json_object_set(requested, name, json_object_get(added, name));
        json_object_set(held, name, json_object_get(used, name));
        json_object_set(limited, name, json_object_get(hard, name));
    }
    AUTO_BUF r = BUF_INIT;
    AUTO_BUF u = BUF_INIT;
    AUTO_BUF l = BUF_INIT;
    list_amounts(requested, &r);
    list_amounts(held, &u);
    list_amounts(limited, &l);
    json_decref(requested);
    json_decref(held);
    json_decref(limited);
    return err_set(err, ERR_FORBIDDEN, "exceeded quota: %s, requested: %s, used: %s, limited: %s",
                   object_name(quota), r.data, u.data, l.data);
}

static json_t *with_status(const json_t *quota, json_t *used) {
    json_t *updated = json_deep_copy(quota);
    json_t *hard = object_at(quota, "spec.hard");
    object_set(updated, "status.hard", hard ? json_deep_copy(hard) : json_object());
    object_set(updated, "status.used", used);
    return updated;
}

static enum errc charge_one(struct store *st, struct store_object *quota, const json_t *added,
                            struct charges *charges, struct error *err) {
    json_t *used = count_used(st, quota->json), *over = json_object(), *value;
    const json_t *hard = object_at(quota->json, "spec.hard");
    const char *name;
    enum errc rc = OK;
    json_object_foreach ((json_t *)(uintptr_t)added, name, value) {
        if (add(milli_of(used, name), milli_of(added, name)) > milli_of(hard, name))
            json_object_set_new(over, name, json_true());
    }
    if (json_object_size(over))
        rc = exceeded(quota->json, over, added, used, err);
    json_decref(over);
    if (rc) {
        json_decref(used);
        return rc;
    }
    json_object_foreach ((json_t *)(uintptr_t)added, name, value)
        json_object_set_new(used, name,
                            quantity(name, add(milli_of(used, name), milli_of(added, name))));
    return charges_add(charges, quota, with_status(quota->json, used), err);
}

enum errc quota_charge(struct store *st, const char *group, const char *resource,
                       const json_t *object, const json_t *old, struct charges *charges,
                       struct error *err) {
    const char *ns = object_namespace(object);
    struct object_key prefix;
    AUTO_STORE_LIST quotas = {0};
    enum errc rc = OK;
    bool is_pod = !strcmp(group, "core") && !strcmp(resource, "pods");
    if (!ns)
        return OK;
    store_list(st, object_key(&prefix, "core", "resourcequotas", ns, NULL), &quotas);
    for (size_t i = 0; i < quotas.num_items && !rc; i++) {
        const json_t *quota = quotas.items[i]->json;
        const struct counted pods = {.group = "core", .resource = "pods"};
        if (is_pod && !old && counts(quota, &pods, object))
            rc = check_said(quota, object, err);
        json_t *added = rc ? NULL : added_by(quota, group, resource, object, old);
        if (added)
            rc = charge_one(st, quotas.items[i], added, charges, err);
        json_decref(added);
    }
    return rc;
}

enum errc quota_reconcile(struct world *w, const char *ns, const char *name, struct error *err) {
    AUTO(store_object) o = world_get(w, KIND_RESOURCE_QUOTA, ns, name);
    if (!o || object_deleting(o->json))
        return OK;
    return world_update(w, o, with_status(o->json, count_used(w->store, o->json)), NULL, err);
}

void quota_enqueue(struct world *w, const char *ns) {
    AUTO_STORE_LIST quotas = {0};
    world_list(w, KIND_RESOURCE_QUOTA, ns, &quotas);
    for (size_t i = 0; i < quotas.num_items; i++)
        world_enqueue(w, KIND_RESOURCE_QUOTA, ns, object_name(quotas.items[i]->json));
}
