#include "core/control/workqueue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdio.h>

static void a_key_added_twice_comes_once_at_the_earlier_time(void **state) {
    AUTO(workqueue) q = workqueue_create();
    char key[WORKQUEUE_KEY_BYTES_MAX];
    workqueue_add(q, "a", 100);
    workqueue_add(q, "a", 50);
    workqueue_add(q, "a", 200);
    assert_int_equal(workqueue_len(q), 1);
    assert_false(workqueue_next(q, 49, key));
    assert_int_equal(workqueue_wait_ms(q, 20), 30);
    assert_true(workqueue_next(q, 50, key));
    assert_string_equal(key, "a");
    workqueue_done(q, key, false, 50);
    assert_false(workqueue_next(q, 1000, key));
    assert_int_equal(workqueue_wait_ms(q, 1000), -1);
}

static void keys_come_in_order_of_time_then_arrival(void **state) {
    AUTO(workqueue) q = workqueue_create();
    char key[WORKQUEUE_KEY_BYTES_MAX];
    uint32_t random = 1;
    for (int i = 0; i < 5000; i++) {
        char name[16];
        random = random * 1664525u + 1013904223u;
        snprintf(name, sizeof(name), "%d", i);
        workqueue_add(q, name, random >> 20);
    }
    int64_t last = -1;
    int num = 0;
    for (int64_t now = 0; now < 4096; now++) {
        int last_name = -1;
        while (workqueue_next(q, now, key)) {
            assert_true(atoi(key) > last_name || now > last);
            last_name = atoi(key);
            last = now;
            num++;
        }
    }
    assert_int_equal(num, 5000);
}

static void failures_back_off_and_success_forgets_them(void **state) {
    AUTO(workqueue) q = workqueue_create();
    char key[WORKQUEUE_KEY_BYTES_MAX];
    int64_t now = 0, wait = 0;
    workqueue_add(q, "a", 0);
    for (int i = 0; i < 30; i++) {
        assert_true(workqueue_next(q, now, key));
        workqueue_done(q, key, true, now);
        int64_t again = workqueue_wait_ms(q, now);
        assert_true(again == WORKQUEUE_BACKOFF_MS_MAX || again == (i ? wait * 2 : 5));
        wait = again;
        now += again;
    }
    assert_int_equal(wait, WORKQUEUE_BACKOFF_MS_MAX);
    /* An event shortens the wait, but a further failure still waits long. */
    workqueue_add(q, "a", now);
    assert_true(workqueue_next(q, now, key));
    workqueue_done(q, key, true, now);
    assert_int_equal(workqueue_wait_ms(q, now), WORKQUEUE_BACKOFF_MS_MAX);
    now += WORKQUEUE_BACKOFF_MS_MAX;
    assert_true(workqueue_next(q, now, key));
    workqueue_done(q, key, false, now);
    workqueue_add(q, "a", now);
    assert_true(workqueue_next(q, now, key));
    workqueue_done(q, key, true, now);
    assert_int_equal(workqueue_wait_ms(q, now), WORKQUEUE_BACKOFF_MS_MIN);
}

static void a_key_added_while_it_is_looked_at_comes_again(void **state) {
    AUTO(workqueue) q = workqueue_create();
    char key[WORKQUEUE_KEY_BYTES_MAX];
    workqueue_add(q, "a", 0);
    assert_true(workqueue_next(q, 0, key));
    workqueue_add(q, "a", 0);
    workqueue_done(q, "a", false, 0);
    assert_true(workqueue_next(q, 0, key));
    workqueue_done(q, "a", false, 0);
    assert_false(workqueue_next(q, 0, key));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_added_twice_comes_once_at_the_earlier_time),
        cmocka_unit_test(keys_come_in_order_of_time_then_arrival),
        cmocka_unit_test(failures_back_off_and_success_forgets_them),
        cmocka_unit_test(a_key_added_while_it_is_looked_at_comes_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
