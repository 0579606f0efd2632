/* Requests that others collected (gunicorn's and llhttp's suites), against our server: what must be
 * taken arrives as they say, what must be refused reaches no handler. Where we choose otherwise the
 * case stands in a table below, with the reason. */
#include "core/http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#include <cmocka.h>

enum { WAIT_MS = 20000 };

struct exception {
    const char *name, *reason;
};

static const struct exception gunicorn_exceptions[] = {
    {"valid/009", "Transfer-Encoding: identity is obsolete; beside a Content-Length it is refused"},
    {"valid/020", "its body looks like a request to add_hosts()"},
    {"valid/025_line", "no content coding but chunked"},
    {"valid/029", "no content coding but chunked"},
    {"valid/rfc9112_smuggle_te_identity_chunked_01", "no content coding but chunked"},
    {"valid/rfc9112_target_authority_connect_01", "no CONNECT: this is no proxy"},
    {"valid/compat_obs_fold", "libmicrohttpd 0.9.75 joins a folded line to the header's name"},
    {"invalid/007", "needs a small header limit"},
    {"invalid/009", "needs a small header limit"},
    {"invalid/011", "needs a small header limit"},
    {"invalid/limit_header_default_01", "our limit on headers is 32 KiB together"},
    {"invalid/040", "header names with an underscore are names like others here"},
    {"invalid/rfc9110_trailer_forbidden_cl_01", "trailers are read and not used at all"},
    {"invalid/rfc9110_trailer_forbidden_te_01", "trailers are read and not used at all"},
};

static const struct exception llhttp_exceptions[] = {
    {"Invalid header token #3", "libmicrohttpd drops a header line without a name"},
    {"No restart when keep-alive is off (1.0)", "what follows a last request is not read"},
    {"CRLF between requests, explicit `close`", "what follows a last request is not read"},
};

static const char *excepted(const struct exception *list, size_t len, const char *name) {
    for (size_t i = 0; i < len; i++)
        if (!strcmp(list[i].name, name))
            return list[i].reason;
    return NULL;
}

/* ---- a server that says what it was asked ---- */

static int num_handled; /* read by the test only after the connection has ended */

static void append_header(void *user, const char *name, const char *value) {
    json_array_append_new(user, json_pack("[ss]", name, value));
}

static void handle(struct http_exchange *x, void *user) {
    __atomic_add_fetch(&num_handled, 1, __ATOMIC_SEQ_CST);
    size_t len;
    const char *body = http_body(x, &len);
    json_t *headers = json_array();
    http_each_header(x, append_header, headers);
    json_t *doc =
        json_pack("{s:s,s:s,s:s,s:o,s:s%}", "method", http_method(x), "path", http_raw_path(x),
                  "query", http_raw_query(x), "headers", headers, "body", body, (int)len);
    if (!doc) /* bytes that are no text */
        doc = json_pack("{s:s,s:s,s:s}", "method", http_method(x), "path", http_raw_path(x),
                        "query", http_raw_query(x));
    http_reply_json(x, 200, doc);
    json_decref(doc);
}

static struct http_server *start(void) {
    struct http_server_options opt = {.listen = "127.0.0.1:0", .handler = handle};
    struct http_server *s = NULL;
    struct error err = ERROR_INIT;
    if (http_server_start(&opt, &s, &err))
        fail_msg("%s", err.text);
    return s;
}

/* Sends the bytes, ends, gives all that comes back. */
static char *talk(const struct http_server *s, const char *bytes, size_t len) {
    struct sockaddr_in sin = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)strtol(strrchr(http_server_address(s), ':') + 1, NULL, 10)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (void *)&sin, sizeof(sin)), 0);
    assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
    shutdown(fd, SHUT_WR);
    AUTO_BUF in = BUF_INIT;
    char data[16384];
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, WAIT_MS) != 1)
            fail_msg("the server says nothing to: %s", bytes);
        ssize_t n = recv(fd, data, sizeof(data), 0);
        if (n <= 0)
            break;
        buf_append(&in, data, (size_t)n);
    }
    close(fd);
    return buf_steal(&in);
}

/* ---- cases ---- */

static json_t *load(const char *name) {
    const char *shared = getenv("INFERD_SHARED");
    AUTO_FREE char *path =
        mem_printf("%s/data/conformance/http/%s", shared ? shared : "../shared", name);
    json_error_t error;
    json_t *cases = json_load_file(path, JSON_ALLOW_NUL, &error);
    if (!cases) {
        print_message("skipped: %s is missing\n", path);
        skip();
    }
    return cases;
}

/* The suites write bytes as Latin-1 text. */
static void from_latin1(const json_t *text, struct buf *out) {
    const unsigned char *p = (const unsigned char *)json_string_value(text);
    for (size_t len = json_string_length(text); len; len--, p++) {
        if (*p >= 0xc0 && len > 1) {
            buf_putc(out, (char)(p[0] << 6 | (p[1] & 0x3f)));
            len--;
            p++;
        } else {
            buf_putc(out, (char)*p);
        }
    }
}

/* Their parsers take HTTP/1.1 without Host, which RFC 9112 section 3.2 has a server refuse: gives
 * every such request line one. */
