/* Element types: one table, indexed by the number that GGUF files use. Types with a name and no
 * block are those that other programs write and this one does not multiply with; they are named so
 * that an error can say what the file holds. */
#include "engine/cpu/dtype.h"

#include "core/base/mem.h"

struct dtype_row {
    const char *name;
    uint8_t block_len;   /* less one, so that 256 fits */
    uint8_t block_bytes; /* 0: not supported */
};

static const struct dtype_row table[] = {
    [DTYPE_F32] = {"F32", 1 - 1, 4},
    [DTYPE_F16] = {"F16", 1 - 1, 2},
    [DTYPE_Q4_0] = {"Q4_0", 32 - 1, 18},
    [DTYPE_Q4_1] = {"Q4_1", 32 - 1, 20},
    [DTYPE_Q5_0] = {"Q5_0", 32 - 1, 22},
    [DTYPE_Q5_1] = {"Q5_1", 32 - 1, 24},
    [DTYPE_Q8_0] = {"Q8_0", 32 - 1, 34},
    [9] = {"Q8_1", 0, 0},
    [10] = {"Q2_K", 0, 0},
    [11] = {"Q3_K", 0, 0},
    [DTYPE_Q4_K] = {"Q4_K", 256 - 1, 144},
    [DTYPE_Q5_K] = {"Q5_K", 256 - 1, 176},
    [DTYPE_Q6_K] = {"Q6_K", 256 - 1, 210},
    [15] = {"Q8_K", 0, 0},
    [16] = {"IQ2_XXS", 0, 0},
    [17] = {"IQ2_XS", 0, 0},
    [18] = {"IQ3_XXS", 0, 0},
    [19] = {"IQ1_S", 0, 0},
    [20] = {"IQ4_NL", 0, 0},
    [21] = {"IQ3_S", 0, 0},
    [22] = {"IQ2_S", 0, 0},
    [23] = {"IQ4_XS", 0, 0},
    [24] = {"I8", 0, 0},
    [25] = {"I16", 0, 0},
    [26] = {"I32", 0, 0},
    [27] = {"I64", 0, 0},
    [28] = {"F64", 0, 0},
    [29] = {"IQ1_M", 0, 0},
    [DTYPE_BF16] = {"BF16", 1 - 1, 2},
    [34] = {"TQ1_0", 0, 0},
    [35] = {"TQ2_0", 0, 0},
    [39] = {"MXFP4", 0, 0},
};

bool dtype_supported(uint32_t type) {
    return type < ARRAY_LEN(table) && table[type].block_bytes;
}

const char *dtype_name(uint32_t type) {
    return type < ARRAY_LEN(table) && table[type].name ? table[type].name : "?";
}

uint32_t dtype_block_len(enum dtype t) {
    return table[t].block_len + 1u;
}

uint32_t dtype_block_bytes(enum dtype t) {
    return table[t].block_bytes;
}

uint64_t dtype_bytes(enum dtype t, uint64_t len) {
    return len / dtype_block_len(t) * dtype_block_bytes(t);
}
