/* Which kernels this machine runs. */
#include "engine/cpu/kernels.h"

#include "core/base/mem.h"
#include "engine/cpu/kernels_ref.h"

static const struct cpu_kernels kernels_ref = {
    .name = "plain C",
    .matmul = matmul_ref,
    .rms_norm = rms_norm_ref,
    .silu_mul = silu_mul_ref,
    .attention = attention_ref,
};

const struct cpu_kernels *cpu_kernels_ref(void) {
    return &kernels_ref;
}

const struct cpu_kernels *const *cpu_kernels_all(void) {
    static const struct cpu_kernels *const all[] = {&kernels_ref, NULL};
    return all;
}

const struct cpu_kernels *cpu_kernels_best(void) {
    return &kernels_ref;
}

const char *cpu_features_name(void) {
    return "none";
}
