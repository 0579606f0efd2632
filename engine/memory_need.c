/* Memory, counted before it is taken.
 *
 * An engine's memory is decided at its start: weights in the form in which they are multiplied, a
 * KV cache, the activations of the largest step. All of that follows from the model's headers and
 * the options by the same functions that the engine uses (engine_limits.c, runner.h, sampler.h), so
 * there is nothing to keep in step but the constants below, which stand for the process around it.
 *
 * The figure is for all of it in use: every KV block written, every row of the embedding looked up.
 * A replica that has just started shows less, and grows; who counted that would promise what is
 * left to somebody else. Pages of the model's file are counted as well: they could be dropped and
 * read again, at the price of a disk's read for every token.
 *
 * The constants were measured (ADR 32): resident memory of replicas of models from 1 to 72 MB, less
 * what the rest comes to. */
#include "engine/memory_need.h"

#include <pthread.h>
#include <sys/stat.h>

#include "core/base/engine_args.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/thread_pool.h"
#include "engine/engine_limits.h"
#include "engine/free_memory.h"
#include "engine/runner.h"
#include "engine/sampler.h"
#include "engine/weights_share.h"

enum {
    PROGRAM_BYTES = 23 << 19,   /* its pages, those of libraries, what malloc begins with */
    THREAD_BYTES = 48 << 10,    /* of a stack */
    REQUEST_BYTES = 64 << 10,   /* a running one's connection, JSON and text */
    WAITING_REQUEST_BYTES = 16, /* its place in register and mailbox */
    KV_BLOCK_RECORD_BYTES = 56, /* the cache's own record of a block, with its place in a table */
    GPU_CONTEXT_BYTES = 512 << 20, /* what CUDA takes for a process and its kernels */
};

static uint64_t workspace_bytes(const struct model_footprint *f, const struct engine_limits *l,
                                const struct engine_options *opt, bool packed) {
    const struct runner_options runner = {
        .num_tokens_max = l->max_num_batched_tokens,
        .num_seqs_max = l->max_num_seqs,
        .seq_len_max = l->max_model_len,
        .num_threads = opt->num_threads,
    };
    uint64_t num_logits = l->max_num_seqs + l->max_num_prompt_logits;
    return runner_workspace_bytes(&f->config, &runner, packed) +
           num_logits * f->config.vocab_size * sizeof(float) + sampler_bytes(f->config.vocab_size);
}

static uint64_t requests_bytes(const struct engine_limits *l) {
    uint64_t blocks = l->max_model_len / l->block_size + 1;
    uint64_t request = REQUEST_BYTES + l->max_model_len * sizeof(int32_t) +
                       blocks * (sizeof(uint32_t) + 2 * sizeof(uint64_t));
    return l->max_num_seqs * request + (uint64_t)l->max_num_waiting * WAITING_REQUEST_BYTES +
           (uint64_t)l->num_blocks * KV_BLOCK_RECORD_BYTES;
}

static uint64_t process_bytes(const struct model_footprint *f, const struct engine_options *opt) {
    uint64_t threads = opt->num_threads ? opt->num_threads : thread_pool_num_cpus();
    return PROGRAM_BYTES + threads * THREAD_BYTES + f->tokenizer_bytes + f->vector_bytes;
}

enum errc memory_need_compute(const struct model_footprint *f, const struct engine_options *opt,
                              uint64_t free_bytes, struct memory_need *ret_need,
                              struct error *err) {
    const struct cpu_kernels *kernels = opt->reference ? cpu_kernels_ref() : cpu_kernels_best();
    bool packed = kernels->packed_matmul && f->packed_bytes;
    struct engine_limits l;
    uint32_t block_size;
    if (engine_limits_block_size(opt, &block_size, err))
        return err->code;
    struct engine_site site = {
        .context_length = f->config.context_length,
        .kv_block_bytes = runner_kv_block_bytes(&f->config, block_size),
        .free_bytes = free_bytes,
    };
    if (packed)
        site.free_bytes = free_bytes > f->packed_bytes ? free_bytes - f->packed_bytes : 0;
    if (engine_limits_resolve(opt, &site, &l, err))
        return err->code;
    *ret_need = (struct memory_need){
        .weights_bytes = packed ? f->packed_bytes : 0,
        .file_bytes = f->mapped_bytes + (packed ? 0 : f->packable_bytes),
        .kv_cache_bytes = l.num_blocks * site.kv_block_bytes,
        .workspace_bytes = workspace_bytes(f, &l, opt, packed),
        .requests_bytes = requests_bytes(&l),
        .process_bytes = process_bytes(f, opt),
        .max_model_len = l.max_model_len,
        .max_num_seqs = l.max_num_seqs,
    };
    /* There the cache is half as wide, and weights are as the file has them. */
    ret_need->gpu_bytes = GPU_CONTEXT_BYTES + f->file_bytes + ret_need->kv_cache_bytes / 2 +
                          ret_need->workspace_bytes;
    return OK;
}

