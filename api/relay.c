/* From a routed request to its answer, in one thread.
 *
 *              ┌────────────── no replica has room ─────────────┐
 *   submit ─▶ dispatch ─▶ send ─▶ head ─▶ bytes ─▶ end           ▼
 *                ▲          │ failed before a byte: once more   hold ─▶ 503 after hold_ms
 *                └──────────┴───────────────────────────────────┘ table changed, a request ended
 *
 * Everything about a request belongs to this thread. Server threads only leave signals (new, client
 * gone, drained) on a list and wake it. A signalled request cannot vanish: it is freed here, after
 * its exchange was let go, and http.h promises that no callback runs after that.
 *
 * Retry: the body is whole in memory and inference changes nothing, so a request whose replica
 * failed before the first byte of an answer's body is sent again, once, to another replica; when
 * there is none, it is held like one that came while replicas start. For that the head of an answer
 * is kept back until a byte follows it (a streaming engine sends its head at once, and the first
 * token only after the prefill). After the first byte there is no second try: an event stream gets
 * an error event (if it stands between two events), and in every case the connection is cut, so
 * that the client cannot take the half for the whole.
 *
 * Holds: one queue per service, first come first served, bounded in number, bytes and time. A
 * request that is held while its service has no replica asks for one (traffic_ask): that is how a
 * service comes back from zero. A client that asked for a stream gets its head and comments with
 * the expected time after HOLD_COMMENT_FIRST_MS, so that it does not give up; whatever goes wrong
 * after that reaches it as an error event.
 *
 * A replica is taken from the table before it is told to end, but a request may have left for it
 * just then. It refuses that one with a header of its own, which is no failure and no answer: the
 * replica is not picked again, and the request goes on as if it had just come, however often.
 *
 * A request that names a revision, in X-Inferd-Revision or by a tag in its host or path, goes
 * there, whatever its share: the way to try a dark launch. It takes no turn, so the shares of the
 * others stay exact. */
#include "api/relay.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <strings.h>

#include "api/openai_json.h"
#include "api/upstream.h"
#include "core/base/clock.h"
#include "core/base/log.h"

static const char REVISION_HEADER[] = "X-Inferd-Revision"; /* who is to answer; who did */

enum { SIGNAL_NEW = 1, SIGNAL_GONE = 2, SIGNAL_DRAINED = 4 };
enum { CLIENT_GONE_STATUS = 499, RETRY_AFTER_SECONDS = 2 };
enum { HOLD_COMMENT_FIRST_MS = 1000, HOLD_COMMENT_MS = 5000, WRAP_BYTES_MAX = 64 * 1024 };

/* The head of an answer that the client has not got yet. */
struct head_field {
    char *name, *value;
    struct head_field *next;
};
struct head {
    int status; /* 0: none yet */
    char *content_type;
    uint64_t length;
    bool has_length, draining;
    struct head_field *first, **end;
};

struct relay_request {
    struct relay *relay;
    struct http_exchange *x;   /* NULL: answered */
    struct traffic_turn *turn; /* of its service, whose load it is part of; a reference */
    char *ns, *name, *target;
    char *tag; /* of the revision that the host or path asks for; NULL: none */
    int64_t start_ns;

    struct upstream_call *call;      /* NULL: not with a replica */
    struct traffic_replica *replica; /* counted in its in_flight; a reference */
    char *revision;                  /* of the replica */
    struct traffic_replica *avoid;   /* failed us; a reference */
    bool retried;
    bool own_key; /* the replica gets its own key, not the client's */

    struct head head;
    int status;     /* of the answer that the client gets; 0: none yet */
    bool begun;     /* the head went to the client */
    bool is_events; /* text/event-stream */
    bool early;     /* the head went out while it was held; the replica's answer follows */
    bool wrapped;   /* that answer is no event stream: it becomes one event */
    struct buf wrap;
    char tail[2]; /* last bytes relayed: "\n\n" stands between two events */

    struct hold *hold; /* the queue it waits in */
    int64_t hold_until_ms, comment_at_ms;
    struct relay_request *hold_prev, *hold_next;
    struct relay_request *prev, *next; /* of all requests */

    unsigned signals; /* these three are guarded by the relay's lock */
    bool signalled;
    struct relay_request *signal_prev, *signal_next;
};

/* Requests of one service that wait for a replica. */
struct hold {
    char *ns, *name;
    struct relay_request *first, *last;
    uint32_t len;
    uint64_t bytes; /* of the bodies */
    struct hold *next;
};

struct relay {
    struct relay_options opt;
    struct upstream *upstream;
    pthread_t thread;
    _Atomic bool quit, table_changed;
    struct relay_request *requests;
    struct hold *holds;

