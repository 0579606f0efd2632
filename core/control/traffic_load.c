/* A sequence lock over three numbers. The integral of open requests over time is what averages are
 * made of: a look once a second would miss what comes and goes in between. */
#include "core/control/traffic_load.h"

void traffic_load_change(struct traffic_load *l, int by, int64_t now_ns) {
    uint32_t open = atomic_load_explicit(&l->open, memory_order_relaxed);
    int64_t at_ns = atomic_load_explicit(&l->at_ns, memory_order_relaxed);
    l->seq++;
    if (now_ns > at_ns) {
        l->request_ns += (int64_t)open * (now_ns - at_ns);
        l->at_ns = now_ns;
    }
    l->open = open + (uint32_t)by;
    l->arrivals += by > 0;
    l->seq++;
}

void traffic_load_read(const struct traffic_load *l, int64_t now_ns,
                       struct traffic_load_view *ret) {
    uint32_t seq, open;
    int64_t at_ns, request_ns;
    uint64_t arrivals;
    do {
        seq = l->seq;
        open = l->open;
        at_ns = l->at_ns;
        request_ns = l->request_ns;
        arrivals = l->arrivals;
    } while ((seq & 1) || seq != l->seq);
    if (now_ns > at_ns)
        request_ns += (int64_t)open * (now_ns - at_ns);
    *ret = (struct traffic_load_view){
        .open = open, .request_seconds = (double)request_ns / 1e9, .arrivals = arrivals};
}

int64_t traffic_load_expected_ms(const struct traffic_load *l, int64_t now_ms) {
    int64_t start_ms = l->start_ms, since_ms = l->starting_since_ms;
    if (start_ms <= 0)
        return -1;
    int64_t left_ms = since_ms > 0 ? since_ms + start_ms - now_ms : start_ms;
    return left_ms < 1 ? 1 : left_ms;
}
