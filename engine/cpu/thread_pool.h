/* A few threads that run one loop at a time with their owner. Owned by one thread: only that one
 * calls thread_pool_run(). Between runs the threads spin for some microseconds, because the next
 * loop of a step follows at once, then sleep: an idle pool costs nothing. */
#ifndef ENGINE_CPU_THREAD_POOL_H
#define ENGINE_CPU_THREAD_POOL_H

#include "core/base/mem.h"

struct thread_pool;

enum { THREAD_POOL_THREADS_MAX = 1024 };

/* CPUs that this process may use by its affinity mask; at least 1. */
uint32_t thread_pool_num_cpus(void);

/* Gives a pool of num_threads, the caller's own counted in (>= 1). ERR_EXHAUSTED: the system
 * starts no more threads. */
MUST_CHECK enum errc thread_pool_create(uint32_t num_threads, struct thread_pool **ret_pool,
                                        struct error *err);
void thread_pool_destroy(struct thread_pool *pool);
DEFINE_AUTO(thread_pool, thread_pool_destroy)

uint32_t thread_pool_num_threads(const struct thread_pool *pool);

/* One item of a loop; thread < num_threads tells whose scratch memory it may use. */
typedef void thread_pool_fn(void *arg, uint32_t item, uint32_t thread);

/* Calls fn for every item of 0..num_items-1, in any order and on any thread, and returns when all
 * are done. Allocates nothing. */
void thread_pool_run(struct thread_pool *pool, thread_pool_fn *fn, void *arg, uint32_t num_items);

#endif
