/* Weights on disk: the trainer's checkpoints, and reading back the GGUF files made from them. */
#ifndef ENGINE_DEMO_MODEL_FILE_H
#define ENGINE_DEMO_MODEL_FILE_H

#include "engine/demo/net.h"
#include "engine/demo/optimizer.h"

/* A checkpoint is: 8 bytes "DEMOCKPT", net_shape, i64 step, then weights, first and second moments
 * as float arrays of num_weights each. export.py reads the weights. */
bool checkpoint_save(const char *path, const struct net *n, const struct optimizer *o);

/* Inits `n`; `o` may be NULL, otherwise its arrays are allocated. */
bool checkpoint_load(const char *path, struct net *n, struct optimizer *o);

/* Inits `n` from a GGUF file with Q8_0 matrices and F32 norms, as export.py writes them. */
bool gguf_load(const char *path, struct net *n);

#endif
