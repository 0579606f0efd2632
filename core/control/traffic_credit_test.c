/* The shares hold over any row of requests, whatever the weights do. */
#include "core/control/traffic_credit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"

enum { MANY = 6, REQUESTS = 20000, WINDOW = 1000, WINDOW_OFF_MAX = 10 };

static uint32_t next_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Weights that sum up to 100, some of them 0. */
static void draw_weights(struct traffic_candidate *of, uint32_t num, uint32_t *seed) {
    uint32_t left = 100;
    for (uint32_t i = 0; i < num; i++) {
        of[i].weight = i + 1 == num ? left : next_random(seed) % (left + 1);
        left -= of[i].weight;
    }
    uint32_t swap = next_random(seed) % num, last = of[swap].weight;
    of[swap].weight = of[num - 1].weight;
    of[num - 1].weight = last;
}

/* Runs REQUESTS with new weights every `every` of them, and looks at each window of WINDOW. */
static void check_windows(uint32_t num, uint32_t every, uint32_t seed) {
    static int16_t got[MANY][REQUESTS + 1];
    static double due[MANY][REQUESTS + 1];
    struct traffic_candidate of[MANY] = {{0}};
    struct traffic_credits c = {0};
    int32_t counts[MANY] = {0};
    for (uint32_t i = 0; i < num; i++)
        of[i].id = 1000 + i;
    for (uint32_t r = 0; r < REQUESTS; r++) {
        if (r % every == 0)
            draw_weights(of, num, &seed);
        int next = traffic_credits_next(&c, of, num);
        assert_true(next >= 0 && of[next].weight > 0);
        traffic_credits_pay(&c, of, num, (uint32_t)next);
        counts[next]++;
        for (uint32_t i = 0; i < num; i++) {
            got[i][r + 1] = (int16_t)counts[i];
            due[i][r + 1] = due[i][r] + of[i].weight / 100.0;
        }
    }
    for (uint32_t r = WINDOW; r <= REQUESTS; r++) {
        for (uint32_t i = 0; i < num; i++) {
            double off = got[i][r] - got[i][r - WINDOW] - (due[i][r] - due[i][r - WINDOW]);
            assert_true(off <= WINDOW_OFF_MAX && off >= -WINDOW_OFF_MAX);
        }
    }
    traffic_credits_deinit(&c);
}

static void any_thousand_hold_the_shares_however_often_they_change(void **state) {
    static const uint32_t every[] = {1, 2, 3, 7, 50, 99, 100, 1000, REQUESTS};
    for (uint32_t num = 1; num <= MANY; num++) {
        for (size_t k = 0; k < ARRAY_LEN(every); k++)
            check_windows(num, every[k], 17 * num + (uint32_t)k);
    }
}

static void a_change_holds_from_the_next_request_on(void **state) {
    struct traffic_candidate of[2] = {{.id = 1, .weight = 50}, {.id = 2, .weight = 50}};
    struct traffic_credits c = {0};
    uint32_t seed = 5;
    for (int i = 0; i < 1000; i++) {
        of[0].weight = next_random(&seed) % 3 * 50;
        of[1].weight = 100 - of[0].weight;
        int next = traffic_credits_next(&c, of, 2);
        assert_true(of[0].weight != 100 || next == 0);
        assert_true(of[0].weight != 0 || next == 1);
        traffic_credits_pay(&c, of, 2, (uint32_t)next);
    }
    traffic_credits_deinit(&c);
}

static void who_could_not_take_its_share_is_not_flooded_later(void **state) {
    struct traffic_candidate of[2] = {{.id = 1, .weight = 90}, {.id = 2, .weight = 0}};
    struct traffic_credits c = {0};
    for (int i = 0; i < 5000; i++)
        traffic_credits_pay(&c, of, 2, (uint32_t)traffic_credits_next(&c, of, 2));
    of[1].weight = 10;
    int got = 0;
    for (int i = 0; i < 100; i++) {
        int next = traffic_credits_next(&c, of, 2);
        traffic_credits_pay(&c, of, 2, (uint32_t)next);
        got += next == 1;
    }
    assert_int_equal(got, 10);
    traffic_credits_deinit(&c);
}

static void what_is_gone_is_forgotten(void **state) {
    struct traffic_credits c = {0};
    for (uint64_t id = 0; id < 1000; id++) {
        struct traffic_candidate of[2] = {{.id = id, .weight = 50}, {.id = id + 1, .weight = 50}};
        traffic_credits_pay(&c, of, 2, (uint32_t)traffic_credits_next(&c, of, 2));
        assert_true(c.num <= 16);
    }
    traffic_credits_deinit(&c);
}

static void nobody_with_weight_is_nobody(void **state) {
    struct traffic_candidate of[1] = {{.id = 1}};
    struct traffic_credits c = {0};
    assert_int_equal(traffic_credits_next(&c, of, 1), -1);
    assert_int_equal(traffic_credits_next(&c, of, 0), -1);
    assert_int_equal(traffic_credits_sticky(7, of, 1), -1);
}

enum { CLIENTS = 20000 };

static int place(uint32_t client, const struct traffic_candidate *of, uint32_t num) {
    AUTO_FREE char *name = mem_printf("user-%u", client);
    return traffic_credits_sticky(traffic_credit_id(name), of, num);
}

static void sticky_clients_are_split_by_weight_and_stay(void **state) {
    static const uint32_t weights[][3] = {{90, 10, 0}, {50, 50, 0}, {99, 1, 0}, {60, 30, 10}};
    for (size_t w = 0; w < ARRAY_LEN(weights); w++) {
        struct traffic_candidate of[3];
        int counts[3] = {0};
        for (uint32_t i = 0; i < 3; i++)
            of[i] = (struct traffic_candidate){.id = 77 + i, .weight = weights[w][i]};
        for (uint32_t client = 0; client < CLIENTS; client++) {
            int at = place(client, of, 3);
            assert_int_equal(at, place(client, of, 3));
            counts[at]++;
        }
        for (int i = 0; i < 3; i++) {
            int due = (int)weights[w][i] * CLIENTS / 100;
            assert_in_range(counts[i], due > CLIENTS / 100 ? due - CLIENTS / 100 : 0,
                            due + CLIENTS / 100);
        }
    }
}

static void a_new_weight_moves_as_few_clients_as_it_must(void **state) {
    struct traffic_candidate before[2] = {{.id = 1, .weight = 90}, {.id = 2, .weight = 10}};
    struct traffic_candidate after[2] = {{.id = 1, .weight = 80}, {.id = 2, .weight = 20}};
    int moved = 0;
    for (uint32_t client = 0; client < CLIENTS; client++) {
        int from = place(client, before, 2), to = place(client, after, 2);
        assert_false(from == 1 && to == 0); /* nobody leaves the one that grows */
        moved += from != to;
    }
    assert_in_range(moved, CLIENTS * 9 / 100, CLIENTS * 11 / 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_thousand_hold_the_shares_however_often_they_change),
        cmocka_unit_test(a_change_holds_from_the_next_request_on),
        cmocka_unit_test(who_could_not_take_its_share_is_not_flooded_later),
        cmocka_unit_test(what_is_gone_is_forgotten),
        cmocka_unit_test(nobody_with_weight_is_nobody),
        cmocka_unit_test(sticky_clients_are_split_by_weight_and_stay),
        cmocka_unit_test(a_new_weight_moves_as_few_clients_as_it_must),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
