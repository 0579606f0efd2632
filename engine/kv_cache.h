/* Paged KV cache: which block holds which token positions. Fixed-size blocks, shared between
 * requests with a common prefix by reference count, and kept after their last user for the next one
 * with that prefix until the space is wanted.
 *
 * It decides and never touches the device; the runner owns the storage. One thread; allocates
 * nothing after creation. */
#ifndef ENGINE_KV_CACHE_H
#define ENGINE_KV_CACHE_H

#include "core/base/mem.h"

struct kv_cache;
struct request;

enum { KV_CACHE_BLOCKS_MAX = 1 << 28 };

struct kv_cache_options {
    uint32_t num_blocks; /* 1..KV_CACHE_BLOCKS_MAX */
    uint32_t block_size; /* token positions per block, a power of two */
    bool disable_prefix_caching;
    uint64_t hash_key[2]; /* secret, see siphash.h */
};

/* Gives a cache with all blocks free. ERR_INVALID names the option, ERR_EXHAUSTED: no memory. */
MUST_CHECK enum errc kv_cache_create(const struct kv_cache_options *opt, struct kv_cache **ret_kv,
                                     struct error *err);
void kv_cache_destroy(struct kv_cache *kv); /* NULL is fine */
DEFINE_AUTO(kv_cache, kv_cache_destroy)

/* Shares with rq, whose block table is empty, the cached blocks of its longest known prefix of at
 * most num_tokens_max positions; returns the positions covered, a multiple of the block size. They
 * need no computing. */
uint32_t kv_cache_match(struct kv_cache *kv, struct request *rq, uint32_t num_tokens_max);

/* Grows rq's block table to cover `num_tokens` positions. False and no change at all when too few
 * blocks are free: the scheduler's cue to preempt. */
MUST_CHECK bool kv_cache_reserve(struct kv_cache *kv, struct request *rq, uint32_t num_tokens);

/* Blocks that reserve would take from the free ones. */
uint32_t kv_cache_num_missing(const struct kv_cache *kv, const struct request *rq,
                              uint32_t num_tokens);

/* Makes the full blocks among rq's computed positions findable for kv_cache_match(). Call it when
 * the step that computed them is done. */
void kv_cache_commit(struct kv_cache *kv, struct request *rq);

/* Gives back rq's blocks. Those that are findable stay so until the space is wanted, the least
 * recently used first, of one request the last first. */
void kv_cache_release(struct kv_cache *kv, struct request *rq);

/* As release, and makes sure that no later request finds these blocks: what they hold is broken. */
void kv_cache_discard(struct kv_cache *kv, struct request *rq);

uint32_t kv_cache_num_blocks(const struct kv_cache *kv);
uint32_t kv_cache_num_free(const struct kv_cache *kv); /* including those that are findable */
uint32_t kv_cache_block_size(const struct kv_cache *kv);
uint32_t kv_cache_ref_count(const struct kv_cache *kv, uint32_t block);

#endif
