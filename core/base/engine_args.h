/* The command line of `inferd engine`: vLLM's spellings, KServe's huggingfaceserver's, and ours.
 *
 * One table says of every option whether it is honoured, has no meaning here (accepted, with a
 * warning that the operator sees as an Event), or would change results and is refused. The same
 * parser runs in the daemon, when a Pod is admitted, and in the replica, so both agree. */
#ifndef CORE_BASE_ENGINE_ARGS_H
#define CORE_BASE_ENGINE_ARGS_H

#include "core/base/mem.h"

enum { ENGINE_ARGS_NAMES_MAX = 16, ENGINE_ARGS_WARNINGS_MAX = 64 };

struct engine_args {
    char *model;                               /* reference or path; NULL: not given */
    char *served_names[ENGINE_ARGS_NAMES_MAX]; /* what clients call it; none given: the model's */
    uint32_t num_served_names;
    char *host;          /* NULL: "0.0.0.0" */
    int32_t port;        /* 8000; KServe's images use 8080 and say so */
    char *uds;           /* Unix socket path, NULL: TCP */
    char *chat_template; /* file or inline source, NULL: the model's */
    char *api_key;       /* NULL: none is asked for */
    char *revision;      /* of a hub model */
    char *models_dir, *hf_cache_dir;
    char *device; /* "auto", "cpu", "cuda" */
    uint32_t max_model_len, max_num_seqs, max_num_batched_tokens, block_size; /* 0: default */
    uint64_t kv_cache_bytes;                                                  /* 0: default */
    uint32_t num_threads;                                                     /* 0: all */
    uint64_t seed;
    int32_t max_logprobs; /* 20 */
    bool disable_prefix_caching;
    bool reference;                               /* --dtype float32 */
    bool ignore_generation_config;                /* --generation-config vllm */
    char *warnings[ENGINE_ARGS_WARNINGS_MAX + 1]; /* NULL-terminated */
    uint32_t num_warnings;
};

/* args: without the program's name. A first word that is no option is the model (`vllm serve M`).
 * "--key value", "--key=value", '_' for '-'. ERR_INVALID with field = the option. The result is
 * released with engine_args_deinit() also after an error. */
MUST_CHECK enum errc engine_args_parse(const char *const *args, struct engine_args *ret_args,
                                       struct error *err);
void engine_args_deinit(struct engine_args *a);

struct buf;
void engine_args_help(struct buf *out); /* one line per option that is honoured */

#endif
