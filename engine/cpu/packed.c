/* Packing, and the plain twins of the packed kernels. The layouts of the files stand in dequant.c;
 * here only the codes and scales are taken out of them. */
#include "engine/cpu/packed.h"

#include <math.h>

#include "engine/cpu/dequant.h"
#include "engine/cpu/half.h"

/* ---- packing ---- */

uint64_t packed_bytes(enum dtype type, uint32_t rows, uint32_t cols) {
    struct packed_form f = packed_form(type);
    if (!f.bits)
        return 0;
    uint64_t block_bytes = f.head_bytes + (uint64_t)f.tiles * f.tile_bytes;
    uint64_t strips = (rows + PACKED_ROWS - 1) / PACKED_ROWS;
    return strips * (cols / (f.tiles * PACKED_GROUP)) * block_bytes;
}

/* Loops of a fixed length over bytes, one per type: the compiler makes vectors of them, and a file
 * is packed about as fast as it is read. */

enum { HALF = PACKED_HALF };

static void take_nibbles(const uint8_t *b, uint8_t *out) {
    for (uint32_t i = 0; i < HALF; i++)
        out[i] = b[i] & 15;
    for (uint32_t i = 0; i < HALF; i++)
        out[HALF + i] = b[i] >> 4;
}

static void add_fifth_bits(const uint8_t *b, uint8_t *out) {
    uint32_t bits;
    memcpy(&bits, b, sizeof(bits));
    for (uint32_t i = 0; i < PACKED_GROUP; i++)
        out[i] |= (uint8_t)((bits >> i & 1) << 4);
}

/* out |= (b >> shift & mask) << up in each of 32 bytes, eight at a time; mask is of one byte. */
static void add_bits(const uint8_t *b, uint32_t shift, uint32_t mask, uint32_t up, uint8_t *out) {
    for (uint32_t i = 0; i < PACKED_GROUP; i += 8) {
        uint64_t from, to;
        memcpy(&from, b + i, 8);
        memcpy(&to, out + i, 8);
        to |= (from >> shift & mask * 0x0101010101010101u) << up;
        memcpy(out + i, &to, 8);
    }
}

/* The unsigned codes of the j-th 32 weights of a file's block. */
static void take_codes(enum dtype type, const uint8_t *b, uint32_t j, uint8_t out[PACKED_GROUP]) {
    memset(out, 0, PACKED_GROUP);
    switch (type) {
    case DTYPE_Q8_0:
        for (uint32_t i = 0; i < PACKED_GROUP; i++)
            out[i] = b[2 + i] ^ 0x80;
        return;
    case DTYPE_Q4_0:
        take_nibbles(b + 2, out);
        return;
    case DTYPE_Q4_1:
        take_nibbles(b + 4, out);
        return;
    case DTYPE_Q5_0:
        take_nibbles(b + 6, out);
        add_fifth_bits(b + 2, out);
        return;
    case DTYPE_Q5_1:
        take_nibbles(b + 8, out);
        add_fifth_bits(b + 4, out);
        return;
    case DTYPE_Q4_K:
        add_bits(b + 16 + j / 2 * 32, j % 2 * 4, 15, 0, out);
        return;
    case DTYPE_Q5_K:
        add_bits(b + 48 + j / 2 * 32, j % 2 * 4, 15, 0, out);
        add_bits(b + 16, j, 1, 4, out);
        return;
    default: /* Q6_K: quarters of a half share bytes, two nibbles and four pairs in each */
        add_bits(b + 64 * (j / 4) + 32 * (j % 2), j / 2 % 2 * 4, 15, 0, out);
        add_bits(b + 128 + 32 * (j / 4), 2 * (j % 4), 3, 4, out);
        return;
    }
}

/* Row r's codes into the tile; a quad's four are one word. */
static void put_codes(struct packed_form f, uint8_t *tile, uint32_t r,
                      const uint8_t codes[PACKED_GROUP]) {
    uint32_t quads[PACKED_QUADS];
    memcpy(quads, codes, sizeof(quads));
    if (f.bits == 8) {
        for (uint32_t q = 0; q < PACKED_QUADS; q++)
            memcpy(tile + 64 * q + 4 * r, &quads[q], 4);
        return;
    }
    for (uint32_t q = 0; q < 4; q++) {
        uint32_t pair = (quads[q] & 0x0f0f0f0f) | (quads[q + 4] & 0x0f0f0f0f) << 4;
        memcpy(tile + 64 * q + 4 * r, &pair, 4);
    }
    for (uint32_t q = 0; f.bits == 5 && q < PACKED_QUADS; q++) {
        uint32_t fifth = quads[q] >> 4 & 0x01010101; /* the product gathers the four bits */
        tile[256 + 8 * q + r / 2] |= (uint8_t)((fifth * 0x10204080u >> 28) << (r % 2 ? 4 : 0));
    }
    for (uint32_t h = 0; f.bits == 6 && h < 2; h++) {
        uint32_t upper = 0;
        for (uint32_t k = 0; k < 4; k++)
            upper |= (quads[4 * h + k] >> 4 & 0x03030303) << 2 * k;
        memcpy(tile + 256 + 64 * h + 4 * r, &upper, 4);
    }
}

