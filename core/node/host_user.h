/* What sets a host pod apart on this machine: a user of its own, and a folder that is its home. */
#ifndef CORE_NODE_HOST_USER_H
#define CORE_NODE_HOST_USER_H

#include "core/base/mem.h"

struct trash;

/* Makes the folders above `dir`: others may pass them and cannot list them. */
MUST_CHECK enum errc host_parents_make(const char *dir, struct error *err);
/* Makes an empty folder that belongs to the user, with parents that others may pass. */
MUST_CHECK enum errc host_home_make(const char *dir, uint32_t user, struct error *err);
/* Removes it with all that is in it; follows no link. The user's processes must have ended. */
void host_home_remove(const char *dir);
/* Every pod's folder in the folder, told by its name, which is the pod's uid. */
void host_homes_clear(const char *homes_dir, struct trash *trash);

/* Kills every process of the user, at once. */
void host_user_end(uint32_t user);
/* Kills the processes of the user that are in the process group or have "POD_UID=pod_uid" in their
 * environment, and waits for none of them: a user's number may have been given to another pod.
 * before_ticks: only those that began before then, by the clock of process.h; 0: all. */
void host_user_end_pod(uint32_t user, int32_t group, const char *pod_uid, uint64_t before_ticks);
/* Likewise those of one container, told by its name in "CONTAINER_NAME" beside that. */
void host_user_end_container(uint32_t user, const char *pod_uid, const char *container);

#endif
