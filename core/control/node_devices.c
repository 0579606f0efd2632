/* Kubernetes learns of GPUs from two programs of NVIDIA's, and charts, dashboards and selectors are
 * written for what these say. The device plugin advertises resources: all devices are capacity, the
 * sound ones allocatable. GPU feature discovery writes labels. Here both are inferd's.
 *
 * inferd.dev/gpu-memory is ours: the bytes of the GPUs that are not sliced, for pods that want a
 * part of one and say how much. */
#include "core/control/node_devices.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

#include "core/control/events.h"

enum { LABEL_VALUE_BYTES_MAX = 63 };

static void add(json_t *resources, const char *name, uint64_t amount) {
    const char *was = json_string_value(json_object_get(resources, name));
    uint64_t sum = amount + (was ? strtoull(was, NULL, 10) : 0);
    json_object_set_new(resources, name, json_sprintf("%" PRIu64, sum));
}

void node_devices_add_resources(const struct devices *d, bool sound_only, json_t *resources) {
    if (!d || !d->num_gpus)
        return;
    add(resources, DEVICES_GPU_RESOURCE, 0);
    for (uint32_t i = 0; i < d->num_sharing; i++)
        add(resources, d->sharing[i].resource, 0); /* renamed: none is left under the old name */
    for (uint32_t i = 0; i < d->num; i++) {
        const struct device *device = &d->list[i];
        bool counts = device->sound || !sound_only;
        add(resources, device->resource, counts ? device->shares : 0);
        if (device->divisible)
            add(resources, DEVICES_MEMORY_RESOURCE, counts ? device->memory_bytes : 0);
    }
}

static bool listed(const char *names, const char *name) {
    size_t len = strlen(name);
    for (const char *p = names; p && *p; p += strcspn(p, ","), p += *p == ',') {
        if (strcspn(p, ",") == len && !strncmp(p, name, len))
            return true;
    }
    return false;
}

bool node_devices_wrote(const json_t *node, const char *resource) {
    return listed(object_annotation(node, NODE_DEVICES_RESOURCES_ANNOTATION), resource);
}

/* Labels. */

/* "NVIDIA H200" becomes NVIDIA-H200: what may stand in a label's value. */
static void set_text(json_t *labels, const char *name, const char *text) {
    char value[LABEL_VALUE_BYTES_MAX + 1];
    snprintf(value, sizeof(value), "%s", text);
    for (char *p = value; *p; p++) {
        if (!isalnum((unsigned char)*p) && !strchr("-_.", *p))
            *p = '-';
    }
    size_t len = strlen(value);
    while (len && !isalnum((unsigned char)value[len - 1]))
        value[--len] = '\0';
    char *begin = value;
    while (*begin && !isalnum((unsigned char)*begin))
        begin++;
    json_object_set_new(labels, name, json_string(begin));
}

static void set_number(json_t *labels, const char *name, uint64_t n) {
    json_object_set_new(labels, name, json_sprintf("%" PRIu64, n));
}

static const char *family(const struct device_gpu *g) {
    switch (g->compute_major) {
    case 6:
        return "pascal";
    case 7:
        return g->compute_minor < 5 ? "volta" : "turing";
    case 8:
        return g->compute_minor < 9 ? "ampere" : "ada-lovelace";
    case 9:
        return "hopper";
    case 10:
    case 12:
        return "blackwell";
    default:
        return NULL;
    }
}

static const struct device_sharing *sharing_of(const struct devices *d, const char *resource) {
    for (uint32_t i = 0; i < d->num_sharing; i++) {
        if (!strcmp(d->sharing[i].resource, resource))
            return &d->sharing[i];
    }
    return NULL;
}

