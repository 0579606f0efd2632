/* Packed weights that replicas of one model share: the replica's side (core/base/park_message.h is
 * the conversation, core/node/park.h the other side).
 *
 * What is shared lies in a sealed memory file that begins with a text: which files, of which size
 * and times, packed by which program for which kernels. A replica uses what it is handed only when
 * that text is the one that it would have written itself; the seals keep everybody from changing it
 * afterwards. Whatever goes wrong, the replica packs weights of its own, and says so once.
 *
 * Owned by the thread that starts the engine; the memory is read by all. */
#ifndef ENGINE_WEIGHTS_SHARE_H
#define ENGINE_WEIGHTS_SHARE_H

#include "core/base/mem.h"

struct model;
struct thread_pool;
struct weights_share;

enum {
    WEIGHTS_SHARE_HEADER_BYTES = 128 << 10, /* the text, and zeros up to the weights */
    WEIGHTS_SHARE_WAIT_MS_MAX = 60000,      /* for another replica that makes them */
};

/* Gives the way to the daemon. Takes the socket. */
struct weights_share *weights_share_open(int socket);
/* The one that this process has inherited; NULL: none. */
struct weights_share *weights_share_inherited(void);
/* Unmaps the weights as well. */
void weights_share_close(struct weights_share *s);
DEFINE_AUTO(weights_share, weights_share_close)

/* Asks for the packed weights, `bytes` long, of a model, which is borrowed until finish. Waits
 * while another replica makes them. */
void weights_share_ask(struct weights_share *s, const struct model *m, const char *kernels,
                       uint64_t bytes);
/* The weights, 4096-aligned, borrowed until close; NULL: nobody had them. */
const uint8_t *weights_share_found(const struct weights_share *s);
/* Whether this process's weights are in shared memory, found or made here. */
bool weights_share_in_use(const struct weights_share *s);
/* Memory to make them in, zeroed, 4096-aligned, taken by all threads of the pool; NULL: they are
 * not to be shared. */
uint8_t *weights_share_begin(struct weights_share *s, struct thread_pool *pool);
/* They are made: the memory, which stays where it is, cannot be written any more, and others get
 * it, unless the model's files have changed meanwhile. ERR_IO: the memory could not be mapped anew,
 * and is gone. */
MUST_CHECK enum errc weights_share_finish(struct weights_share *s, struct error *err);

#endif
