/* A GGUF's metadata as a model_spec, and its tensors as a source. */
#ifndef ENGINE_GGUF_CONFIG_H
#define ENGINE_GGUF_CONFIG_H

#include "core/base/mem.h"

struct gguf;
struct model_spec;
struct tensor_source;

/* Fills an initialised spec. ERR_INVALID names file and key. */
MUST_CHECK enum errc gguf_config_read(const struct gguf *g, struct model_spec *spec,
                                      struct error *err);

/* Tensors borrow from g, names and the array from the arena. */
void gguf_config_tensors(const struct gguf *g, struct arena *arena, struct tensor_source *ret_s);

#endif
