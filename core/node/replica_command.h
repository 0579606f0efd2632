/* From a container of a Pod to the program that runs here.
 *
 * inferd has no images: an image name selects a runtime that this machine has. Images of
 * vllm/vllm-openai, KServe's huggingfaceserver and inferd's own are served by `inferd engine` with
 * vLLM's spelling of the options. */
#ifndef CORE_NODE_REPLICA_COMMAND_H
#define CORE_NODE_REPLICA_COMMAND_H

#include <jansson.h>

#include "core/base/mem.h"
#include "core/base/model_path.h"

struct replica_command {
    char **argv;           /* NULL-terminated */
    char **env;            /* NULL-terminated "K=V" */
    char *model_reference; /* as the pod says it: "meta-llama/Llama-3.1-8B-Instruct" */
    char *model_path;      /* where it is here */
    char *served_model_name;
    char *uds_path;
    char **warnings; /* NULL-terminated: options accepted without effect */
};

struct replica_command_options {
    const char *program; /* path of inferd */
    const char *run_dir; /* the socket's directory */
    struct model_path_options models;
};

/* pod: the Pod object. ERR_INVALID: an image no runtime here serves (with the list), an option that
 * would change results and is not supported; ERR_NOT_FOUND: the model is not on this machine (names
 * every place looked at). Gives the command, released by replica_command_deinit(). */
MUST_CHECK enum errc replica_command_make(const json_t *pod,
                                          const struct replica_command_options *opt,
                                          struct replica_command *ret_cmd, struct error *err);
void replica_command_deinit(struct replica_command *c);

/* True when an image name selects `inferd engine`. */
bool replica_command_image_known(const char *image);

#endif
