/* What a daemon that was killed leaves behind. A file per container, RUN/UID_CONTAINER.pid, says
 * whose processes they are. */
#ifndef CORE_NODE_ORPHANS_H
#define CORE_NODE_ORPHANS_H

#include "core/base/mem.h"

/* Writes the file of a container's first process; user 0: it has none of its own. */
void orphans_note(const char *path, int32_t pid, uint32_t user);
/* Ends what earlier daemons left, waits until it is gone, and removes their files and sockets. At
 * start, when nothing of this daemon runs yet. */
void orphans_end(const char *run_dir);

/* Starts the reaper: a process that ends this daemon's orphans as soon as the daemon is gone,
 * however it went. The process must have no threads yet. Gives the end of a pipe, to be kept open;
 * closing it ends the reaper. */
MUST_CHECK enum errc orphans_watch(const char *run_dir, int *ret_fd, struct error *err);

#endif
