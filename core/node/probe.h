/* One health question over a Unix socket: GET PATH, is the status 200, and what does the replica
 * say of its memory? Never blocks. */
#ifndef CORE_NODE_PROBE_H
#define CORE_NODE_PROBE_H

#include "core/base/mem.h"

enum probe_result { PROBE_PENDING, PROBE_HEALTHY, PROBE_FAILED };

enum { PROBE_ANSWER_BYTES = 1024, PROBE_QUESTION_BYTES = 256 };

struct probe {
    int fd; /* -1: none under way */
    int64_t deadline_ms;
    char question[PROBE_QUESTION_BYTES];
    uint32_t num_asked, question_len;
    char answer[PROBE_ANSWER_BYTES + 1];
    uint32_t num_answered;
    int64_t
        memory_bytes; /* what the last healthy answer said (core/base/memory_need.h); 0: nothing */
};

void probe_init(struct probe *p);
/* False: nobody listens there. Else fd is open, to be watched for input and output. */
MUST_CHECK bool probe_start(struct probe *p, const char *uds_path, const char *http_path,
                            int64_t deadline_ms);
/* Call when the socket is ready or the deadline may have passed. Closes fd with the result. */
MUST_CHECK enum probe_result probe_advance(struct probe *p, int64_t now_ms);
void probe_cancel(struct probe *p);

#endif
