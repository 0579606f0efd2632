/* Placeholder until TLS lands: refuses to start. */
#include "core/tls.h"

#include <unistd.h>

enum errc tls_start(const struct auth *a, struct tls **ret_tls, struct error *err) {
    return err_set(err, ERR_UNAVAILABLE, "TLS is not built yet");
}
void tls_stop(struct tls *t) {
}
void tls_accept(struct tls *t, int socket_fd, tls_plain_fn *on_plain, void *user) {
    close(socket_fd);
}
void tls_detach(struct tls *t, void *user) {
}
