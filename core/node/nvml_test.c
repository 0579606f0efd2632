/* NVML's functions, played by this program: what is read of them, and what of a GPU that is lost.
 */
#include "core/node/nvml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#include "core/base/log.h"
#include "core/node/device_reader.h"

enum { LOST = 15, NOT_SUPPORTED = 3, NOT_FOUND = 6, NUM_GPUS = 2 };

static int init_result, num_open, lost_gpu = -1;
static unsigned num_counted = NUM_GPUS, num_off_bus; /* the first ones */
static unsigned long long ecc_of_second;

/* Handles: GPU i is &handles[i]; the slices of the second are behind them. */
static char handles[NUM_GPUS + 2];

static int index_of(const void *device) {
    return (int)((const char *)device - handles);
}

#define EXPORTED __attribute__((visibility("default")))

EXPORTED int nvmlInit_v2(void);
EXPORTED int nvmlInit_v2(void) {
    num_open += !init_result;
    return init_result;
}

EXPORTED int nvmlShutdown(void);
EXPORTED int nvmlShutdown(void) {
    num_open--;
    return 0;
}

EXPORTED const char *nvmlErrorString(int rc);
EXPORTED const char *nvmlErrorString(int rc) {
    return rc == LOST ? "GPU is lost" : "Driver Not Loaded";
}

EXPORTED int nvmlDeviceGetCount_v2(unsigned *ret_count);
EXPORTED int nvmlDeviceGetCount_v2(unsigned *ret_count) {
    *ret_count = num_counted;
    return 0;
}

EXPORTED int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **ret_device);
EXPORTED int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **ret_device) {
    *ret_device = &handles[i + num_off_bus];
    return (int)i == lost_gpu ? LOST : 0;
}

EXPORTED int nvmlDeviceGetName(void *device, char *out, unsigned size);
EXPORTED int nvmlDeviceGetName(void *device, char *out, unsigned size) {
    snprintf(out, size, index_of(device) < NUM_GPUS ? "NVIDIA H200" : "NVIDIA H200 MIG 3g.71gb");
    return 0;
}

EXPORTED int nvmlDeviceGetUUID(void *device, char *out, unsigned size);
EXPORTED int nvmlDeviceGetUUID(void *device, char *out, unsigned size) {
    snprintf(out, size, index_of(device) < NUM_GPUS ? "GPU-%d" : "MIG-%d", index_of(device));
    return 0;
}

EXPORTED int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *out);
EXPORTED int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *out) {
    out[0] = index_of(device) < NUM_GPUS ? 150754820096 : 76000000000;
    out[1] = out[0] - 1000;
    out[2] = 1000;
    return 0;
}

EXPORTED int nvmlSystemGetDriverVersion(char *out, unsigned size);
EXPORTED int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    snprintf(out, size, "550.54.15");
    return 0;
}

EXPORTED int nvmlSystemGetCudaDriverVersion_v2(int *ret_version);
EXPORTED int nvmlSystemGetCudaDriverVersion_v2(int *ret_version) {
    *ret_version = 12040;
    return 0;
}

EXPORTED int nvmlDeviceGetUtilizationRates(void *device, unsigned *out);
EXPORTED int nvmlDeviceGetUtilizationRates(void *device, unsigned *out) {
    out[0] = 37;
    out[1] = 5;
    return 0;
}

EXPORTED int nvmlDeviceGetPowerUsage(void *device, unsigned *ret_milliwatts);
EXPORTED int nvmlDeviceGetPowerUsage(void *device, unsigned *ret_milliwatts) {
    *ret_milliwatts = 321000;
    return index_of(device) ? NOT_SUPPORTED : 0;
}

EXPORTED int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *ret_celsius);
EXPORTED int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *ret_celsius) {
    *ret_celsius = 41;
    return sensor ? NOT_SUPPORTED : 0;
}

EXPORTED int nvmlDeviceGetEccMode(void *device, int *ret_current, int *ret_pending);
EXPORTED int nvmlDeviceGetEccMode(void *device, int *ret_current, int *ret_pending) {
    *ret_current = *ret_pending = 1;
    return 0;
}

EXPORTED int nvmlDeviceGetTotalEccErrors(void *device, int type, int counter,
                                         unsigned long long *ret_count);
