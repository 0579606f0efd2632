/* Room for a pod is room for its process, and most pods do not say how much that takes: whoever
 * writes a manifest knows the model, not its bytes. Here they are worked out when the pod is placed
 * and written into it together with what else it was given, so that a restart finds the same.
 *
 * A KV cache that nobody bounds takes what the machine has to spare; its size is decided here, by
 * what others hold, and handed to the process (--kv-cache-memory-bytes). Were it left to the
 * processes, each would take half of what the one before had not touched yet, and the kernel would
 * end one of them when they do. */
#include "core/control/pod_memory.h"

#include "core/base/engine_args.h"
#include "core/control/pod_env.h"
#include "core/node/replica_command.h"

/* Of any container: then the pod keeps what it asks for, and its engine decides by itself. */
static bool asks_for_memory(const json_t *pod) {
    static const char *const lists[] = {"spec.containers", "spec.initContainers"};
    size_t i;
    json_t *c;
    for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
        json_array_foreach (object_at(pod, lists[l]), i, c) {
            if (object_at(c, "resources.requests.memory") ||
                object_at(c, "resources.limits.memory"))
                return true;
        }
    }
    return false;
}

static json_t *describe(const struct memory_need *n) {
    json_t *o = json_object();
    const struct {
        const char *name;
        uint64_t bytes;
    } parts[] = {{"bytes", memory_need_total(n)},   {"weights", n->weights_bytes},
                 {"modelFile", n->file_bytes},      {"kvCache", n->kv_cache_bytes},
                 {"workspace", n->workspace_bytes}, {"requests", n->requests_bytes},
                 {"process", n->process_bytes},     {"gpu", n->gpu_bytes}};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        json_object_set_new(o, parts[i].name, json_integer((json_int_t)parts[i].bytes));
    return o;
}

/* First within what nobody holds; then as if nobody held anything, and as much as it likes: that
 * does not fit, and placement says so. */
static enum errc ask(struct world *w, const char *path, const struct engine_args *args,
                     const struct placement_room *room, struct memory_need *ret_need,
                     struct error *err) {
    const uint64_t free_bytes[] = {placement_room_memory(room, false),
                                   placement_room_memory(room, true), UINT64_MAX};
    enum errc rc = ERR_EXHAUSTED;
    for (size_t i = 0; i < ARRAY_LEN(free_bytes) && rc == ERR_EXHAUSTED; i++) {
        *err = ERROR_INIT;
        rc = w->memory_need(w->memory_gauge, path, args, free_bytes[i], ret_need, err);
    }
    return rc;
}

json_t *pod_memory_need(struct world *w, const json_t *pod, const struct placement_room *room,
                        struct error *why) {
    json_t *container = NULL, *described = NULL;
    struct replica_command command = {0};
    struct engine_args args = {0};
    struct memory_need need;
    if (!w->memory_need || replica_command_is_host(pod) ||
        pod_env_resolve(w, pod, object_at(pod, "spec.containers.0"), &container, why))
        return NULL;
    const struct replica_command_options opt = {
        .program = w->program,
        .run_dir = w->run_dir,
        .models = {.models_dir = w->models_dir, .hf_cache_dir = w->hf_cache_dir},
        .container = container,
    };
    if (!replica_command_make(pod, &opt, &command, why)) {
        /* Behind "inferd engine" stand its options. */
        if (!engine_args_parse((const char *const *)command.argv + 2, &args, why) &&
            !ask(w, command.model_path, &args, room, &need, why))
            described = asks_for_memory(pod) ? json_pack("{s:I}", "gpu", (json_int_t)need.gpu_bytes)
                                             : describe(&need);
        engine_args_deinit(&args);
        replica_command_deinit(&command);
    }
    json_decref(container);
    return described;
}

static json_t *read_annotation(const json_t *pod) {
    const char *text = object_annotation(pod, PLACEMENT_MEMORY_ANNOTATION);
    return text ? json_loads(text, 0, NULL) : NULL;
}

uint64_t pod_memory_kv_cache_bytes(const json_t *pod) {
    json_t *need = read_annotation(pod);
    int64_t bytes = object_int(need, "kvCache", 0);
    json_decref(need);
    return bytes > 0 ? (uint64_t)bytes : 0;
}

void pod_memory_note_measured(json_t *pod, int64_t bytes) {
    json_t *need = bytes > 0 ? read_annotation(pod) : NULL;
    if (need && object_int(need, "measured", 0) != bytes && object_int(need, "bytes", 0)) {
        json_object_set_new(need, "measured", json_integer(bytes));
        AUTO_FREE char *text = json_dumps(need, JSON_COMPACT);
        json_object_set_new(object_at(pod, "metadata.annotations"), PLACEMENT_MEMORY_ANNOTATION,
                            json_string(text));
    }
    json_decref(need);
}
