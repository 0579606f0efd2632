/* Whom the kernel has killed for want of memory. */
#ifndef CORE_NODE_OOM_H
#define CORE_NODE_OOM_H

#include <stdint.h>

#define OOM_VMSTAT "/proc/vmstat"

/* How many processes the kernel has killed so since it started; -1: it does not say. */
int64_t oom_num_killed(const char *vmstat);

#endif
