/* The runner on the CPU: one step of a decoder-only transformer, for all rows of a batch at once.
 *
 *   x = embedding[token]
 *   per layer:  x += Wo attention(rope(Wq n), rope(Wk n), Wv n),  n = rms_norm(x)
 *               x += Wdown (silu(Wgate n) * (Wup n)),             n = rms_norm(x)
 *   logits = Whead rms_norm(x)
 *
 * Each line is one or two loops over the thread pool; a loop's item is a strip of weight rows (for
 * all tokens, so that a weight is read once per step) or one row of activations. An element is
 * computed by one thread in an order that does not depend on the rest (kernels.h), which makes a
 * row's logits the same bits alone or in a batch, whole or in chunks, on one thread or many.
 *
 * Activations and the KV cache are F32. Quantised weights are packed at load and multiplied as
 * integers where the processor can; an activation is rounded to the weights' grid only for the
 * product (packed.h). Elsewhere, and in the reference, weights are unpacked to F32 and the result
 * is as exact as the file allows. An F16 cache would halve its memory, and round: it alone makes up
 * the error of other engines on F32 files.
 *
 * In the last layer only the rows whose logits are wanted go past attention.
 *
 * Letters: T rows in the step, D hidden, H query heads, Hkv KV heads, Dh head size, F feed-forward,
 * V vocabulary. Row strides are padded to KERNELS_PAD floats, the padding is zero. */
#include "engine/runner.h"

#include <inttypes.h>
#include <sys/mman.h>

#include "core/base/log.h"
#include "engine/cpu/dequant.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/packed.h"
#include "engine/cpu/rope.h"
#include "engine/cpu/thread_pool.h"
#include "engine/model.h"
#include "engine/runner_weights.h"

/* Weight rows in an item of a loop: each thread reads long pieces of memory, and the last item to
 * finish is short beside the loop. */
enum { ITEMS_PER_THREAD = 8, ITEM_ROWS_MAX = 16 * KERNELS_STRIP };

/* Multiply-adds below which a loop is done before a second thread has seen it. */
enum { SHARED_WORK_MIN = 1 << 16 };

/* Planes of activations (packed.h). Rounding to 8 bits costs most where a softmax follows: the
 * inputs of Q, K and V made up half of the whole error, and these products are a tenth of the work;
 * those of the head show in the logits at once. They are rounded to 16 bits, the others to 8. */
enum { COARSE = 1, FINE = 2 };

/* Largest step, context and block that a runner is made for. */
enum { RUNNER_TOKENS_MAX = 1 << 20, RUNNER_SEQ_LEN_MAX = 1 << 24, RUNNER_BLOCK_SIZE_MAX = 4096 };

/* A mapping of zeroed memory that the kernel fills in on first touch. */
struct region {
    float *data;
    size_t bytes;
};

struct runner {
    const struct model_config *config;
    const struct weights *weights;
    const struct cpu_kernels *kernels;
    struct thread_pool *pool;
    uint32_t num_threads; /* of the pool */
    struct runner_options opt;
    struct region kv;             /* [L, 2, num_blocks, Hkv, block_size, Dp] */
    size_t kv_half;               /* floats of the K, or the V, of one layer */
    struct runner_weights placed; /* layers and head, packed where that is faster */
    struct region rounded;        /* memory of activations as codes; none without packed weights */
    struct region workspace;      /* all below */
    size_t hidden_stride, q_stride, kv_stride, ffn_stride;
    float *x;         /* [T, D] the residual stream */
    float *normed;    /* [T, D] */
    float *q, *attn;  /* [T, H*Dh] */
    float *k, *v;     /* [T, Hkv*Dh] */
    float *gate, *up; /* [T, F] */
    float *cos, *sin; /* [T, rope_dim/2] */
    float *scratch;   /* [threads, scratch_len] */
    size_t scratch_len;
    uint32_t *row_seq; /* [T] */
};

