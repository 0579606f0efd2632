/* Philox4x32-10: a random number generator without a state. Number `index` of stream `seed` is a
 * function of the two, so a request draws the same numbers whenever and beside whomever it runs. */
#ifndef ENGINE_PHILOX_H
#define ENGINE_PHILOX_H

#include <stdint.h>

void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Uniform in [0, 1), 53 bits. */
double philox_uniform(uint64_t seed, uint64_t index);

#endif