EXPORTED int nvmlDeviceGetTotalEccErrors(void *device, int type, int counter,
                                         unsigned long long *ret_count) {
    /* Corrected ones, and those of its whole life, are many. */
    *ret_count = type != 1 || counter != 0 ? 99 : index_of(device) == 1 ? ecc_of_second : 0;
    return 0;
}

EXPORTED int nvmlDeviceGetCudaComputeCapability(void *device, int *ret_major, int *ret_minor);
EXPORTED int nvmlDeviceGetCudaComputeCapability(void *device, int *ret_major, int *ret_minor) {
    *ret_major = 9;
    *ret_minor = 0;
    return 0;
}

EXPORTED int nvmlDeviceGetMigMode(void *device, unsigned *ret_current, unsigned *ret_pending);
EXPORTED int nvmlDeviceGetMigMode(void *device, unsigned *ret_current, unsigned *ret_pending) {
    *ret_current = *ret_pending = index_of(device) == 1;
    return 0;
}

EXPORTED int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *ret_count);
EXPORTED int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *ret_count) {
    *ret_count = 7;
    return 0;
}

/* There are slices 1 and 4 of the seven places. */
EXPORTED int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned i, void **ret_device);
EXPORTED int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned i, void **ret_device) {
    *ret_device = &handles[NUM_GPUS + (i == 4)];
    return i == 1 || i == 4 ? 0 : NOT_FOUND;
}

static struct nvml *open_it(void) {
    struct nvml *n = NULL;
    struct error err = ERROR_INIT;
    init_result = 0;
    lost_gpu = -1;
    num_counted = NUM_GPUS;
    num_off_bus = 0;
    ecc_of_second = 0;
    if (nvml_open(NULL, &n, &err))
        fail_msg("%s", err.text);
    return n;
}

static void gpus_and_slices_are_read(void **state) {
    struct nvml *n = open_it();
    AUTO(devices) d = mem_alloc(sizeof(*d));
    struct error err = ERROR_INIT;
    assert_int_equal(nvml_read(n, d, &err), OK);
    devices_settle(d);
    assert_int_equal(d->source, DEVICES_NVML);
    assert_int_equal(d->num_gpus, 2);
    assert_string_equal(d->gpus[0].product, "NVIDIA H200");
    assert_int_equal(d->gpus[0].memory_bytes, 150754820096);
    assert_int_equal(d->gpus[0].memory_used_bytes, 1000);
    assert_int_equal(d->gpus[0].utilisation_percent, 37);
    assert_int_equal(d->gpus[0].power_milliwatts, 321000);
    assert_int_equal(d->gpus[1].power_milliwatts, -1); /* it has no such sensor */
    assert_int_equal(d->gpus[0].temperature_celsius, 41);
    assert_int_equal(d->gpus[0].compute_major, 9);
    assert_int_equal(d->cuda_major * 100 + d->cuda_minor, 1204);
    assert_string_equal(d->driver_version, "550.54.15");
    assert_int_equal(d->num, 3);
    assert_string_equal(d->list[0].uuid, "GPU-0");
    assert_string_equal(d->list[1].uuid, "MIG-2");
    assert_string_equal(d->list[2].uuid, "MIG-3");
    assert_string_equal(d->list[2].resource, "nvidia.com/mig-3g.71gb");
    assert_int_equal(d->list[2].memory_bytes, 76000000000);
    assert_true(d->list[0].sound && d->list[2].sound);
    nvml_close(n);
    assert_int_equal(num_open, 0);
}

static void faults_come_and_go(void **state) {
    struct nvml *n = open_it();
    AUTO(devices) d = mem_alloc(sizeof(*d));
    struct error err = ERROR_INIT;
    ecc_of_second = 1;
    assert_int_equal(nvml_read(n, d, &err), OK);
    devices_settle(d);
    assert_true(d->list[0].sound);
    assert_false(d->list[1].sound || d->list[2].sound);
    assert_string_equal(d->gpus[1].fault, "1 uncorrectable memory error");
    ecc_of_second = 0; /* it was reset */
    lost_gpu = 0;      /* and the other fell off its bus */
    assert_int_equal(nvml_read(n, d, &err), OK);
    devices_settle(d);
    assert_int_equal(d->num, 3);
    assert_false(d->list[0].sound);
    assert_string_equal(d->list[0].uuid, "GPU-0");
    assert_string_equal(d->gpus[0].fault, "GPU is lost: it has to be reset");
    assert_true(d->list[1].sound && d->list[2].sound);
    lost_gpu = -1;
    assert_int_equal(nvml_read(n, d, &err), OK);
    devices_settle(d);
    assert_true(d->list[0].sound);
    nvml_close(n);
}