    pthread_mutex_t lock;
    struct relay_request *signal_first, *signal_last;
};

/* ---- metrics ---- */

static const struct metric_family requests_total = {
    .type = METRIC_COUNTER,
    .name = "inferd_gateway_requests_total",
    .help = "Requests answered, by HTTP status (499: the client left).",
    .labels = {"namespace", "inferenceservice", "code"},
};
static const struct metric_family answers_total = {
    .type = METRIC_COUNTER,
    .name = "inferd_gateway_revision_answers_total",
    .help = "Answers begun by replicas, by the revision that gave them.",
    .labels = {"namespace", "inferenceservice", "revision"},
};
static const struct metric_family in_flight = {
    .type = METRIC_GAUGE,
    .name = "inferd_gateway_requests_in_flight",
    .help = "Requests not answered yet, held ones included.",
    .labels = {"namespace", "inferenceservice"},
};
static const struct metric_family held = {
    .type = METRIC_GAUGE,
    .name = "inferd_gateway_requests_held",
    .help = "Requests that wait for a replica.",
    .labels = {"namespace", "inferenceservice"},
};
static const struct metric_family retries_total = {
    .type = METRIC_COUNTER,
    .name = "inferd_gateway_retries_total",
    .help = "Requests sent again after a replica failed before it answered.",
    .labels = {"namespace", "inferenceservice"},
};
static const struct metric_family cut_total = {
    .type = METRIC_COUNTER,
    .name = "inferd_gateway_answers_cut_total",
    .help = "Answers that a replica broke off after their first byte.",
    .labels = {"namespace", "inferenceservice"},
};
static const struct metric_family duration = {
    .type = METRIC_HISTOGRAM,
    .name = "inferd_gateway_request_duration_seconds",
    .help = "From the request to the last byte of its answer.",
    .labels = {"namespace", "inferenceservice"},
    .buckets = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600},
};

static struct metric *series(struct relay_request *rq, const struct metric_family *family) {
    return metrics_get(rq->relay->opt.metrics, family, (const char *[]){rq->ns, rq->name});
}

void relay_count(struct metrics *m, const char *ns, const char *name, int status) {
    char code[16];
    snprintf(code, sizeof(code), "%d", status);
    const char *values[] = {ns ? ns : "", name ? name : "", code};
    metric_add(metrics_get(m, &requests_total, values), 1);
}

static void count_answer(struct relay_request *rq) {
    const char *values[] = {rq->ns, rq->name, rq->revision};
    metric_add(metrics_get(rq->relay->opt.metrics, &answers_total, values), 1);
}

/* ---- signals ---- */

static void signal_request(struct relay_request *rq, unsigned what) {
    struct relay *r = rq->relay;
    pthread_mutex_lock(&r->lock);
    rq->signals |= what;
    if (!rq->signalled) {
        rq->signalled = true;
        rq->signal_prev = r->signal_last;
        rq->signal_next = NULL;
        if (r->signal_last)
            r->signal_last->signal_next = rq;
        else
            r->signal_first = rq;
        r->signal_last = rq;
    }
    pthread_mutex_unlock(&r->lock);
    upstream_wake(r->upstream);
}

/* Called with the lock held. */
static void unlist_signal(struct relay_request *rq) {
    struct relay *r = rq->relay;
    if (!rq->signalled)
        return;
    rq->signalled = false;
    if (rq->signal_prev)
        rq->signal_prev->signal_next = rq->signal_next;
    else
        r->signal_first = rq->signal_next;
    if (rq->signal_next)
        rq->signal_next->signal_prev = rq->signal_prev;
    else
        r->signal_last = rq->signal_prev;
}

static struct relay_request *next_signal(struct relay *r, unsigned *ret_what) {
    pthread_mutex_lock(&r->lock);
    struct relay_request *rq = r->signal_first;
    if (rq) {
        unlist_signal(rq);
        *ret_what = rq->signals;
        rq->signals = 0;
    }
    pthread_mutex_unlock(&r->lock);
    return rq;
}

static void on_gone(struct http_exchange *x, void *user) {
    signal_request(user, SIGNAL_GONE);
}

static void on_drained(struct http_exchange *x, void *user) {
    signal_request(user, SIGNAL_DRAINED);
}

/* ---- holds ---- */

static struct hold *find_hold(struct relay *r, const char *ns, const char *name) {
    for (struct hold *h = r->holds; h; h = h->next)
        if (!strcmp(h->ns, ns) && !strcmp(h->name, name))
            return h;
    return NULL;
}

static struct hold *get_hold(struct relay *r, const char *ns, const char *name) {
    struct hold *h = find_hold(r, ns, name);
    if (h)
        return h;
    h = mem_alloc(sizeof(*h));
    h->ns = mem_strdup(ns);
    h->name = mem_strdup(name);
    h->next = r->holds;
    r->holds = h;
    return h;
}