/* The scales of row r in its block of the file, into the head and the j-th tile. */
static void put_scales(struct packed_form f, const uint8_t *b, uint32_t j, uint8_t *head,
                       uint8_t *tile, uint32_t r) {
    uint8_t *scales = tile + f.code_bytes;
    uint32_t scale, min;
    switch (f.scales) {
    case PACKED_D_M:
        memcpy(scales + 32 + 2 * r, b + 2, 2);
        memcpy(scales + 2 * r, b, 2);
        return;
    case PACKED_D:
        memcpy(scales + 2 * r, b, 2);
        return;
    case PACKED_SUPER:
        memcpy(head + 2 * r, b + 208, 2);
        scales[r] = b[192 + 2 * j];
        scales[16 + r] = b[192 + 2 * j + 1];
        return;
    case PACKED_SUPER_DM:
        memcpy(head + 2 * r, b, 2);
        memcpy(head + 32 + 2 * r, b + 2, 2);
        dequant_scale_min(b + 4, j, &scale, &min);
        scales[r] = (uint8_t)scale;
        scales[16 + r] = (uint8_t)min;
        return;
    }
}

void packed_put_strip(const struct matrix *m, uint32_t strip, uint8_t *out) {
    struct packed_form f = packed_form(m->type);
    ASSERT(f.tiles);
    uint32_t block_len = f.tiles * PACKED_GROUP, num_blocks = m->cols / block_len;
    size_t block_bytes = f.head_bytes + (size_t)f.tiles * f.tile_bytes;
    size_t strip_bytes = num_blocks * block_bytes;
    uint32_t first = strip * PACKED_ROWS;
    uint32_t num_rows = m->rows - first < PACKED_ROWS ? m->rows - first : PACKED_ROWS;
    uint8_t *block = out + strip * strip_bytes, codes[PACKED_GROUP];
    uint32_t from_bytes = dtype_block_bytes(m->type);
    memset(block, 0, strip_bytes);
    for (uint32_t i = 0; i < num_blocks; i++, block += block_bytes)
        for (uint32_t r = 0; r < num_rows; r++) {
            const uint8_t *b =
                m->data + (size_t)(first + r) * m->row_bytes + (size_t)i * from_bytes;
            for (uint32_t j = 0; j < f.tiles; j++) {
                uint8_t *tile = block + f.head_bytes + (size_t)j * f.tile_bytes;
                take_codes(m->type, b, j, codes);
                put_codes(f, tile, r, codes);
                put_scales(f, b, j, block, tile, r);
            }
        }
}

/* ---- activations ---- */

static uint64_t aligned(uint64_t bytes) {
    return (bytes + 63) / 64 * 64;
}

uint64_t packed_activations_bytes(uint32_t num_tokens, uint32_t cols_max) {
    uint64_t codes = (uint64_t)num_tokens * cols_max, groups = codes / PACKED_GROUP;
    return PACKED_PLANES_MAX * aligned(codes) + 2 * aligned(groups * sizeof(float)) +
           aligned(codes / PACKED_HALF * sizeof(int32_t));
}

void packed_activations_carve(struct packed_activations *a, void *memory, uint32_t num_tokens,
                              uint32_t cols, uint32_t planes) {
    uint64_t codes = (uint64_t)num_tokens * cols, groups = codes / PACKED_GROUP;
    uint8_t *at = memory;
    *a = (struct packed_activations){.cols = cols, .planes = planes};
    for (uint32_t i = 0; i < PACKED_PLANES_MAX; i++, at += aligned(codes))
        a->codes[i] = (int8_t *)at;
    a->scales = (float *)at;
    at += aligned(groups * sizeof(float));
    a->offsets = (float *)at;
    at += aligned(groups * sizeof(float));
    a->negative_sums = (int32_t *)at;
}

/* One group: codes, scale, sums. */
static void round_group(const struct packed_activations *a, size_t group, const float *x) {
    bool finite = true;
    float top = 0;
    for (uint32_t i = 0; i < PACKED_GROUP; i++) {
        finite &= isfinite(x[i]) != 0;
        top = fmaxf(top, fabsf(x[i]));
    }
    float levels = a->planes == 1 ? 127 : 127 * 256;
    float factor = finite && top > 0 ? levels / top : 0;
    int32_t sums[2] = {0};
    for (uint32_t i = 0; i < PACKED_GROUP; i++) {
        int32_t code = finite ? (int32_t)lrintf(x[i] * factor) : 0;
        int32_t upper = (code + 128) >> 8;
        size_t at = group * PACKED_GROUP + i;
        a->codes[0][at] = (int8_t)(a->planes == 1 ? code : upper);
        if (a->planes == 2)
            a->codes[1][at] = (int8_t)(code - upper * 256);
        sums[i / PACKED_HALF] += code;
    }
    a->scales[group] = finite ? top / levels : NAN;
    a->offsets[group] = a->scales[group] * (float)(sums[0] + sums[1]);
    a->negative_sums[2 * group] = -sums[0];
    a->negative_sums[2 * group + 1] = -sums[1];
}

