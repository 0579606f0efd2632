/* What a client asks its connection to become, and how that is agreed upon. */
#ifndef KUBE_COMPAT_UPGRADE_H
#define KUBE_COMPAT_UPGRADE_H

#include "core/http.h"

enum upgrade { UPGRADE_NONE, UPGRADE_WEBSOCKET, UPGRADE_SPDY, UPGRADE_OTHER };

#define UPGRADE_WEBSOCKET_NAME "websocket"
#define UPGRADE_SPDY_NAME      "SPDY/3.1"

/* By the headers Connection and Upgrade. */
enum upgrade upgrade_wanted(const struct http_exchange *x);

/* Chooses the first protocol of the client's that is among ours (NULL-terminated), and sets the
 * headers of the 101; *ret_protocol is ours. When the client names none: NULL if that is allowed
 * (`optional`), else an error. ERR_MALFORMED: a handshake that RFC 6455 or the protocols do not
 * have. */
MUST_CHECK enum errc upgrade_websocket(struct http_exchange *x, const char *const *protocols,
                                       bool optional, const char **ret_protocol, struct error *err);
/* The same for SPDY, by X-Stream-Protocol-Version. */
MUST_CHECK enum errc upgrade_spdy(struct http_exchange *x, const char *const *protocols,
                                  const char **ret_protocol, struct error *err);

#endif
