/* Paged KV cache with prefix reuse.
 *
 * A request's positions live in the blocks of its block table: position p in block
 * block_table[p / block_size] at offset p % block_size. Blocks are equal and any may follow any, so
 * memory does not fragment and a request grows a block at a time.
 *
 * A full block is named by hash(name of the block before it, its token ids), so equal names mean
 * equal whole prefixes, and K and V depend on nothing else. kv_cache_commit() enters names in a
 * hash table once the block is computed; kv_cache_match() walks a new request's names from the
 * first on until one is not there. A block that is being filled has no name, hence is never shared,
 * hence nobody writes into what another reads.
 *
 *          reserve                      commit                   release
 *   free ----------> owned, unnamed ------------> owned, named ----------> free, named
 *    ^                    | release                    ^  match                |  |
 *    +--------------------+                            +-----------------------+  |
 *    +--------------------------- taken by reserve: the name is forgotten --------+
 *
 * Free blocks stand in one list, the next to be taken in front: unnamed ones enter there, named
 * ones enter at the back, a request's last block before its first, because a prefix is of use
 * without its end but an end is not without its beginning. So the list is the LRU order of the
 * prefix cache.
 *
 * Two requests may compute the same prefix side by side. The first to commit names its block, the
 * other's stays unnamed: block tables only grow, nothing in them is ever exchanged.
 *
 * Invariant: ref_count is the number of block tables that hold the block; it is in the free list
 * exactly when that is 0; a name belongs to at most one block.
 * Source: PagedAttention arXiv:2309.06180; the reuse of freed blocks by hash is vLLM's. */
#include "engine/kv_cache.h"

#include "engine/request.h"

enum { NONE = UINT32_MAX };

struct kv_block {
    struct siphash hash;
    uint32_t ref_count;
    bool named;           /* in the hash table under `hash` */
    uint32_t prev, next;  /* in the free list while ref_count is 0 */
    uint32_t bucket_next; /* in its bucket while named */
};

struct kv_cache {
    struct kv_cache_options opt;
    struct kv_block *blocks; /* [num_blocks + 1]: the last is the free list's head and tail */
    uint32_t num_free;
    uint32_t *buckets; /* [bucket_mask + 1] first block of each, or NONE */
    uint32_t bucket_mask;
};

static void free_list_insert(struct kv_cache *kv, uint32_t block, uint32_t before) {
    struct kv_block *b = &kv->blocks[block], *n = &kv->blocks[before];
    b->prev = n->prev;
    b->next = before;
    kv->blocks[n->prev].next = block;
    n->prev = block;
    kv->num_free++;
}

static void free_list_remove(struct kv_cache *kv, uint32_t block) {
    struct kv_block *b = &kv->blocks[block];
    kv->blocks[b->prev].next = b->next;
    kv->blocks[b->next].prev = b->prev;
    kv->num_free--;
}

enum errc kv_cache_create(const struct kv_cache_options *opt, struct kv_cache **ret_kv,
                          struct error *err) {
    if (!opt->num_blocks || opt->num_blocks > KV_CACHE_BLOCKS_MAX)
        return err_field(err, ERR_INVALID, "num_blocks", "num_blocks: %u is not within 1..%d",
                         opt->num_blocks, KV_CACHE_BLOCKS_MAX);
    if (!opt->block_size || opt->block_size & (opt->block_size - 1))
        return err_field(err, ERR_INVALID, "block_size", "block_size: %u is not a power of two",
                         opt->block_size);
    AUTO(kv_cache) kv = mem_alloc(sizeof(*kv));
    kv->opt = *opt;
    kv->bucket_mask = 1;
    while (kv->bucket_mask < opt->num_blocks)
        kv->bucket_mask = kv->bucket_mask << 1 | 1;
    kv->blocks = mem_try_alloc(((size_t)opt->num_blocks + 1) * sizeof(kv->blocks[0]));
    kv->buckets = mem_try_alloc(((size_t)kv->bucket_mask + 1) * sizeof(kv->buckets[0]));
    if (!kv->blocks || !kv->buckets)
        return err_set(err, ERR_EXHAUSTED, "no memory to keep track of %u KV blocks",
                       opt->num_blocks);
    for (uint32_t i = 0; i <= kv->bucket_mask; i++)
        kv->buckets[i] = NONE;
    kv->blocks[opt->num_blocks].prev = kv->blocks[opt->num_blocks].next = opt->num_blocks;
    for (uint32_t i = 0; i < opt->num_blocks; i++)
        free_list_insert(kv, i, opt->num_blocks);
    *ret_kv = steal(kv);
    return OK;
}

void kv_cache_destroy(struct kv_cache *kv) {
    if (!kv)
        return;
    free(kv->blocks);
    free(kv->buckets);
    free(kv);
}

static uint32_t *bucket_of(struct kv_cache *kv, struct siphash hash) {
    return &kv->buckets[hash.lo & kv->bucket_mask];
}

