/* Where a model reference points on this machine.
 *
 *   embedded://NAME          a model inside the program
 *   file:///PATH, /PATH, ./PATH   a file or directory as it is
 *   pvc://CLAIM/SUB/PATH     models_dir/CLAIM/SUB/PATH, or models_dir/SUB/PATH
 *   hf://ORG/NAME[:REV], ORG/NAME, NAME
 *                            models_dir/ORG/NAME (directory or NAME.gguf), models_dir/NAME,
 *                            models_dir/NAME.gguf, or hf_cache_dir/models--ORG--NAME/snapshots/REV
 * A directory with exactly one *.gguf and no config.json stands for that file. */
#ifndef CORE_BASE_MODEL_PATH_H
#define CORE_BASE_MODEL_PATH_H

#include "core/base/mem.h"

struct model_path_options {
    const char *models_dir;   /* NULL: none */
    const char *hf_cache_dir; /* NULL: $HF_HUB_CACHE, $HF_HOME/hub, ~/.cache/huggingface/hub */
};

/* Gives the path (or "embedded://NAME"). ERR_NOT_FOUND names every place that was looked at;
 * ERR_INVALID: a scheme that is not supported, or ".." in the reference. */
MUST_CHECK enum errc model_path_resolve(const char *reference, const struct model_path_options *opt,
                                        char **ret_path, struct error *err);

#endif
