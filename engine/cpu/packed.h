/* Quantised weights packed for integer dot products, and activations rounded to match them.
 *
 * Sixteen rows stand side by side, so that one 512-bit register holds four columns of each: the
 * shape in which `vpdpbusd` multiplies unsigned by signed bytes and sums fours. A strip is 16 rows;
 * it is a run of blocks (32 columns, or 256 of a K-quant); a block is a head and its tiles (32
 * columns each):
 *
 *   tile   codes of quads 0..7 (a quad is 4 columns), then scales
 *   8 bits quad q: 64 bytes at 64 q, row r's column 4 q + b at 4 r + b
 *   4 bits the same for quads 0..3; the high halves of the bytes are quads 4..7
 *   5 bits as 4, then 8 bytes a quad: bit 4 r + b is the fifth
 *   6 bits as 4, then 2 x 64 bytes: bits 2 (q % 4) of byte 64 (q / 4) + 4 r + b are the upper two
 *   scales of 16 rows: F16 d (and F16 m); of K-quants a byte each, times the F16 in the head
 *
 * Codes are unsigned; a weight is d * (code - zero), or d * code + m. Packing moves bits and
 * changes none, and takes as much memory as the file (Q4_K and Q5_K: 3 % and 2 % more).
 *
 * Activations. 32 values in a row share a scale; a code is a signed byte, or, of two planes, a
 * 16-bit number cut in two: 256 * plane 0 + plane 1. Products then are
 *   sum over groups of  d * scale * (sum of codes, an exact integer)  +  m * scale * (sum of x
 * codes) with one fused multiply-add per group and in the order of the columns, so that the result
 * is the same bits in plain C and in vectors, alone and in a batch. */
#ifndef ENGINE_CPU_PACKED_H
#define ENGINE_CPU_PACKED_H

#include "core/base/mem.h"
#include "engine/cpu/kernels.h"

enum { PACKED_FORMAT = 1 }; /* of the layout above; counted up with every change of it */

enum {
    PACKED_ROWS = 16,
    PACKED_GROUP = 32, /* columns of a tile, and of activations that share a scale */
    PACKED_QUADS = PACKED_GROUP / 4,
    PACKED_HALF = PACKED_GROUP / 2, /* columns that share a scale in Q6_K */
    PACKED_PLANES_MAX = 2,
};

enum packed_scales {
    PACKED_D,        /* F16 d */
    PACKED_D_M,      /* F16 d, F16 m */
    PACKED_SUPER,    /* i8 scale of each half; head: F16 d */
    PACKED_SUPER_DM, /* u8 scale, u8 min; head: F16 d, F16 dmin */
};

/* What differs between types; constants once inlined. */
struct packed_form {
    uint32_t bits, zero_shift; /* zero is 1 << zero_shift; 0: none */
    enum packed_scales scales;
    uint32_t head_bytes, code_bytes, tile_bytes, tiles; /* of a block */
};

static inline struct packed_form packed_form(enum dtype type) {
    switch (type) {
    case DTYPE_Q8_0:
        return (struct packed_form){8, 7, PACKED_D, 0, 512, 544, 1};
    case DTYPE_Q4_0:
        return (struct packed_form){4, 3, PACKED_D, 0, 256, 288, 1};
    case DTYPE_Q4_1:
        return (struct packed_form){4, 0, PACKED_D_M, 0, 256, 320, 1};
    case DTYPE_Q5_0:
        return (struct packed_form){5, 4, PACKED_D, 0, 320, 352, 1};
    case DTYPE_Q5_1:
        return (struct packed_form){5, 0, PACKED_D_M, 0, 320, 384, 1};
    case DTYPE_Q4_K:
        return (struct packed_form){4, 0, PACKED_SUPER_DM, 64, 256, 288, 8};
    case DTYPE_Q5_K:
        return (struct packed_form){5, 0, PACKED_SUPER_DM, 64, 320, 352, 8};
    case DTYPE_Q6_K:
        return (struct packed_form){6, 5, PACKED_SUPER, 32, 384, 416, 8};
    default: /* not a quantised type: it stays where it is */
        return (struct packed_form){0};
    }
}

/* Whether matrices of the type are packed, and how many bytes that takes; 0: not this type. */
uint64_t packed_bytes(enum dtype type, uint32_t rows, uint32_t cols);

/* Packs strip `strip` of m into its place of out [packed_bytes]; rows behind the last are zero. */
void packed_put_strip(const struct matrix *m, uint32_t strip, uint8_t *out);

/* Activations as codes. Rows are `cols` apart, cols a multiple of PACKED_GROUP. */
struct packed_activations {
    int8_t *codes[PACKED_PLANES_MAX]; /* each [T, cols] */
    float *scales;                    /* [T, cols / PACKED_GROUP] */
    float *offsets;                   /* the same: scale * sum of the codes */
    int32_t *negative_sums;           /* [T, cols / PACKED_HALF]: - sum of the codes */
    uint32_t cols, planes;
};

/* Bytes of memory for that, of any number of planes; carve() lays it out there. */
uint64_t packed_activations_bytes(uint32_t num_tokens, uint32_t cols_max);
void packed_activations_carve(struct packed_activations *a, void *memory, uint32_t num_tokens,
                              uint32_t cols, uint32_t planes);

/* The plain twins. A group with a value that is not finite gets the scale NaN. */
void packed_round_row_ref(const struct packed_activations *a, uint32_t token, const float *x);
void packed_matmul_ref(const struct matmul *mm, uint32_t row, uint32_t num_rows);

#endif
