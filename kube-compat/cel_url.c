/* Kubernetes' library of URLs: url('https://example.com:80/path?k=v').
 *
 * What is a URL is decided as Go's net/url decides it for requests: an absolute URI, or a path from
 * the root; without a fragment, so a '#' belongs to the path. The value keeps the text; its parts
 * are found again when they are asked for, which costs a step for ten bytes. */
#include "kube-compat/cel_functions.h"

#include <ctype.h>

#define FUNCTION(name) static struct cel_value name(struct cel_run *run, const struct cel_value *a)

/* A part of the text. */
struct span {
    const char *at;
    size_t len;
};

struct url {
    struct span scheme, host, path, query;
};

static int hex_digit(char c) {
    return isdigit((unsigned char)c)    ? c - '0'
           : isxdigit((unsigned char)c) ? (c | 0x20) - 'a' + 10
                                        : -1;
}

static bool is_unreserved(char c) {
    return isalnum((unsigned char)c) || (c && strchr("-_.~", c));
}

/* Every percent sign is followed by two digits. */
static bool escapes_hold(struct span s) {
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] == '%' &&
            (i + 2 >= s.len || hex_digit(s.at[i + 1]) < 0 || hex_digit(s.at[i + 2]) < 0))
            return false;
    }
    return true;
}

static bool is_port(struct span s) {
    for (size_t i = 1; i < s.len; i++) {
        if (!isdigit((unsigned char)s.at[i]))
            return false;
    }
    return !s.len || *s.at == ':';
}

/* "[::1]:80", "name:80". */
static bool host_holds(struct span host) {
    const char *end = host.at + host.len, *port = end;
    if (host.len && *host.at == '[') {
        const char *close = memrchr(host.at, ']', host.len);
        if (!close)
            return false;
        port = close + 1;
    } else {
        const char *colon = memrchr(host.at, ':', host.len);
        port = colon ? colon : end;
    }
    if (!is_port((struct span){port, (size_t)(end - port)}))
        return false;
    for (size_t i = 0; i < host.len; i++) {
        char c = host.at[i];
        bool plain =
            is_unreserved(c) || ((unsigned char)c & 0x80) || strchr("!$&'()*+,;=:[]<>\"", c);
        bool escaped = c == '%' && i + 2 < host.len && hex_digit(host.at[i + 1]) >= 8;
        if (!plain && !escaped)
            return false;
    }
    return escapes_hold(host);
}

static bool user_holds(struct span user) {
    for (size_t i = 0; i < user.len; i++) {
        if (!is_unreserved(user.at[i]) && !strchr(":!$&'()*+,;=%@", user.at[i]))
            return false;
    }
    return escapes_hold(user);
}

/* The length of a scheme at the start; 0: none. False: a colon with nothing before it. */
static bool read_scheme(const char *text, size_t len, size_t *ret_len) {
    *ret_len = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == ':') {
            *ret_len = i;
            return i > 0;
        }
        if (!isalpha((unsigned char)c) && (!i || !(isdigit((unsigned char)c) || strchr("+-.", c))))
            return true;
    }
    return true;
}

static bool parse(const char *text, size_t len, struct url *u) {
    *u = (struct url){.scheme = {text, 0}, .host = {text, 0}};
    const char *end = text + len, *at = text;
    for (const char *c = text; c < end; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return false;
    }
    if (!len || !read_scheme(text, len, &u->scheme.len))
        return false;
    if (u->scheme.len)
        at += u->scheme.len + 1;
    const char *question = memchr(at, '?', (size_t)(end - at));
    const char *path_end = question ? question : end;
    u->query = question ? (struct span){question + 1, (size_t)(end - question) - 1}
                        : (struct span){end, 0};
    u->path = (struct span){at, (size_t)(path_end - at)};
    if (!u->path.len || *at != '/') {
        u->path.len = 0; /* "mailto:x" has no path */
        return u->scheme.len || (len == 1 && *text == '*');
    }
    if (u->scheme.len && u->path.len > 1 && at[1] == '/') {
        const char *start = at + 2, *slash = memchr(start, '/', (size_t)(path_end - start));
        const char *authority_end = slash ? slash : path_end;
        const char *sign = memrchr(start, '@', (size_t)(authority_end - start));
        if (sign && !user_holds((struct span){start, (size_t)(sign - start)}))
            return false;
        const char *host = sign ? sign + 1 : start;
        u->host = (struct span){host, (size_t)(authority_end - host)};
        u->path = (struct span){authority_end, (size_t)(path_end - authority_end)};
        if (!host_holds(u->host))
            return false;
    }
    return escapes_hold(u->path);
}

