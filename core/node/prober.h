/* Asks the containers that run how they are: a thread of its own, because commands are started and
 * awaited. It decides by health.h, and tells what changes; the supervisor acts on it. */
#ifndef CORE_NODE_PROBER_H
#define CORE_NODE_PROBER_H

#include "core/node/question.h"

enum { PROBER_NEWS_MAX = 1024 }; /* not fetched yet; failures beyond are dropped, states are not */

enum prober_hook { HOOK_POST_START, HOOK_PRE_STOP, HOOKS };

/* The probes and hooks of a container. Owns what it points to. */
struct probes {
    struct health_rule rules[HEALTH_PROBES];
    struct question questions[HEALTH_PROBES];
    struct question hooks[HOOKS]; /* QUESTION_NONE: there is no such hook */
};
void probes_copy(struct probes *to, const struct probes *from);
void probes_deinit(struct probes *p);

enum prober_news_kind {
    PROBER_STATE, /* started, ready and fatal are these now */
    PROBER_NO,    /* `probe` was answered so, for the reason in text */
    PROBER_ERROR, /* `probe` could not be asked */
    PROBER_HOOK,  /* `hook` is over: well (text is NULL), or for the reason in text */
};

struct prober_news {
    struct prober_news *next;
    char *uid, *container;
    uint32_t restart; /* which run */
    enum prober_news_kind kind;
    bool started, ready;
    enum health_probe fatal, probe;
    enum prober_hook hook;
    char *text;
};
void prober_news_free(struct prober_news *n);

struct prober;

/* running: where commands find their container; borrowed. notify is called from the prober's thread
 * when there is news; it must not block. */
MUST_CHECK enum errc prober_create(struct running_table *running, void (*notify)(void *user),
                                   void *user, struct prober **ret_p, struct error *err);
/* Ends what is under way. */
void prober_destroy(struct prober *p);
DEFINE_AUTO(prober, prober_destroy)

/* A container to ask from now on. All borrowed for the call. */
struct prober_target {
    const char *uid, *container;
    uint32_t restart;
    const struct probes *probes;
};
void prober_add(struct prober *p, const struct prober_target *target);
/* Runs a hook of the container, once; its news comes at the latest after timeout_ms. */
void prober_run_hook(struct prober *p, const struct prober_target *target, enum prober_hook hook,
                     int64_t timeout_ms);
/* No more questions, and an end of hooks; news that was made before may still come. */
void prober_remove(struct prober *p, const char *uid, const char *container);

/* Gives the oldest news, freed by prober_news_free(); NULL: none. */
struct prober_news *prober_take(struct prober *p);

#endif
