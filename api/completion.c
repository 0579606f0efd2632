/* Running completions.
 *
 * A completion stands in the service's mailbox at most once. Whoever has news for it (a token, the
 * client's leaving, room in the socket) leaves them under its lock and queues it if it is not
 * queued; the text thread takes all news at once. Under load many tokens are handled per wake-up
 * and leave in one event, so text costs less the busier the machine is.
 *
 * It ends when the engine has let go of every choice and the answer is out. A slow client only
 * fills its own `unsent`; its completion goes on and is bounded by max_tokens. */
#include "api/completion.h"

#include <stdatomic.h>
#include <stdio.h>
#include <sys/random.h>

#include "api/completion_state.h"
#include "api/openai_json.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/mailbox.h"

enum { COMPLETIONS_MAX = 8192 }; /* more than an HTTP server has connections */

struct completion_service {
    struct engine *engine;
    const struct tokenizer *tokenizer;
    struct engine_metrics *metrics;
    struct mailbox *mailbox;
    pthread_t thread;
    pthread_mutex_t lock; /* guards num_running's way to 0 */
    pthread_cond_t idle;
    _Atomic uint32_t num_running;
};

void completion_request_deinit(struct completion_request *rq) {
    for (uint32_t i = 0; i < rq->num_prompts; i++) {
        token_ids_deinit(&rq->prompts[i].ids);
        free(rq->prompts[i].echo);
    }
    free(rq->prompts);
    json_decref(rq->body);
    *rq = (struct completion_request){0};
}

static void logprobs_deinit(struct completion_logprobs *l) {
    buf_deinit(&l->content);
    buf_deinit(&l->tokens);
    buf_deinit(&l->token_logprobs);
    buf_deinit(&l->top_logprobs);
    buf_deinit(&l->text_offset);
}

static void completion_destroy(struct completion *c) {
    for (uint32_t i = 0; i < c->num_choices; i++) {
        stop_match_deinit(&c->choices[i].stop);
        buf_deinit(&c->choices[i].text);
        logprobs_deinit(&c->choices[i].logprobs);
    }
    free(c->choices);
    free(c->news);
    buf_deinit(&c->unsent);
    pthread_mutex_destroy(&c->lock);
    completion_request_deinit(&c->rq);
    struct completion_service *s = c->service;
    free(c);
    pthread_mutex_lock(&s->lock);
    if (atomic_fetch_sub(&s->num_running, 1) == 1)
        pthread_cond_broadcast(&s->idle);
    pthread_mutex_unlock(&s->lock);
}

/* ---- news, from any thread ---- */

/* Under the lock. The mailbox holds every completion that can exist, so it cannot be full. */
static void queue(struct completion *c) {
    if (c->queued)
        return;
    c->queued = true;
    enum errc rc = mailbox_send(c->service->mailbox, c);
    ASSERT(!rc);
}

static void on_token(void *user, const struct engine_token *token) {
    struct completion_choice *choice = user;
    struct completion *c = choice->completion;
    pthread_mutex_lock(&c->lock);
    if (c->num_news == c->cap_news) {
        c->cap_news = c->cap_news ? c->cap_news * 2 : 8;
        c->news = mem_realloc(c->news, c->cap_news * sizeof(*c->news));
    }
    c->news[c->num_news++] = (struct completion_news){.choice = choice, .token = *token};
    queue(c);
    pthread_mutex_unlock(&c->lock);
}

static void on_gone(struct http_exchange *x, void *user) {
    struct completion *c = user;
    pthread_mutex_lock(&c->lock);
    c->gone = true;
    queue(c);
    pthread_mutex_unlock(&c->lock);
}

static void on_drained(struct http_exchange *x, void *user) {
    struct completion *c = user;
    pthread_mutex_lock(&c->lock);
    queue(c);
    pthread_mutex_unlock(&c->lock);
}

static void on_tick(struct http_exchange *x, void *user) {
    http_stream_write(x, ": ping\n\n", 8); /* between whole events */
}

/* ---- the text thread ---- */

