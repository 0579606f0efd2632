/* A Hugging Face model directory's config.json and generation_config.json. */
#ifndef ENGINE_HF_CONFIG_H
#define ENGINE_HF_CONFIG_H

#include "core/base/mem.h"

struct model_generation;
struct model_spec;

enum { HF_CONFIG_BYTES_MAX = 4 << 20 };

/* Fills an initialised spec from dir/config.json. ERR_NOT_FOUND: no such file; ERR_MALFORMED: not
 * JSON; ERR_INVALID names file, key and value. */
MUST_CHECK enum errc hf_config_read(const char *dir, struct model_spec *spec, struct error *err);

/* Fills in what dir/generation_config.json says and leaves the rest; no such file is fine. */
MUST_CHECK enum errc hf_config_read_generation(const char *dir, struct model_generation *gen,
                                               struct error *err);

#endif