/* What the items of a loop need to know. */
struct step {
    struct runner *r;
    const struct runner_batch *batch;
    const struct layer_weights *layer;
    float *k_cache, *v_cache; /* of this layer */
    uint32_t num_rows;        /* T, or num_logits in and after the last layer */
    const float *norm_weight;
    struct matmul products[3]; /* of the loop under way, all of one x */
    uint32_t num_products, item_rows;
    struct packed_activations rounded; /* that x as codes */
};

/* ---- create and destroy ---- */

static enum errc check_options(const struct model_config *c, const struct runner_options *o,
                               struct error *err) {
    if (!o->block_size || (o->block_size & (o->block_size - 1)) ||
        o->block_size > RUNNER_BLOCK_SIZE_MAX)
        return err_field(err, ERR_INVALID, "block_size",
                         "block_size: %" PRIu32 ", expected a power of two up to %d", o->block_size,
                         RUNNER_BLOCK_SIZE_MAX);
    if (!o->num_tokens_max || o->num_tokens_max > RUNNER_TOKENS_MAX)
        return err_field(err, ERR_INVALID, "max_num_batched_tokens",
                         "max_num_batched_tokens: %" PRIu32 ", expected 1 to %d", o->num_tokens_max,
                         RUNNER_TOKENS_MAX);
    if (!o->num_seqs_max || o->num_logits_max < o->num_seqs_max)
        return err_field(err, ERR_INVALID, "max_num_seqs",
                         "max_num_seqs: %" PRIu32 ", expected 1 to the rows of logits, %" PRIu32,
                         o->num_seqs_max, o->num_logits_max);
    if (!o->seq_len_max || o->seq_len_max > RUNNER_SEQ_LEN_MAX)
        return err_field(err, ERR_INVALID, "max_model_len",
                         "max_model_len: %" PRIu32 ", expected 1 to %d", o->seq_len_max,
                         RUNNER_SEQ_LEN_MAX);
    if (!o->num_blocks)
        return err_field(err, ERR_INVALID, "num_blocks", "num_blocks: 0, expected at least 1");
    return OK;
}

static enum errc region_map(struct region *region, uint64_t floats, const char *what,
                            struct error *err) {
    size_t bytes;
    void *p = MAP_FAILED;
    if (!__builtin_mul_overflow(floats, sizeof(float), &bytes))
        p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return err_set(err, ERR_EXHAUSTED, "no memory for the %s: %" PRIu64 " MB wanted", what,
                       floats / (1 << 20) * sizeof(float));
    *region = (struct region){p, bytes};
    return OK;
}

static void region_unmap(struct region *region) {
    if (region->data)
        munmap(region->data, region->bytes);
    *region = (struct region){0};
}

/* Floats of K, or of V, in one block of one layer. */
static uint64_t block_floats(const struct model_config *c, uint32_t block_size) {
    return (uint64_t)c->num_kv_heads * block_size * kernels_padded(c->head_dim);
}

uint64_t runner_model_bytes(const struct model *m) {
    return runner_weights_bytes(model_weights(m), model_config(m)->num_layers, cpu_kernels_best());
}

uint64_t runner_kv_block_bytes(const struct model_config *c, uint32_t block_size) {
    return 2 * (uint64_t)c->num_layers * block_floats(c, block_size) * sizeof(float);
}

static enum errc map_kv(struct runner *r, struct error *err) {
    uint64_t half, floats;
    if (__builtin_mul_overflow(block_floats(r->config, r->opt.block_size),
                               (uint64_t)r->opt.num_blocks, &half) ||
        __builtin_mul_overflow(half, 2 * (uint64_t)r->config->num_layers, &floats))
        return err_set(err, ERR_EXHAUSTED, "no memory for the KV cache: %" PRIu32 " blocks",
                       r->opt.num_blocks);
    r->kv_half = half;
    return region_map(&r->kv, floats, "KV cache", err);
}

