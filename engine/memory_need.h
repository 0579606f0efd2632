/* How much memory a replica takes, from the headers of its model and its options. */
#ifndef ENGINE_MEMORY_NEED_H
#define ENGINE_MEMORY_NEED_H

#include "core/base/memory_need.h"
#include "engine/model_footprint.h"

struct engine_options;

/* Pure, but for what this machine's processor can do. ERR_INVALID and ERR_EXHAUSTED as starting the
 * engine with these options would say, with free_bytes of memory. */
MUST_CHECK enum errc memory_need_compute(const struct model_footprint *f,
                                         const struct engine_options *opt, uint64_t free_bytes,
                                         struct memory_need *ret_need, struct error *err);

struct engine;

/* What this process takes when all of its engine is in use, by what it has in memory now; 0: that
 * cannot be told. To be called when the engine is there and has had no request. */
uint64_t memory_need_of_process(const char *path, const struct engine_options *opt,
                                const struct engine *e);

/* Footprints of files that were read lately, as long as the files stay as they were. Any thread. */
struct memory_gauge;

enum { MEMORY_GAUGE_MODELS_MAX = 64 }; /* then the one that was asked for longest ago goes */

struct memory_gauge *memory_gauge_create(void);
void memory_gauge_destroy(struct memory_gauge *g);
DEFINE_AUTO(memory_gauge, memory_gauge_destroy)

memory_need_fn memory_gauge_need; /* self: the struct memory_gauge */

#endif
