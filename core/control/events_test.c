/* Events that are alike become one. */
#include "core/control/events.h"

#include "core/control/fixture_test.h"

static struct world world_of(struct fixture *f) {
    return (struct world){.store = f->store,
                          .config = &f->config,
                          .node_name = "node",
                          .wall_ms = f->wall_ms,
                          .events = events_create()};
}

/* A round in which the pod has `num` messages, numbered from `first`. */
static void say(struct fixture *f, const char *uid, const char *reason, int first, int num) {
    struct world w = world_of(f);
    json_t *pod = json_pack("{s:s, s:s, s:{s:s, s:s, s:s}}", "kind", "Pod", "apiVersion", "v1",
                            "metadata", "name", "p", "namespace", "default", "uid", uid);
    for (int i = first; i < first + num; i++)
        event_emit(&w, pod, EVENT_WARNING, reason, "kubelet", "failed with code %d", i);
    events_flush(&w);
    events_destroy(w.events);
    json_decref(pod);
}

static size_t count_events(struct fixture *f, const char *reason, const char *part,
                           char ret_last[256]) {
    AUTO_STORE_LIST list = {0};
    size_t num = 0;
    store_list(f->store, "core/events/default/p.", &list);
    for (size_t i = 0; i < list.num_items; i++) {
        const char *message = object_str(list.items[i]->json, "message");
        if (strcmp(object_str(list.items[i]->json, "reason"), reason) != 0 ||
            !strstr(message, part))
            continue;
        num++;
        snprintf(ret_last, 256, "%s", message);
    }
    return num;
}

static void many_alike_are_combined_with_the_last_message(void **state) {
    struct fixture *f = *state;
    char last[256] = "";
    fixture_pass(f);
    say(f, "u", "Broken", 0, 4);
    say(f, "u", "Broken", 4, 9); /* the tenth is the last to stand alone */
    assert_int_equal(count_events(f, "Broken", "failed", last), EVENTS_ALIKE_MAX + 1);
    assert_int_equal(count_events(f, "Broken", "(combined", last), 1);
    assert_string_equal(last, "(combined from similar events): failed with code 12");
    assert_int_equal(fixture_events(f, "Broken", "(combined"), 3);
    say(f, "u", "Broken", 13, 1);
    say(f, "u", "Broken", 3, 1); /* is known, and counted where it stands */
    assert_int_equal(fixture_events(f, "Broken", "(combined"), 4);
    assert_int_equal(fixture_events(f, "Broken", "failed with code 3"), 2);
    assert_int_equal(count_events(f, "Broken", "failed", last), EVENTS_ALIKE_MAX + 1);
}

static void what_is_not_alike_is_told_apart(void **state) {
    struct fixture *f = *state;
    char last[256];
    fixture_pass(f);
    say(f, "u", "Broken", 0, EVENTS_ALIKE_MAX);
    say(f, "u", "Unhappy", 0, EVENTS_ALIKE_MAX);
    say(f, "v", "Broken", 0, EVENTS_ALIKE_MAX); /* another object of that name */
    assert_int_equal(count_events(f, "Broken", "(combined", last), 0);
    assert_int_equal(count_events(f, "Unhappy", "(combined", last), 0);
    f->wall_ms += (EVENTS_ALIKE_SECONDS + 1) * 1000LL; /* long ago does not count */
    say(f, "u", "Broken", 100, EVENTS_ALIKE_MAX);
    assert_int_equal(count_events(f, "Broken", "(combined", last), 0);
    say(f, "u", "Broken", 200, 1);
    assert_int_equal(count_events(f, "Broken", "(combined", last), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FIXTURE_TEST(many_alike_are_combined_with_the_last_message),
        FIXTURE_TEST(what_is_not_alike_is_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
