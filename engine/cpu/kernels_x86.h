/* The tables of kernels for x86-64; kernels.c chooses. */
#ifndef ENGINE_CPU_KERNELS_X86_H
#define ENGINE_CPU_KERNELS_X86_H

#include "engine/cpu/kernels.h"

extern const struct cpu_kernels kernels_avx2, kernels_avx512, kernels_avx512_vnni;

#endif
