/* Rotary position embedding. One implementation: it is a sliver of a step's work. */
#ifndef ENGINE_CPU_ROPE_H
#define ENGINE_CPU_ROPE_H

#include <stdbool.h>
#include <stdint.h>

/* cos and sin [num_pairs] of position * inv_freq[i], times `magnitude` (1 but for YaRN). Angles
 * are taken in F64: at position 100,000 an F32 angle would be off by 1/128 of a radian. */
void rope_angles(int32_t position, const double *inv_freq, uint32_t num_pairs, float magnitude,
                 float *cos_out, float *sin_out);

/* Rotates the first 2 * num_pairs elements of each of num_heads heads in place. Pair i is elements
 * (i, i + num_pairs) with `halves` (Hugging Face; Qwen in GGUF), else (2i, 2i + 1) (Llama in GGUF,
 * whose converter reordered the rows of Q and K to fit). */
void rope_rotate(float *x, uint32_t num_heads, uint32_t head_dim, uint32_t num_pairs,
                 const float *cos_in, const float *sin_in, bool halves);

#endif
