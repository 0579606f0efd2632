/* What a replica and the daemon say to each other about weights that are ready to compute with.
 *
 * The daemon keeps them in sealed memory files, so that the next replica of the same model maps
 * them instead of making them (core/node/park.h). Over a socket of packets (SOCK_SEQPACKET) that
 * the replica inherits:
 *
 *   replica                     daemon
 *   PARK_ASK key, bytes     ->
 *                           <-  PARK_HAVE and the descriptor, or PARK_MAKE: nobody has them, or
 *                               (later) whoever made them gave up
 *   PARK_PUT and the        ->  after PARK_MAKE: here they are
 *     descriptor, or
 *   PARK_KEEP               ->  I could not, or do not want to share them
 *
 * A second replica that asks while the first one makes them has its answer when that is over. The
 * replica keeps the socket open as long as it uses them: its end says that it does not any more. */
#ifndef CORE_BASE_PARK_MESSAGE_H
#define CORE_BASE_PARK_MESSAGE_H

#include "core/base/mem.h"

#define PARK_FD_ENV "INFERD_PARK_FD" /* the number of the inherited descriptor */

enum { PARK_NAME_BYTES_MAX = 256 };

enum park_say { PARK_ASK = 1, PARK_HAVE, PARK_MAKE, PARK_PUT, PARK_KEEP };

struct park_message {
    uint32_t magic; /* set by park_send() */
    uint32_t say;   /* enum park_say */
    uint64_t key[2];
    uint64_t bytes;                 /* of the memory file */
    char name[PARK_NAME_BYTES_MAX]; /* the model, for people */
};

/* fd: passed on, and stays the caller's; -1: none. Never waits. ERR_IO: the other side is gone, or
 * does not read. */
MUST_CHECK enum errc park_send(int socket, struct park_message *m, int fd, struct error *err);

/* Takes the next message. *ret_fd is the caller's (-1: none came). ERR_UNAVAILABLE: the other side
 * is gone, or (on a socket that does not block) nothing has come; ERR_MALFORMED: not one of ours.
 */
MUST_CHECK enum errc park_receive(int socket, struct park_message *ret_m, int *ret_fd,
                                  struct error *err);

/* Whether the descriptor is a memory file of that size which nobody can change any more. */
MUST_CHECK bool park_is_sealed(int fd, uint64_t bytes);
enum errc park_seal(int fd, struct error *err);

#endif
