/* Which part of which snapshot a list asks for: limit, continue, resourceVersion and its match. */
#ifndef KUBE_COMPAT_PAGE_H
#define KUBE_COMPAT_PAGE_H

#include "kube-compat/request.h"

struct page {
    int64_t limit;     /* 0: all */
    const char *after; /* key; NULL: from the start; in the request's arena */
    int64_t revision;  /* of the snapshot; 0: the newest there is */
};

/* Reads the query. prefix: where the list's keys start. ERR_MALFORMED, ERR_INVALID (with causes),
 * ERR_TIMEOUT: the revision is not there yet. */
MUST_CHECK enum errc page_read(struct request *rq, const char *prefix, struct page *ret_page,
                               struct error *err);

/* resourceVersion of the query: -1 when absent or "", else the number. ERR_MALFORMED. */
MUST_CHECK enum errc page_query_version(const struct request *rq, int64_t *ret_version,
                                        struct error *err);

/* Refuses a revision that is not there yet: ERR_TIMEOUT, with the cause that clients look for. */
enum errc page_too_new(struct request *rq, int64_t version, int64_t current, struct error *err);

/* Gives the token of what lies behind `key` in the snapshot of a revision. */
json_t *page_continue(const char *key, int64_t revision);

/* Answers a list whose snapshot is no longer kept. A client that reads page by page gets a token
 * with which it may go on in the newest state. */
void page_fail_expired(struct request *rq, const struct page *page);

#endif
