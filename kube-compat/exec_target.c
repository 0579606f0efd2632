/* Which container, and may one reach into it.
 *
 * Replicas of InferenceServices run as the daemon's own user, beside its keys and its database: a
 * command beside them would be a command as inferd. They are refused whatever the caller's rights
 * are, before any connection is upgraded, so that every kubectl shows why. */
#include "kube-compat/exec_target.h"

#include "core/object.h"
#include "kube-compat/rest.h"

#define DEFAULT_CONTAINER "kubectl.kubernetes.io/default-container"

void exec_target_deinit(struct exec_target *t) {
    store_object_unref(t->pod);
    running_deinit(&t->running);
    *t = EXEC_TARGET_INIT;
}

enum errc exec_target_container(const json_t *pod, const char *name, const json_t **ret_container,
                                struct error *err) {
    const json_t *containers = object_at(pod, "spec.containers");
    if ((!name || !*name) && json_array_size(containers) > 1)
        name = object_annotation(pod, DEFAULT_CONTAINER);
    if ((!name || !*name) && json_array_size(containers) > 1)
        return err_set(err, ERR_MALFORMED, "a container name must be specified for pod %s",
                       object_name(pod));
    const json_t *found =
        name && *name ? object_find_named(containers, name) : json_array_get(containers, 0);
    if (!found && name)
        found = object_find_named(object_at(pod, "spec.initContainers"), name);
    if (!found)
        return err_set(err, ERR_MALFORMED, "container %.64s is not valid for pod %s",
                       name ? name : "", object_name(pod));
    *ret_container = found;
    return OK;
}

enum errc exec_target_read(struct request *rq, const char *verb, struct exec_target *ret_target,
                           struct error *err) {
    AUTO_EXEC_TARGET t = EXEC_TARGET_INIT;
    enum errc rc = rest_read(rq, &t.pod, err);
    if (!rc)
        rc = exec_target_container(t.pod->json, http_query(rq->x, "container"), &t.spec, err);
    if (rc)
        return rc;
    const char *image = object_str(t.spec, "image"), *name = object_str(t.spec, "name");
    if (!image || strcmp(image, "host") != 0)
        return err_set(err, ERR_METHOD,
                       "pod \"%s\" is an inference replica of inferd: %s works in pods with the "
                       "image \"host\" only; see kubectl logs and kubectl describe",
                       rq->name, verb);
    if (!running_table_find(rq->kube->opt.running, object_uid(t.pod->json), name, &t.running))
        return err_set(err, ERR_MALFORMED, "container \"%s\" of pod \"%s\" does not run", name,
                       rq->name);
    *ret_target = t;
    t = EXEC_TARGET_INIT;
    return OK;
}