/* The longest row that is multiplied. */
static uint32_t max_cols(const struct model_config *c) {
    uint32_t q_len = c->num_heads * c->head_dim;
    uint32_t cols = c->hidden > c->ffn_hidden ? c->hidden : c->ffn_hidden;
    return cols > q_len ? cols : q_len;
}

static size_t scratch_floats(const struct runner *r) {
    const struct model_config *c = r->config;
    size_t matmul = kernels_matmul_scratch(max_cols(c));
    size_t attention =
        kernels_attention_scratch(c->num_heads, c->num_kv_heads, c->head_dim, r->opt.seq_len_max);
    size_t floats = matmul > attention ? matmul : attention;
    return (floats + 31) / 32 * 32; /* two cache lines, so that threads share none */
}

/* Carves the workspace into the step's arrays; with data NULL only measures it. */
static uint64_t carve(struct runner *r, float *data) {
    uint64_t rows = r->opt.num_tokens_max, at = 0;
    uint32_t num_pairs = r->config->rope_dim / 2;
    const struct {
        float **field;
        uint64_t floats;
    } parts[] = {
        {&r->x, rows * r->hidden_stride},
        {&r->normed, rows * r->hidden_stride},
        {&r->q, rows * r->q_stride},
        {&r->attn, rows * r->q_stride},
        {&r->k, rows * r->kv_stride},
        {&r->v, rows * r->kv_stride},
        {&r->gate, rows * r->ffn_stride},
        {&r->up, rows * r->ffn_stride},
        {&r->cos, rows * num_pairs},
        {&r->sin, rows * num_pairs},
        {&r->scratch, (uint64_t)r->num_threads * r->scratch_len},
    };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (data)
            *parts[i].field = data + at;
        at += (parts[i].floats + 15) / 16 * 16;
    }
    return at;
}

static void set_strides(struct runner *r) {
    const struct model_config *c = r->config;
    r->hidden_stride = kernels_padded(c->hidden);
    r->q_stride = kernels_padded(c->num_heads * c->head_dim);
    r->kv_stride = kernels_padded(c->num_kv_heads * c->head_dim);
    r->ffn_stride = kernels_padded(c->ffn_hidden);
    r->scratch_len = scratch_floats(r);
}

/* Of activations as codes, for packed weights. */
static uint64_t rounded_bytes(const struct runner *r) {
    return packed_activations_bytes(r->opt.num_tokens_max, max_cols(r->config));
}

uint64_t runner_workspace_bytes(const struct model_config *config, const struct runner_options *opt,
                                bool packed) {
    struct runner r = {.config = config, .opt = *opt};
    r.num_threads = opt->num_threads ? opt->num_threads : thread_pool_num_cpus();
    set_strides(&r);
    return carve(&r, NULL) * sizeof(float) + (packed ? rounded_bytes(&r) : 0) +
           opt->num_tokens_max * sizeof(*r.row_seq);
}

static enum errc map_workspace(struct runner *r, struct error *err) {
    set_strides(r);
    if (region_map(&r->workspace, carve(r, NULL), "workspace", err))
        return err->code;
    madvise(r->workspace.data, r->workspace.bytes, MADV_HUGEPAGE); /* the KV cache fills slowly */
    carve(r, r->workspace.data);
    if (r->placed.bytes &&
        region_map(&r->rounded, rounded_bytes(r) / sizeof(float), "workspace", err))
        return err->code;
    r->row_seq = mem_try_alloc(r->opt.num_tokens_max * sizeof(*r->row_seq));
    return r->row_seq ? OK : err_set(err, ERR_EXHAUSTED, "no memory for the workspace");
}

static enum errc place_weights(struct runner *r, struct error *err) {
    const struct runner_weights_source source = {.weights = r->weights,
                                                 .num_layers = r->config->num_layers,
                                                 .kernels = r->kernels,
                                                 .share = r->opt.share};
    return runner_weights_init(&r->placed, &source, r->pool, err);
}