/* Submits all choices. When one is refused the others are aborted and the refusal is the answer. */
static void submit(struct completion *c) {
    for (uint32_t i = 0; i < c->num_choices && !c->failure.code; i++) {
        struct completion_choice *choice = &c->choices[i];
        struct engine_request rq = {.prompt = choice->prompt->ids.data,
                                    .num_prompt = (uint32_t)choice->prompt->ids.len,
                                    .sampling = c->rq.params.sampling,
                                    .sink = on_token,
                                    .user = choice};
        if (rq.sampling.has_seed)
            rq.sampling.seed += choice->index; /* the choices of one request differ */
        if (engine_submit(c->service->engine, &rq, &choice->engine_id, &c->failure))
            break;
        choice->submitted = true;
        c->num_running++;
    }
}

static void abort_running(struct completion *c) {
    for (uint32_t i = 0; i < c->num_choices; i++) {
        struct completion_choice *choice = &c->choices[i];
        choice->closed = true;
        if (choice->submitted && !choice->finished)
            engine_abort(c->service->engine, choice->engine_id);
    }
}

static void begin(struct completion *c) {
    struct http_stream_callbacks cb = {
        .on_tick = on_tick, .on_gone = on_gone, .on_drained = on_drained, .user = c};
    http_set_header(c->rq.x, "Cache-Control", "no-cache");
    http_set_header(c->rq.x, "X-Accel-Buffering", "no");
    c->streaming = true;
    http_stream_begin(c->rq.x, 200, "text/event-stream; charset=utf-8", &cb);
}

/* Sends what is unsent, if it is taken. */
static void send_unsent(struct completion *c) {
    if (!c->unsent.len)
        return;
    if (http_stream_write(c->rq.x, c->unsent.data, c->unsent.len) || http_stream_gone(c->rq.x))
        buf_clear(&c->unsent);
}

static void close_choice(struct completion_choice *choice, enum finish_reason finish) {
    choice->closed = true;
    choice->finish = finish;
    stop_match_flush(&choice->stop, &choice->text);
}

/* Text of one token through the detokenizer and the stop strings. */
static void add_text(struct completion_choice *choice, const struct engine_token *t, bool last) {
    struct completion *c = choice->completion;
    AUTO_BUF piece = BUF_INIT;
    bool ends = t->finish == FINISH_STOP && !c->rq.params.include_stop_in_output;
    if (t->has_token && !ends)
        detokenizer_push(&choice->detokenizer, t->id, &piece);
    if (last)
        detokenizer_flush(&choice->detokenizer, &piece);
    if (!piece.len)
        return;
    if (choice->num_tokens <= c->rq.params.sampling.min_tokens && !last) {
        buf_append(&choice->text, piece.data, piece.len);
        return;
    }
    choice->stop_string = stop_match_push(&choice->stop, piece.data, piece.len, &choice->text);
}

static void count_token(struct completion_choice *choice, const struct engine_token *t) {
    struct completion *c = choice->completion;
    struct engine_metrics *m = c->service->metrics;
    if (!choice->num_tokens++) {
        choice->num_cached = t->num_cached_tokens;
        engine_metrics_first_token(m, t->mono_ns - c->arrival_ns);
    } else {
        engine_metrics_next_token(m, t->mono_ns - choice->last_token_ns);
    }
    choice->last_token_ns = t->mono_ns;
}

static void take_token(struct completion_choice *choice, const struct engine_token *t) {
    struct completion *c = choice->completion;
    bool last = t->finish != FINISH_NONE;
    if (last) {
        choice->finished = true;
        c->num_running--;
    }
    if (choice->closed)
        return;
    if (t->has_token && !t->is_prompt)
        count_token(choice, t);
    if (t->has_token && c->rq.params.logprobs)
        completion_logprobs_add(choice, t);
    if (t->is_prompt && !last)
        return;
    add_text(choice, t, last);
    if (choice->stop_string) {
        choice->closed = true;
        choice->finish = FINISH_STOP;
        if (!last)
            engine_abort(c->service->engine, choice->engine_id);
    } else if (last) {
        if (t->finish == FINISH_STOP && t->id != tokenizer_eos(c->service->tokenizer))
            choice->stop_id = t->id;
        close_choice(choice, t->finish);
    }
    if (choice->closed)
        engine_metrics_finished(c->service->metrics, choice->finish,
                                (uint32_t)choice->prompt->ids.len, choice->num_tokens,
                                clock_mono_ns() - c->arrival_ns);
}

