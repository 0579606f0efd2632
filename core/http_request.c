/* Reading a request: the target, the headers, and the rules that libmicrohttpd leaves to us.
 *
 * libmicrohttpd splits lines and takes chunks apart; it is lenient where leniency lets two servers
 * disagree about where a request ends. So before anything is read behind the headers this file
 * insists on: a method and header names made of token characters, header values without control
 * characters, one Host for HTTP/1.1, at most one Content-Length of digits only, Transfer-Encoding
 * nothing but "chunked" and never beside a Content-Length (RFC 9112 sections 3.2, 5.1, 6.1, 6.3).
 * Paths are decoded once, must be UTF-8, and must not climb ("..") or hide a NUL. */
#include "core/http_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>
#include <sys/random.h>

#include "core/base/utf8.h"

/* ---- the target ---- */

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Gives (arena) the decoded text; NULL and *fault when it cannot be. */
static const char *percent_decode(struct http_exchange *x, const char *text, size_t len,
                                  bool plus_is_space, const char **fault) {
    char *out = arena_alloc(x->arena, len + 1);
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '%') {
            int high = len - i > 2 ? hex_digit(text[i + 1]) : -1;
            int low = len - i > 2 ? hex_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0) {
                *fault = "a percent sign without two hexadecimal digits";
                return NULL;
            }
            c = (char)(high * 16 + low);
            if (!c) {
                *fault = "an encoded NUL";
                return NULL;
            }
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        out[n++] = c;
    }
    out[n] = '\0';
    if (!utf8_check(out, n)) {
        *fault = "text that is not UTF-8";
        return NULL;
    }
    return out;
}

static bool climbs(const char *path) {
    for (const char *p = path; *p; p += strcspn(p, "/")) {
        p += *p == '/';
        if (p[0] == '.' && p[1] == '.' && (p[2] == '/' || p[2] == '\0'))
            return true;
    }
    return false;
}

static void parse_query(struct http_exchange *x) {
    struct http_field **tail = &x->queries;
    unsigned count = 0;
    for (const char *p = x->raw_query; *p;) {
        size_t len = strcspn(p, "&");
        size_t name_len = 0;
        while (name_len < len && p[name_len] != '=')
            name_len++;
        size_t value_at = name_len < len ? name_len + 1 : len;
        if (len) {
            if (++count > HTTP_QUERIES_MAX) {
                x->target_fault =
                    arena_printf(x->arena, "more than %d query parameters", HTTP_QUERIES_MAX);
                return;
            }
            struct http_field *f = arena_alloc(x->arena, sizeof(*f));
            f->name = percent_decode(x, p, name_len, true, &x->target_fault);
            f->value = percent_decode(x, p + value_at, len - value_at, true, &x->target_fault);
            if (x->target_fault)
                return;
            *tail = f;
            tail = &f->next;
        }
        p += len + (p[len] == '&');
    }
}

void http_request_target(struct http_exchange *x, const char *uri) {
    x->path = x->raw_path = x->raw_query = "";
    for (const char *p = uri; *p; p++) {
        if ((unsigned char)*p <= ' ' || *p == 0x7f) {
            x->target_fault = "a space or control character";
            return;
        }
    }
    /* Absolute form, as clients send it to proxies: what counts here starts at the path. */
    const char *path = uri;
    if (!strncasecmp(uri, "http://", 7) || !strncasecmp(uri, "https://", 8)) {
        path = strstr(uri, "://") + 3;
        path += strcspn(path, "/?#");
        if (*path != '/')
            path = *path == '?' ? arena_printf(x->arena, "/%s", path) : "/";
    }
    size_t len = strcspn(path, "?#");
    const char *query = path[len] == '?' ? path + len + 1 : "";
    x->raw_path = arena_strndup(x->arena, path, len);
    x->raw_query = arena_strndup(x->arena, query, strcspn(query, "#"));
    if (path[0] != '/' && strcmp(x->raw_path, "*") != 0) {
        x->target_fault = "a path that does not start with /";
        return;
    }
    const char *decoded = percent_decode(x, path, len, false, &x->target_fault);
    if (!decoded)
        return;
    x->path = decoded;
    if (climbs(decoded)) {
        x->target_fault = "a path with ..";
        return;
    }
    parse_query(x);
}