static size_t body_bytes(const struct relay_request *rq) {
    size_t len;
    http_body(rq->x, &len);
    return len;
}

static void hold_remove(struct relay_request *rq) {
    struct hold *h = rq->hold;
    if (!h)
        return;
    if (rq->hold_prev)
        rq->hold_prev->hold_next = rq->hold_next;
    else
        h->first = rq->hold_next;
    if (rq->hold_next)
        rq->hold_next->hold_prev = rq->hold_prev;
    else
        h->last = rq->hold_prev;
    rq->hold = NULL;
    h->len--;
    h->bytes -= body_bytes(rq);
    metric_add(series(rq, &held), -1);
}

static void hold_append(struct hold *h, struct relay_request *rq) {
    rq->hold = h;
    rq->hold_prev = h->last;
    rq->hold_next = NULL;
    if (h->last)
        h->last->hold_next = rq;
    else
        h->first = rq;
    h->last = rq;
    h->len++;
    h->bytes += body_bytes(rq);
    int64_t now_ms = clock_mono_ms();
    if (!rq->hold_until_ms) /* a second hold does not start the clock again */
        rq->hold_until_ms = now_ms + rq->relay->opt.hold_ms;
    if (!rq->comment_at_ms)
        rq->comment_at_ms = now_ms + HOLD_COMMENT_FIRST_MS;
    metric_add(series(rq, &held), 1);
}

/* Empty queues go: services come and go as well. */
static void drop_empty_holds(struct relay *r) {
    struct hold **at = &r->holds;
    while (*at) {
        struct hold *h = *at;
        if (h->len) {
            at = &h->next;
            continue;
        }
        *at = h->next;
        free(h->ns);
        free(h->name);
        free(h);
    }
}

/* ---- the head of an answer ---- */

static void head_clear(struct head *h) {
    while (h->first) {
        struct head_field *f = h->first;
        h->first = f->next;
        free(f->name);
        free(f->value);
        free(f);
    }
    free(h->content_type);
    *h = (struct head){0};
}

static void on_header(void *user, const char *name, const char *value) {
    struct relay_request *rq = user;
    struct head *h = &rq->head;
    if (!strcasecmp(name, "Content-Type")) {
        free(h->content_type);
        h->content_type = mem_strdup(value);
    } else if (!strcasecmp(name, "Content-Length")) {
        h->length = strtoull(value, NULL, 10);
        h->has_length = true;
    } else if (!strcasecmp(name, HTTP_DRAINING_HEADER)) {
        h->draining = true;
    } else if (!http_is_hop_by_hop(name) && strcasecmp(name, "Date") != 0 &&
               strcasecmp(name, "X-Request-Id") != 0 && strcasecmp(name, REVISION_HEADER) != 0) {
        struct head_field *f = mem_alloc(sizeof(*f));
        f->name = mem_strdup(name);
        f->value = mem_strdup(value);
        if (!h->first)
            h->end = &h->first;
        *h->end = f;
        h->end = &f->next;
    }
}

static void on_head(void *user, int status) {
    struct relay_request *rq = user;
    rq->head.status = status;
}

/* Sends the head; from now on there is no second try. */
static void begin_answer(struct relay_request *rq) {
    const struct head *h = &rq->head;
    struct http_stream_callbacks cb = {.on_gone = on_gone, .on_drained = on_drained, .user = rq};
    rq->begun = true;
    rq->status = h->status;
    rq->is_events = h->content_type &&
                    !strncasecmp(h->content_type, "text/event-stream", strlen("text/event-stream"));
    rq->tail[0] = rq->tail[1] = '\n';
    for (const struct head_field *f = h->first; f; f = f->next)
        http_add_header(rq->x, f->name, f->value);
    http_set_header(rq->x, REVISION_HEADER, rq->revision);
    count_answer(rq);
    if (h->status == 204 || h->status == 304)
        http_set_stream_length(rq->x, 0); /* no body, whatever was said */
    else if (h->has_length)
        http_set_stream_length(rq->x, h->length);
    http_stream_begin(rq->x, h->status, h->content_type, &cb);
}

/* ---- the end of a request ---- */

static void leave_replica(struct relay_request *rq) {
    upstream_call_destroy(steal(rq->call));
    if (rq->replica) {
        rq->replica->in_flight--;
        traffic_replica_unref(steal(rq->replica));
        if (rq->relay->holds) /* its room may be what a held request waits for */
            rq->relay->table_changed = true;
    }
}