enum errc runner_create(const struct model *m, const struct runner_options *opt,
                        struct runner **ret_r, struct error *err) {
    AUTO(runner) r = mem_alloc(sizeof(*r));
    r->config = model_config(m);
    r->weights = model_weights(m);
    r->opt = *opt;
    r->kernels = opt->reference ? cpu_kernels_ref() : cpu_kernels_best();
    r->num_threads = opt->num_threads ? opt->num_threads : thread_pool_num_cpus();
    if (check_options(r->config, opt, err) || thread_pool_create(r->num_threads, &r->pool, err) ||
        place_weights(r, err) || map_kv(r, err) || map_workspace(r, err))
        return err->code;
    log_info("running on the CPU", "kernels=%s processor=\"%s\" threads=%u", r->kernels->name,
             cpu_features_name(), thread_pool_num_threads(r->pool));
    *ret_r = steal(r);
    return OK;
}

void runner_destroy(struct runner *r) {
    if (!r)
        return;
    thread_pool_destroy(r->pool);
    region_unmap(&r->kv);
    region_unmap(&r->workspace);
    region_unmap(&r->rounded);
    runner_weights_deinit(&r->placed);
    free(r->row_seq);
    free(r);
}

/* ---- loops ---- */

/* Runs a loop of `work` multiply-adds: on this thread alone when that is the faster way. */
static void run_loop(struct step *s, thread_pool_fn *fn, uint32_t num_items, uint64_t work) {
    if (work >= SHARED_WORK_MIN)
        return thread_pool_run(s->r->pool, fn, s, num_items);
    for (uint32_t item = 0; item < num_items; item++)
        fn(s, item, 0);
}

static uint32_t num_matmul_items(const struct step *s, const struct matmul *mm) {
    return (mm->w->rows + s->item_rows - 1) / s->item_rows;
}

static void matmul_item(void *arg, uint32_t item, uint32_t thread) {
    struct step *s = arg;
    const struct matmul *mm = s->products;
    for (; item >= num_matmul_items(s, mm); mm++)
        item -= num_matmul_items(s, mm);
    uint32_t row = item * s->item_rows, left = mm->w->rows - row;
    uint32_t num_rows = left < s->item_rows ? left : s->item_rows;
    if (mm->rounded)
        s->r->kernels->packed_matmul(mm, row, num_rows);
    else
        s->r->kernels->matmul(mm, row, num_rows, s->r->scratch + thread * s->r->scratch_len);
}

static void round_item(void *arg, uint32_t row, uint32_t thread) {
    struct step *s = arg;
    const struct matmul *mm = s->products;
    s->r->kernels->packed_round_row(&s->rounded, row, mm->x + row * mm->x_stride);
}

/* Gives the products whose weights are packed their x as codes. */
static void round_activations(struct step *s, uint32_t planes) {
    bool any = false;
    for (uint32_t i = 0; i < s->num_products; i++)
        if (s->products[i].w->packed) {
            s->products[i].rounded = &s->rounded;
            any = true;
        }
    if (!any)
        return;
    uint32_t cols = s->products[0].w->cols;
    packed_activations_carve(&s->rounded, s->r->rounded.data, s->num_rows, cols, planes);
    run_loop(s, round_item, s->num_rows, (uint64_t)s->num_rows * cols);
}

/* Runs the products that were put into the step, as one loop; `planes` says how finely x is rounded
 * for packed weights. */
