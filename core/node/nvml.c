/* NVML through dlopen().
 *
 * The library belongs to the driver, so a program that is linked with it starts nowhere else. What
 * is used of it is declared here, from its public reference (docs.nvidia.com/deploy/nvml-api):
 * names, argument types and the few constants, which the library keeps from release to release.
 * Functions that only newer drivers or other cards have may be missing, and what they would say
 * stays "not told". */
#include "core/node/nvml.h"

#include <dlfcn.h>
#include <stdio.h>

enum {
    NVML_SUCCESS = 0,
    NVML_ERROR_GPU_IS_LOST = 15,
    NVML_ERROR_RESET_REQUIRED = 16,
    NVML_TEMPERATURE_GPU = 0,
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1,
    NVML_VOLATILE_ECC = 0, /* since the driver started or the GPU was reset */
    NVML_ENABLED = 1,
};

struct nvml_memory {
    unsigned long long total, free, used;
};

struct nvml_utilization {
    unsigned gpu, memory;
};

/* The functions, as the library declares them; a device is a handle of its own. */
struct nvml_functions {
    int (*init)(void);
    int (*shutdown)(void);
    const char *(*error_string)(int result);
    int (*count)(unsigned *ret_count);
    int (*by_index)(unsigned index, void **ret_device);
    int (*name)(void *device, char *out, unsigned size);
    int (*uuid)(void *device, char *out, unsigned size);
    int (*memory)(void *device, struct nvml_memory *ret_memory);
    int (*driver_version)(char *out, unsigned size);
    int (*cuda_version)(int *ret_version);
    int (*utilization)(void *device, struct nvml_utilization *ret_utilization);
    int (*power)(void *device, unsigned *ret_milliwatts);
    int (*temperature)(void *device, int sensor, unsigned *ret_celsius);
    int (*ecc_mode)(void *device, int *ret_current, int *ret_pending);
    int (*ecc_errors)(void *device, int type, int counter, unsigned long long *ret_count);
    int (*compute)(void *device, int *ret_major, int *ret_minor);
    int (*mig_mode)(void *device, unsigned *ret_current, unsigned *ret_pending);
    int (*mig_count)(void *device, unsigned *ret_count);
    int (*mig_by_index)(void *device, unsigned index, void **ret_device);
};

static const struct {
    const char *name;
    size_t offset;
    bool optional;
} symbols[] = {
    {"nvmlInit_v2", offsetof(struct nvml_functions, init), false},
    {"nvmlShutdown", offsetof(struct nvml_functions, shutdown), false},
    {"nvmlErrorString", offsetof(struct nvml_functions, error_string), false},
    {"nvmlDeviceGetCount_v2", offsetof(struct nvml_functions, count), false},
    {"nvmlDeviceGetHandleByIndex_v2", offsetof(struct nvml_functions, by_index), false},
    {"nvmlDeviceGetName", offsetof(struct nvml_functions, name), false},
    {"nvmlDeviceGetUUID", offsetof(struct nvml_functions, uuid), false},
    {"nvmlDeviceGetMemoryInfo", offsetof(struct nvml_functions, memory), false},
    {"nvmlSystemGetDriverVersion", offsetof(struct nvml_functions, driver_version), true},
    {"nvmlSystemGetCudaDriverVersion_v2", offsetof(struct nvml_functions, cuda_version), true},
    {"nvmlDeviceGetUtilizationRates", offsetof(struct nvml_functions, utilization), true},
    {"nvmlDeviceGetPowerUsage", offsetof(struct nvml_functions, power), true},
    {"nvmlDeviceGetTemperature", offsetof(struct nvml_functions, temperature), true},
    {"nvmlDeviceGetEccMode", offsetof(struct nvml_functions, ecc_mode), true},
    {"nvmlDeviceGetTotalEccErrors", offsetof(struct nvml_functions, ecc_errors), true},
    {"nvmlDeviceGetCudaComputeCapability", offsetof(struct nvml_functions, compute), true},
    {"nvmlDeviceGetMigMode", offsetof(struct nvml_functions, mig_mode), true},
    {"nvmlDeviceGetMaxMigDeviceCount", offsetof(struct nvml_functions, mig_count), true},
    {"nvmlDeviceGetMigDeviceHandleByIndex", offsetof(struct nvml_functions, mig_by_index), true},
};

