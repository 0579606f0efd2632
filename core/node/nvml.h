/* NVIDIA's management library, opened at run time: the sole file that knows it. A machine without
 * it has no GPUs, which is no error. Owned by one thread. */
#ifndef CORE_NODE_NVML_H
#define CORE_NODE_NVML_H

#include "core/node/devices.h"

struct nvml;

#define NVML_LIBRARY "libnvidia-ml.so.1"

/* Gives the opened library. ERR_NOT_FOUND: there is none; ERR_UNAVAILABLE: it lacks a function, or
 * finds no driver. library NULL: the functions are those of this program (of a test). */
MUST_CHECK enum errc nvml_open(const char *library, struct nvml **ret_nvml, struct error *err);
void nvml_close(struct nvml *n);
DEFINE_AUTO(nvml, nvml_close)

/* Fills source, driver and GPUs; sharing rules stay. A GPU that cannot be asked any more is at
 * fault, under the UUID that it had. ERR_UNAVAILABLE: the library does not answer. */
MUST_CHECK enum errc nvml_read(struct nvml *n, struct devices *d, struct error *err);

#endif