static void note_failure(struct completion *c, const struct completion_choice *choice) {
    if (c->failure.code)
        return;
    if (choice->finish == FINISH_ERROR)
        (void)err_set(&c->failure, ERR_INTERNAL, "the model's output is not a number");
    else if (choice->finish == FINISH_ABORT)
        (void)err_set(&c->failure, ERR_UNAVAILABLE, "the replica is shutting down");
}

static bool all_closed(const struct completion *c) {
    for (uint32_t i = 0; i < c->num_choices; i++) {
        if (!c->choices[i].closed)
            return false;
    }
    return true;
}

static void answer_whole(struct completion *c) {
    c->answered = true;
    if (c->failure.code) {
        if (c->failure.code == ERR_UNAVAILABLE) /* cut off before it has said anything */
            http_set_header(c->rq.x, HTTP_DRAINING_HEADER, "1");
        openai_reply_error(c->rq.x, &c->failure);
        return;
    }
    AUTO_BUF body = BUF_INIT;
    completion_render_reply(c, &body);
    http_reply(c->rq.x, 200, "application/json", body.data, body.len);
}

static bool has_news(const struct completion_choice *choice) {
    return choice->text.len || choice->logprobs.content.len || choice->logprobs.tokens.len ||
           (choice->closed && !choice->told_end);
}

/* Writes chunks for every choice that has something to say; the end when all are closed. */
static void answer_stream(struct completion *c) {
    if (c->failure.code)
        abort_running(c);
    for (uint32_t i = 0; i < c->num_choices && !c->failure.code; i++) {
        if (has_news(&c->choices[i]))
            completion_render_chunk(c, &c->choices[i], &c->unsent);
    }
    if (all_closed(c) && !c->told_end) {
        c->told_end = true;
        if (c->failure.code)
            completion_render_error(c, &c->failure, &c->unsent);
        completion_render_end(c, &c->unsent);
    }
    send_unsent(c);
    if (c->told_end && !c->unsent.len) {
        c->answered = true;
        http_stream_end(c->rq.x);
    }
}

/* The client has left: nothing more is computed for it. */
static void give_up(struct completion *c) {
    abort_running(c);
    c->answered = true;
    if (c->streaming) {
        http_stream_end(c->rq.x);
        return;
    }
    struct error err = ERROR_INIT;
    (void)err_set(&err, ERR_CANCELLED, "the client left");
    openai_reply_error(c->rq.x, &err);
}

/* Takes the news; true when the client has left. */
static bool take_news(struct completion *c) {
    pthread_mutex_lock(&c->lock);
    struct completion_news *news = steal(c->news);
    size_t n = c->num_news;
    bool gone = c->gone;
    c->num_news = c->cap_news = 0;
    c->queued = false;
    pthread_mutex_unlock(&c->lock);
    for (size_t i = 0; i < n; i++) {
        take_token(news[i].choice, &news[i].token);
        if (news[i].choice->closed)
            note_failure(c, news[i].choice);
    }
    free(news);
    return gone;
}

static void start(struct completion *c) {
    c->started = true;
    submit(c);
    if (c->failure.code)
        abort_running(c);
    else if (c->rq.params.stream)
        begin(c);
}

static void advance(struct completion *c) {
    bool gone = take_news(c);
    if (!c->started)
        start(c);
    if (c->answered) {
        /* the engine still holds some of its choices */
    } else if (gone) {
        give_up(c);
    } else if (c->streaming) {
        answer_stream(c);
    } else if (c->failure.code || all_closed(c)) {
        answer_whole(c);
    }
    if (!c->answered || c->num_running)
        return;
    pthread_mutex_lock(&c->lock);
    bool again = c->queued; /* its last entry in the mailbox is still to come */
    pthread_mutex_unlock(&c->lock);
    if (!again)
        completion_destroy(c);
}

