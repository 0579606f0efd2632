/* How much one service is asked for. One thread writes (the gateway's relay), any thread reads, and
 * nobody locks: a reader that meets a write under way reads again. Lives in a traffic_turn, so it
 * survives a change of the traffic table. */
#ifndef CORE_CONTROL_TRAFFIC_LOAD_H
#define CORE_CONTROL_TRAFFIC_LOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct traffic_load {
    _Atomic uint32_t seq; /* odd: a write is under way */
    _Atomic uint32_t open;
    _Atomic int64_t at_ns;
    _Atomic int64_t request_ns;
    _Atomic uint64_t arrivals;

    _Atomic bool waiting; /* a request waits, and no replica is there */
    /* For the held: how long a start takes, and when the one under way began (0: none does). The
     * control thread writes them. */
    _Atomic int64_t start_ms, starting_since_ms;
};

/* A request came (+1) or was answered (-1). Only the writer's thread. */
void traffic_load_change(struct traffic_load *l, int by, int64_t now_ns);

struct traffic_load_view {
    uint32_t open;          /* requests now, held ones included */
    double request_seconds; /* the integral of `open` over time, since the beginning */
    uint64_t arrivals;      /* requests ever */
};
void traffic_load_read(const struct traffic_load *l, int64_t now_ns, struct traffic_load_view *ret);

/* How long a held request has to wait yet, as far as is known: at least 1 ms, -1: not known. */
int64_t traffic_load_expected_ms(const struct traffic_load *l, int64_t now_ms);

#endif
