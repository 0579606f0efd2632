/* The order of containers, as a table: one letter a container, the state of all against who may
 * run.
 *
 *   role    i init, s sidecar, m main
 *   phase   - absent, r running, R running and started, 0 ended well, 1 ended badly */
#include "core/control/pod_plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void order_is_kept(void **state) {
    static const struct {
        const char *roles, *phases;
        bool was_initialized;
        const char *may_run; /* y or n each */
        const char *verdict; /* I initialized, E ended, F failed, S stop sidecars, D done */
    } cases[] = {
        {"m", "-", false, "y", "I"},
        {"m", "R", false, "y", "I"},
        {"m", "0", false, "n", "IED"},
        {"m", "1", false, "n", "IEFD"},
        {"mm", "0R", false, "yy", "I"},
        {"mm", "01", false, "nn", "IEFD"},
        {"iim", "---", false, "ynn", ""},
        {"iim", "R--", false, "ynn", ""},
        {"iim", "0--", false, "yyn", ""},
        {"iim", "00-", false, "yyy", "I"},
        {"iim", "1--", false, "nnn", "EFD"},
        {"im", "0-", false, "yy", "I"},
        {"sm", "--", false, "yn", ""},
        {"sm", "r-", false, "yn", ""},
        {"sm", "R-", false, "yy", "I"},
        {"sim", "R--", false, "yyn", ""},
        {"sim", "R1-", false, "nnn", "EFS"},
        {"sm", "-R", true, "yy", "I"},   /* it fell, and comes back */
        {"sm", "-R", false, "yn", ""},   /* a daemon that forgot lets what runs run */
        {"sm", "R0", true, "nn", "IES"}, /* nothing left to accompany */
        {"sm", "-0", true, "nn", "IED"},
        {"smm", "R01", true, "nnn", "IEFS"},
    };
    for (size_t t = 0; t < ARRAY_LEN(cases); t++) {
        struct pod_plan_container all[4] = {0};
        size_t num = strlen(cases[t].roles);
        for (size_t i = 0; i < num; i++) {
            char role = cases[t].roles[i], phase = cases[t].phases[i];
            all[i].role = role == 'i'   ? POD_ROLE_INIT
                          : role == 's' ? POD_ROLE_SIDECAR
                                        : POD_ROLE_MAIN;
            all[i].phase = phase == '-'                   ? POD_CONTAINER_ABSENT
                           : phase == 'r' || phase == 'R' ? POD_CONTAINER_RUNNING
                                                          : POD_CONTAINER_ENDED;
            all[i].started = phase == 'R';
            all[i].exit_code = phase == '1';
        }
        struct pod_plan p = pod_plan_make(all, num, cases[t].was_initialized);
        char may_run[8] = "", verdict[8] = "";
        for (size_t i = 0; i < num; i++)
            may_run[i] = all[i].may_run ? 'y' : 'n';
        strcat(verdict, p.initialized ? "I" : "");
        strcat(verdict, p.ended ? "E" : "");
        strcat(verdict, p.failed ? "F" : "");
        strcat(verdict, p.stop_sidecars ? "S" : "");
        strcat(verdict, p.done ? "D" : "");
        if (strcmp(may_run, cases[t].may_run) != 0 || strcmp(verdict, cases[t].verdict) != 0)
            fail_msg("%s %s: may run %s, verdict %s; wanted %s, %s", cases[t].roles,
                     cases[t].phases, may_run, verdict, cases[t].may_run, cases[t].verdict);
    }
}

static void policies_of_containers(void **state) {
    assert_string_equal(pod_plan_restart_policy(POD_ROLE_MAIN, NULL), "Always");
    assert_string_equal(pod_plan_restart_policy(POD_ROLE_MAIN, "Never"), "Never");
    assert_string_equal(pod_plan_restart_policy(POD_ROLE_INIT, "Always"), "OnFailure");
    assert_string_equal(pod_plan_restart_policy(POD_ROLE_INIT, "Never"), "Never");
    assert_string_equal(pod_plan_restart_policy(POD_ROLE_SIDECAR, "Never"), "Always");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_kept),
        cmocka_unit_test(policies_of_containers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