static void log_end(const struct relay_request *rq, const char *pod, double seconds) {
    log_info("request relayed",
             "request=%s namespace=%s inferenceservice=%s pod=%s path=%s status=%d ms=%.1f%s",
             rq->x ? http_request_id(rq->x) : "", rq->ns, rq->name, pod, rq->target, rq->status,
             seconds * 1e3, rq->retried ? " retried=1" : "");
}

/* Frees; the exchange must have its answer already (x NULL). */
static void request_free(struct relay_request *rq) {
    struct relay *r = rq->relay;
    ASSERT(!rq->hold);
    leave_replica(rq);
    traffic_replica_unref(rq->avoid);
    pthread_mutex_lock(&r->lock);
    unlist_signal(rq);
    pthread_mutex_unlock(&r->lock);
    if (rq->prev)
        rq->prev->next = rq->next;
    else
        r->requests = rq->next;
    if (rq->next)
        rq->next->prev = rq->prev;
    free(rq->ns);
    free(rq->name);
    free(rq->target);
    free(rq->tag);
    head_clear(&rq->head);
    free(rq->revision);
    buf_deinit(&rq->wrap);
    if (rq->turn)
        traffic_load_change(&rq->turn->load, -1, clock_mono_ns());
    traffic_turn_unref(rq->turn);
    free(rq);
}

/* Counts and logs; called while the exchange is still there. */
static void account(struct relay_request *rq) {
    double seconds = (double)(clock_mono_ns() - rq->start_ns) / 1e9;
    relay_count(rq->relay->opt.metrics, rq->ns, rq->name, rq->status);
    metric_add(series(rq, &in_flight), -1);
    metric_observe(series(rq, &duration), seconds);
    log_end(rq, rq->replica ? rq->replica->pod : "", seconds);
}

/* An event with the error, behind what has been sent. */
static void send_error_event(struct relay_request *rq, const struct error *err) {
    AUTO_BUF event = BUF_INIT;
    buf_puts(&event, "data: ");
    openai_error_body(err, http_request_id(rq->x), &event);
    while (event.len && event.data[event.len - 1] == '\n')
        event.len--;
    buf_puts(&event, "\n\n");
    http_stream_write(rq->x, event.data, event.len);
}

/* The answer never began, but for a head and comments: it is this error. */
static void fail(struct relay_request *rq, const struct error *err) {
    rq->status = openai_status(err->code);
    account(rq);
    hold_remove(rq); /* while its body is there to be counted */
    if (rq->early) {
        send_error_event(rq, err);
        http_stream_end(steal(rq->x));
    } else {
        openai_reply_error(steal(rq->x), err);
    }
    request_free(rq);
}

/* The answer is complete, or is cut where it stands. */
static void end_stream(struct relay_request *rq, bool complete) {
    account(rq);
    hold_remove(rq);
    struct http_exchange *x = steal(rq->x);
    if (complete)
        http_stream_end(x);
    else
        http_stream_abort(x);
    request_free(rq);
}

static void client_gone(struct relay_request *rq) {
    rq->status = CLIENT_GONE_STATUS;
    if (rq->begun || rq->early) {
        end_stream(rq, false);
        return;
    }
    struct error err = ERROR_INIT;
    err_set(&err, ERR_CANCELLED, "the client left");
    fail(rq, &err);
}

/* ---- the answer ---- */

/* The client has a head and comments already. An event stream simply follows; anything else, an
 * error as a rule, is collected to be one event. */
static void go_on_early(struct relay_request *rq) {
    const char *type = rq->head.content_type;
    rq->begun = true;
    rq->status = rq->head.status;
    rq->wrapped = rq->head.status != 200 || !type ||
                  strncasecmp(type, "text/event-stream", strlen("text/event-stream")) != 0;
    count_answer(rq);
}

/* A body with line breaks would be several lines of data; JSON has them only between tokens. */
static void send_wrapped(struct relay_request *rq) {
    for (size_t i = 0; i < rq->wrap.len; i++)
        if (rq->wrap.data[i] == '\n' || rq->wrap.data[i] == '\r')
            rq->wrap.data[i] = ' ';
    http_stream_write(rq->x, "data: ", strlen("data: "));
    http_stream_write(rq->x, rq->wrap.data ? rq->wrap.data : "", rq->wrap.len);
    http_stream_write(rq->x, "\n\n", 2);
}

/* The answer is that the replica is about to end and has not begun anything. */
static bool is_refusal(const struct relay_request *rq) {
    return !rq->begun && rq->head.draining && rq->head.status == 503;
}

