/* Whoever runs `kubectl create deployment web --image=nginx` is told at once, not by a pod that
 * never gets ready. A row leaves this file in the change that gives the field its effect. */
#include "core/control/pod_fields.h"

#include "core/control/pod_probes.h"
#include "core/node/replica_command.h"
#include "core/object.h"

static bool is_empty(const json_t *container, const char *field) {
    return !json_array_size(json_object_get(container, field));
}

/* `kubectl run -i`: what is typed goes nowhere. */
static void check_input(const json_t *container, const char *path, size_t i, json_t *warnings) {
    if (object_bool(container, "stdin", false))
        json_array_append_new(
            warnings, json_sprintf("%s.containers[%zu].stdin has no effect: containers read "
                                   "nothing; `kubectl exec -i` runs a command that does",
                                   path, i));
}

static void check_images(const json_t *spec, const char *path, json_t *warnings) {
    size_t i;
    json_t *c;
    json_array_foreach (json_object_get(spec, "containers"), i, c) {
        const char *image = object_str(c, "image");
        check_input(c, path, i, warnings);
        bool host = image && !strcmp(image, REPLICA_HOST_IMAGE);
        if (host && is_empty(c, "command") && is_empty(c, "args"))
            json_array_append_new(warnings,
                                  json_sprintf("%s.containers[%zu].command: the image \"host\" has "
                                               "no command of its own",
                                               path, i));
        if (!image || !*image || host || replica_command_image_known(image))
            continue;
        json_array_append_new(
            warnings, json_sprintf("%s.containers[%zu].image: no runtime on this machine serves "
                                   "\"%.256s\"; known are " REPLICA_KNOWN_IMAGES,
                                   path, i, image));
    }
}

/* A ServiceAccount's token is asked for by clients that know nothing else to mount. */
static bool is_token(const json_t *volume) {
    return object_at(volume, "projected.sources.0.serviceAccountToken") != NULL;
}

static void check_volumes(const json_t *spec, const char *path, json_t *warnings) {
    size_t i;
    json_t *volume;
    json_array_foreach (json_object_get(spec, "volumes"), i, volume) {
        const char *name = object_str(volume, "name");
        if (is_token(volume))
            continue;
        json_array_append_new(warnings,
                              json_sprintf("%s.volumes[%zu] \"%.63s\" is not mounted: processes "
                                           "see the machine's own files",
                                           path, i, name ? name : ""));
    }
}

/* Those of a pod that serves a model are not asked at all: its engine is asked over its socket. */
static void check_probes(const json_t *spec, const char *path, json_t *warnings) {
    static const char *const lists[] = {"containers", "initContainers"};
    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        size_t i;
        json_t *c;
        json_array_foreach (json_object_get(spec, lists[l]), i, c) {
            const char *image = object_str(c, "image");
            AUTO_FREE char *at = mem_printf("%s.%s[%zu]", path, lists[l], i);
            if (image && !strcmp(image, REPLICA_HOST_IMAGE))
                pod_probes_warn(c, at, warnings);
        }
    }
}

void pod_fields_ignored(const json_t *spec, const char *path, json_t *warnings) {
    check_probes(spec, path, warnings);
    check_images(spec, path, warnings);
    check_volumes(spec, path, warnings);
}
