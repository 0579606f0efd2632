/* From a container of a Pod to the program that runs here.
 *
 * inferd has no images: an image name selects a runtime that this machine has. Images of
 * vllm/vllm-openai, KServe's huggingfaceserver and inferd's own are served by `inferd engine` with
 * their own spelling of the options (core/base/engine_args.h). $(NAME) in args is replaced from the
 * container's env, as Kubernetes does.
 *
 * The image `host` stands for no runtime: its command, found through PATH, and args are run as they
 * are, without a model and without a socket.
 *
 * The model is what --model (or --model_id, --model_dir, the first word) says. "/mnt/models" there
 * stands for the Pod's annotation internal.serving.kserve.io/storage-initializer-sourceuri, which
 * KServe's controller writes from storageUri; it is also used when no option names a model. */
#ifndef CORE_NODE_REPLICA_COMMAND_H
#define CORE_NODE_REPLICA_COMMAND_H

#include <jansson.h>

#include "core/base/mem.h"
#include "core/base/model_path.h"

#define REPLICA_SOURCE_URI_ANNOTATION "internal.serving.kserve.io/storage-initializer-sourceuri"

struct replica_command {
    char **argv;           /* NULL-terminated */
    char **env;            /* NULL-terminated "K=V" */
    char *model_reference; /* as the pod says it: "meta-llama/Llama-3.1-8B-Instruct" */
    char *model_path;      /* where it is here */
    char **served_names;   /* NULL-terminated; at least one */
    char *uds_path;
    char **warnings; /* NULL-terminated: options accepted without effect */
    bool host;       /* of the image `host`: model_reference to uds_path are NULL */
    char *work_dir;  /* of a host pod; NULL: its home */
};

struct replica_command_options {
    const char *program; /* path of inferd */
    const char *run_dir; /* the socket's directory */
    struct model_path_options models;
    /* Asked for a model that is at none of these places, *err says which; gives its path, or sets
     * *err anew. NULL: nobody is asked. */
    enum errc (*find_model)(void *user, const char *reference, char **ret_path, struct error *err);
    void *user;
    /* Which container, with its place for messages; NULL: the first, "spec.containers[0]". */
    const json_t *container;
    const char *path;
    uint64_t kv_cache_bytes; /* for an engine whose args do not say; 0: it decides itself */
};

/* pod: the Pod object. ERR_INVALID: an image no runtime here serves (with the list), an option that
 * would change results and is not supported; ERR_NOT_FOUND: the model is not on this machine (names
 * every place looked at). Gives the command, released by replica_command_deinit(). */
MUST_CHECK enum errc replica_command_make(const json_t *pod,
                                          const struct replica_command_options *opt,
                                          struct replica_command *ret_cmd, struct error *err);
void replica_command_deinit(struct replica_command *c);

#define REPLICA_HOST_IMAGE   "host"
#define REPLICA_KNOWN_IMAGES "vllm/vllm-openai, kserve/huggingfaceserver, inferd/engine, host"

/* A pod is run whole by commands of this machine, or by `inferd engine` in its first container:
 * has that one the image `host`? */
bool replica_command_is_host(const json_t *pod);

/* True when an image name selects `inferd engine`. */
bool replica_command_image_known(const char *image);

#endif