/* "nvidia.com/gpu.product" and its like; the words of a resource stand behind its name. */
static void label_resource(const struct devices *d, const char *resource, const char *product,
                           uint64_t count, uint64_t memory_bytes, json_t *labels) {
    const struct device_sharing *sharing = sharing_of(d, resource);
    bool suffix = sharing && !strcmp(sharing->shared_as, resource);
    AUTO_FREE char *shown = mem_printf("%s%s", product, suffix ? "-SHARED" : "");
    const struct {
        const char *word;
        uint64_t value;
    } numbers[] = {{"count", count},
                   {"memory", memory_bytes >> 20},
                   {"replicas", sharing ? sharing->shares : 1}};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        AUTO_FREE char *name = mem_printf("%s.%s", resource, numbers[i].word);
        set_number(labels, name, numbers[i].value);
    }
    AUTO_FREE char *name = mem_printf("%s.product", resource);
    set_text(labels, name, shown);
    AUTO_FREE char *strategy = mem_printf("%s.sharing-strategy", resource);
    set_text(labels, strategy, sharing ? "time-slicing" : "none");
}

static void label_slices(const struct devices *d, json_t *labels) {
    for (uint32_t i = 0; i < d->num_gpus; i++) {
        const struct device_gpu *g = &d->gpus[i];
        for (uint32_t s = 0; s < g->num_slices; s++) {
            char resource[DEVICE_RESOURCE_BYTES];
            uint32_t slices;
            uint64_t ignored, count = 0;
            devices_profile_resource(g->slices[s].profile, resource);
            for (uint32_t k = 0; k < d->num_gpus; k++) {
                for (uint32_t t = 0; t < d->gpus[k].num_slices; t++)
                    count += !strcmp(d->gpus[k].slices[t].profile, g->slices[s].profile);
            }
            AUTO_FREE char *product = mem_printf("%s-MIG-%s", g->product, g->slices[s].profile);
            label_resource(d, resource, product, count, g->slices[s].memory_bytes, labels);
            if (devices_profile_parse(g->slices[s].profile, &slices, &ignored)) {
                AUTO_FREE char *gi = mem_printf("%s.slices.gi", resource);
                AUTO_FREE char *ci = mem_printf("%s.slices.ci", resource);
                set_number(labels, gi, slices);
                set_number(labels, ci, slices);
            }
        }
    }
}

static void label_driver(const struct devices *d, json_t *labels) {
    unsigned major, minor = 0, revision = 0;
    if (sscanf(d->driver_version, "%u.%u.%u", &major, &minor, &revision) >= 1) {
        set_text(labels, "nvidia.com/cuda.driver-version.full", d->driver_version);
        set_number(labels, "nvidia.com/cuda.driver-version.major", major);
        set_number(labels, "nvidia.com/cuda.driver-version.minor", minor);
        set_number(labels, "nvidia.com/cuda.driver-version.revision", revision);
        set_number(labels, "nvidia.com/cuda.driver.major", major);
        set_number(labels, "nvidia.com/cuda.driver.minor", minor);
        set_number(labels, "nvidia.com/cuda.driver.rev", revision);
    }
    if (!d->cuda_major)
        return;
    AUTO_FREE char *full = mem_printf("%u.%u", d->cuda_major, d->cuda_minor);
    set_text(labels, "nvidia.com/cuda.runtime-version.full", full);
    set_number(labels, "nvidia.com/cuda.runtime-version.major", d->cuda_major);
    set_number(labels, "nvidia.com/cuda.runtime-version.minor", d->cuda_minor);
    set_number(labels, "nvidia.com/cuda.runtime.major", d->cuda_major);
    set_number(labels, "nvidia.com/cuda.runtime.minor", d->cuda_minor);
}

