/* HTTP for downloads: several GETs at a time on the caller's thread. The sole user of libcurl in
 * this folder.
 *
 * Redirects are followed here and not by libcurl: credentials go to the origin (scheme, host, port)
 * they were given for and to no other, not even when a chain of redirects comes back to it, and
 * nothing goes from https to http. Addresses in messages have no query, which may hold a secret. */
#ifndef CORE_MODEL_MODEL_HTTP_H
#define CORE_MODEL_MODEL_HTTP_H

#include "core/base/buf.h"

enum {
    MODEL_HTTP_REDIRECTS_MAX = 10,
    MODEL_HTTP_CONNECT_MS = 15 * 1000,
    MODEL_HTTP_SLOW_BYTES = 1024, /* a second; slower for MODEL_HTTP_SLOW_SECONDS: cut */
    MODEL_HTTP_SLOW_SECONDS = 30,
    MODEL_HTTP_ERROR_BYTES_MAX = 2048, /* of an answer's body that are looked at for why */
    MODEL_HTTP_TRIES_MAX = 5,          /* of what failed for a reason that may pass */
    MODEL_HTTP_RETRY_MS = 200,         /* before the second try, doubled each time */
    MODEL_HTTP_RETRY_AFTER_MAX = 30, /* seconds; whoever says more is asked again later, not here */
};

struct model_http;
struct model_transfer;

struct model_http_options {
    long slow_seconds;       /* 0: MODEL_HTTP_SLOW_SECONDS */
    int64_t retry_ms;        /* 0: MODEL_HTTP_RETRY_MS */
    _Atomic bool *cancelled; /* borrowed; NULL: never */
};
struct model_http *model_http_create(const struct model_http_options *opt);
void model_http_destroy(struct model_http *h); /* and every transfer */
DEFINE_AUTO(model_http, model_http_destroy)
bool model_http_cancelled(const struct model_http *h);
/* Before try number `tries` + 1. */
int64_t model_http_retry_ms(const struct model_http *h, unsigned tries, const struct error *why);

/* Credentials; all may be NULL. A region makes the request signed by AWS' version 4. */
struct model_auth {
    char *bearer;
    char *basic; /* base64 of user:password */
    char *aws_region, *aws_key_id, *aws_secret, *aws_token;
};
void model_auth_deinit(struct model_auth *a);

struct model_response {
    long status;
    uint64_t length; /* Content-Length; UINT64_MAX: not said */
    bool has_range;  /* Content-Range: */
    uint64_t first, total;
    char *etag, *challenge, *link, *content_type; /* NULL: not said; challenge: WWW-Authenticate */
};

struct model_request {
    const char *url;
    const struct model_auth *auth; /* borrowed until the transfer's end, like `user`; NULL: none */
    const char *accept, *if_range; /* NULL: none */
    bool ranged, open_ended;       /* bytes first..last, or first.. */
    uint64_t first, last;
    /* Both are called from model_http_poll(); false ends the transfer. head comes before data. */
    bool (*head)(void *user, const struct model_response *r);
    bool (*data)(void *user, const void *data, size_t len);
    /* The last call. err OK: the answer came whole with a status of 200..299; ERR_CANCELLED: head
     * or data ended it. ERR_UNAVAILABLE and ERR_TIMEOUT may pass: err->retry_after_seconds. */
    void (*done)(void *user, const struct model_response *r, const struct error *err);
    void *user;
};

/* Starts one. ERR_INVALID: not an address of http or https. */
MUST_CHECK enum errc model_http_start(struct model_http *h, const struct model_request *r,
                                      struct model_transfer **ret_t, struct error *err);
/* Ends one without done(). */
void model_http_stop(struct model_http *h, struct model_transfer *t);
/* Moves bytes, waits for them at most timeout_ms. */
void model_http_poll(struct model_http *h, int timeout_ms);

/* GETs a document of at most bytes_max, trying again what may pass; `tries` of them, 0:
 * MODEL_HTTP_TRIES_MAX. ret_r: NULL, or gets the answer's head, also of one that failed; the caller
 * deinits. ERR_TOO_LARGE. */
struct model_document {
    const char *url;
    const struct model_auth *auth;
    const char *accept;
    size_t bytes_max;
    unsigned tries;
};
MUST_CHECK enum errc model_http_get(struct model_http *h, const struct model_document *d,
                                    struct buf *out, struct model_response *ret_r,
                                    struct error *err);
void model_response_deinit(struct model_response *r);

/* Gives the text with everything but letters, digits, "-._~" and, with keep_slash, "/" escaped. */
char *model_http_escape(const char *text, bool keep_slash);
/* The other way round. */
char *model_http_unescape(const char *text);

#endif