static enum upstream_take on_body(void *user, const char *data, size_t len) {
    struct relay_request *rq = user;
    if (is_refusal(rq))
        return UPSTREAM_TAKEN;
    if (!rq->begun && rq->early)
        go_on_early(rq);
    else if (!rq->begun)
        begin_answer(rq);
    if (rq->wrapped) {
        if (rq->wrap.len + len > WRAP_BYTES_MAX)
            return UPSTREAM_CANCEL;
        buf_append(&rq->wrap, data, len);
        return UPSTREAM_TAKEN;
    }
    if (!http_stream_write(rq->x, data, len))
        return http_stream_gone(rq->x) ? UPSTREAM_CANCEL : UPSTREAM_PAUSE;
    if (len >= 2)
        memcpy(rq->tail, data + len - 2, 2);
    else if (len)
        memcpy(rq->tail, (char[]){rq->tail[1], data[0]}, 2);
    return UPSTREAM_TAKEN;
}

static void dispatch(struct relay_request *rq);

/* The replica broke off in the middle: say so where that is possible. */
static void answer_cut(struct relay_request *rq, const char *message) {
    struct log_quoted q;
    metric_add(series(rq, &cut_total), 1);
    log_warn("replica broke off an answer", "request=%s pod=%s error=%s", http_request_id(rq->x),
             rq->replica->pod, log_quote(&q, message));
    if (rq->is_events && rq->tail[0] == '\n' && rq->tail[1] == '\n') {
        struct error err = ERROR_INIT;
        err_set(&err, ERR_UNAVAILABLE, "replica %s ended in the middle of the answer",
                rq->replica->pod);
        send_error_event(rq, &err);
    }
    end_stream(rq, false);
}

/* Each replica refuses a request once at most, so this comes to an end. */
static void leave_draining(struct relay_request *rq) {
    log_info("replica takes no more requests", "request=%s pod=%s", http_request_id(rq->x),
             rq->replica->pod);
    rq->replica->draining = true;
    leave_replica(rq);
    head_clear(&rq->head);
    dispatch(rq);
}

/* Failed before the first byte: another replica may do better, once. */
static void try_again(struct relay_request *rq, enum upstream_end end, const char *message) {
    struct log_quoted q;
    log_warn("replica failed before it answered", "request=%s pod=%s error=%s retry=%d",
             http_request_id(rq->x), rq->replica->pod, log_quote(&q, message), !rq->retried);
    if (rq->retried) {
        struct error err = ERROR_INIT;
        err_set(&err, ERR_UNAVAILABLE, "replica %s %s", rq->replica->pod,
                end == UPSTREAM_UNREACHABLE ? "cannot be reached" : "ended before it answered");
        err.retry_after_seconds = RETRY_AFTER_SECONDS;
        fail(rq, &err);
        return;
    }
    rq->retried = true;
    metric_add(series(rq, &retries_total), 1);
    rq->avoid = traffic_replica_ref(rq->replica);
    leave_replica(rq);
    head_clear(&rq->head);
    dispatch(rq);
}

static void on_done(void *user, enum upstream_end end, const char *message) {
    struct relay_request *rq = user;
    if (is_refusal(rq)) {
        leave_draining(rq);
    } else if (end == UPSTREAM_COMPLETE) {
        if (!rq->begun && rq->early)
            go_on_early(rq);
        else if (!rq->begun) /* an answer without a body */
            begin_answer(rq);
        if (rq->wrapped)
            send_wrapped(rq);
        end_stream(rq, true);
    } else if (!rq->begun) {
        try_again(rq, end, message);
    } else if (http_stream_gone(rq->x)) {
        client_gone(rq);
    } else {
        answer_cut(rq, message);
    }
}

/* ---- the request ---- */

static void copy_header(void *user, const char *name, const char *value) {
    struct relay_request *rq = user;
    if (rq->own_key && !strcasecmp(name, "Authorization"))
        return;
    if (http_is_hop_by_hop(name) || !strcasecmp(name, "Content-Length") ||
        !strcasecmp(name, "Expect") || !strcasecmp(name, "X-Request-Id") ||
        http_header_has_word(rq->x, "Connection", name))
        return;
    upstream_call_header(rq->call, name, value);
}

static void send_to(struct relay_request *rq, const struct traffic_service *s,
                    struct traffic_replica *replica, const char *revision) {
    static const struct upstream_callbacks cb = {
        .on_header = on_header, .on_head = on_head, .on_body = on_body, .on_done = on_done};
    rq->replica = traffic_replica_ref(replica);
    free(rq->revision);
    rq->revision = mem_strdup(revision);
    replica->in_flight++;
    replica->requests_total++;
    struct upstream_request request = {
        .address = replica->address, .method = http_method(rq->x), .target = rq->target};
    request.body = http_body(rq->x, &request.body_len);
    rq->call = upstream_call_create(rq->relay->upstream, &request, &cb, rq);
    rq->own_key = s->replica_key != NULL;
    http_each_header(rq->x, copy_header, rq);
    if (rq->own_key) {
        AUTO_FREE char *bearer = mem_printf("Bearer %s", s->replica_key);
        upstream_call_header(rq->call, "Authorization", bearer);
    }
    upstream_call_header(rq->call, "X-Request-Id", http_request_id(rq->x));
    upstream_call_start(rq->call);
}

