/* A ring of one-second buckets. A bucket knows which second it holds, so one that was not written
 * for a whole turn is seen to be old and nothing has to be cleared when time jumps. */
#include "core/scale/window.h"

enum { BUCKET_MS = 1000 };

struct bucket {
    uint32_t second; /* + 1, so that a zeroed bucket holds none */
    uint32_t num;
    float sum, max;
};

struct scale_window {
    uint32_t num_buckets;
    struct bucket buckets[];
};

struct scale_window *scale_window_create(int64_t span_ms) {
    int64_t seconds = span_ms / BUCKET_MS;
    seconds = seconds < 1 ? 1 : seconds;
    seconds = seconds > SCALE_WINDOW_SECONDS_MAX ? SCALE_WINDOW_SECONDS_MAX : seconds;
    uint32_t num = (uint32_t)seconds;
    struct scale_window *w = mem_alloc(sizeof(*w) + num * sizeof(w->buckets[0]));
    w->num_buckets = num;
    return w;
}

void scale_window_destroy(struct scale_window *w) {
    free(w);
}

static int64_t second_of(int64_t ms) {
    return ms / BUCKET_MS + 1;
}

void scale_window_record(struct scale_window *w, int64_t now_ms, double value) {
    int64_t second = second_of(now_ms);
    struct bucket *b = &w->buckets[second % w->num_buckets];
    if (b->second > second)
        return; /* older than the span: its bucket is somebody else's already */
    if (b->second < second)
        *b = (struct bucket){.second = (uint32_t)second, .max = (float)value};
    b->num++;
    b->sum += (float)value;
    if ((float)value > b->max)
        b->max = (float)value;
}

/* The seconds of the last span_ms that the ring can hold: after this one, up to now's. */
static int64_t first_second(const struct scale_window *w, int64_t now_ms, int64_t span_ms) {
    int64_t num = (span_ms + BUCKET_MS - 1) / BUCKET_MS;
    num = num < 1 ? 1 : num > w->num_buckets ? w->num_buckets : num;
    return second_of(now_ms) > num ? second_of(now_ms) - num : 0;
}

bool scale_window_average(const struct scale_window *w, int64_t now_ms, int64_t span_ms,
                          double *ret_value) {
    double sum = 0;
    uint32_t num = 0;
    int64_t last = second_of(now_ms);
    for (int64_t s = first_second(w, now_ms, span_ms) + 1; s <= last; s++) {
        const struct bucket *b = &w->buckets[s % w->num_buckets];
        if (b->second != s)
            continue;
        sum += b->sum / (double)b->num;
        num++;
    }
    if (num)
        *ret_value = sum / num;
    return num;
}

bool scale_window_max(const struct scale_window *w, int64_t now_ms, int64_t span_ms,
                      double *ret_value) {
    bool any = false;
    double max = 0;
    int64_t last = second_of(now_ms);
    for (int64_t s = first_second(w, now_ms, span_ms) + 1; s <= last; s++) {
        const struct bucket *b = &w->buckets[s % w->num_buckets];
        if (b->second != s)
            continue;
        max = !any || b->max > max ? b->max : max;
        any = true;
    }
    if (any)
        *ret_value = max;
    return any;
}