static struct cel_value text_of(struct cel_run *run, const char *data, size_t len) {
    return cel_text(CEL_STRING, arena_strndup(run->arena, data, len), len);
}

/* Gives the text with its escapes undone; false: they are broken. */
static bool unescape(struct cel_run *run, struct span s, bool plus_is_space,
                     struct cel_value *ret) {
    char *out = arena_alloc(run->arena, s.len + 1);
    size_t num = 0;
    if (!escapes_hold(s))
        return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.at[i];
        if (c == '%') {
            c = (char)(hex_digit(s.at[i + 1]) * 16 + hex_digit(s.at[i + 2]));
            i += 2;
        }
        out[num++] = s.at[i] == '+' && plus_is_space ? ' ' : c;
    }
    *ret = cel_text(CEL_STRING, out, num);
    return true;
}

static struct url parts_of(struct cel_run *run, const struct cel_value *url) {
    struct url u;
    run->cost -= (int64_t)url->text.len / 10 + 1;
    ASSERT(parse(url->text.data, url->text.len, &u));
    return u;
}

FUNCTION(url_of_text) {
    struct url u;
    run->cost -= (int64_t)a[0].text.len / 10 + 1;
    return parse(a[0].text.data, a[0].text.len, &u)
               ? cel_text(CEL_URL, a[0].text.data, a[0].text.len)
               : cel_error(run,
                           "URL parse error during conversion from string: parse \"%.200s\": "
                           "invalid URI for request",
                           a[0].text.data);
}

FUNCTION(is_url) {
    struct url u;
    run->cost -= (int64_t)a[0].text.len / 10 + 1;
    return cel_bool(parse(a[0].text.data, a[0].text.len, &u));
}

