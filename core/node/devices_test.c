/* What pods may ask for of GPUs, slices and shares. */
#include "core/node/devices.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

static void profiles_are_compute_slices_and_gigabytes(void **state) {
    static const struct {
        const char *text;
        uint32_t slices;
        uint64_t gigabytes; /* 0: not a profile */
    } rows[] = {{"1g.18gb", 1, 18}, {"7g.141gb", 7, 141}, {"1g.10gb+me", 1, 10}, {"8g.141gb", 0, 0},
                {"0g.5gb", 0, 0},   {"1g.0gb", 0, 0},     {"1g", 0, 0},          {"1g.18gb ", 0, 0},
                {"", 0, 0},         {"1c.2g.20gb", 0, 0}, {"1g.18gb+ME", 0, 0}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint32_t slices = 0;
        uint64_t bytes = 0;
        bool ok = devices_profile_parse(rows[i].text, &slices, &bytes);
        if (ok != (rows[i].gigabytes > 0) || slices != rows[i].slices ||
            bytes != rows[i].gigabytes << 30)
            fail_msg("\"%s\": %d, %u slices, %llu bytes", rows[i].text, ok, slices,
                     (unsigned long long)bytes);
    }
    char resource[DEVICE_RESOURCE_BYTES];
    devices_profile_resource("1g.10gb+me", resource);
    assert_string_equal(resource, "nvidia.com/mig-1g.10gb.me");
}

static struct device_gpu *add_gpu(struct devices *d, uint64_t gigabytes) {
    struct device_gpu *g = &d->gpus[d->num_gpus];
    snprintf(g->uuid, sizeof(g->uuid), "GPU-%u", d->num_gpus++);
    g->memory_bytes = gigabytes << 30;
    return g;
}

static void a_sliced_gpu_is_its_slices(void **state) {
    AUTO(devices) d = mem_alloc(sizeof(*d));
    add_gpu(d, 141);
    struct device_gpu *g = add_gpu(d, 141);
    g->mig = true;
    g->num_slices = 2;
    for (uint32_t s = 0; s < 2; s++) {
        snprintf(g->slices[s].profile, sizeof(g->slices[s].profile), "3g.71gb");
        snprintf(g->slices[s].uuid, sizeof(g->slices[s].uuid), "MIG-%u", s);
        g->slices[s].memory_bytes = 71ULL << 30;
    }
    devices_settle(d);
    assert_int_equal(d->num, 3);
    assert_string_equal(d->list[0].resource, "nvidia.com/gpu");
    assert_true(d->list[0].divisible);
    assert_string_equal(d->list[2].resource, "nvidia.com/mig-3g.71gb");
    assert_false(d->list[2].divisible);
    assert_int_equal(d->list[2].gpu, 1);
    assert_ptr_equal(devices_find(d, "MIG-1"), &d->list[2]);
    assert_null(devices_find(d, "GPU-1"));
    assert_null(devices_find(NULL, "GPU-0"));
}

static void shares_have_the_name_of_their_rule(void **state) {
    AUTO(devices) d = mem_alloc(sizeof(*d));
    add_gpu(d, 80);
    d->num_sharing = 1;
    d->sharing[0] = (struct device_sharing){
        .resource = "nvidia.com/gpu", .shared_as = "nvidia.com/gpu.shared", .shares = 4};
    devices_settle(d);
    assert_string_equal(d->list[0].resource, "nvidia.com/gpu.shared");
    assert_int_equal(d->list[0].shares, 4);
}

static void an_uncorrectable_error_is_a_fault_of_all_slices(void **state) {
    AUTO(devices) d = mem_alloc(sizeof(*d));
    struct device_gpu *g = add_gpu(d, 141);
    g->mig = true;
    g->num_slices = 1;
    snprintf(g->slices[0].profile, sizeof(g->slices[0].profile), "1g.18gb");
    g->uncorrected_errors = 2;
    devices_settle(d);
    assert_false(d->list[0].sound);
    assert_string_equal(g->fault, "2 uncorrectable memory errors");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(profiles_are_compute_slices_and_gigabytes),
        cmocka_unit_test(a_sliced_gpu_is_its_slices),
        cmocka_unit_test(shares_have_the_name_of_their_rule),
        cmocka_unit_test(an_uncorrectable_error_is_a_fault_of_all_slices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