/* Gives the labels. Of different cards the first gives its name, as in NVIDIA's program. */
static json_t *make_labels(const struct devices *d) {
    json_t *labels = json_object();
    bool capable = false, sliced = false;
    if (!d || !d->num_gpus)
        return labels;
    const struct device_gpu *first = &d->gpus[0];
    for (uint32_t i = 0; i < d->num_gpus; i++) {
        capable = capable || d->gpus[i].mig_capable;
        sliced = sliced || d->gpus[i].mig;
    }
    label_resource(d, DEVICES_GPU_RESOURCE, first->product, d->num_gpus, first->memory_bytes,
                   labels);
    if (family(first))
        set_text(labels, "nvidia.com/gpu.family", family(first));
    if (first->compute_major) {
        set_number(labels, "nvidia.com/gpu.compute.major", first->compute_major);
        set_number(labels, "nvidia.com/gpu.compute.minor", first->compute_minor);
    }
    set_text(labels, "nvidia.com/gpu.present", "true");
    set_text(labels, "nvidia.com/mig.capable", capable ? "true" : "false");
    if (sliced)
        set_text(labels, "nvidia.com/mig.strategy", "mixed");
    label_slices(d, labels);
    label_driver(d, labels);
    if (d->source == DEVICES_FAKED)
        set_text(labels, NODE_DEVICES_FAKE_LABEL, "true");
    return labels;
}

static json_t *member(json_t *node, const char *path) {
    json_t *map = object_at(node, path);
    if (!json_is_object(map))
        object_set(node, path, map = json_object());
    return map;
}

/* Notes the keys of a map in an annotation; no keys, no annotation. */
static void note_names(json_t *node, const char *annotation, const json_t *map) {
    AUTO_BUF names = BUF_INIT;
    const char *name;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)map, name, value)
        buf_printf(&names, "%s%s", names.len ? "," : "", name);
    if (names.len)
        json_object_set_new(member(node, "metadata.annotations"), annotation,
                            json_string(names.data));
    else
        json_object_del(object_at(node, "metadata.annotations"), annotation);
}

static void set_labels(json_t *node, json_t *fresh) {
    const char *was = object_annotation(node, NODE_DEVICES_LABELS_ANNOTATION), *name;
    json_t *labels = member(node, "metadata.labels"), *value;
    void *next;
    json_object_foreach_safe (labels, next, name, value) {
        if (listed(was, name) && !json_object_get(fresh, name))
            json_object_del(labels, name);
    }
    json_object_update(labels, fresh);
    note_names(node, NODE_DEVICES_LABELS_ANNOTATION, fresh);
}

/* The condition. */

static void set_condition(struct world *w, json_t *node, const struct devices *d) {
    AUTO_BUF faults = BUF_INIT;
    bool first = !object_find_condition(node, NODE_DEVICES_CONDITION);
    if (d && d->silent && !first) {
        object_set_condition(node, NODE_DEVICES_CONDITION, "Unknown", "NVMLSilent",
                             "NVML does not answer: pods keep the GPUs that they have, and nothing "
                             "is placed on any",
                             w->wall_ms);
        return;
    }
    if (!d || !d->num_gpus) {
        object_remove_condition(node, NODE_DEVICES_CONDITION);
        return;
    }
    for (uint32_t i = 0; i < d->num_gpus; i++) {
        if (*d->gpus[i].fault)
            buf_printf(&faults, "%s%s (%s): %s", faults.len ? "; " : "", d->gpus[i].uuid,
                       d->gpus[i].product, d->gpus[i].fault);
    }
    bool changed =
        object_set_condition(node, NODE_DEVICES_CONDITION, faults.len ? "True" : "False",
                             faults.len ? "GPUQuarantined" : "GPUsAreHealthy",
                             faults.len ? faults.data : "all GPUs are sound", w->wall_ms);
    json_object_set_new(object_find_condition(node, NODE_DEVICES_CONDITION), "lastHeartbeatTime",
                        world_timestamp(w));
    if (changed && faults.len)
        event_emit(w, node, EVENT_WARNING, "GPUQuarantined", "kubelet",
                   "Nothing is placed on %s any more", faults.data);
    else if (changed && !first)
        event_emit(w, node, EVENT_NORMAL, "GPUReadmitted", "kubelet", "All GPUs are sound again");
}

void node_devices_describe(struct world *w, json_t *node, const struct devices *d) {
    json_t *labels = make_labels(d), *resources = json_object();
    set_labels(node, labels);
    node_devices_add_resources(d, false, resources);
    note_names(node, NODE_DEVICES_RESOURCES_ANNOTATION, resources);
    set_condition(w, node, d);
    json_decref(labels);
    json_decref(resources);
}
