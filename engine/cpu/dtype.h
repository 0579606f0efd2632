/* Element types of weights: the numbers are those of GGUF files, so a file's type is used as it
 * stands. A quantised type packs `block_len` weights into `block_bytes` bytes. */
#ifndef ENGINE_CPU_DTYPE_H
#define ENGINE_CPU_DTYPE_H

#include <stdbool.h>
#include <stdint.h>

enum dtype {
    DTYPE_F32 = 0,
    DTYPE_F16 = 1,
    DTYPE_Q4_0 = 2,
    DTYPE_Q4_1 = 3,
    DTYPE_Q5_0 = 6,
    DTYPE_Q5_1 = 7,
    DTYPE_Q8_0 = 8,
    DTYPE_Q4_K = 12,
    DTYPE_Q5_K = 13,
    DTYPE_Q6_K = 14,
    DTYPE_BF16 = 30,
    DTYPE_COUNT = 31
};

/* A weight in a block of Q8_0, Q4_0, Q4_1, Q5_0 or Q5_1, and in a K-quant super-block. */
enum { DTYPE_BLOCK_LEN = 32, DTYPE_SUPER_LEN = 256 };

/* All that the engine multiplies with, for error messages. */
#define DTYPE_SUPPORTED "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K"

bool dtype_supported(uint32_t type);    /* any number that a file may hold */
const char *dtype_name(uint32_t type);  /* "Q4_K"; types that are only known by name too; or "?" */
uint32_t dtype_block_len(enum dtype t); /* 1 for F32, F16, BF16 */
uint32_t dtype_block_bytes(enum dtype t);

/* Bytes of `len` weights, len a multiple of the block length and small enough not to overflow. */
uint64_t dtype_bytes(enum dtype t, uint64_t len);

#endif
