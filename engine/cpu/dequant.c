/* What the packed weights mean. d and m are F16; a block's bytes, in order:
 *
 *   Q8_0   d, 32 x i8                        w = d*q
 *   Q4_0   d, 16 bytes                       w = d*(q - 8)    low nibbles are weights 0..15, high
 *   Q4_1   d, m, 16 bytes                    w = d*q + m      nibbles 16..31, in the four of these
 *   Q5_0   d, u32 of fifth bits, 16 bytes    w = d*(q - 16)
 *   Q5_1   d, m, u32 of fifth bits, 16 bytes w = d*q + m
 *   Q4_K   d, m, 12 bytes of eight 6-bit scales and minima, 128 bytes; of 64 weights the first 32
 *          are low nibbles, the second 32 high ones:      w = d*scale*q - m*min
 *   Q5_K   d, m, 12 bytes as above, 32 bytes of fifth bits (bit b for sub-block b), 128 bytes
 *   Q6_K   128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 x i8 scales, d; per half of
 *          128 weights:                                    w = d*scale*(q - 32)
 *
 * The order of operations is fixed here (d*scale first: exact in F32) and kept by the fast kernels.
 * Source: the formats of github.com/ggml-org/ggml. */
#include "engine/cpu/dequant.h"

#include "core/base/error.h"
#include "engine/cpu/half.h"

static void f32_row(const uint8_t *src, float *dst, uint32_t len) {
    memcpy(dst, src, (size_t)len * 4);
}

static void f16_row(const uint8_t *src, float *dst, uint32_t len) {
    for (uint32_t i = 0; i < len; i++)
        dst[i] = half_f16(src + 2 * (size_t)i);
}

static void bf16_row(const uint8_t *src, float *dst, uint32_t len) {
    for (uint32_t i = 0; i < len; i++)
        dst[i] = half_bf16(src + 2 * (size_t)i);
}

static void q8_0_block(const uint8_t *b, float *dst) {
    float d = half_f16(b);
    for (int i = 0; i < 32; i++)
        dst[i] = d * (float)(int8_t)b[2 + i];
}

static void q4_0_block(const uint8_t *b, float *dst) {
    float d = half_f16(b);
    for (int i = 0; i < 16; i++) {
        dst[i] = d * (float)((b[2 + i] & 15) - 8);
        dst[i + 16] = d * (float)((b[2 + i] >> 4) - 8);
    }
}

static void q4_1_block(const uint8_t *b, float *dst) {
    float d = half_f16(b), m = half_f16(b + 2);
    for (int i = 0; i < 16; i++) {
        dst[i] = d * (float)(b[4 + i] & 15) + m;
        dst[i + 16] = d * (float)(b[4 + i] >> 4) + m;
    }
}

/* Fifth bits: bit i of the u32 at p belongs to weight i. */
static uint32_t load_bits(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static void q5_0_block(const uint8_t *b, float *dst) {
    float d = half_f16(b);
    uint32_t bits = load_bits(b + 2);
    for (int i = 0; i < 16; i++) {
        int low = (b[6 + i] & 15) | (int)(bits >> i & 1) << 4;
        int high = b[6 + i] >> 4 | (int)(bits >> (i + 16) & 1) << 4;
        dst[i] = d * (float)(low - 16);
        dst[i + 16] = d * (float)(high - 16);
    }
}

static void q5_1_block(const uint8_t *b, float *dst) {
    float d = half_f16(b), m = half_f16(b + 2);
    uint32_t bits = load_bits(b + 4);
    for (int i = 0; i < 16; i++) {
        int low = (b[8 + i] & 15) | (int)(bits >> i & 1) << 4;
        int high = b[8 + i] >> 4 | (int)(bits >> (i + 16) & 1) << 4;
        dst[i] = d * (float)low + m;
        dst[i + 16] = d * (float)high + m;
    }
}

static void q4_k_block(const uint8_t *b, float *dst) {
    float d = half_f16(b), m = half_f16(b + 2);
    for (uint32_t j = 0; j < 8; j++) {
        const uint8_t *q = b + 16 + j / 2 * 32;
        uint32_t scale, min;
        dequant_scale_min(b + 4, j, &scale, &min);
        float ds = d * (float)scale, mm = m * (float)min;
        for (int i = 0; i < 32; i++)
            dst[32 * j + (uint32_t)i] = ds * (float)(j & 1 ? q[i] >> 4 : q[i] & 15) - mm;
    }
}

static void q5_k_block(const uint8_t *b, float *dst) {
    float d = half_f16(b), m = half_f16(b + 2);
    for (uint32_t j = 0; j < 8; j++) {
        const uint8_t *high = b + 16, *q = b + 48 + j / 2 * 32;
        uint32_t scale, min;
        dequant_scale_min(b + 4, j, &scale, &min);
        float ds = d * (float)scale, mm = m * (float)min;
        for (int i = 0; i < 32; i++) {
            int low = j & 1 ? q[i] >> 4 : q[i] & 15;
            dst[32 * j + (uint32_t)i] = ds * (float)(low | (high[i] >> j & 1) << 4) - mm;
        }
    }
}

static void q6_k_block(const uint8_t *b, float *dst) {
    float d = half_f16(b + 208);
    for (uint32_t half = 0; half < 2; half++) {
        const uint8_t *low = b + 64 * half, *high = b + 128 + 32 * half;
        const int8_t *scales = (const int8_t *)b + 192 + 8 * half;
        for (uint32_t part = 0; part < 4; part++) {
            for (uint32_t i = 0; i < 32; i++) {
                uint8_t byte = low[32 * (part & 1) + i];
                int q = part & 2 ? byte >> 4 : byte & 15;
                q |= (high[i] >> 2 * part & 3) << 4;
                int scale = scales[2 * part + i / 16];
                float ds = d * (float)scale;
                dst[128 * half + 32 * part + i] = ds * (float)(q - 32);
            }
        }
    }
}

void dequant_row(enum dtype type, const void *src, float *dst, uint32_t len) {
    static void (*const blocks[DTYPE_COUNT])(const uint8_t *b, float *dst) = {
        [DTYPE_Q8_0] = q8_0_block, [DTYPE_Q4_0] = q4_0_block, [DTYPE_Q4_1] = q4_1_block,
        [DTYPE_Q5_0] = q5_0_block, [DTYPE_Q5_1] = q5_1_block, [DTYPE_Q4_K] = q4_k_block,
        [DTYPE_Q5_K] = q5_k_block, [DTYPE_Q6_K] = q6_k_block,
    };
    const uint8_t *p = src;
    uint32_t block_len = dtype_block_len(type);
    ASSERT(len % block_len == 0);
    if (type == DTYPE_F32)
        f32_row(p, dst, len);
    else if (type == DTYPE_F16)
        f16_row(p, dst, len);
    else if (type == DTYPE_BF16)
        bf16_row(p, dst, len);
    else
        for (uint32_t i = 0; i < len; i += block_len, p += dtype_block_bytes(type))
            blocks[type](p, dst + i);
}