static bool lists(const struct traffic_service *s, const struct traffic_replica *replica) {
    for (uint32_t i = 0; i < s->num_revisions; i++)
        for (uint32_t k = 0; k < s->revisions[i].num_replicas; k++)
            if (s->revisions[i].replicas[k] == replica)
                return true;
    return false;
}

/* The revision that the client asks for, by tag or by header; NULL: the shares decide. */
static const char *asked_revision(const struct relay_request *rq, const struct traffic_service *s) {
    const struct traffic_tag *tag = rq->tag && s ? traffic_find_tag(s, rq->tag) : NULL;
    return tag ? tag->revision : rq->tag ? "" : http_header(rq->x, REVISION_HEADER);
}

static bool try_send(struct relay_request *rq, const struct traffic_service *s) {
    if (rq->avoid && !lists(s, rq->avoid)) /* if it comes back it is another process */
        traffic_replica_unref(steal(rq->avoid));
    const char *asked = asked_revision(rq, s);
    const char *sticky = s->sticky_header ? http_header(rq->x, s->sticky_header) : NULL;
    const struct traffic_revision *revision = asked ? traffic_find_revision(s, asked) : NULL;
    struct traffic_replica *replica = NULL;
    if (revision)
        replica = traffic_pick_within(s, revision, s->turn->next_ticket, rq->avoid);
    else if (!asked && sticky)
        replica = traffic_pick_sticky(s, traffic_credit_id(sticky), rq->avoid, &revision);
    else if (!asked)
        replica = traffic_pick(s, &s->turn->credits, s->turn->next_ticket, rq->avoid, &revision);
    if (!replica)
        return false;
    s->turn->next_ticket += !asked && !sticky;
    hold_remove(rq);
    send_to(rq, s, replica, revision->name);
    return true;
}

/* Why a request cannot be sent to its service now and need not wait either. OK: it may wait. */
static enum errc hopeless(const struct relay_request *rq, const struct traffic_service *s,
                          struct error *err) {
    const char *ns = rq->ns, *name = rq->name, *asked = asked_revision(rq, s);
    if (s && rq->tag && !*asked)
        return err_set(err, ERR_NOT_FOUND,
                       "InferenceService %s in namespace %s has no revision \"%s\" any more", name,
                       ns, rq->tag);
    if (s && rq->tag && !traffic_find_revision(s, asked)) {
        err_set(err, ERR_UNAVAILABLE,
                "InferenceService %s in namespace %s: revision %s (\"%s\") is not ready", name, ns,
                asked, rq->tag);
        err->retry_after_seconds = RETRY_AFTER_SECONDS;
        return err->code;
    }
    if (s && asked && !traffic_find_revision(s, asked))
        return err_set(err, ERR_NOT_FOUND,
                       "X-Inferd-Revision: InferenceService %s in namespace %s has no ready "
                       "revision \"%.100s\"",
                       name, ns, asked);
    if (!s)
        return err_set(err, ERR_NOT_FOUND, "InferenceService %s in namespace %s was deleted", name,
                       ns);
    if (s->waiting_may_help || traffic_num_ready(s))
        return OK;
    err_set(err, ERR_UNAVAILABLE, "InferenceService %s in namespace %s is not ready: %s", name, ns,
            s->not_ready_reason ? s->not_ready_reason : "it has no replica");
    err->retry_after_seconds = RETRY_AFTER_SECONDS;
    return err->code;
}

/* From its first sight of the service on, the request is part of what that is asked for. */
static void join_load(struct relay_request *rq, const struct traffic_service *s) {
    if (rq->turn || !s || !s->turn)
        return;
    rq->turn = traffic_turn_ref(s->turn);
    traffic_load_change(&rq->turn->load, 1, clock_mono_ns());
}

/* When it is worth coming back: when a replica that starts now, or is starting, will be there. */
static uint32_t retry_after_seconds(const struct relay_request *rq) {
    int64_t ms = rq->turn ? traffic_load_expected_ms(&rq->turn->load, clock_mono_ms()) : -1;
    return ms < 0 ? RETRY_AFTER_SECONDS : (uint32_t)((ms + 999) / 1000);
}