static void add_hosts(struct buf *bytes) {
    static const char version[] = " HTTP/1.1\r\n";
    struct buf out = BUF_INIT;
    const char *at = bytes->data ? bytes->data : "";
    for (const char *line; (line = strstr(at, version));) {
        const char *after = line + sizeof(version) - 1;
        const char *end = strstr(after, "\r\n\r\n");
        buf_append(&out, at, (size_t)(after - at));
        bool has_host = false;
        for (const char *h = after; h && (!end || h < end);
             h = strstr(h, "\r\n"), h = h ? h + 2 : h)
            has_host |= !strncasecmp(h, "Host", 4);
        if (!has_host)
            buf_puts(&out, "Host: added\r\n");
        at = after;
    }
    buf_puts(&out, at);
    buf_deinit(bytes);
    *bytes = out;
}

static bool has_header(const json_t *headers, const char *name, const char *value) {
    size_t i;
    json_t *h;
    json_array_foreach (headers, i, h) {
        if (!strcasecmp(json_string_value(json_array_get(h, 0)), name) &&
            !strcmp(json_string_value(json_array_get(h, 1)), value))
            return true;
    }
    return false;
}

/* Compares what the handler saw with what the suite says; gives what differs. */
static const char *difference(const json_t *seen, const json_t *want) {
    AUTO_BUF uri = BUF_INIT;
    const char *query = json_string_value(json_object_get(seen, "query"));
    buf_printf(&uri, "%s%s%s", json_string_value(json_object_get(seen, "path")), *query ? "?" : "",
               query);
    AUTO_BUF want_bytes = BUF_INIT;
    from_latin1(json_object_get(want, "uri"), &want_bytes);
    const char *want_uri = want_bytes.data ? want_bytes.data : "";
    size_t want_len = strcspn(want_uri, "#");
    if (!strncasecmp(want_uri, "http", 4)) { /* absolute form: the path must be its end */
        size_t len = strlen(uri.data);
        if (len > want_len || strncmp(want_uri + want_len - len, uri.data, len))
            return "uri";
    } else if (strlen(uri.data) != want_len || strncmp(uri.data, want_uri, want_len)) {
        return "uri";
    }
    if (strcmp(json_string_value(json_object_get(seen, "method")),
               json_string_value(json_object_get(want, "method"))))
        return "method";
    const char *body = json_string_value(json_object_get(seen, "body"));
    if (body && strcmp(body, json_string_value(json_object_get(want, "body"))))
        return "body";
    size_t i;
    json_t *h;
    json_array_foreach (json_object_get(want, "headers"), i, h) {
        const char *value = json_string_value(json_array_get(h, 1));
        if (!has_header(json_object_get(seen, "headers"), json_string_value(json_array_get(h, 0)),
                        value))
            return json_string_value(json_array_get(h, 0));
    }
    return NULL;
}

static void check_accepted(const char *name, const json_t *requests, const char *answers) {
    size_t i;
    json_t *want;
    json_array_foreach (requests, i, want) {
        const char *head = strstr(answers, "HTTP/1.1 200 OK\r\n");
        const char *body = head ? strstr(head, "\r\n\r\n") : NULL;
        if (!body)
            fail_msg("%s: request %zu got no answer: %s", name, i, answers);
        json_t *seen = json_loads(body + 4, JSON_DISABLE_EOF_CHECK, NULL);
        const char *differs = seen ? difference(seen, want) : "the answer";
        if (differs) {
            char *text = json_dumps(want, 0);
            print_message("%s\n", text);
            free(text);
            fail_msg("%s: request %zu: %s differs: %s", name, i, differs, body + 4);
        }
        json_decref(seen);
        answers = body + 4;
    }
}

static void gunicorn_requests(void **state) {
    json_t *cases = load("requests-gunicorn.json");
    AUTO(http_server) s = start();
    size_t i, num_checked = 0;
    json_t *c;
    json_array_foreach (cases, i, c) {
        const char *name = json_string_value(json_object_get(c, "name"));
        if (json_object_get(c, "settings") ||
            excepted(gunicorn_exceptions, ARRAY_LEN(gunicorn_exceptions), name))
            continue;
        AUTO_BUF bytes = BUF_INIT;
        from_latin1(json_object_get(c, "bytes"), &bytes);
        bool accepted = json_is_true(json_object_get(c, "accepted"));
        if (accepted)
            add_hosts(&bytes);
        num_handled = 0;
        AUTO_FREE char *answers = talk(s, bytes.data, bytes.len);
        if (accepted)
            check_accepted(name, json_object_get(c, "requests"), answers);
        else if (__atomic_load_n(&num_handled, __ATOMIC_SEQ_CST))
            fail_msg("%s must be refused: %s", name, bytes.data);
        num_checked++;
    }
    assert_true(num_checked > 40);
    json_decref(cases);
}

static void llhttp_refusals(void **state) {
    json_t *cases = load("llhttp.json");
    AUTO(http_server) s = start();
    size_t i, num_checked = 0;
    json_t *c;
    json_array_foreach (cases, i, c) {
        const char *name = json_string_value(json_object_get(c, "name"));
        if (strcmp(json_string_value(json_object_get(c, "type")), "request") ||
            json_is_true(json_object_get(c, "accepted")) ||
            excepted(llhttp_exceptions, ARRAY_LEN(llhttp_exceptions), name))
            continue;
        AUTO_BUF bytes = BUF_INIT;
        from_latin1(json_object_get(c, "bytes"), &bytes);
        add_hosts(&bytes);
        num_handled = 0;
        AUTO_FREE char *answers = talk(s, bytes.data, bytes.len);
        if (__atomic_load_n(&num_handled, __ATOMIC_SEQ_CST))
            fail_msg("%s must be refused: %s", name, bytes.data);
        num_checked++;
    }
    assert_true(num_checked > 10);
    json_decref(cases);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gunicorn_requests),
        cmocka_unit_test(llhttp_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