static void multiply(struct step *s, uint32_t planes) {
    uint64_t num_rows = 0, work = 0;
    round_activations(s, planes);
    for (uint32_t i = 0; i < s->num_products; i++) {
        num_rows += s->products[i].w->rows;
        work += (uint64_t)s->products[i].w->rows * s->products[i].w->cols * s->num_rows;
    }
    uint64_t share = num_rows / (ITEMS_PER_THREAD * thread_pool_num_threads(s->r->pool));
    s->item_rows = ITEM_ROWS_MAX;
    if (share < ITEM_ROWS_MAX)
        s->item_rows = ((uint32_t)share / KERNELS_STRIP + 1) * KERNELS_STRIP;
    uint32_t num_items = 0;
    for (uint32_t i = 0; i < s->num_products; i++)
        num_items += num_matmul_items(s, &s->products[i]);
    run_loop(s, matmul_item, num_items, work);
    s->num_products = 0;
}

static void put_product(struct step *s, const struct matrix *w, const float *x, size_t x_stride,
                        float *out, size_t out_stride, bool add) {
    ASSERT(s->num_products < ARRAY_LEN(s->products));
    s->products[s->num_products++] = (struct matmul){
        .w = w,
        .x = x,
        .out = out,
        .num_tokens = s->num_rows,
        .x_stride = x_stride,
        .out_stride = out_stride,
        .add = add,
    };
}

static void embed_item(void *arg, uint32_t row, uint32_t thread) {
    struct step *s = arg;
    struct runner *r = s->r;
    const struct matrix *w = &r->weights->embedding;
    int32_t id = s->batch->token_ids[row];
    ASSERT(id >= 0 && (uint32_t)id < w->rows);
    dequant_row(w->type, w->data + (size_t)id * w->row_bytes, r->x + row * r->hidden_stride,
                w->cols);
    uint32_t num_pairs = r->config->rope_dim / 2;
    rope_angles(s->batch->positions[row], r->weights->rope_inv_freq, num_pairs,
                r->weights->rope_magnitude, r->cos + (size_t)row * num_pairs,
                r->sin + (size_t)row * num_pairs);
}

static void norm_item(void *arg, uint32_t row, uint32_t thread) {
    struct step *s = arg;
    struct runner *r = s->r;
    size_t at = row * r->hidden_stride;
    r->kernels->rms_norm(r->x + at, s->norm_weight, r->config->rms_eps, r->config->hidden,
                         r->normed + at);
}

static void normalise(struct step *s, const float *weight) {
    s->norm_weight = weight;
    thread_pool_run(s->r->pool, norm_item, s, s->num_rows);
}

static void add_bias(float *x, const float *bias, uint32_t len) {
    for (uint32_t i = 0; bias && i < len; i++)
        x[i] += bias[i];
}

static void norm_heads(const struct runner *r, float *x, const float *weight, uint32_t num_heads) {
    uint32_t len = r->config->head_dim;
    for (uint32_t h = 0; weight && h < num_heads; h++, x += len)
        r->kernels->rms_norm(x, weight, r->config->rms_eps, len, x);
}

/* Puts one row's K or V into its slot of the cache. */
static void store_kv(const struct runner *r, float *cache, uint32_t slot, const float *x) {
    uint32_t block_size = r->opt.block_size, len = r->config->head_dim;
    size_t padded = kernels_padded(len);
    size_t first =
        (size_t)(slot / block_size) * r->config->num_kv_heads * block_size + slot % block_size;
    for (uint32_t h = 0; h < r->config->num_kv_heads; h++)
        memcpy(cache + (first + (size_t)h * block_size) * padded, x + (size_t)h * len,
               len * sizeof(float));
}

