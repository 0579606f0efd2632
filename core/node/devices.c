/* What pods may ask for of a machine's GPUs.
 *
 * A GPU is one device of the resource nvidia.com/gpu. With MIG on it is none, and each of its
 * slices is a device of the resource of its profile (NVIDIA's device plugin calls this the mixed
 * strategy). A sharing rule makes several shares of every device of a resource, for as many pods,
 * which then take turns on it; nothing but agreement keeps them from each other's memory.
 *
 * A GPU that lost data in its memory (an uncorrectable error, since its last reset) is at fault,
 * and with it its slices: what is computed on it cannot be trusted. It is sound again when the
 * counter is zero again, which is what a reset does. */
#include "core/node/devices.h"

#include <inttypes.h>
#include <stdio.h>

bool devices_profile_parse(const char *profile, uint32_t *ret_slices, uint64_t *ret_memory_bytes) {
    unsigned slices, gigabytes;
    int end = 0;
    if (strlen(profile) >= DEVICE_PROFILE_BYTES ||
        sscanf(profile, "%1ug.%4ugb%n", &slices, &gigabytes, &end) != 2 || !end || !slices ||
        slices > DEVICES_SLICES_MAX || !gigabytes ||
        (profile[end] &&
         strspn(profile + end, "+.abcdefghijklmnopqrstuvwxyz0123456789") != strlen(profile + end)))
        return false;
    *ret_slices = slices;
    *ret_memory_bytes = (uint64_t)gigabytes << 30;
    return true;
}

void devices_profile_resource(const char *profile, char out[DEVICE_RESOURCE_BYTES]) {
    snprintf(out, DEVICE_RESOURCE_BYTES, "%s%.31s", DEVICES_MIG_RESOURCE_PREFIX, profile);
    for (char *p = out; *p; p++)
        *p = *p == '+' ? '.' : *p; /* "1g.10gb+me" is no resource name */
}

static void find_fault(struct device_gpu *g) {
    if (!*g->fault && g->uncorrected_errors)
        snprintf(g->fault, sizeof(g->fault), "%" PRIu64 " uncorrectable memory error%s",
                 g->uncorrected_errors, g->uncorrected_errors == 1 ? "" : "s");
}

static void add(struct devices *d, const struct device *device) {
    ASSERT(d->num < DEVICES_MAX);
    struct device *added = &d->list[d->num++];
    *added = *device;
    for (uint32_t i = 0; i < d->num_sharing; i++) {
        if (strcmp(d->sharing[i].resource, device->resource) != 0)
            continue;
        added->shares = d->sharing[i].shares;
        memcpy(added->resource, d->sharing[i].shared_as, sizeof(added->resource));
        return;
    }
}

void devices_settle(struct devices *d) {
    d->num = 0;
    for (uint32_t i = 0; i < d->num_gpus; i++) {
        struct device_gpu *g = &d->gpus[i];
        find_fault(g);
        struct device device = {.shares = 1, .gpu = i, .sound = !*g->fault};
        if (!g->mig) {
            snprintf(device.resource, sizeof(device.resource), "%s", DEVICES_GPU_RESOURCE);
            snprintf(device.uuid, sizeof(device.uuid), "%s", g->uuid);
            device.memory_bytes = g->memory_bytes;
            device.divisible = true;
            add(d, &device);
            continue;
        }
        for (uint32_t s = 0; s < g->num_slices; s++) {
            devices_profile_resource(g->slices[s].profile, device.resource);
            snprintf(device.uuid, sizeof(device.uuid), "%s", g->slices[s].uuid);
            device.memory_bytes = g->slices[s].memory_bytes;
            add(d, &device);
        }
    }
}

const struct device *devices_find(const struct devices *d, const char *uuid) {
    for (uint32_t i = 0; d && i < d->num; i++) {
        if (!strcmp(d->list[i].uuid, uuid))
            return &d->list[i];
    }
    return NULL;
}