static void *text_main(void *arg) {
    struct completion_service *s = arg;
    pthread_setname_np(pthread_self(), "text");
    for (struct completion *c; (c = mailbox_receive(s->mailbox, -1));)
        advance(c);
    return NULL;
}

/* ---- the service ---- */

enum errc completion_service_start(const struct completion_service_options *opt,
                                   struct completion_service **ret_s, struct error *err) {
    struct completion_service *s = mem_alloc(sizeof(*s));
    s->engine = opt->engine;
    s->tokenizer = opt->tokenizer;
    s->metrics = opt->metrics;
    s->mailbox = mailbox_create(COMPLETIONS_MAX);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->idle, NULL);
    int rc = pthread_create(&s->thread, NULL, text_main, s);
    if (rc) {
        mailbox_destroy(s->mailbox);
        free(s);
        return err_set(err, ERR_EXHAUSTED, "cannot start the text thread: %s", strerror(rc));
    }
    *ret_s = s;
    return OK;
}

void completion_service_stop(struct completion_service *s) {
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    while (atomic_load(&s->num_running))
        pthread_cond_wait(&s->idle, &s->lock);
    pthread_mutex_unlock(&s->lock);
    mailbox_close(s->mailbox);
    pthread_join(s->thread, NULL);
    mailbox_destroy(s->mailbox);
    pthread_cond_destroy(&s->idle);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

uint32_t completion_service_num_running(const struct completion_service *s) {
    return atomic_load(&((struct completion_service *)s)->num_running);
}

static void make_id(struct completion *c) {
    static const char *const prefixes[] = {"chatcmpl-", "cmpl-", "gen-"};
    unsigned char random[16];
    ASSERT(getrandom(random, sizeof(random), 0) == sizeof(random));
    int n = snprintf(c->id, sizeof(c->id), "%s", prefixes[c->rq.form]);
    for (size_t i = 0; i < sizeof(random); i++)
        n += snprintf(c->id + n, sizeof(c->id) - (size_t)n, "%02x", random[i]);
}

static void init_choice(struct completion *c, uint32_t index) {
    struct completion_choice *choice = &c->choices[index];
    const struct openai_params *p = &c->rq.params;
    choice->completion = c;
    choice->index = index;
    choice->prompt = &c->rq.prompts[index / p->n];
    choice->stop_id = -1;
    detokenizer_init(&choice->detokenizer, c->service->tokenizer, !p->keep_special_tokens);
    choice->detokenizer.started = true; /* the text goes on from the prompt */
    stop_match_init(&choice->stop, p->stop, p->num_stop, p->include_stop_in_output);
    if (choice->prompt->echo)
        buf_puts(&choice->text, choice->prompt->echo);
}

void completion_start(struct completion_service *s, struct completion_request *rq) {
    if (atomic_fetch_add(&s->num_running, 1) >= COMPLETIONS_MAX) {
        struct error err = ERROR_INIT;
        atomic_fetch_sub(&s->num_running, 1);
        (void)err_set(&err, ERR_EXHAUSTED, "more than %d requests are running", COMPLETIONS_MAX);
        openai_reply_error(rq->x, &err);
        completion_request_deinit(rq);
        return;
    }
    struct completion *c = mem_alloc(sizeof(*c));
    c->service = s;
    c->rq = *rq;
    *rq = (struct completion_request){0};
    c->arrival_ns = clock_mono_ns();
    c->created_seconds = clock_wall_ms() / 1000;
    make_id(c);
    pthread_mutex_init(&c->lock, NULL);
    c->num_choices = c->rq.num_prompts * c->rq.params.n;
    c->choices = mem_array(c->num_choices, sizeof(*c->choices));
    for (uint32_t i = 0; i < c->num_choices; i++)
        init_choice(c, i);
    http_on_gone(c->rq.x, on_gone, c);
    pthread_mutex_lock(&c->lock);
    queue(c);
    pthread_mutex_unlock(&c->lock);
}
