/* On a cluster a container sees the devices that it was given because others are not in it. Here
 * processes share the machine, and what they see is what CUDA is told to show: a list of UUIDs, of
 * GPUs or MIG slices. So the pod's own CUDA_VISIBLE_DEVICES does not stand: "0" there would mean
 * the first GPU of the machine, somebody else's.
 *
 * Devices are given to pods. Its containers take them in their order, as many as each asks for;
 * init containers, which run before, each begin anew at the first. */
#include "core/control/pod_devices.h"

#include <stdio.h>

#include "core/control/events.h"
#include "core/control/pod_env.h"
#include "core/control/placement_room.h"
#include "core/node/device_reader.h"
#include "core/node/replica_command.h"

/* Gives what the pod was given; NULL: nothing. */
static json_t *read_given(const json_t *pod) {
    const char *text = object_annotation(pod, PLACEMENT_DEVICES_ANNOTATION);
    return text ? json_loads(text, 0, NULL) : NULL;
}

/* How many of the resource the main containers before this one have; an init container: none. */
static size_t taken_before(const json_t *pod, const json_t *spec, const char *resource) {
    size_t taken = 0, i;
    json_t *c;
    json_array_foreach (object_at(pod, "spec.containers"), i, c) {
        if (c == spec)
            return taken;
        taken += (size_t)(placement_container_request(c, resource) / 1000);
    }
    return 0;
}

void pod_devices_set_env(const struct devices *d, const json_t *pod, const json_t *spec,
                         json_t *container) {
    AUTO_BUF own = BUF_INIT;
    const char *resource;
    json_t *list;
    json_t *given = read_given(pod);
    if (!d || (!d->num_gpus && !(d->silent && given))) {
        json_decref(given);
        return;
    }
    json_object_foreach (given, resource, list) {
        bool memory = !strcmp(resource, DEVICES_MEMORY_RESOURCE);
        int64_t wants = placement_container_request(spec, resource);
        size_t first = memory ? 0 : taken_before(pod, spec, resource);
        size_t num = memory ? wants > 0 : (size_t)(wants / 1000);
        for (size_t i = first; i < first + num && i < json_array_size(list); i++) {
            const char *uuid = json_string_value(json_array_get(list, i));
            buf_printf(&own, "%s%s", own.len ? "," : "", uuid ? uuid : "");
        }
    }
    pod_env_set(container, "CUDA_VISIBLE_DEVICES", own.len ? own.data : "");
    pod_env_set(container, "NVIDIA_VISIBLE_DEVICES", own.len ? own.data : "void");
    json_decref(given);
}

void pod_devices_tell(struct world *w, const json_t *pod, const json_t *given) {
    const struct devices *d = device_reader_current(w->device_reader);
    AUTO_BUF text = BUF_INIT;
    const char *resource;
    json_t *list, *item;
    size_t i;
    json_object_foreach ((json_t *)(uintptr_t)given, resource, list) {
        json_array_foreach (list, i, item) {
            const struct device *device = devices_find(d, json_string_value(item));
            buf_printf(&text, "%s%s %s (%s)", text.len ? ", " : "", resource,
                       json_string_value(item), device ? d->gpus[device->gpu].product : "gone");
        }
    }
    if (!text.len)
        return;
    event_emit(w, pod, EVENT_NORMAL, "DevicesAssigned", "kubelet", "Assigned %s", text.data);
    if (d->source == DEVICES_FAKED)
        event_emit(w, pod, EVENT_WARNING, "FakeDevices", "kubelet",
                   "The devices are described by a file (fakeDevices): the pod runs on the CPU");
    else if (!replica_command_is_host(pod))
        event_emit(w, pod, EVENT_WARNING, "DevicesUnused", "kubelet",
                   "inferd engine computes on the CPU: the devices are kept for the pod, and not "
                   "used by it");
}

/* NVML has not answered since the daemon started: the pod keeps what it holds. What a file had
 * described is not the machine's. */
static bool may_be_there(const struct devices *d, const char *uuid) {
    return d && d->silent && !strstr(uuid, DEVICES_FAKE_UUID_PART);
}

bool pod_devices_fault(const struct devices *d, const json_t *pod,
                       char why[POD_DEVICES_FAULT_BYTES]) {
    json_t *given = read_given(pod), *list, *item;
    const char *resource;
    size_t i;
    bool fault = false;
    json_object_foreach (given, resource, list) {
        json_array_foreach (list, i, item) {
            const char *uuid = json_string_value(item);
            const struct device *device = uuid ? devices_find(d, uuid) : NULL;
            if (fault || !uuid || (device && device->sound) || (!device && may_be_there(d, uuid)))
                continue;
            snprintf(why, POD_DEVICES_FAULT_BYTES, "%s %s: %s", resource, uuid,
                     device ? d->gpus[device->gpu].fault : "it is not there any more");
            fault = true;
        }
    }
    json_decref(given);
    return fault;
}