/* ---- the headers ---- */

static bool is_token(const char *text) {
    if (!*text)
        return false;
    for (; *text; text++)
        if (!isalnum((unsigned char)*text) && !strchr("!#$%&'*+-.^_`|~", *text))
            return false;
    return true;
}

static bool is_field_value(const char *text) {
    for (; *text; text++)
        if (((unsigned char)*text < ' ' && *text != '\t') || *text == 0x7f)
            return false;
    return true;
}

struct header_copy {
    struct http_exchange *x;
    struct http_field **tail;
};

static enum MHD_Result copy_header(void *user, enum MHD_ValueKind kind, const char *name,
                                   const char *value) {
    struct header_copy *copy = user;
    struct http_field *f = arena_alloc(copy->x->arena, sizeof(*f));
    f->name = arena_strdup(copy->x->arena, name);
    f->value = arena_strdup(copy->x->arena, value ? value : "");
    size_t len = strlen(f->value);
    while (len && (f->value[len - 1] == ' ' || f->value[len - 1] == '\t'))
        ((char *)f->value)[--len] = '\0';
    *copy->tail = f;
    copy->tail = &f->next;
    return MHD_YES;
}

static const char *find_field(const struct http_field *f, const char *name) {
    for (; f; f = f->next)
        if (!strcasecmp(f->name, name))
            return f->value;
    return NULL;
}

static unsigned count_field(const struct http_field *f, const char *name) {
    unsigned n = 0;
    for (; f; f = f->next)
        n += !strcasecmp(f->name, name);
    return n;
}

/* How long the body is, by one rule and not two. */
static enum errc check_framing(struct http_exchange *x, const char *version, struct error *err) {
    const char *length = find_field(x->headers, "Content-Length");
    const char *encoding = find_field(x->headers, "Transfer-Encoding");
    if (count_field(x->headers, "Content-Length") > 1)
        return err_field(err, ERR_MALFORMED, "Content-Length", "more than one Content-Length");
    if (encoding && length)
        return err_field(err, ERR_MALFORMED, "Content-Length",
                         "Content-Length beside Transfer-Encoding");
    if (encoding) {
        if (count_field(x->headers, "Transfer-Encoding") > 1 ||
            strcasecmp(encoding, "chunked") != 0)
            return err_field(err, ERR_MALFORMED, "Transfer-Encoding",
                             "Transfer-Encoding \"%s\": only \"chunked\" is read here", encoding);
        if (strcmp(version, "HTTP/1.1") != 0)
            return err_field(err, ERR_MALFORMED, "Transfer-Encoding",
                             "Transfer-Encoding needs HTTP/1.1");
        x->chunked = true;
    }
    if (!length)
        return OK;
    size_t digits = strspn(length, "0123456789");
    if (!digits || length[digits])
        return err_field(err, ERR_MALFORMED, "Content-Length", "Content-Length \"%s\" is no number",
                         length);
    if (digits > 18 || strtoull(length, NULL, 10) > x->server->opt.body_bytes_max)
        return err_field(err, ERR_TOO_LARGE, "Content-Length",
                         "request body of %s bytes is above the bound of %zu", length,
                         x->server->opt.body_bytes_max);
    return OK;
}

static void set_request_id(struct http_exchange *x) {
    const char *id = find_field(x->headers, "X-Request-Id");
    if (id) {
        size_t len =
            strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
        if (len && !id[len] && len <= HTTP_REQUEST_ID_BYTES_MAX) {
            x->request_id = id;
            return;
        }
    }
    unsigned char noise[8];
    ASSERT(getrandom(noise, sizeof(noise), 0) == sizeof(noise));
    char *made = arena_alloc(x->arena, 2 * sizeof(noise) + 1);
    for (size_t i = 0; i < sizeof(noise); i++)
        snprintf(made + 2 * i, 3, "%02x", noise[i]);
    x->request_id = made;
}