void packed_round_row_ref(const struct packed_activations *a, uint32_t token, const float *x) {
    uint32_t num_groups = a->cols / PACKED_GROUP;
    for (uint32_t g = 0; g < num_groups; g++)
        round_group(a, (size_t)token * num_groups + g, x + (size_t)g * PACKED_GROUP);
}

/* ---- products ---- */

static uint32_t code_at(struct packed_form f, const uint8_t *tile, uint32_t r, uint32_t c) {
    uint32_t quad = c / 4, byte = 4 * r + c % 4;
    if (f.bits == 8)
        return tile[64 * quad + byte];
    uint32_t code = tile[64 * (quad % 4) + byte] >> (quad < 4 ? 0 : 4) & 15;
    if (f.bits == 5)
        code |= (tile[256 + 8 * quad + byte / 8] >> byte % 8 & 1u) << 4;
    if (f.bits == 6)
        code |= (tile[256 + 64 * (quad / 4) + byte] >> 2 * (quad % 4) & 3u) << 4;
    return code;
}

struct tile_scales {
    float d[2], m; /* of each half */
};

static struct tile_scales scales_at(struct packed_form f, const uint8_t *head, const uint8_t *tile,
                                    uint32_t r) {
    const uint8_t *s = tile + f.code_bytes;
    struct tile_scales out = {0};
    switch (f.scales) {
    case PACKED_D:
    case PACKED_D_M:
        out.d[0] = out.d[1] = half_f16(s + 2 * r);
        out.m = f.scales == PACKED_D_M ? half_f16(s + 32 + 2 * r) : 0;
        break;
    case PACKED_SUPER:
        out.d[0] = half_f16(head + 2 * r) * (float)(int8_t)s[r];
        out.d[1] = half_f16(head + 2 * r) * (float)(int8_t)s[16 + r];
        break;
    case PACKED_SUPER_DM:
        out.d[0] = out.d[1] = half_f16(head + 2 * r) * (float)s[r];
        out.m = -(half_f16(head + 32 + 2 * r) * (float)s[16 + r]);
        break;
    }
    return out;
}

/* The integer part of columns first..first+len-1 of a tile. */
static int32_t dot_codes(struct packed_form f, const struct packed_activations *x, size_t group,
                         const uint8_t *tile, uint32_t r, uint32_t first, uint32_t len) {
    int32_t sum = 0, zero = f.zero_shift ? 1 << f.zero_shift : 0;
    for (uint32_t c = first; c < first + len; c++) {
        size_t at = group * PACKED_GROUP + c;
        int32_t code = x->codes[0][at];
        if (x->planes == 2)
            code = code * 256 + x->codes[1][at];
        sum += code * ((int32_t)code_at(f, tile, r, c) - zero);
    }
    return sum;
}

static float dot_row(const struct matrix *w, const struct packed_activations *x, uint32_t token,
                     uint32_t row) {
    struct packed_form f = packed_form(w->type);
    ASSERT(f.tiles);
    size_t block_bytes = f.head_bytes + (size_t)f.tiles * f.tile_bytes;
    uint32_t num_groups = w->cols / PACKED_GROUP, r = row % PACKED_ROWS;
    const uint8_t *block =
        w->packed + (size_t)(row / PACKED_ROWS) * (num_groups / f.tiles) * block_bytes;
    uint32_t halves = f.scales == PACKED_SUPER ? 2 : 1, len = PACKED_GROUP / halves;
    float acc = 0;
    for (uint32_t g = 0; g < num_groups; g++) {
        const uint8_t *tile = block + f.head_bytes + (size_t)(g % f.tiles) * f.tile_bytes;
        struct tile_scales s = scales_at(f, block, tile, r);
        size_t group = (size_t)token * num_groups + g;
        for (uint32_t h = 0; h < halves; h++)
            acc = fmaf((float)dot_codes(f, x, group, tile, r, h * len, len),
                       s.d[h] * x->scales[group], acc);
        if (f.scales == PACKED_D_M || f.scales == PACKED_SUPER_DM)
            acc = fmaf(s.m, x->offsets[group], acc);
        if (g % f.tiles + 1 == f.tiles)
            block += block_bytes;
    }
    return acc;
}

void packed_matmul_ref(const struct matmul *mm, uint32_t row, uint32_t num_rows) {
    for (uint32_t r = row; r < row + num_rows; r++)
        for (uint32_t t = 0; t < mm->num_tokens; t++) {
            float *out = &mm->out[t * mm->out_stride + r];
            float sum = dot_row(mm->w, mm->rounded, t, r);
            *out = mm->add ? *out + sum : sum;
        }
}
