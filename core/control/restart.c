/* The kubelet's rule for containers that end, as numbers. A run that lasted RESTART_FORGIVEN_MS
 * shows that the container works, so its next crash counts as the first. */
#include "core/control/restart.h"

bool restart_decide(const struct restart_run *run, int64_t *backoff_ms) {
    const char *policy = run->policy ? run->policy : "Always";
    if (!strcmp(policy, "Never") || (!strcmp(policy, "OnFailure") && run->exit_code == 0))
        return false;
    if (*backoff_ms < 0 || run->ran_ms >= RESTART_FORGIVEN_MS)
        *backoff_ms = 0;
    else if (*backoff_ms < RESTART_BACKOFF_MS_MIN)
        *backoff_ms = RESTART_BACKOFF_MS_MIN;
    else
        *backoff_ms =
            *backoff_ms * 2 < RESTART_BACKOFF_MS_MAX ? *backoff_ms * 2 : RESTART_BACKOFF_MS_MAX;
    return true;
}