enum errc http_request_head(struct http_exchange *x, struct MHD_Connection *connection,
                            const char *method, const char *version, struct error *err) {
    x->method = arena_strdup(x->arena, method);
    struct header_copy copy = {.x = x, .tail = &x->headers};
    MHD_get_connection_values(connection, MHD_HEADER_KIND, copy_header, &copy);
    set_request_id(x);

    if (!is_token(x->method))
        return err_set(err, ERR_MALFORMED, "request line: the method is no token");
    if (x->target_fault)
        return err_set(err, ERR_MALFORMED, "request target: %s", x->target_fault);
    if (!strcmp(x->path, "*") && strcmp(x->method, "OPTIONS") != 0)
        return err_set(err, ERR_MALFORMED, "request target: * is for OPTIONS only");
    for (const struct http_field *f = x->headers; f; f = f->next) {
        if (!is_token(f->name))
            return err_set(err, ERR_MALFORMED, "a header name is no token");
        if (!is_field_value(f->value))
            return err_field(err, ERR_MALFORMED, f->name, "header %s holds a control character",
                             f->name);
    }
    unsigned num_hosts = count_field(x->headers, "Host");
    if (num_hosts > 1 || (!num_hosts && !strcmp(version, "HTTP/1.1")))
        return err_field(err, ERR_MALFORMED, "Host", "%u Host headers where one is needed",
                         num_hosts);
    return check_framing(x, version, err);
}

/* ---- accessors ---- */

const char *http_method(const struct http_exchange *x) {
    return x->method;
}

const char *http_path(const struct http_exchange *x) {
    return x->path;
}

const char *http_raw_path(const struct http_exchange *x) {
    return x->raw_path;
}

const char *http_raw_query(const struct http_exchange *x) {
    return x->raw_query;
}

const char *http_header(const struct http_exchange *x, const char *name) {
    return find_field(x->headers, name);
}

bool http_header_has_word(const struct http_exchange *x, const char *name, const char *word) {
    static const char BETWEEN[] = " \t,";
    size_t len = strlen(word);
    for (const struct http_field *f = x->headers; f; f = f->next) {
        const char *p = strcasecmp(f->name, name) ? "" : f->value;
        while (*(p += strspn(p, BETWEEN))) {
            size_t n = strcspn(p, BETWEEN);
            if (n == len && !strncasecmp(p, word, n))
                return true;
            p += n;
        }
    }
    return false;
}

bool http_is_hop_by_hop(const char *name) {
    static const char *const names[] = {"Connection",
                                        "Keep-Alive",
                                        "Proxy-Authenticate",
                                        "Proxy-Authorization",
                                        "Proxy-Connection",
                                        "TE",
                                        "Trailer",
                                        "Transfer-Encoding",
                                        "Upgrade"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (!strcasecmp(name, names[i]))
            return true;
    }
    return false;
}

const char *http_query(const struct http_exchange *x, const char *name) {
    for (const struct http_field *f = x->queries; f; f = f->next)
        if (!strcmp(f->name, name))
            return f->value;
    return NULL;
}

size_t http_query_all(const struct http_exchange *x, const char *name, const char **ret_values,
                      size_t max) {
    size_t num = 0;
    for (const struct http_field *f = x->queries; f; f = f->next) {
        if (strcmp(f->name, name) != 0)
            continue;
        if (num < max)
            ret_values[num] = f->value;
        num++;
    }
    return num;
}

bool http_query_bool(const struct http_exchange *x, const char *name) {
    const char *value = http_query(x, name);
    return value && strcmp(value, "0") != 0 && strcasecmp(value, "false") != 0;
}

const char *http_body(const struct http_exchange *x, size_t *ret_len) {
    *ret_len = x->body.len;
    return x->body.data ? x->body.data : "";
}

const struct auth_identity *http_identity(const struct http_exchange *x) {
    return x->identity;
}

const char *http_request_id(const struct http_exchange *x) {
    return x->request_id;
}

const char *http_client_address(const struct http_exchange *x) {
    return x->client_address;
}

struct arena *http_arena(struct http_exchange *x) {
    return x->arena;
}

void http_each_header(const struct http_exchange *x,
                      void (*fn)(void *user, const char *name, const char *value), void *user) {
    for (const struct http_field *f = x->headers; f; f = f->next)
        fn(user, f->name, f->value);
}
