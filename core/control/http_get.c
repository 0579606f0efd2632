/* libcurl's multi interface behind one thread. Others hand in requests that are whole: a list under
 * a lock, and a wake-up. Names are looked up by libcurl's resolver thread, so nobody waits for one.
 *
 * Answers that redirect are answers: a credential goes where its owner said, and nowhere else. */
#include "core/control/http_get.h"

#include <curl/curl.h>
#include <pthread.h>
#include <strings.h>

#include "core/base/buf.h"

struct transfer {
    struct transfer *next;
    CURL *easy;
    struct curl_slist *headers;
    char *body, *uds_path;
    struct buf answer;
    bool too_large;
    http_got_fn *fn;
    void *user;
};

struct http_getter {
    CURLM *multi;
    struct transfer *running; /* the owner's */
    pthread_mutex_t lock;
    struct transfer *waiting, **waiting_end; /* under the lock, like num */
    uint32_t num;                            /* waiting and running */
};

static void transfer_destroy(struct transfer *t) {
    if (!t)
        return;
    curl_easy_cleanup(t->easy);
    curl_slist_free_all(t->headers);
    buf_deinit(&t->answer);
    free(t->body);
    free(t->uds_path);
    free(t);
}
DEFINE_AUTO(transfer, transfer_destroy)

static size_t on_body(char *data, size_t size, size_t num, void *user) {
    struct transfer *t = user;
    size_t len = size * num;
    if (t->answer.len + len > HTTP_GET_BODY_BYTES_MAX) {
        t->too_large = true;
        return CURL_WRITEFUNC_ERROR;
    }
    buf_append(&t->answer, data, len);
    return len;
}

/* libcurl's options want their own types; a refusal is remembered, not looked at one by one. */
static void set_text(struct transfer *t, CURLoption option, const char *value, CURLcode *ret) {
    CURLcode rc = value ? curl_easy_setopt(t->easy, option, value) : CURLE_OK;
    if (rc)
        *ret = rc;
}

static void set_number(struct transfer *t, CURLoption option, long value, CURLcode *ret) {
    CURLcode rc = curl_easy_setopt(t->easy, option, value);
    if (rc)
        *ret = rc;
}

static void set_blob(struct transfer *t, CURLoption option, const char *pem, CURLcode *ret) {
    if (!pem)
        return;
    struct curl_blob blob = {
        .data = (void *)(uintptr_t)pem, .len = strlen(pem), .flags = CURL_BLOB_COPY};
    CURLcode rc = curl_easy_setopt(t->easy, option, &blob);
    if (rc)
        *ret = rc;
}

static void add_header(struct transfer *t, const char *line) {
    struct curl_slist *longer = curl_slist_append(t->headers, line);
    ASSERT(longer);
    t->headers = longer;
}

static CURLcode set_up(struct transfer *t, const struct http_get *get) {
    CURLcode rc = CURLE_OK;
    set_text(t, CURLOPT_URL, get->url, &rc);
    set_text(t, CURLOPT_PROTOCOLS_STR, "http,https", &rc);
    set_text(t, CURLOPT_PROXY, "", &rc); /* the environment is not asked */
    set_text(t, CURLOPT_UNIX_SOCKET_PATH, t->uds_path, &rc);
    set_text(t, CURLOPT_USERAGENT, "inferd/" INFERD_VERSION, &rc);
    set_number(t, CURLOPT_NOSIGNAL, 1, &rc);
    set_number(t, CURLOPT_CONNECTTIMEOUT_MS, HTTP_GET_CONNECT_MS, &rc);
    set_number(t, CURLOPT_TIMEOUT_MS, (long)get->timeout_ms, &rc);
    set_text(t, CURLOPT_USERNAME, get->username, &rc);
    set_text(t, CURLOPT_PASSWORD, get->password, &rc);
    set_blob(t, CURLOPT_CAINFO_BLOB, get->ca_pem, &rc);
    set_blob(t, CURLOPT_SSLCERT_BLOB, get->cert_pem, &rc);
    set_blob(t, CURLOPT_SSLKEY_BLOB, get->key_pem, &rc);
    if (get->unsafe_tls) {
        set_number(t, CURLOPT_SSL_VERIFYPEER, 0, &rc);
        set_number(t, CURLOPT_SSL_VERIFYHOST, 0, &rc);
    }
    for (size_t i = 0; get->headers[i]; i++)
        add_header(t, get->headers[i]);
    if (get->bearer) {
        AUTO_FREE char *line = mem_printf("Authorization: Bearer %s", get->bearer);
        add_header(t, line);
    }
    set_text(t, CURLOPT_POSTFIELDS, t->body, &rc);
    if (t->headers && !rc)
        rc = curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
    if (!rc)
        rc = curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_body);
    if (!rc)
        rc = curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
    if (!rc)
        rc = curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
    return rc;
}

