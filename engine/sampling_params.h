/* What a request may ask of the sampler: defaults (engine.h: sampling_params_init) and bounds. */
#ifndef ENGINE_SAMPLING_PARAMS_H
#define ENGINE_SAMPLING_PARAMS_H

#include "engine/engine.h"

/* ERR_INVALID with the field at fault, its value and its bound. */
MUST_CHECK enum errc sampling_params_check(const struct sampling_params *p, uint32_t vocab_size,
                                           struct error *err);

#endif
