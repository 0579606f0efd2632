/* HTTP requests of the daemon's own: what replicas' /metrics say, what a remote Prometheus or
 * another program answers to a scaling rule. Small answers, whole, within a time.
 *
 * One thread owns a getter and runs it: sockets and callbacks. Any thread asks. */
#ifndef CORE_CONTROL_HTTP_GET_H
#define CORE_CONTROL_HTTP_GET_H

#include "core/base/mem.h"

struct http_getter;

enum {
    HTTP_GETS_MAX = 1024, /* that run or wait to be run */
    HTTP_GET_BODY_BYTES_MAX = 4 << 20,
    HTTP_GET_CONNECT_MS = 3000,
    HTTP_GET_HEADERS_MAX = 16,
};

struct http_get {         /* all copied by http_getter_ask() */
    const char *url;      /* http:// or https:// */
    const char *uds_path; /* a Unix socket instead of the URL's host; NULL: none */
    const char *body;     /* sent with POST as a form; NULL: GET */
    const char *headers[HTTP_GET_HEADERS_MAX + 1]; /* "Name: value", NULL-terminated */
    const char *username, *password;               /* basic authentication; NULL: none */
    const char *bearer;                            /* a token; NULL: none */
    const char *ca_pem;                            /* whom to trust; NULL: whom the system trusts */
    const char *cert_pem, *key_pem;                /* the client's own; NULL: none */
    bool unsafe_tls;                               /* certificates are not looked at */
    int64_t timeout_ms;                            /* of the whole, > 0 */
};

struct http_got {
    int status;       /* 0: no answer, and error says why */
    const char *body; /* terminated; borrowed, like error, for the call */
    size_t body_len;
    const char *error;
};
typedef void http_got_fn(void *user, const struct http_got *got);

MUST_CHECK enum errc http_getter_create(struct http_getter **ret_g, struct error *err);
/* What still runs or waits is told an error. */
void http_getter_destroy(struct http_getter *g);
DEFINE_AUTO(http_getter, http_getter_destroy)

/* Any thread. fn is called once, in the owner's http_getter_run() or _destroy(), if this gives OK.
 * ERR_EXHAUSTED: HTTP_GETS_MAX are under way. ERR_INVALID: the URL is neither http nor https, or
 * holds what libcurl refuses. */
MUST_CHECK enum errc http_getter_ask(struct http_getter *g, const struct http_get *get,
                                     http_got_fn *fn, void *user, struct error *err);

/* Waits up to timeout_ms for sockets, new requests or http_getter_wake(), and runs what is due. */
void http_getter_run(struct http_getter *g, int timeout_ms);
void http_getter_wake(struct http_getter *g); /* any thread */

#endif
