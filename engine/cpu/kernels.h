/* The CPU's kernels: one table per instruction set, chosen once at run time.
 *
 * Every kernel computes each output element on one thread in one order that depends on nothing but
 * the element's own inputs: not on how many tokens or rows are computed with it, nor on how the
 * work was cut. So a row's result is the same bits alone, in a batch, and in any chunking.
 *
 * Letters: T tokens, D columns of the matrix at hand, H query heads, Hkv KV heads, Dh head size,
 * Dp = Dh rounded up to KERNELS_PAD. Activation rows have a stride that is a multiple of
 * KERNELS_PAD, with zeros behind the row's end. */
#ifndef ENGINE_CPU_KERNELS_H
#define ENGINE_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/cpu/dtype.h"

enum {
    KERNELS_PAD = 16,   /* floats: one 512-bit register */
    KERNELS_STRIP = 16, /* weight rows that are unpacked together, for many tokens */
};

static inline uint32_t kernels_padded(uint32_t len) {
    return (len + KERNELS_PAD - 1) / KERNELS_PAD * KERNELS_PAD;
}

/* A matrix of weights where the file has it: rows outputs, cols inputs, row-major. */
struct matrix {
    const uint8_t *data;
    enum dtype type;
    uint32_t rows, cols;
    size_t row_bytes;
    const uint8_t *packed; /* the same weights for integer products (packed.h); NULL: none */
};

struct packed_activations;

/* out[t, r] = sum_c x[t, c] * w[r, c], or += with `add`. */
struct matmul {
    const struct matrix *w;
    const float *x;                           /* [T, x_stride] */
    const struct packed_activations *rounded; /* x as codes, where w is packed */
    float *out;                               /* [T, out_stride] */
    uint32_t num_tokens;
    size_t x_stride, out_stride;
    bool add;
};

/* Floats of scratch memory that one matmul call needs for a matrix of `cols`. */
static inline size_t kernels_matmul_scratch(uint32_t cols) {
    return (size_t)KERNELS_STRIP * kernels_padded(cols);
}

/* Attention of single rows over the paged cache. */
struct attention {
    const float *q;              /* [T, q_stride], H * Dh used */
    float *out;                  /* [T, q_stride] */
    const float *k_cache;        /* [num_blocks, Hkv, block_size, Dp] of this layer */
    const float *v_cache;        /* the same */
    const uint32_t *block_table; /* [S, block_table_stride] */
    const uint32_t *row_seq;     /* [T] sequence of the row */
    const int32_t *positions;    /* [T]; a row sees positions 0..its own */
    size_t q_stride;
    uint32_t block_table_stride, block_size; /* block_size a power of two */
    uint32_t num_heads, num_kv_heads, head_dim;
    uint32_t window; /* 0: none; else a row sees its own and the window - 1 positions before */
    float scale;
};

/* Floats of scratch memory that one attention call needs for contexts up to seq_len_max. */
static inline size_t kernels_attention_scratch(uint32_t num_heads, uint32_t num_kv_heads,
                                               uint32_t head_dim, uint32_t seq_len_max) {
    size_t group = num_heads / num_kv_heads;
    return group * ((size_t)kernels_padded(seq_len_max) + 2 * (size_t)kernels_padded(head_dim));
}

struct cpu_kernels {
    const char *name; /* "AVX-512", for logs and bench */
    /* Rows row .. row + num_rows - 1 of the output, for all tokens. */
    void (*matmul)(const struct matmul *mm, uint32_t row, uint32_t num_rows, float *scratch);
    /* The same of packed weights, row a multiple of PACKED_ROWS; NULL: weights stay unpacked. */
    void (*packed_matmul)(const struct matmul *mm, uint32_t row, uint32_t num_rows);
    /* Codes, scale and sums of one token's x [cols]. NULL together with packed_matmul. */
    void (*packed_round_row)(const struct packed_activations *a, uint32_t token, const float *x);
    /* out[i] = x[i] / sqrt(mean(x^2) + eps) * w[i]; out may be x. */
    void (*rms_norm)(const float *x, const float *w, float eps, uint32_t len, float *out);
    /* gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i] */
    void (*silu_mul)(float *gate, const float *up, uint32_t len);
    /* The num_heads / num_kv_heads query heads of one row that share one KV head. */
    void (*attention)(const struct attention *a, uint32_t row, uint32_t kv_head, float *scratch);
};

const struct cpu_kernels *cpu_kernels_best(void); /* for this machine */
const struct cpu_kernels *cpu_kernels_ref(void);  /* plain C, sums in F64: what is exact */

/* All that this machine can run, the plain one first, NULL at the end: for tests. */
const struct cpu_kernels *const *cpu_kernels_all(void);

/* "AVX2 FMA F16C AVX-512 VNNI BF16", or "none": what the processor has of what matters here. */
const char *cpu_features_name(void);

#endif
