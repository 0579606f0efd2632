/* Secrets of type kubernetes.io/service-account-token: they hold a token that does not end. */
#ifndef CORE_CONTROL_TOKEN_SECRET_H
#define CORE_CONTROL_TOKEN_SECRET_H

#include "core/control/world.h"

/* Fills data.token, data.namespace and data["ca.crt"] of such a Secret, for the account that its
 * annotation names; removes one whose account is gone. Any other Secret: nothing. */
MUST_CHECK enum errc token_secret_reconcile(struct world *w, const char *ns, const char *name,
                                            struct error *err);

bool token_secret_is(const json_t *secret); /* of that type? */
/* Looks at the Secrets of a ServiceAccount that came, changed or went. */
void token_secret_retry(struct world *w, const char *ns, const char *account);

#endif
