/* What a pod has of the machine's devices, for its processes, for people, and when one fails. */
#ifndef CORE_CONTROL_POD_DEVICES_H
#define CORE_CONTROL_POD_DEVICES_H

#include "core/control/world.h"
#include "core/node/devices.h"

enum { POD_DEVICES_FAULT_BYTES = 384 };

/* Tells a container's process, through its `env`, which of the pod's devices are its own:
 * CUDA_VISIBLE_DEVICES and NVIDIA_VISIBLE_DEVICES, whatever the pod says of them. A container that
 * asked for none sees none. Nothing is said on a machine without GPUs, or
 * without an answer from NVML of a pod that was given none. d may be NULL. */
void pod_devices_set_env(const struct devices *d, const json_t *pod, const json_t *spec,
                         json_t *container);

/* Events of a pod that was bound with these devices (PLACEMENT_DEVICES_ANNOTATION's value). */
void pod_devices_tell(struct world *w, const json_t *pod, const json_t *given);

/* True: a device of the pod is at fault or gone, and why. While NVML does not answer, none is gone.
 */
MUST_CHECK bool pod_devices_fault(const struct devices *d, const json_t *pod,
                                  char why[POD_DEVICES_FAULT_BYTES]);

#endif
