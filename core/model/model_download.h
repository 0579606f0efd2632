/* A download: from a reference to a model in the store, on the caller's thread.
 *
 * Several files and several ranges of one file come at a time; what was cut goes on where it was
 * cut, also in a later call and after a kill; each file is read back and its digest compared before
 * the store has it. */
#ifndef CORE_MODEL_MODEL_DOWNLOAD_H
#define CORE_MODEL_MODEL_DOWNLOAD_H

#include <jansson.h>
#include <stdatomic.h>

#include "core/model/model_store.h"

enum {
    MODEL_DOWNLOAD_TRANSFERS_MAX = 8,     /* at a time, of one model */
    MODEL_DOWNLOAD_CHUNK_BYTES = 8 << 20, /* what is known to be on the disk, or not */
    MODEL_DOWNLOAD_SEGMENT_CHUNKS = 16,   /* one request asks for so many at most */
};

/* Written by the download, read by anybody. */
struct model_progress {
    _Atomic uint64_t bytes_done, bytes_total; /* total 0: not known yet */
    _Atomic bool cancelled;                   /* set from outside: it ends soon */
};

struct model_download {
    const struct model_store *store;
    const char *reference;
    const json_t *env;  /* see model_source.h; NULL: nothing is set */
    uint64_t bytes_max; /* the store's budget; 0: none */
    bool may_evict;
    struct model_progress *progress;
    long slow_seconds;    /* 0: MODEL_HTTP_SLOW_SECONDS */
    int64_t retry_ms;     /* 0: MODEL_HTTP_RETRY_MS */
    uint64_t chunk_bytes; /* 0: MODEL_DOWNLOAD_CHUNK_BYTES */
};

/* Gives what the store has then. ERR_CANCELLED; ERR_UNAVAILABLE and ERR_TIMEOUT: may pass, perhaps
 * after err->retry_after_seconds; ERR_EXHAUSTED: budget or disk; ERR_INVALID: a reference that
 * cannot be, a digest that is wrong; ERR_NOT_FOUND, ERR_UNAUTHENTICATED, ERR_FORBIDDEN: the
 * source's; ERR_CONFLICT: the content has changed meanwhile. */
MUST_CHECK enum errc model_download(const struct model_download *d, struct model_manifest **ret_m,
                                    struct error *err);

#endif