FUNCTION(scheme_of) {
    struct url u = parts_of(run, &a[0]);
    struct cel_value v = text_of(run, u.scheme.at, u.scheme.len);
    for (char *c = (char *)(uintptr_t)v.text.data; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return v;
}

FUNCTION(host_of) {
    struct url u = parts_of(run, &a[0]);
    struct cel_value v;
    return unescape(run, u.host, false, &v) ? v : text_of(run, u.host.at, u.host.len);
}

/* Where the port's colon stands; the end when there is none. */
static size_t port_at(const struct cel_value *host) {
    const char *close = memrchr(host->text.data, ']', host->text.len);
    const char *from = close ? close : host->text.data;
    const char *colon = memrchr(from, ':', host->text.len - (size_t)(from - host->text.data));
    return colon ? (size_t)(colon - host->text.data) : host->text.len;
}

FUNCTION(hostname_of) {
    struct cel_value host = host_of(run, a);
    size_t end = port_at(&host);
    bool brackets = end >= 2 && host.text.data[0] == '[' && host.text.data[end - 1] == ']';
    return text_of(run, host.text.data + brackets, end - 2 * (size_t)brackets);
}

FUNCTION(port_of) {
    struct cel_value host = host_of(run, a);
    size_t at = port_at(&host);
    return at < host.text.len ? text_of(run, host.text.data + at + 1, host.text.len - at - 1)
                              : text_of(run, "", 0);
}

/* As it was written when that is a right spelling, else escaped anew. */
FUNCTION(escaped_path_of) {
    struct url u = parts_of(run, &a[0]);
    bool right = true;
    for (size_t i = 0; right && i < u.path.len; i++)
        right = is_unreserved(u.path.at[i]) || strchr("!$&'()*+,;=:@[]%/", u.path.at[i]);
    struct cel_value plain;
    if (right || !unescape(run, u.path, false, &plain))
        return text_of(run, u.path.at, u.path.len);
    AUTO_BUF out = BUF_INIT;
    for (size_t i = 0; i < plain.text.len; i++) {
        char c = plain.text.data[i];
        if (is_unreserved(c) || (c && strchr("$&+,/:;=@", c)))
            buf_putc(&out, c);
        else
            buf_printf(&out, "%%%02X", (unsigned char)c);
    }
    run->cost -= (int64_t)out.len / 10;
    return text_of(run, out.data ? out.data : "", out.len);
}

/* Appends value to the list of key. pairs: key, list, key, ... with room for one more. */
static size_t add_pair(struct cel_run *run, struct cel_value *pairs, size_t num,
                       const struct cel_value *key, const struct cel_value *value) {
    size_t at = 0;
    int order;
    while (at < num && (!cel_compare(&pairs[2 * at], key, &order) || order))
        at++;
    run->cost -= (int64_t)at + 1;
    size_t had = at < num ? pairs[2 * at + 1].num : 0;
    struct cel_value *items = arena_alloc(run->arena, (had + 1) * sizeof(*items));
    if (had)
        memcpy(items, pairs[2 * at + 1].items, had * sizeof(*items));
    items[had] = *value;
    run->cost -= (int64_t)had;
    pairs[2 * at] = *key;
    pairs[2 * at + 1] = cel_list(items, had + 1);
    return at < num ? num : num + 1;
}

FUNCTION(query_of) {
    struct url u = parts_of(run, &a[0]);
    const char *at = u.query.at, *end = at + u.query.len;
    size_t most = 1, num = 0;
    for (const char *c = at; c < end; c++)
        most += *c == '&';
    struct cel_value *pairs = arena_alloc(run->arena, 2 * most * sizeof(*pairs));
    while (at < end && run->cost >= 0) {
        const char *stop = memchr(at, '&', (size_t)(end - at));
        stop = stop ? stop : end;
        const char *equals = memchr(at, '=', (size_t)(stop - at));
        const char *name_end = equals ? equals : stop, *value_at = equals ? equals + 1 : stop;
        struct cel_value key, value;
        bool good = stop > at && !memchr(at, ';', (size_t)(stop - at)) &&
                    unescape(run, (struct span){at, (size_t)(name_end - at)}, true, &key) &&
                    unescape(run, (struct span){value_at, (size_t)(stop - value_at)}, true, &value);
        if (good)
            num = add_pair(run, pairs, num, &key, &value);
        at = stop + 1;
    }
    struct cel_value map = cel_list(pairs, num);
    map.kind = CEL_MAP;
    return map;
}

const struct cel_function cel_url_functions[] = {
    {"url", false, 1, {CEL_STRING}, CEL_URL, url_of_text},
    {"isURL", false, 1, {CEL_STRING}, CEL_BOOL, is_url},
    {"getScheme", true, 1, {CEL_URL}, CEL_STRING, scheme_of},
    {"getHost", true, 1, {CEL_URL}, CEL_STRING, host_of},
    {"getHostname", true, 1, {CEL_URL}, CEL_STRING, hostname_of},
    {"getPort", true, 1, {CEL_URL}, CEL_STRING, port_of},
    {"getEscapedPath", true, 1, {CEL_URL}, CEL_STRING, escaped_path_of},
    {"getQuery", true, 1, {CEL_URL}, CEL_MAP, query_of},
};
const size_t cel_num_url_functions = ARRAY_LEN(cel_url_functions);
