/* A measured value over the last while: samples go into buckets of one second in a ring, and an
 * average or a maximum comes out over any span up to the window's. Time is an argument. */
#ifndef CORE_SCALE_WINDOW_H
#define CORE_SCALE_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/mem.h"

enum { SCALE_WINDOW_SECONDS_MAX = 3600 }; /* Knative's bound as well */

struct scale_window;

/* span_ms is cut to 1 s .. SCALE_WINDOW_SECONDS_MAX. */
struct scale_window *scale_window_create(int64_t span_ms);
void scale_window_destroy(struct scale_window *w);
DEFINE_AUTO(scale_window, scale_window_destroy)

/* A sample that is older than the span is dropped. Time may stand still. It counts from 0 up
 * (clock_mono_ms()), for less than 136 years. */
void scale_window_record(struct scale_window *w, int64_t now_ms, double value);

/* Mean over the buckets of the last span_ms, each bucket the mean of its samples; a bucket without
 * a sample does not count. False: nothing was measured in that time. */
MUST_CHECK bool scale_window_average(const struct scale_window *w, int64_t now_ms, int64_t span_ms,
                                     double *ret_value);
MUST_CHECK bool scale_window_max(const struct scale_window *w, int64_t now_ms, int64_t span_ms,
                                 double *ret_value);

#endif
