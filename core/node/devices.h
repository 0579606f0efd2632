/* The accelerators of a machine as plain data: its GPUs, their MIG slices, and what pods may ask
 * for of them. Read by device_reader.h; nothing here touches the machine or locks. */
#ifndef CORE_NODE_DEVICES_H
#define CORE_NODE_DEVICES_H

#include "core/base/mem.h"

enum {
    DEVICES_GPUS_MAX = 64,
    DEVICES_SLICES_MAX = 7, /* of one GPU: MIG has seven compute slices */
    DEVICES_MAX = DEVICES_GPUS_MAX * DEVICES_SLICES_MAX,
    DEVICES_SHARES_MAX = 1024, /* of one GPU or slice */
    DEVICES_SHARING_RULES_MAX = 16,
    DEVICE_UUID_BYTES = 96, /* as NVML bounds it */
    DEVICE_NAME_BYTES = 96,
    DEVICE_PROFILE_BYTES = 32,
    DEVICE_RESOURCE_BYTES = 64,
    DEVICE_FAULT_BYTES = 160,
};

#define DEVICES_GPU_RESOURCE        "nvidia.com/gpu"
#define DEVICES_MIG_RESOURCE_PREFIX "nvidia.com/mig-"
#define DEVICES_MEMORY_RESOURCE     "inferd.dev/gpu-memory" /* bytes of one GPU */

struct device_slice {
    char profile[DEVICE_PROFILE_BYTES]; /* "1g.18gb" */
    char uuid[DEVICE_UUID_BYTES];       /* "MIG-..." */
    uint64_t memory_bytes;
};

struct device_gpu {
    char product[DEVICE_NAME_BYTES]; /* "NVIDIA H200" */
    char uuid[DEVICE_UUID_BYTES];    /* "GPU-..." */
    uint64_t memory_bytes, memory_used_bytes;
    uint32_t compute_major, compute_minor;            /* 0.0: not told */
    int32_t utilisation_percent, temperature_celsius; /* -1: not told */
    int64_t power_milliwatts;                         /* -1: not told */
    bool ecc;                                         /* counts memory errors */
    uint64_t uncorrected_errors;    /* since the driver started or the GPU was reset */
    char fault[DEVICE_FAULT_BYTES]; /* why nothing may run on it; "": it is sound */
    bool mig_capable, mig;          /* mig: only its slices can be used */
    struct device_slice slices[DEVICES_SLICES_MAX];
    uint32_t num_slices;
};

/* Time-slicing as NVIDIA's device plugin is told of it: each device of a resource counts as
 * several, under another name when it is renamed. */
struct device_sharing {
    char resource[DEVICE_RESOURCE_BYTES];
    char shared_as[DEVICE_RESOURCE_BYTES]; /* the same, or "nvidia.com/gpu.shared" */
    uint32_t shares;
};

/* One thing that a pod can be given: a GPU, or a slice of one. */
struct device {
    char resource[DEVICE_RESOURCE_BYTES]; /* what a pod asks for to get it */
    char uuid[DEVICE_UUID_BYTES];         /* what its processes are told */
    uint64_t memory_bytes;
    uint32_t shares; /* how many pods may have it at once; 1: it is whole */
    uint32_t gpu;    /* index of the GPU that it is, or is part of */
    bool divisible;  /* bytes of its memory may be asked for instead: a GPU without slices */
    bool sound;
};

enum devices_source {
    DEVICES_NONE,  /* no NVML, or it found no GPU; `silent` says whether that is known */
    DEVICES_NVML,  /* the machine's own */
    DEVICES_FAKED, /* described by a file: nothing of it is there */
};

struct devices {
    enum devices_source source;
    bool silent; /* NVML has not answered yet: what is not in the list may be there all the same */
    char driver_version[32]; /* "550.54.15"; "": not told */
    uint32_t cuda_major, cuda_minor;
    struct device_gpu gpus[DEVICES_GPUS_MAX];
    uint32_t num_gpus;
    struct device_sharing sharing[DEVICES_SHARING_RULES_MAX];
    uint32_t num_sharing;
    struct device list[DEVICES_MAX]; /* made by devices_settle() */
    uint32_t num;
    uint32_t num_cores;    /* 0: as many as the machine has */
    uint64_t memory_bytes; /* 0: as much as the machine has */
};

static inline void devices_destroy(struct devices *d) {
    free(d);
}
DEFINE_AUTO(devices, devices_destroy)

/* From GPUs and sharing rules to the list of devices and their faults. */
void devices_settle(struct devices *d);

/* UUIDs of described devices begin so, and no real one does. */
#define DEVICES_FAKE_UUID_PART "-fa4ed000-"

/* The device with this UUID, or NULL. d may be NULL. */
const struct device *devices_find(const struct devices *d, const char *uuid);

/* "1g.18gb": compute slices and gigabytes; false: not a profile. */
MUST_CHECK bool devices_profile_parse(const char *profile, uint32_t *ret_slices,
                                      uint64_t *ret_memory_bytes);

/* "nvidia.com/mig-1g.18gb" */
void devices_profile_resource(const char *profile, char out[DEVICE_RESOURCE_BYTES]);

#endif