static void a_gpu_that_is_not_counted_any_more_is_lost(void **state) {
    struct nvml *n = open_it();
    AUTO(devices) d = mem_alloc(sizeof(*d));
    struct error err = ERROR_INIT;
    assert_int_equal(nvml_read(n, d, &err), OK);
    num_counted = 1;
    lost_gpu = 1;
    assert_int_equal(nvml_read(n, d, &err), OK);
    assert_int_equal(d->num_gpus, 2);
    assert_string_equal(d->gpus[1].uuid, "GPU-1");
    assert_non_null(strstr(d->gpus[1].fault, "GPU is lost"));
    nvml_close(n);
}

/* The second is number 0 then, and still itself. */
static void the_others_are_known_when_the_first_is_gone(void **state) {
    struct nvml *n = open_it();
    AUTO(devices) d = mem_alloc(sizeof(*d));
    struct error err = ERROR_INIT;
    assert_int_equal(nvml_read(n, d, &err), OK);
    num_counted = num_off_bus = 1;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(nvml_read(n, d, &err), OK);
        devices_settle(d);
        assert_int_equal(d->num_gpus, 2);
        assert_string_equal(d->gpus[0].uuid, "GPU-0");
        assert_string_equal(d->gpus[0].fault, "GPU is lost: it has to be reset");
        assert_string_equal(d->gpus[1].uuid, "GPU-1");
        assert_string_equal(d->gpus[1].fault, "");
    }
    num_counted = NUM_GPUS;
    num_off_bus = 0;
    assert_int_equal(nvml_read(n, d, &err), OK);
    assert_int_equal(d->num_gpus, 2);
    assert_string_equal(d->gpus[0].fault, "");
    nvml_close(n);
}

static void without_library_or_driver_there_is_none(void **state) {
    struct nvml *n = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(nvml_open("libno-such-library.so.7", &n, &err), ERR_NOT_FOUND);
    assert_int_equal(nvml_open("libm.so.6", &n, &err), ERR_UNAVAILABLE);
    assert_string_equal(err.text, "libm.so.6: has no nvmlInit_v2");
    init_result = 9;
    assert_int_equal(nvml_open(NULL, &n, &err), ERR_UNAVAILABLE);
    assert_string_equal(err.text, "nvmlInit: Driver Not Loaded");
    assert_null(n);
    assert_int_equal(num_open, 0);
}

static void a_reader_waits_for_a_driver_that_does_not_answer(void **state) {
    const struct device_reader_options opt = {.fake_file = "", .sharing_file = "", .library = ""};
    struct error err = ERROR_INIT;
    AUTO(device_reader) r = NULL;
    log_set_level(LOG_LEVEL_ERROR);
    init_result = 9;
    assert_int_equal(device_reader_open(&opt, &r, &err), OK);
    assert_true(device_reader_current(r)->silent);
    assert_int_equal(device_reader_current(r)->num_gpus, 0);
    assert_int_equal(device_reader_period_ms(r), DEVICE_READER_SILENT_MS);
    assert_false(device_reader_poll(r));
    assert_true(device_reader_current(r)->silent);
    init_result = 0;
    assert_true(device_reader_poll(r));
    assert_false(device_reader_current(r)->silent);
    assert_int_equal(device_reader_current(r)->num_gpus, NUM_GPUS);
    assert_int_equal(device_reader_period_ms(r), DEVICE_READER_NVML_MS);
    assert_false(device_reader_poll(r));
    device_reader_close(steal(r));
    assert_int_equal(num_open, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpus_and_slices_are_read),
        cmocka_unit_test(faults_come_and_go),
        cmocka_unit_test(a_gpu_that_is_not_counted_any_more_is_lost),
        cmocka_unit_test(the_others_are_known_when_the_first_is_gone),
        cmocka_unit_test(without_library_or_driver_there_is_none),
        cmocka_unit_test(a_reader_waits_for_a_driver_that_does_not_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
