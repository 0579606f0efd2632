/* Who is next, when several are to get shares of a row of requests, and the shares change on the
 * way. Pure: the memory of what was given is an argument. */
#ifndef CORE_CONTROL_TRAFFIC_CREDIT_H
#define CORE_CONTROL_TRAFFIC_CREDIT_H

#include <stdint.h>

/* What each is owed, by an id that outlives a change of the table. Zeroed is empty. Used by one
 * thread at a time. */
struct traffic_credit {
    uint64_t id;
    int64_t owed;
};
struct traffic_credits {
    struct traffic_credit *items;
    uint32_t num, capacity;
};
void traffic_credits_deinit(struct traffic_credits *c);

/* One who may be next; weight 0: it may not. */
struct traffic_candidate {
    uint64_t id;
    uint32_t weight;
};

/* The index of the one that is owed most; -1: none has weight. Changes nothing. */
int traffic_credits_next(const struct traffic_credits *c, const struct traffic_candidate *of,
                         uint32_t num);
/* It got the request: it pays, and all with weight earn their share of it. */
void traffic_credits_pay(struct traffic_credits *c, const struct traffic_candidate *of,
                         uint32_t num, uint32_t got);

/* The one that a client always gets, as long as the weights allow it: over many clients each gets
 * its share of them, and when weights change only clients of or to what has changed move. -1:
 * none has weight. */
int traffic_credits_sticky(uint64_t client, const struct traffic_candidate *of, uint32_t num);

/* An id, or a client, from a name. */
uint64_t traffic_credit_id(const char *name);

#endif