uint64_t memory_need_of_process(const char *path, const struct engine_options *opt,
                                const struct engine *e) {
    struct engine_options settled = *opt;
    struct model_footprint f;
    struct memory_need need;
    struct engine_stats stats;
    struct error none = ERROR_INIT;
    uint32_t block_size;
    if (model_footprint_read(path, &f, &none) || engine_limits_block_size(opt, &block_size, &none))
        return 0;
    engine_stats(e, &stats);
    settled.max_model_len = engine_max_model_len(e);
    settled.max_num_seqs = engine_max_num_seqs(e);
    settled.kv_cache_bytes = stats.num_blocks * runner_kv_block_bytes(&f.config, block_size);
    if (memory_need_compute(&f, &settled, UINT64_MAX, &need, &none))
        return 0;
    /* Shared weights are mapped, and not touched yet, whoever has made them. */
    bool shared = opt->share && weights_share_in_use(opt->share);
    return memory_need_measured(&need, free_memory_resident_bytes()) +
           (shared ? need.weights_bytes : 0);
}

/* ---- footprints that are known ---- */

struct known {
    char *path; /* NULL: free */
    struct stat seen;
    struct model_footprint footprint;
    uint64_t used; /* when, by the gauge's count */
};

struct memory_gauge {
    pthread_mutex_t lock; /* of all below; never held while a file is read */
    struct known known[MEMORY_GAUGE_MODELS_MAX];
    uint64_t num_asked;
};

struct memory_gauge *memory_gauge_create(void) {
    struct memory_gauge *g = mem_alloc(sizeof(*g));
    pthread_mutex_init(&g->lock, NULL);
    return g;
}

void memory_gauge_destroy(struct memory_gauge *g) {
    if (!g)
        return;
    for (size_t i = 0; i < ARRAY_LEN(g->known); i++)
        free(g->known[i].path);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

/* What changes when the model does: the file, or the configuration in its directory. */
static void look(const char *path, struct stat *ret_st) {
    AUTO_FREE char *config = mem_printf("%s/config.json", path);
    memset(ret_st, 0, sizeof(*ret_st));
    if (stat(config, ret_st) && stat(path, ret_st))
        memset(ret_st, 0, sizeof(*ret_st)); /* inside the program, or not there */
}

static bool same(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static bool recall(struct memory_gauge *g, const char *path, const struct stat *now,
                   struct model_footprint *ret_f) {
    bool found = false;
    pthread_mutex_lock(&g->lock);
    for (size_t i = 0; i < ARRAY_LEN(g->known) && !found; i++) {
        struct known *k = &g->known[i];
        found = k->path && !strcmp(k->path, path) && same(&k->seen, now);
        if (found) {
            k->used = ++g->num_asked;
            *ret_f = k->footprint;
        }
    }
    pthread_mutex_unlock(&g->lock);
    return found;
}

static void keep(struct memory_gauge *g, const char *path, const struct stat *seen,
                 const struct model_footprint *f) {
    pthread_mutex_lock(&g->lock);
    struct known *place = &g->known[0];
    for (size_t i = 0; i < ARRAY_LEN(g->known); i++) {
        struct known *k = &g->known[i];
        if (k->path && !strcmp(k->path, path)) {
            place = k;
            break;
        }
        if (!k->path || k->used < place->used)
            place = k;
    }
    free(place->path);
    *place = (struct known){
        .path = mem_strdup(path), .seen = *seen, .footprint = *f, .used = ++g->num_asked};
    pthread_mutex_unlock(&g->lock);
}

enum errc memory_gauge_need(void *self, const char *path, const struct engine_args *args,
                            uint64_t free_bytes, struct memory_need *ret_need, struct error *err) {
    struct memory_gauge *g = self;
    struct model_footprint f;
    struct engine_options opt;
    struct stat now;
    look(path, &now);
    if (!recall(g, path, &now, &f)) {
        if (model_footprint_read(path, &f, err))
            return err->code;
        keep(g, path, &now, &f);
    }
    engine_options_of(args, &opt);
    if (free_bytes != UINT64_MAX && free_bytes > free_memory_bytes())
        free_bytes = free_memory_bytes();
    return memory_need_compute(&f, &opt, free_bytes, ret_need, err);
}
