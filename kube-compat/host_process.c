/* The image `host` runs a command on this machine, so writing such a pod takes the verb `use` on
 * hostprocesses (ADR 14). Controllers write to the store directly and are not asked: whoever wrote
 * the Deployment or ReplicaSet that they act for was. Who scales one, or labels it, changes nothing
 * about the processes and is not asked either. */
#include "kube-compat/host_process.h"

#include "core/object.h"
#include "kube-compat/authz.h"

/* Where the pod's spec is in an object of the kind; NULL: nowhere. */
static const char *pod_spec_path(const struct kind *kind) {
    if (!kind->built_in)
        return NULL;
    if (!*kind->group && !strcmp(kind->plural, "pods"))
        return "spec";
    if (!strcmp(kind->group, "apps") &&
        (!strcmp(kind->plural, "deployments") || !strcmp(kind->plural, "replicasets")))
        return "spec.template.spec";
    return NULL;
}

static bool has_host_image(const json_t *pod_spec) {
    static const char *const lists[] = {"containers", "initContainers", "ephemeralContainers"};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        size_t n;
        json_t *container;
        json_array_foreach (json_object_get(pod_spec, lists[i]), n, container) {
            const char *image = object_str(container, "image");
            if (image && !strcmp(image, "host"))
                return true;
        }
    }
    return false;
}

enum errc host_process_check(struct request *rq, const json_t *object, const json_t *old,
                             struct error *err) {
    const char *path = pod_spec_path(rq->kind);
    json_t *pod_spec = path ? object_at(object, path) : NULL;
    if (!has_host_image(pod_spec) || (old && json_equal(pod_spec, object_at(old, path))) ||
        authz_may_use_host_processes(rq->kube->authz, rq->who, rq->ns))
        return OK;
    return err_set(
        err, ERR_FORBIDDEN,
        "%s \"%s\" is forbidden: User \"%s\" cannot use resource \"hostprocesses\" in "
        "API group \"inferd.io\" in the namespace \"%s\", which the image \"host\" takes",
        rq->kind->qualified, object_name(object) ? object_name(object) : "", rq->who->name, rq->ns);
}
