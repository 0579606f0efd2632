/* How much memory this process could still take without swapping or being killed for it. */
#ifndef ENGINE_FREE_MEMORY_H
#define ENGINE_FREE_MEMORY_H

#include <stdint.h>

/* The least of what the machine has available and what the cgroups above us leave. UINT64_MAX when
 * nothing of that can be read. */
uint64_t free_memory_bytes(void);

/* What this process has in memory now, mapped files included. */
uint64_t free_memory_resident_bytes(void);

/* The same as the first with other roots than /proc and /sys/fs/cgroup, for tests. */
uint64_t free_memory_bytes_under(const char *proc, const char *cgroup_fs);

#endif
