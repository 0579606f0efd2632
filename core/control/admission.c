/* Admission in the order of the reference server: account, priority, limit ranges, then, on what
 * has become of the object, quotas. */
#include "core/control/admission.h"

#include <stdio.h>

#include "core/control/disruption.h"
#include "core/control/limits.h"
#include "core/control/priority.h"
#include "core/control/quota.h"
#include "core/control/service.h"
#include "core/object.h"

/* Puts "pods "x" is forbidden: " before what a check says. */
static enum errc forbidden(const char *group, const char *resource, const json_t *object,
                           struct error *err) {
    const char *name = object_name(object);
    bool core = !strcmp(group, "core");
    if (err->code != ERR_FORBIDDEN)
        return err->code;
    if (!name || !*name)
        name = object_str(object, "metadata.generateName");
    return err_wrap(err, "%s%s%s \"%s\" is forbidden", resource, core ? "" : ".", core ? "" : group,
                    name ? name : "");
}

static enum errc assign_limits(struct store *st, json_t *pod, struct error *err) {
    struct object_key prefix;
    AUTO_STORE_LIST ranges = {0};
    enum errc rc = OK;
    store_list(st, object_key(&prefix, "core", "limitranges", object_namespace(pod), NULL),
               &ranges);
    for (size_t i = 0; i < ranges.num_items; i++)
        limits_default(ranges.items[i]->json, pod);
    for (size_t i = 0; i < ranges.num_items && !rc; i++)
        rc = limits_check(ranges.items[i]->json, pod, err);
    return rc;
}

/* As the admission plugin ServiceAccount has it: whom the pod's processes speak as. */
static void assign_service_account(json_t *pod) {
    json_t *spec = json_object_get(pod, "spec");
    const char *name = object_str(spec, "serviceAccountName");
    if (!json_is_object(spec))
        return;
    if (!name || !*name)
        json_object_set_new(spec, "serviceAccountName", json_string(name = "default"));
    json_object_set_new(spec, "serviceAccount", json_string(name));
}

enum errc admission_assign(struct store *st, const char *group, const char *resource,
                           json_t *object, const json_t *old, struct error *err) {
    enum errc rc = OK;
    if (!strcmp(group, "core") && !strcmp(resource, "pods") && !old) {
        assign_service_account(object);
        rc = priority_assign(st, object, err);
        if (!rc && object_namespace(object))
            rc = assign_limits(st, object, err);
    } else if (!strcmp(group, "core") && !strcmp(resource, "services")) {
        return service_assign(st, object, old, err);
    } else if (!strcmp(group, "scheduling.k8s.io") && !strcmp(resource, "priorityclasses")) {
        rc = priority_check_class(st, object, err);
    }
    return rc ? forbidden(group, resource, object, err) : OK;
}

enum errc admission_charge(struct store *st, const char *group, const char *resource,
                           const json_t *object, const json_t *old, struct charges *charges,
                           struct error *err) {
    enum errc rc = quota_charge(st, group, resource, object, old, charges, err);
    return rc ? forbidden(group, resource, object, err) : OK;
}

enum errc admission_evict(struct store *st, const json_t *pod, int64_t wall_ms,
                          struct charges *charges, char ret_cause[ADMISSION_CAUSE_BYTES_MAX],
                          struct error *err) {
    return disruption_charge(st, pod, wall_ms, charges, ret_cause, err);
}
