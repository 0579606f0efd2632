/* Placeholder until authentication lands: knows nobody. */
#include "core/auth.h"

enum errc auth_identify(const struct auth *a, const char *authorization,
                        const struct auth_identity *peer, struct auth_identity *ret_identity,
                        struct error *err) {
    return err_set(err, ERR_UNAUTHENTICATED, "authentication is not built yet");
}
