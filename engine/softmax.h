/* Exponentials of a whole row of logits: the dear part of sampling from a large vocabulary. */
#ifndef ENGINE_SOFTMAX_H
#define ENGINE_SOFTMAX_H

#include <stdint.h>

/* Writes weights[i] = exp((logits[i] - largest) * scale), 0 where that is below 2^-126, and gives
 * their sum. largest is the largest of the n logits, scale > 0; -inf gives 0, NaN must not occur.
 * Relative error at most 2e-7 each. */
double softmax_weights(const float *logits, uint32_t n, float largest, float scale, float *weights);

/* The sum alone. */
double softmax_sum(const float *logits, uint32_t n, float largest, float scale);

#endif
