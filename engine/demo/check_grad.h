/* Are the derivatives in net.c those of the function in net.c? */
#ifndef ENGINE_DEMO_CHECK_GRAD_H
#define ENGINE_DEMO_CHECK_GRAD_H

#include <stdbool.h>

/* Prints one line per tensor of a tiny net; false when one is off by more than a percent.
 * Meaningful with fp32 products only (`make check`): bf16 rounding is coarser than the differences
 * taken here. */
bool check_grad(void);

#endif