/* Bias, head norm, rotation of one row's Q, K and V; K and V go into the cache. */
static void qkv_item(void *arg, uint32_t row, uint32_t thread) {
    struct step *s = arg;
    struct runner *r = s->r;
    const struct model_config *c = r->config;
    const struct layer_weights *w = s->layer;
    float *q = r->q + row * r->q_stride;
    float *k = r->k + row * r->kv_stride, *v = r->v + row * r->kv_stride;
    uint32_t num_pairs = c->rope_dim / 2;
    const float *cos = r->cos + (size_t)row * num_pairs, *sin = r->sin + (size_t)row * num_pairs;
    add_bias(q, w->attn_q_bias, c->num_heads * c->head_dim);
    add_bias(k, w->attn_k_bias, c->num_kv_heads * c->head_dim);
    add_bias(v, w->attn_v_bias, c->num_kv_heads * c->head_dim);
    norm_heads(r, q, w->attn_q_norm, c->num_heads);
    norm_heads(r, k, w->attn_k_norm, c->num_kv_heads);
    rope_rotate(q, c->num_heads, c->head_dim, num_pairs, cos, sin, r->weights->rope_halves);
    rope_rotate(k, c->num_kv_heads, c->head_dim, num_pairs, cos, sin, r->weights->rope_halves);
    uint32_t slot = s->batch->slots[row];
    ASSERT(slot / r->opt.block_size < r->opt.num_blocks);
    store_kv(r, s->k_cache, slot, k);
    store_kv(r, s->v_cache, slot, v);
}

static void attention_item(void *arg, uint32_t item, uint32_t thread) {
    struct step *s = arg;
    struct runner *r = s->r;
    const struct model_config *c = r->config;
    struct attention a = {
        .q = r->q,
        .out = r->attn,
        .k_cache = s->k_cache,
        .v_cache = s->v_cache,
        .block_table = s->batch->block_table,
        .row_seq = r->row_seq,
        .positions = s->batch->positions,
        .q_stride = r->q_stride,
        .block_table_stride = s->batch->block_table_stride,
        .block_size = r->opt.block_size,
        .num_heads = c->num_heads,
        .num_kv_heads = c->num_kv_heads,
        .head_dim = c->head_dim,
        .window = s->layer->window,
        .scale = 1.0f / __builtin_sqrtf((float)c->head_dim),
    };
    r->kernels->attention(&a, item / c->num_kv_heads, item % c->num_kv_heads,
                          r->scratch + thread * r->scratch_len);
}

static void silu_item(void *arg, uint32_t row, uint32_t thread) {
    struct step *s = arg;
    size_t at = row * s->r->ffn_stride;
    s->r->kernels->silu_mul(s->r->gate + at, s->r->up + at, s->r->config->ffn_hidden);
}

static void out_bias_item(void *arg, uint32_t row, uint32_t thread) {
    struct step *s = arg;
    add_bias(s->r->x + row * s->r->hidden_stride, s->layer->attn_out_bias, s->r->config->hidden);
}

/* ---- a step ---- */

/* Moves the rows whose logits are wanted to the front; they are ascending, so none is overwritten
 * before it was read. */
static void keep_logits_rows(struct step *s) {
    struct runner *r = s->r;
    for (uint32_t i = 0; i < s->batch->num_logits; i++) {
        uint32_t row = s->batch->logits_rows[i];
        if (row == i)
            continue;
        memcpy(r->x + i * r->hidden_stride, r->x + row * r->hidden_stride,
               r->hidden_stride * sizeof(float));
        memcpy(r->attn + i * r->q_stride, r->attn + row * r->q_stride, r->q_stride * sizeof(float));
    }
    s->num_rows = s->batch->num_logits;
}

/* Multiply-adds of one layer's attention; a window only makes them fewer. */
static uint64_t attention_work(const struct step *s) {
    uint64_t num_seen = 0;
    for (uint32_t row = 0; row < s->num_rows; row++)
        num_seen += (uint64_t)s->batch->positions[row] + 1;
    return 2 * num_seen * s->r->config->num_heads * s->r->config->head_dim;
}

