/* SipHash-2-4 with 128 bits of result: names a KV block by what it holds. Keyed, so that nobody who
 * can only send prompts can make two different blocks share a name. */
#ifndef ENGINE_SIPHASH_H
#define ENGINE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct siphash {
    uint64_t lo, hi;
};

/* The hash of `first` (16 bytes, little-endian) followed by data[0..bytes). */
struct siphash siphash_chain(const uint64_t key[2], struct siphash first, const void *data,
                             size_t bytes);

/* The plain function of the paper. */
struct siphash siphash(const uint64_t key[2], const void *data, size_t bytes);

#endif