/* OK: there is room for one more. */
static enum errc hold_has_room(const struct relay_request *rq, const struct hold *h,
                               struct error *err) {
    const struct relay_options *opt = &rq->relay->opt;
    uint32_t num_held = h ? h->len : 0;
    uint64_t bytes = h ? h->bytes : 0;
    if (num_held >= opt->queue_max)
        err_set(err, ERR_EXHAUSTED,
                "%u requests wait for replicas of InferenceService %s in namespace %s already",
                num_held, rq->name, rq->ns);
    else if (opt->hold_bytes_max && bytes + body_bytes(rq) > (uint64_t)opt->hold_bytes_max)
        err_set(err, ERR_EXHAUSTED,
                "requests with %llu bytes wait for replicas of InferenceService %s in namespace %s "
                "already, at most %lld",
                (unsigned long long)bytes, rq->name, rq->ns, (long long)opt->hold_bytes_max);
    else
        return OK;
    err->retry_after_seconds = retry_after_seconds(rq);
    return err->code;
}

static void dispatch(struct relay_request *rq) {
    struct relay *r = rq->relay;
    AUTO(traffic_table) table = traffic_current(r->opt.traffic);
    const struct traffic_service *s = traffic_find(table, rq->ns, rq->name);
    struct error err = ERROR_INIT;
    const struct hold *h = find_hold(r, rq->ns, rq->name);
    uint32_t num_held = h ? h->len : 0;
    join_load(rq, s);
    if (s && !num_held && try_send(rq, s)) /* no overtaking */
        return;
    if (hopeless(rq, s, &err)) {
        fail(rq, &err);
        return;
    }
    if (hold_has_room(rq, h, &err)) {
        fail(rq, &err);
        return;
    }
    hold_append(get_hold(r, rq->ns, rq->name), rq);
    if (!traffic_num_ready(s) && s->turn)
        traffic_ask(r->opt.traffic, s->turn);
}

static void serve_hold(struct relay *r, struct hold *h, const struct traffic_table *table) {
    const struct traffic_service *s = traffic_find(table, h->ns, h->name);
    struct relay_request *next;
    for (struct relay_request *rq = h->first; rq; rq = next) {
        next = rq->hold_next;
        ASSERT(rq->hold == h);
        struct error err = ERROR_INIT;
        if (hopeless(rq, s, &err))
            fail(rq, &err);
        else if (!try_send(rq, s) && !rq->avoid && !asked_revision(rq, s))
            return; /* no room; one that is choosy does not speak for those behind it */
    }
}

static void serve_holds(struct relay *r) {
    AUTO(traffic_table) table = traffic_current(r->opt.traffic);
    for (struct hold *h = r->holds; h; h = h->next)
        serve_hold(r, h, table);
    drop_empty_holds(r);
}

/* Whether the client asked for a stream of events, which may begin with comments. */
static bool wants_events(const struct relay_request *rq) {
    static const char *const paths[] = {"/chat/completions", "/completions"};
    size_t len, target_len = strcspn(rq->target, "?");
    const char *body = http_body(rq->x, &len);
    bool speaks = false;
    for (size_t i = 0; i < ARRAY_LEN(paths) && !speaks; i++) {
        size_t n = strlen(paths[i]);
        speaks = target_len >= n && !strncmp(rq->target + target_len - n, paths[i], n);
    }
    json_t *doc = speaks ? json_loadb(body, len, 0, NULL) : NULL;
    bool wants = json_is_true(json_object_get(doc, "stream"));
    json_decref(doc);
    return wants;
}

/* Tells a held client that something happens, and gives when it is to be told again. */
static int64_t comment(struct relay_request *rq, int64_t now_ms) {
    if (now_ms < rq->comment_at_ms)
        return rq->comment_at_ms;
    if (!rq->early && !wants_events(rq)) {
        rq->comment_at_ms = INT64_MAX;
        return INT64_MAX;
    }
    if (!rq->early) {
        struct http_stream_callbacks cb = {
            .on_gone = on_gone, .on_drained = on_drained, .user = rq};
        rq->early = rq->is_events = true;
        rq->tail[0] = rq->tail[1] = '\n';
        http_stream_begin(rq->x, 200, "text/event-stream", &cb);
    }
    char text[96];
    int64_t ms = rq->turn ? traffic_load_expected_ms(&rq->turn->load, now_ms) : -1;
    int n = ms < 0 ? snprintf(text, sizeof(text), ": waiting for a replica\n\n")
                   : snprintf(text, sizeof(text), ": waiting for a replica, about %.1f s more\n\n",
                              (double)ms / 1000);
    http_stream_write(rq->x, text, (size_t)n);
    rq->comment_at_ms = now_ms + HOLD_COMMENT_MS;
    return rq->comment_at_ms;
}

