/* Parked models: packed weights stay in memory for the next replica of the same model, within a
 * budget of bytes, so that it maps them instead of loading and packing (ADR 31). Replicas that run
 * share them as well.
 *
 * A thread of its own: a replica that starts must not wait until the control thread has committed
 * what it is just writing. Which weights are kept, park_table.h decides. */
#ifndef CORE_NODE_PARK_H
#define CORE_NODE_PARK_H

#include "core/base/metrics.h"
#include "core/node/park_table.h"

struct park;

enum { PARK_CONNECTIONS_MAX = 1024 }; /* replicas that run at once; further ones do not share */

struct park_options {
    uint64_t budget_bytes;   /* of what no replica uses */
    struct metrics *metrics; /* borrowed; NULL: nothing is counted */
    /* Memory that can still be taken, for tests; NULL: the machine's. */
    uint64_t (*available_bytes)(void);
};

MUST_CHECK enum errc park_create(const struct park_options *opt, struct park **ret_p,
                                 struct error *err);
/* Lets go of everything; replicas keep what they have mapped. */
void park_destroy(struct park *p);
DEFINE_AUTO(park, park_destroy)

/* Gives a replica's end of a new connection (core/base/park_message.h), to be inherited by it and
 * closed here. ERR_EXHAUSTED: too many; ERR_IO. Any thread. */
MUST_CHECK enum errc park_connect(struct park *p, int *ret_fd, struct error *err);

#endif
