/* Running completions: from a parsed request to the last byte of its answer.
 *
 * One text thread per engine process owns every running completion. HTTP threads hand completions
 * in, the engine thread hands tokens in; the text thread submits to the engine, turns ids into
 * text, cuts at stop strings, and writes JSON or server-sent events. So the engine never waits for
 * text, and an HTTP thread never waits for a token. */
#ifndef API_COMPLETION_H
#define API_COMPLETION_H

#include "api/engine_metrics.h"
#include "api/openai_params.h"
#include "core/http.h"
#include "engine/tokenizer.h"

struct completion_service;

struct completion_service_options {
    struct engine *engine; /* all borrowed for the service's life */
    const struct tokenizer *tokenizer;
    struct engine_metrics *metrics;
};

MUST_CHECK enum errc completion_service_start(const struct completion_service_options *opt,
                                              struct completion_service **ret_s, struct error *err);
/* The HTTP server must be stopped before: then every client is gone, and this waits until the
 * engine has let go of what ran for them. The engine is destroyed after. NULL is fine. */
void completion_service_stop(struct completion_service *s);
uint32_t completion_service_num_running(const struct completion_service *s);

enum completion_form { COMPLETION_CHAT, COMPLETION_TEXT, COMPLETION_GENERATE };

struct completion_prompt {
    struct token_ids ids;
    char *echo; /* text to put in front of the answer, NULL: none */
};

struct completion_request {
    struct http_exchange *x; /* taken */
    json_t *body;            /* taken: params.stop points into it */
    enum completion_form form;
    struct openai_params params;
    const char *model; /* what the answer calls it; borrowed for the service's life */
    struct completion_prompt *prompts; /* taken, with what is in them */
    uint32_t num_prompts;
};

/* Takes everything in rq. Any error is answered on the exchange. */
void completion_start(struct completion_service *s, struct completion_request *rq);
void completion_request_deinit(struct completion_request *rq); /* for callers that give up before */

#endif