/* Gives the time when the next one expires or is to be told something; INT64_MAX: none waits. */
static int64_t expire_holds(struct relay *r, int64_t now_ms) {
    int64_t next_ms = INT64_MAX;
    for (struct hold *h = r->holds; h; h = h->next) {
        struct relay_request *next;
        for (struct relay_request *rq = h->first; rq; rq = next) {
            next = rq->hold_next;
            ASSERT(rq->hold == h);
            if (now_ms < rq->hold_until_ms) {
                int64_t comment_ms = comment(rq, now_ms);
                next_ms = rq->hold_until_ms < next_ms ? rq->hold_until_ms : next_ms;
                next_ms = comment_ms < next_ms ? comment_ms : next_ms;
                continue;
            }
            struct error err = ERROR_INIT;
            err_set(&err, ERR_UNAVAILABLE,
                    "no replica of InferenceService %s in namespace %s became free within %lld s",
                    rq->name, rq->ns, (long long)(r->opt.hold_ms / 1000));
            err.retry_after_seconds = RETRY_AFTER_SECONDS;
            fail(rq, &err);
        }
    }
    return next_ms;
}

/* ---- the thread ---- */

static int wait_ms(const struct relay *r, int64_t until_ms) {
    if (r->table_changed)
        return 0;
    int64_t left_ms = until_ms - clock_mono_ms();
    return until_ms == INT64_MAX ? -1 : left_ms < 0 ? 0 : (int)left_ms;
}

static void on_signal(struct relay_request *rq, unsigned what) {
    if (what & SIGNAL_NEW) {
        struct relay *r = rq->relay;
        rq->next = r->requests;
        if (rq->next)
            rq->next->prev = rq;
        r->requests = rq;
    }
    if (what & SIGNAL_GONE)
        client_gone(rq);
    else if (what & SIGNAL_NEW)
        dispatch(rq);
    else if (rq->call)
        upstream_call_resume(rq->call);
}

static void *relay_main(void *user) {
    struct relay *r = user;
    pthread_setname_np(pthread_self(), "relay");
    int64_t expire_at_ms = INT64_MAX;
    while (!r->quit) {
        upstream_run(r->upstream, wait_ms(r, expire_at_ms));
        unsigned what;
        struct relay_request *rq;
        while ((rq = next_signal(r, &what)))
            on_signal(rq, what);
        if (atomic_exchange(&r->table_changed, false))
            serve_holds(r);
        expire_at_ms = expire_holds(r, clock_mono_ms());
    }
    struct relay_request *rq;
    unsigned what;
    while ((rq = next_signal(r, &what)))
        on_signal(rq, what | SIGNAL_GONE); /* their server is stopped */
    struct error err = ERROR_INIT;
    err_set(&err, ERR_UNAVAILABLE, "the gateway is shutting down");
    for (struct relay_request *next; (rq = r->requests); r->requests = next) {
        next = rq->next;
        if (rq->begun || rq->early)
            end_stream(rq, false);
        else
            fail(rq, &err);
    }
    drop_empty_holds(r);
    return NULL;
}

static void on_table_changed(void *user) {
    struct relay *r = user;
    r->table_changed = true;
    upstream_wake(r->upstream);
}

/* ---- public ---- */

enum errc relay_start(const struct relay_options *opt, struct relay **ret_relay,
                      struct error *err) {
    struct relay *r = mem_alloc(sizeof(*r));
    r->opt = *opt;
    pthread_mutex_init(&r->lock, NULL);
    enum errc rc = upstream_create(&r->upstream, err);
    if (!rc) {
        int thread_rc = pthread_create(&r->thread, NULL, relay_main, r);
        if (thread_rc)
            rc = err_set(err, ERR_INTERNAL, "gateway: start the relay thread: %s",
                         strerror(thread_rc));
    }
    if (rc) {
        upstream_destroy(r->upstream);
        pthread_mutex_destroy(&r->lock);
        free(r);
        return rc;
    }
    traffic_on_change(r->opt.traffic, on_table_changed, r);
    *ret_relay = r;
    return OK;
}

void relay_stop(struct relay *r) {
    if (!r)
        return;
    traffic_off_change(r->opt.traffic, r);
    r->quit = true;
    upstream_wake(r->upstream);
    pthread_join(r->thread, NULL);
    upstream_destroy(r->upstream);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* Called in a server thread; from the signal on the request is the relay thread's. */
void relay_submit(struct relay *r, struct http_exchange *x, const struct route *route) {
    struct relay_request *rq = mem_alloc(sizeof(*rq));
    rq->relay = r;
    rq->x = x;
    rq->ns = mem_strdup(route->service->ns);
    rq->name = mem_strdup(route->service->name);
    rq->target = mem_strdup(route->target);
    rq->tag = route->tag ? mem_strdup(route->tag->name) : NULL;
    rq->start_ns = clock_mono_ns();
    metric_add(series(rq, &in_flight), 1);
    http_on_gone(x, on_gone, rq);
    signal_request(rq, SIGNAL_NEW);
}