static uint32_t find(struct kv_cache *kv, struct siphash hash) {
    uint32_t i = *bucket_of(kv, hash);
    while (i != NONE && (kv->blocks[i].hash.lo != hash.lo || kv->blocks[i].hash.hi != hash.hi))
        i = kv->blocks[i].bucket_next;
    return i;
}

static void forget_name(struct kv_cache *kv, uint32_t block) {
    struct kv_block *b = &kv->blocks[block];
    if (!b->named)
        return;
    uint32_t *link = bucket_of(kv, b->hash);
    while (*link != block)
        link = &kv->blocks[*link].bucket_next;
    *link = b->bucket_next;
    b->named = false;
}

/* The name of rq's full block `index`. Tokens never change, so each is worked out once. */
static struct siphash block_name(const struct kv_cache *kv, struct request *rq, uint32_t index) {
    const uint32_t size = kv->opt.block_size;
    ASSERT((index + 1) * size <= rq->num_tokens);
    for (; rq->num_hashes <= index; rq->num_hashes++) {
        uint32_t i = rq->num_hashes;
        struct siphash parent = i ? rq->block_hashes[i - 1] : (struct siphash){0};
        rq->block_hashes[i] = siphash_chain(kv->opt.hash_key, parent, rq->tokens + (size_t)i * size,
                                            size * sizeof(rq->tokens[0]));
    }
    return rq->block_hashes[index];
}

uint32_t kv_cache_match(struct kv_cache *kv, struct request *rq, uint32_t num_tokens_max) {
    ASSERT(!rq->num_blocks && num_tokens_max <= rq->num_tokens);
    if (kv->opt.disable_prefix_caching)
        return 0;
    while ((rq->num_blocks + 1) * kv->opt.block_size <= num_tokens_max) {
        uint32_t block = find(kv, block_name(kv, rq, rq->num_blocks));
        if (block == NONE)
            break;
        if (!kv->blocks[block].ref_count++)
            free_list_remove(kv, block);
        rq->block_table[rq->num_blocks++] = block;
    }
    rq->num_committed = rq->num_blocks;
    return rq->num_blocks * kv->opt.block_size;
}

uint32_t kv_cache_num_missing(const struct kv_cache *kv, const struct request *rq,
                              uint32_t num_tokens) {
    uint32_t want = num_tokens / kv->opt.block_size + (num_tokens % kv->opt.block_size != 0);
    return want > rq->num_blocks ? want - rq->num_blocks : 0;
}

bool kv_cache_reserve(struct kv_cache *kv, struct request *rq, uint32_t num_tokens) {
    ASSERT(num_tokens <= rq->num_tokens_max);
    uint32_t missing = kv_cache_num_missing(kv, rq, num_tokens);
    if (missing > kv->num_free)
        return false;
    while (missing--) {
        uint32_t block = kv->blocks[kv->opt.num_blocks].next;
        free_list_remove(kv, block);
        forget_name(kv, block);
        kv->blocks[block].ref_count = 1;
        rq->block_table[rq->num_blocks++] = block;
    }
    return true;
}

void kv_cache_commit(struct kv_cache *kv, struct request *rq) {
    if (kv->opt.disable_prefix_caching)
        return;
    for (; (rq->num_committed + 1) * kv->opt.block_size <= rq->num_computed_tokens;
         rq->num_committed++) {
        struct siphash hash = block_name(kv, rq, rq->num_committed);
        if (find(kv, hash) != NONE)
            continue; /* somebody computed the same beside us */
        uint32_t block = rq->block_table[rq->num_committed], *bucket = bucket_of(kv, hash);
        struct kv_block *b = &kv->blocks[block];
        ASSERT(!b->named && b->ref_count == 1);
        b->hash = hash;
        b->named = true;
        b->bucket_next = *bucket;
        *bucket = block;
    }
}

void kv_cache_release(struct kv_cache *kv, struct request *rq) {
    const uint32_t list = kv->opt.num_blocks;
    while (rq->num_blocks) {
        uint32_t block = rq->block_table[--rq->num_blocks];
        struct kv_block *b = &kv->blocks[block];
        ASSERT(b->ref_count);
        if (!--b->ref_count)
            free_list_insert(kv, block, b->named ? list : kv->blocks[list].next);
    }
    rq->num_committed = 0;
}

void kv_cache_discard(struct kv_cache *kv, struct request *rq) {
    for (uint32_t i = 0; i < rq->num_blocks; i++)
        forget_name(kv, rq->block_table[i]);
    kv_cache_release(kv, rq);
}

uint32_t kv_cache_num_blocks(const struct kv_cache *kv) {
    return kv->opt.num_blocks;
}

uint32_t kv_cache_num_free(const struct kv_cache *kv) {
    return kv->num_free;
}

uint32_t kv_cache_block_size(const struct kv_cache *kv) {
    return kv->opt.block_size;
}

uint32_t kv_cache_ref_count(const struct kv_cache *kv, uint32_t block) {
    ASSERT(block < kv->opt.num_blocks);
    return kv->blocks[block].ref_count;
}