enum errc http_getter_create(struct http_getter **ret_g, struct error *err) {
    CURLM *multi = curl_global_init(CURL_GLOBAL_DEFAULT) ? NULL : curl_multi_init();
    if (!multi)
        return err_set(err, ERR_INTERNAL, "libcurl does not start");
    struct http_getter *g = mem_alloc(sizeof(*g));
    g->multi = multi;
    pthread_mutex_init(&g->lock, NULL);
    g->waiting_end = &g->waiting;
    *ret_g = g;
    return OK;
}

static bool is_http(const char *url) {
    return !strncasecmp(url, "http://", 7) || !strncasecmp(url, "https://", 8);
}

enum errc http_getter_ask(struct http_getter *g, const struct http_get *get, http_got_fn *fn,
                          void *user, struct error *err) {
    if (!is_http(get->url))
        return err_set(err, ERR_INVALID, "\"%.200s\" is not an http or https URL", get->url);
    AUTO(transfer) t = mem_alloc(sizeof(*t));
    t->easy = curl_easy_init();
    ASSERT(t->easy);
    t->fn = fn;
    t->user = user;
    t->body = mem_strdup(get->body); /* libcurl does not copy this one */
    t->uds_path = mem_strdup(get->uds_path);
    CURLcode rc = set_up(t, get);
    if (rc)
        return err_set(err, ERR_INVALID, "%.200s: %s", get->url, curl_easy_strerror(rc));
    pthread_mutex_lock(&g->lock);
    bool room = g->num < HTTP_GETS_MAX;
    if (room) {
        g->num++;
        *g->waiting_end = t;
        g->waiting_end = &t->next;
        t = NULL;
    }
    pthread_mutex_unlock(&g->lock);
    if (!room)
        return err_set(err, ERR_EXHAUSTED, "%d requests are under way already", HTTP_GETS_MAX);
    http_getter_wake(g);
    return OK;
}

/* Takes t, which is in no list any more. */
static void finish(struct http_getter *g, struct transfer *t, const char *error) {
    AUTO(transfer) done = t;
    long status = 0;
    curl_easy_getinfo(done->easy, CURLINFO_RESPONSE_CODE, &status);
    buf_reserve(&done->answer, 1);
    struct http_got got = {.status = error ? 0 : (int)status,
                           .body = done->answer.data,
                           .body_len = done->answer.len,
                           .error = error};
    pthread_mutex_lock(&g->lock);
    g->num--;
    pthread_mutex_unlock(&g->lock);
    done->fn(done->user, &got);
}

static void remove_running(struct http_getter *g, struct transfer *t) {
    struct transfer **p = &g->running;
    while (*p != t)
        p = &(*p)->next;
    *p = t->next;
    curl_multi_remove_handle(g->multi, t->easy);
}

static void start_waiting(struct http_getter *g) {
    pthread_mutex_lock(&g->lock);
    struct transfer *waiting = steal(g->waiting);
    g->waiting_end = &g->waiting;
    pthread_mutex_unlock(&g->lock);
    while (waiting) {
        struct transfer *t = waiting;
        waiting = t->next;
        t->next = g->running;
        g->running = t;
        CURLMcode rc = curl_multi_add_handle(g->multi, t->easy);
        if (rc) {
            g->running = t->next;
            finish(g, t, curl_multi_strerror(rc));
        }
    }
}

static void finish_done(struct http_getter *g) {
    int left;
    for (CURLMsg *m; (m = curl_multi_info_read(g->multi, &left));) {
        char *private = NULL;
        CURLcode result = m->data.result; /* m is gone with the handle */
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &private);
        struct transfer *t = (struct transfer *)(void *)private;
        remove_running(g, t);
        AUTO_FREE char *large =
            mem_printf("the answer is larger than %d bytes", HTTP_GET_BODY_BYTES_MAX);
        finish(g, t, t->too_large ? large : result ? curl_easy_strerror(result) : NULL);
    }
}

void http_getter_run(struct http_getter *g, int timeout_ms) {
    int num_running;
    start_waiting(g);
    curl_multi_perform(g->multi, &num_running);
    finish_done(g);
    curl_multi_poll(g->multi, NULL, 0, timeout_ms, NULL);
    start_waiting(g);
    curl_multi_perform(g->multi, &num_running);
    finish_done(g);
}

void http_getter_wake(struct http_getter *g) {
    curl_multi_wakeup(g->multi);
}

void http_getter_destroy(struct http_getter *g) {
    if (!g)
        return;
    while (g->running) {
        struct transfer *t = g->running;
        remove_running(g, t);
        finish(g, t, "the daemon stops");
    }
    while (g->waiting) {
        struct transfer *t = g->waiting;
        g->waiting = t->next;
        finish(g, t, "the daemon stops");
    }
    curl_multi_cleanup(g->multi);
    pthread_mutex_destroy(&g->lock);
    free(g);
}
