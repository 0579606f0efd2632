/* The engine's HTTP interface: OpenAI's endpoints, the Open Inference Protocol's, health, metrics.
 * One model per server, under one or more names. */
#ifndef API_OPENAI_H
#define API_OPENAI_H

#include "api/completion.h"
#include "engine/chat_template.h"

struct openai_server { /* all borrowed, set up by engine_command.c */
    const struct model *model;
    struct engine *engine;
    struct completion_service *completions;
    struct engine_metrics *metrics;
    const struct chat_template *chat_template; /* NULL: the model has none */
    const struct model_generation *generation; /* NULL: vLLM's own defaults */
    const char *const *names; /* NULL-terminated, the first is the model's main name */
    const char *api_key;      /* NULL: none is asked for */
    int32_t max_logprobs;
    int64_t created_seconds;
    uint64_t memory_bytes; /* what the process takes when all is in use, for /health; 0: unknown */
    _Atomic bool draining; /* health says 503, so that no new requests come */
};

http_handler_fn openai_handle; /* user: struct openai_server */

/* For the files that answer one endpoint each. They answer the exchange in every case. */
void openai_chat(struct openai_server *s, struct http_exchange *x);        /* openai_chat.c */
void openai_completions(struct openai_server *s, struct http_exchange *x); /* openai_text.c */
/* path: what follows "/v2". False: there is no such path. */
bool oip_handle(struct openai_server *s, struct http_exchange *x, const char *path); /* oip.c */

/* What a chat and a text completion have in common: reads body, model and parameters, lets
 * read_prompts fill rq->prompts from rq->body, and starts the completion. Any error is answered. */
typedef enum errc openai_prompts_fn(const struct openai_server *s, struct completion_request *rq,
                                    struct error *err);
void openai_complete(struct openai_server *s, struct http_exchange *x, enum completion_form form,
                     openai_prompts_fn *read_prompts);

/* The name the client used, if it is one of ours; the main name when it gave none.
 * ERR_NOT_FOUND names those there are. */
MUST_CHECK enum errc openai_find_model(const struct openai_server *s, const char *name,
                                       const char **ret_name, struct error *err);

#endif