struct nvml {
    void *library;
    bool initialized;
    struct nvml_functions f;
    struct device_gpu known[DEVICES_GPUS_MAX]; /* as last read: what a lost one was */
    uint32_t num_known;
    struct device_gpu answered[DEVICES_GPUS_MAX]; /* scratch of nvml_read() */
};

static enum errc find_functions(struct nvml *n, const char *library, struct error *err) {
    for (size_t i = 0; i < ARRAY_LEN(symbols); i++) {
        void *found = dlsym(n->library, symbols[i].name);
        if (!found && !symbols[i].optional)
            return err_set(err, ERR_UNAVAILABLE, "%s: has no %s",
                           library ? library : "this program", symbols[i].name);
        memcpy((char *)&n->f + symbols[i].offset, &found, sizeof(found));
    }
    return OK;
}

enum errc nvml_open(const char *library, struct nvml **ret_nvml, struct error *err) {
    AUTO(nvml) n = mem_alloc(sizeof(*n));
    n->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!n->library)
        return err_set(err, ERR_NOT_FOUND, "%s", dlerror());
    if (find_functions(n, library, err))
        return err->code;
    int rc = n->f.init();
    if (rc)
        return err_set(err, ERR_UNAVAILABLE, "nvmlInit: %s", n->f.error_string(rc));
    n->initialized = true;
    *ret_nvml = steal(n);
    return OK;
}

void nvml_close(struct nvml *n) {
    if (!n)
        return;
    if (n->initialized)
        n->f.shutdown();
    if (n->library)
        dlclose(n->library);
    free(n);
}

/* What a sensor says; a card without it says nothing. */
static void read_sensors(const struct nvml *n, void *device, struct device_gpu *g) {
    struct nvml_utilization use;
    unsigned value;
    int now, later;
    unsigned long long errors;
    if (n->f.utilization && n->f.utilization(device, &use) == NVML_SUCCESS)
        g->utilisation_percent = (int32_t)use.gpu;
    if (n->f.temperature && n->f.temperature(device, NVML_TEMPERATURE_GPU, &value) == NVML_SUCCESS)
        g->temperature_celsius = (int32_t)value;
    if (n->f.power && n->f.power(device, &value) == NVML_SUCCESS)
        g->power_milliwatts = value;
    g->ecc =
        n->f.ecc_mode && n->f.ecc_mode(device, &now, &later) == NVML_SUCCESS && now == NVML_ENABLED;
    if (g->ecc && n->f.ecc_errors &&
        n->f.ecc_errors(device, NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC, &errors) ==
            NVML_SUCCESS)
        g->uncorrected_errors = errors;
}

/* A slice's name ends with its profile: "NVIDIA H200 MIG 1g.18gb". */
static bool read_slice(const struct nvml *n, void *device, struct device_slice *s) {
    char name[DEVICE_NAME_BYTES] = "";
    struct nvml_memory memory;
    uint32_t slices;
    if (n->f.name(device, name, sizeof(name)) || n->f.uuid(device, s->uuid, sizeof(s->uuid)))
        return false;
    const char *space = strrchr(name, ' ');
    if (!space || !devices_profile_parse(space + 1, &slices, &s->memory_bytes))
        return false;
    snprintf(s->profile, sizeof(s->profile), "%.31s", space + 1);
    if (n->f.memory(device, &memory) == NVML_SUCCESS && memory.total)
        s->memory_bytes = memory.total;
    return true;
}

static void read_slices(const struct nvml *n, void *device, struct device_gpu *g) {
    unsigned now, later, max = 0;
    if (!n->f.mig_mode || !n->f.mig_count || !n->f.mig_by_index ||
        n->f.mig_mode(device, &now, &later) != NVML_SUCCESS)
        return;
    g->mig_capable = true;
    g->mig = now == NVML_ENABLED;
    if (!g->mig || n->f.mig_count(device, &max) != NVML_SUCCESS)
        return;
    for (unsigned i = 0; i < max && g->num_slices < DEVICES_SLICES_MAX; i++) {
        struct device_slice s = {0};
        void *slice;
        if (n->f.mig_by_index(device, i, &slice) == NVML_SUCCESS && read_slice(n, slice, &s))
            g->slices[g->num_slices++] = s;
    }
}

