/* Where a user's processes listen on this machine. */
#ifndef CORE_NODE_LISTENER_H
#define CORE_NODE_LISTENER_H

#include <sys/socket.h>

#include "core/base/mem.h"

/* Gives the address to connect to for a TCP port on which a process of the user listens; of
 * several, IPv4 first. ERR_NOT_FOUND: none does (others of the machine may). */
MUST_CHECK enum errc listener_find(uint32_t user, uint16_t port,
                                   struct sockaddr_storage *ret_address, socklen_t *ret_len,
                                   struct error *err);

/* Nothing listens on this port of 127.0.0.1 now. */
bool listener_port_free(uint16_t port);

/* One line of /proc/net/tcp or tcp6. True: a socket of the user listens there on the port. */
bool listener_parse(const char *line, uint32_t user, uint16_t port,
                    struct sockaddr_storage *ret_address, socklen_t *ret_len);

#endif
