/* SwiGLU's gate, plain. gate[i] = silu(gate[i]) * up[i], silu(x) = x / (1 + exp(-x)).
 * arXiv:2002.05202 */
#include <math.h>

#include "engine/cpu/kernels_ref.h"

void silu_mul_ref(float *gate, const float *up, uint32_t len) {
    for (uint32_t i = 0; i < len; i++)
        gate[i] = (float)((double)gate[i] / (1.0 + exp(-(double)gate[i]))) * up[i];
}
