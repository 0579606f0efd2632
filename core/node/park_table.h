/* Which packed weights are kept for the next replica of a model. Pure but for closing descriptors:
 * no clock, no thread, no socket.
 *
 * Weights in use are shared by all replicas of the model and cost nothing beside them. When the
 * last of these goes they are parked: kept as long as all that is parked fits into the budget, and
 * the least recently used go first. One replica at a time makes the weights of a model; others that
 * ask meanwhile wait for it. */
#ifndef CORE_NODE_PARK_TABLE_H
#define CORE_NODE_PARK_TABLE_H

#include "core/base/mem.h"

struct park_table;

enum { PARK_MODELS_MAX = 256 }; /* known at once, in use or parked; further ones are not shared */

struct park_key {
    uint64_t words[2];
};

struct park_table *park_table_create(uint64_t budget_bytes);
void park_table_destroy(struct park_table *t); /* closes what it holds */
DEFINE_AUTO(park_table, park_table_destroy)

/* A user is a replica, by a number that is never used again, and uses one model at a time. */
enum park_answer { PARK_ANSWER_WAIT, PARK_ANSWER_HAVE, PARK_ANSWER_MAKE };

/* The user wants the weights. HAVE: *ret_fd is borrowed, until the user leaves. */
enum park_answer park_table_ask(struct park_table *t, uint64_t user, const struct park_key *key,
                                const char *name, int *ret_fd);
/* It was told to make them, and here they are. Takes the descriptor; closes it when the user was
 * told nothing of the kind. True: kept. */
bool park_table_put(struct park_table *t, uint64_t user, int fd, uint64_t bytes, int64_t now_ms);
/* The user is gone, or goes on without sharing. Unknown ones are ignored. */
void park_table_leave(struct park_table *t, uint64_t user, int64_t now_ms);
/* One that waits, whose answer is there now; false: none. It is told once. */
bool park_table_next_answer(struct park_table *t, uint64_t *ret_user, enum park_answer *ret_answer,
                            int *ret_fd);

/* Drops parked weights, the least recently used first, until `bytes` are given back or none is
 * left. Gives how many bytes were. */
uint64_t park_table_make_room(struct park_table *t, uint64_t bytes);

struct park_figures {
    uint32_t num_parked, num_in_use;
    uint64_t parked_bytes, in_use_bytes;
    uint64_t shared_total, made_total, dropped_total; /* answers HAVE; weights put; dropped */
};
void park_table_figures(const struct park_table *t, struct park_figures *ret);

/* The weights number `index` that are kept: for who makes large pages of them. False: not so many.
 * The descriptor is borrowed until the next call that changes the table; `made` numbers weights in
 * the order in which they were put. */
bool park_table_at(const struct park_table *t, uint32_t index, int *ret_fd, uint64_t *ret_bytes,
                   uint64_t *ret_made);

#endif
