/* Handshakes. Clients list their protocols in the order of their liking, in one header with commas
 * or in several; the answer names the one that will be spoken. */
#include "kube-compat/upgrade.h"

#include <strings.h>

#include "core/websocket.h"

enum upgrade upgrade_wanted(const struct http_exchange *x) {
    if (!http_header_has_word(x, "Connection", "upgrade"))
        return UPGRADE_NONE;
    if (http_header_has_word(x, "Upgrade", UPGRADE_WEBSOCKET_NAME))
        return UPGRADE_WEBSOCKET;
    if (http_header_has_word(x, "Upgrade", UPGRADE_SPDY_NAME))
        return UPGRADE_SPDY;
    return http_header(x, "Upgrade") ? UPGRADE_OTHER : UPGRADE_NONE;
}

struct offer {
    const char *header; /* its name */
    const char *const *ours;
    const char *chosen; /* NULL: none yet */
    struct buf offered; /* all of them, for the refusal */
};

static void choose(struct offer *o, const char *word, size_t len) {
    buf_printf(&o->offered, "%s%.*s", o->offered.len ? ", " : "", (int)(len < 64 ? len : 64), word);
    for (const char *const *p = o->ours; *p && !o->chosen; p++) {
        if (strlen(*p) == len && !memcmp(*p, word, len))
            o->chosen = *p;
    }
}

static void look_at_header(void *user, const char *name, const char *value) {
    static const char BETWEEN[] = " \t,";
    struct offer *o = user;
    if (strcasecmp(name, o->header) != 0)
        return;
    for (const char *p = value; *(p += strspn(p, BETWEEN));) {
        size_t len = strcspn(p, BETWEEN);
        choose(o, p, len);
        p += len;
    }
}

static enum errc agree(struct http_exchange *x, const char *header, const char *const *ours,
                       bool optional, const char **ret_protocol, struct error *err) {
    struct offer o = {.header = header, .ours = ours};
    http_each_header(x, look_at_header, &o);
    enum errc rc = OK;
    if (!o.chosen && !(optional && !o.offered.len))
        rc = err_set(err, ERR_MALFORMED, "%s: none of \"%.256s\" is spoken here", header,
                     o.offered.len ? o.offered.data : "");
    buf_deinit(&o.offered);
    if (rc)
        return rc;
    if (o.chosen)
        http_set_header(x, header, o.chosen);
    *ret_protocol = o.chosen;
    return OK;
}

enum errc upgrade_websocket(struct http_exchange *x, const char *const *protocols, bool optional,
                            const char **ret_protocol, struct error *err) {
    const char *version = http_header(x, "Sec-WebSocket-Version");
    const char *key = http_header(x, "Sec-WebSocket-Key");
    char accept[WEBSOCKET_ACCEPT_BYTES];
    if (strcmp(http_method(x), "GET") != 0)
        return err_set(err, ERR_MALFORMED, "a WebSocket begins with GET, not %.16s",
                       http_method(x));
    if (!version || strcmp(version, "13") != 0)
        return err_set(err, ERR_MALFORMED, "Sec-WebSocket-Version: \"%.16s\" is not 13",
                       version ? version : "");
    if (!key || !websocket_accept(key, accept))
        return err_set(err, ERR_MALFORMED, "Sec-WebSocket-Key: not 16 bytes in base64");
    if (agree(x, "Sec-WebSocket-Protocol", protocols, optional, ret_protocol, err))
        return err->code;
    http_set_header(x, "Sec-WebSocket-Accept", accept);
    return OK;
}

enum errc upgrade_spdy(struct http_exchange *x, const char *const *protocols,
                       const char **ret_protocol, struct error *err) {
    return agree(x, "X-Stream-Protocol-Version", protocols, false, ret_protocol, err);
}
