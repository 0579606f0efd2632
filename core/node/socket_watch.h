/* Tells when a socket appears in the folder of sockets: a replica listens from then on, and need
 * not be asked every few milliseconds until it does. */
#ifndef CORE_NODE_SOCKET_WATCH_H
#define CORE_NODE_SOCKET_WATCH_H

#include <limits.h>

#include "core/base/mem.h"

/* Gives a descriptor that is readable when a file has appeared in the folder; close() ends it.
 * ERR_IO: the kernel has none left (fs.inotify.max_user_instances), or the folder is not there. */
MUST_CHECK enum errc socket_watch_open(const char *dir, int *ret_fd, struct error *err);

/* Calls fn with the name (without folder) of each file that appeared since the last call. */
void socket_watch_read(int fd, void (*fn)(void *user, const char *name), void *user);

#endif