/* False: it does not answer; *ret_rc says why. */
static bool read_gpu(const struct nvml *n, unsigned index, struct device_gpu *g, int *ret_rc) {
    struct nvml_memory memory = {0};
    void *device;
    int major, minor;
    *g = (struct device_gpu){
        .utilisation_percent = -1, .temperature_celsius = -1, .power_milliwatts = -1};
    if ((*ret_rc = n->f.by_index(index, &device)) ||
        (*ret_rc = n->f.name(device, g->product, sizeof(g->product))) ||
        (*ret_rc = n->f.uuid(device, g->uuid, sizeof(g->uuid))) ||
        (*ret_rc = n->f.memory(device, &memory)))
        return false;
    g->memory_bytes = memory.total;
    g->memory_used_bytes = memory.used;
    if (n->f.compute && n->f.compute(device, &major, &minor) == NVML_SUCCESS) {
        g->compute_major = (uint32_t)major;
        g->compute_minor = (uint32_t)minor;
    }
    read_sensors(n, device, g);
    read_slices(n, device, g);
    return true;
}

static struct device_gpu *find(struct device_gpu *gpus, uint32_t num, const char *uuid) {
    for (uint32_t i = 0; i < num; i++) {
        if (!strcmp(gpus[i].uuid, uuid))
            return &gpus[i];
    }
    return NULL;
}

/* Puts those that answered behind each other as they were before, told by their UUIDs: when one
 * falls off the bus the numbers of the others change. One that was there and is silent keeps its
 * place, at fault; one that never spoke is not there. rc: why the last silent one is so. */
static void place(const struct nvml *n, struct device_gpu *answered, uint32_t num, int rc,
                  struct devices *d) {
    d->num_gpus = 0;
    for (uint32_t i = 0; i < n->num_known; i++) {
        struct device_gpu *g = &d->gpus[d->num_gpus++];
        struct device_gpu *now = find(answered, num, n->known[i].uuid);
        *g = now ? *now : n->known[i];
        if (!now)
            snprintf(g->fault, sizeof(g->fault), "%s%s", n->f.error_string(rc),
                     rc == NVML_ERROR_GPU_IS_LOST || rc == NVML_ERROR_RESET_REQUIRED
                         ? ": it has to be reset"
                         : "");
    }
    for (uint32_t i = 0; i < num && d->num_gpus < DEVICES_GPUS_MAX; i++) {
        if (!find(d->gpus, d->num_gpus, answered[i].uuid))
            d->gpus[d->num_gpus++] = answered[i];
    }
}

enum errc nvml_read(struct nvml *n, struct devices *d, struct error *err) {
    unsigned count = 0;
    int rc = n->f.count(&count), version = 0;
    if (rc)
        return err_set(err, ERR_UNAVAILABLE, "nvmlDeviceGetCount: %s", n->f.error_string(rc));
    d->source = DEVICES_NVML;
    if (n->f.driver_version)
        n->f.driver_version(d->driver_version, sizeof(d->driver_version));
    if (n->f.cuda_version && n->f.cuda_version(&version) == NVML_SUCCESS) {
        d->cuda_major = (uint32_t)version / 1000;
        d->cuda_minor = (uint32_t)version % 1000 / 10;
    }
    int why = NVML_ERROR_GPU_IS_LOST; /* of one that is not even counted */
    uint32_t num = 0;
    for (unsigned i = 0; i < count && i < DEVICES_GPUS_MAX; i++) {
        if (read_gpu(n, i, &n->answered[num], &rc))
            num++;
        else
            why = rc;
    }
    place(n, n->answered, num, why, d);
    memcpy(n->known, d->gpus, sizeof(n->known));
    n->num_known = d->num_gpus;
    for (uint32_t i = 0; i < n->num_known; i++)
        n->known[i].fault[0] = '\0';
    return OK;
}