static void attention_layer(struct step *s, bool last) {
    struct runner *r = s->r;
    const struct layer_weights *w = s->layer;
    normalise(s, w->attn_norm);
    put_product(s, &w->attn_q, r->normed, r->hidden_stride, r->q, r->q_stride, false);
    put_product(s, &w->attn_k, r->normed, r->hidden_stride, r->k, r->kv_stride, false);
    put_product(s, &w->attn_v, r->normed, r->hidden_stride, r->v, r->kv_stride, false);
    multiply(s, FINE);
    thread_pool_run(r->pool, qkv_item, s, s->num_rows);
    run_loop(s, attention_item, s->num_rows * r->config->num_kv_heads, attention_work(s));
    if (last)
        keep_logits_rows(s);
    put_product(s, &w->attn_out, r->attn, r->q_stride, r->x, r->hidden_stride, true);
    multiply(s, COARSE);
    if (w->attn_out_bias)
        thread_pool_run(r->pool, out_bias_item, s, s->num_rows);
}

static void feed_forward_layer(struct step *s) {
    struct runner *r = s->r;
    const struct layer_weights *w = s->layer;
    normalise(s, w->ffn_norm);
    put_product(s, &w->ffn_gate, r->normed, r->hidden_stride, r->gate, r->ffn_stride, false);
    put_product(s, &w->ffn_up, r->normed, r->hidden_stride, r->up, r->ffn_stride, false);
    multiply(s, COARSE);
    thread_pool_run(r->pool, silu_item, s, s->num_rows);
    put_product(s, &w->ffn_down, r->gate, r->ffn_stride, r->x, r->hidden_stride, true);
    multiply(s, COARSE);
}

/* The caller's batch is our own program's work: a wrong one is a bug, found here and not in a
 * kernel. */
static void check_batch(const struct runner *r, const struct runner_batch *b) {
    ASSERT(b->num_tokens <= r->opt.num_tokens_max && b->num_seqs <= r->opt.num_seqs_max);
    ASSERT(b->num_logits <= r->opt.num_logits_max && b->num_logits <= b->num_tokens);
    for (uint32_t s = 0; s < b->num_seqs; s++) {
        uint32_t first = b->query_start[s], end = b->query_start[s + 1];
        ASSERT(first <= end && end <= b->num_tokens && b->seq_len[s] <= r->opt.seq_len_max);
        uint32_t num_blocks = (b->seq_len[s] + r->opt.block_size - 1) / r->opt.block_size;
        ASSERT(num_blocks <= b->block_table_stride);
        for (uint32_t i = 0; i < num_blocks; i++)
            ASSERT(b->block_table[(size_t)s * b->block_table_stride + i] < r->opt.num_blocks);
        for (uint32_t row = first; row < end; row++) {
            ASSERT(b->positions[row] >= 0 && (uint32_t)b->positions[row] < b->seq_len[s]);
            r->row_seq[row] = s;
        }
    }
    for (uint32_t i = 0; i < b->num_logits; i++)
        ASSERT(b->logits_rows[i] < b->num_tokens &&
               (!i || b->logits_rows[i] > b->logits_rows[i - 1]));
    ASSERT(!b->num_tokens || b->query_start[b->num_seqs] == b->num_tokens);
}

void runner_forward(struct runner *r, const struct runner_batch *b, float *logits) {
    struct step s = {.r = r, .batch = b, .num_rows = b->num_tokens};
    if (!b->num_tokens)
        return;
    check_batch(r, b);
    thread_pool_run(r->pool, embed_item, &s, s.num_rows);
    for (uint32_t layer = 0; layer < r->config->num_layers && s.num_rows; layer++) {
        s.layer = &r->placed.layers[layer];
        s.k_cache = r->kv.data + 2 * (size_t)layer * r->kv_half;
        s.v_cache = s.k_cache + r->kv_half;
        attention_layer(&s, layer + 1 == r->config->num_layers);
        feed_forward_layer(&s);
    }
    if (!s.num_rows)
        return;
    normalise(&s, r->weights->output_norm);
    put_product(&s, &r->placed.head, r->normed, r->hidden_stride, logits, r->config->vocab_size,
                false);
    multiply(&s, FINE);
}
