/* RMSNorm, plain. out[i] = x[i] / sqrt(mean(x^2) + eps) * w[i]          arXiv:1910.07467 */
#include <math.h>

#include "engine/cpu/kernels_ref.h"

void rms_norm_ref(const float *x, const float *w, float eps, uint32_t len, float *out) {
    double sum = 0;
    for (uint32_t i = 0; i < len; i++)
        sum += (double)x[i] * (double)x[i];
    float scale = (float)(1.0 / sqrt(sum / len + (double)eps));
    for (uint32_t i = 0; i < len; i++)
        out[i] = x[i] * scale * w[i];
}
