/* The inside of a completion, shared by the file that runs it (completion.c) and the file that
 * writes it (completion_render.c). Everything but the locked part belongs to the text thread. */
#ifndef API_COMPLETION_STATE_H
#define API_COMPLETION_STATE_H

#include <pthread.h>

#include "api/completion.h"
#include "api/stop_match.h"

/* Log probabilities on their way out: chat fills `content`, completions the four arrays. Each holds
 * the inside of a JSON array. */
struct completion_logprobs {
    struct buf content, tokens, token_logprobs, top_logprobs, text_offset;
    uint32_t offset; /* characters of text so far */
};

struct completion_choice {
    struct completion *completion;
    uint32_t index;
    const struct completion_prompt *prompt;
    uint64_t engine_id;
    bool submitted;
    bool closed;              /* no more text: finished, stopped, or the client left */
    bool finished;            /* the engine has let go of it */
    bool told_role, told_end; /* in a stream: the first and the last chunk were written */
    enum finish_reason finish;
    const char *stop_string; /* what stopped it; NULL: not a stop string */
    int32_t stop_id;         /* -1: none */
    uint32_t num_tokens, num_cached;
    int64_t last_token_ns;
    struct detokenizer detokenizer;
    struct stop_match stop;
    struct buf text; /* not yet sent (stream), or all of it */
    struct completion_logprobs logprobs;
};

struct completion_news { /* a token for a choice, from the engine thread */
    struct completion_choice *choice;
    struct engine_token token;
};

struct completion {
    struct completion_service *service;
    struct completion_request rq;
    char id[48];
    int64_t created_seconds, arrival_ns;
    struct completion_choice *choices;
    uint32_t num_choices;
    uint32_t num_running; /* submitted to the engine and not finished */
    bool started, streaming, told_end;
    bool answered;        /* the exchange is gone */
    struct buf unsent;    /* events that the HTTP server would not take yet */
    struct error failure; /* code OK: none */

    pthread_mutex_t lock; /* guards what follows */
    struct completion_news *news;
    size_t num_news, cap_news;
    bool queued; /* stands in the service's mailbox */
    bool gone;   /* the client left */
};

/* Appends the body of a whole answer. */
void completion_render_reply(const struct completion *c, struct buf *out);
/* Appends one server-sent event with what `choice` has to say, and empties its text. */
void completion_render_chunk(struct completion *c, struct completion_choice *choice,
                             struct buf *out);
/* Appends the closing events: usage where asked for, and [DONE]. */
void completion_render_end(const struct completion *c, struct buf *out);
void completion_render_error(const struct completion *c, const struct error *err, struct buf *out);

/* Adds the token to the choice's log probabilities. */
void completion_logprobs_add(struct completion_choice *choice, const struct engine_token *t);

#endif
