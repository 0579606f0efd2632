/* Scheduler: which tokens of which requests go into the next engine step. Pure: no clock, no
 * device; requests are borrowed from sched_add() until sched_remove(). One thread; allocates
 * nothing after creation. */
#ifndef ENGINE_SCHEDULER_H
#define ENGINE_SCHEDULER_H

#include "core/base/mem.h"

struct kv_cache;
struct request;
struct sched;

struct sched_options {
    uint32_t max_num_seqs;
    uint32_t max_num_batched_tokens; /* >= max_num_seqs: every running request can go on */
    uint32_t max_num_prompt_logits;  /* rows of logits per step for prompts' log probabilities, on
                                        top of one per request; >= 1 */
};

struct sched_entry {
    struct request *rq;
    uint32_t num_scheduled; /* of its tokens, from num_computed_tokens on; >= 1 */
};

struct sched_step {
    uint32_t num_entries, num_tokens; /* num_tokens: sum of num_scheduled */
    uint32_t num_preempted;
    uint32_t num_prefix_queries; /* prompt tokens of the requests admitted for the first time */
    uint32_t num_prefix_hits;    /* of those, found in the prefix cache */
    const struct sched_entry *entries; /* in order of arrival; valid until the next schedule */
};

/* Gives a scheduler; the cache is borrowed for its life. ERR_INVALID names the option. */
MUST_CHECK enum errc sched_create(const struct sched_options *opt, struct kv_cache *kv,
                                  struct sched **ret_s, struct error *err);
void sched_destroy(struct sched *s); /* every request was removed before; NULL is fine */
DEFINE_AUTO(sched, sched_destroy)

/* Appends rq to the waiting. The cache must be able to hold its num_tokens_max tokens when nothing
 * else is in it: sched_fits(). */
void sched_add(struct sched *s, struct request *rq);
bool sched_fits(const struct sched *s, uint32_t num_tokens);

/* Plans one step; every scheduled position has its block. Empty only when there are no requests. */
const struct sched_step *sched_schedule(struct sched *s);

/* The planned tokens of entry are computed: call it for each once the device is done. */
void sched_computed(struct sched *s, const struct sched_entry *entry);

/* Forgets rq, waiting or running, and gives back its blocks. With `broken` their content is not
 * offered to anybody again. The step's entries become stale. */
void sched_remove(struct sched *s, struct request *rq, bool broken);

uint32_t sched_num_running(const struct sched *s);
uint32_t sched_num_waiting(const struct sched *s);
struct request *sched_first(const struct sched *s); /* NULL: none; follow rq->next */

#endif
