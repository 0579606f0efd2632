/* When an Event was last seen stands in one of several places, by the age of the client that wrote
 * it. One whose time does not parse is kept: it was not written by us, and harms nobody. */
#include "kube-compat/events_ttl.h"

#include "core/base/clock.h"
#include "core/object.h"

static int64_t last_seen_ms(const json_t *event) {
    static const char *const paths[] = {"series.lastObservedTime", "lastTimestamp", "eventTime",
                                        "metadata.creationTimestamp"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        const char *text = object_str(event, paths[i]);
        if (text)
            return clock_parse_rfc3339(text);
    }
    return -1;
}

enum errc events_drop_old(struct store *st, int64_t ttl_seconds, int64_t now_ms, size_t *ret_num,
                          struct error *err) {
    *ret_num = 0;
    if (ttl_seconds <= 0)
        return OK;
    struct object_key prefix;
    AUTO_STORE_LIST events = {0};
    store_list(st, object_key(&prefix, "", "events", NULL, NULL), &events);
    AUTO_FREE struct store_write *writes = mem_array(EVENTS_DROPPED_MAX, sizeof(*writes));
    size_t num = 0;
    for (size_t i = 0; i < events.num_items && num < EVENTS_DROPPED_MAX; i++) {
        int64_t seen_ms = last_seen_ms(events.items[i]->json);
        /* Somebody may count the event up meanwhile: then the whole commit waits for next time. */
        if (seen_ms >= 0 && seen_ms < now_ms - ttl_seconds * 1000)
            writes[num++] = (struct store_write){.key = events.items[i]->key,
                                                 .expect_revision = events.items[i]->revision};
    }
    enum errc code = num ? store_commit(st, writes, num, NULL, err) : OK;
    if (!code)
        *ret_num = num;
    return code;
}
