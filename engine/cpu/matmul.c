/* Matrix product, plain: unpack one row of weights, then one dot product per token, summed in F64.
 *   out[t, r] = sum_c x[t, c] * w[r, c] */
#include "engine/cpu/dequant.h"
#include "engine/cpu/kernels_ref.h"

void matmul_ref(const struct matmul *mm, uint32_t row, uint32_t num_rows, float *scratch) {
    const struct matrix *w = mm->w;
    for (uint32_t r = row; r < row + num_rows; r++) {
        dequant_row(w->type, w->data + r * w->row_bytes, scratch, w->cols);
        for (uint32_t t = 0; t < mm->num_tokens; t++) {
            float *out = &mm->out[t * mm->out_stride + r];
            float sum = (float)kernels_ref_dot(mm->x + t * mm->x_stride, scratch, w->cols);
            *out = mm->add ? *out + sum : sum;
        }
    }
}
