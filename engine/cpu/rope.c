/* Rotary position embedding: pair i of every head turns by position * inv_freq[i].
 *   (a, b) -> (a*cos - b*sin, a*sin + b*cos)                            arXiv:2104.09864 */
#include "engine/cpu/rope.h"

#include <math.h>
#include <stddef.h>

void rope_angles(int32_t position, const double *inv_freq, uint32_t num_pairs, float magnitude,
                 float *cos_out, float *sin_out) {
    for (uint32_t i = 0; i < num_pairs; i++) {
        double angle = (double)position * inv_freq[i];
        cos_out[i] = (float)(cos(angle) * (double)magnitude);
        sin_out[i] = (float)(sin(angle) * (double)magnitude);
    }
}

void rope_rotate(float *x, uint32_t num_heads, uint32_t head_dim, uint32_t num_pairs,
                 const float *cos_in, const float *sin_in, bool halves) {
    uint32_t step = halves ? 1 : 2, apart = halves ? num_pairs : 1;
    for (uint32_t h = 0; h < num_heads; h++, x += head_dim)
        for (uint32_t i = 0; i < num_pairs; i++) {
            float *a = x + (size_t)i * step, *b = a + apart;
            float was_a = *a, was_b = *b;
            *a = was_a * cos_in[i] - was_b * sin_in[i];
            *b = was_a * sin_in[i] + was_b * cos_in[i];
        }
}
