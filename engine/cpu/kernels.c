/* Which kernels this machine runs. The compiler's own CPU test also asks whether the kernel saves
 * the wide registers. */
#include "engine/cpu/kernels.h"

#include <pthread.h>
#include <stdio.h>

#include "core/base/mem.h"
#include "engine/cpu/kernels_ref.h"
#include "engine/cpu/kernels_x86.h"

static const struct cpu_kernels kernels_ref = {
    .name = "plain C",
    .matmul = matmul_ref,
    .rms_norm = rms_norm_ref,
    .silu_mul = silu_mul_ref,
    .attention = attention_ref,
};

enum { TABLES_MAX = 4, FEATURES_BYTES_MAX = 128 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const struct cpu_kernels *tables[TABLES_MAX + 1]; /* slowest first, then NULL */
static char features[FEATURES_BYTES_MAX];

static void add_feature(bool has, const char *name) {
    size_t len = strlen(features);
    if (has)
        snprintf(features + len, sizeof(features) - len, "%s%s", len ? " " : "", name);
}

static void probe(void) {
    size_t count = 0;
    tables[count++] = &kernels_ref;
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); /* F16C is older */
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (avx2)
        tables[count++] = &kernels_avx2;
    if (avx512)
        tables[count++] = &kernels_avx512;
    if (avx512 && __builtin_cpu_supports("avx512vnni"))
        tables[count++] = &kernels_avx512_vnni;
    add_feature(avx2, "AVX2 FMA F16C");
    add_feature(avx512, "AVX-512");
    add_feature(avx512 && __builtin_cpu_supports("avx512vnni"), "VNNI");
    add_feature(avx512 && __builtin_cpu_supports("avx512bf16"), "BF16");
#endif
    add_feature(!*features, "none");
}

const struct cpu_kernels *cpu_kernels_ref(void) {
    return &kernels_ref;
}

const struct cpu_kernels *const *cpu_kernels_all(void) {
    pthread_once(&once, probe);
    return tables;
}

const struct cpu_kernels *cpu_kernels_best(void) {
    const struct cpu_kernels *const *best = cpu_kernels_all();
    while (best[1])
        best++;
    return *best;
}

const char *cpu_features_name(void) {
    pthread_once(&once, probe);
    return features;
}
