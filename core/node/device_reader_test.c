/* Machines described by files: what they say, what is wrong with them, and that a new file is seen.
 */
#include "core/node/device_reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <unistd.h>

#include "core/base/log.h"
#include "core/node/devices_file.h"

static char path[64], fresh[80];

static int make_file(void **state) {
    snprintf(path, sizeof(path), "/tmp/inferd-devices-XXXXXX");
    int fd = mkstemp(path);
    log_set_level(LOG_LEVEL_ERROR);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state) {
    return unlink(path);
}

/* Another file in its place, as an editor does it. */
static void write_file(const char *text) {
    snprintf(fresh, sizeof(fresh), "%s.new", path);
    FILE *f = fopen(fresh, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(rename(fresh, path), 0);
}

static struct devices *read_ok(const char *text) {
    struct devices *d = NULL;
    struct error err = ERROR_INIT;
    write_file(text);
    if (devices_file_read(path, &d, &err))
        fail_msg("%s", err.text);
    return d;
}

static void a_file_describes_a_machine(void **state) {
    AUTO(devices)
    d = read_ok("machine: { cores: 192, memory: 2Ti }\n"
                "driver: { version: 550.54.15, cuda: \"12.4\" }\n"
                "gpus:\n"
                "- { product: NVIDIA H200, count: 8, memory: 141Gi,\n"
                "    computeCapability: \"9.0\", temperature: 40 }\n"
                "- { product: NVIDIA L4, memory: 24Gi, uncorrectedErrors: 1 }\n"
                "- product: NVIDIA H200\n"
                "  memory: 141Gi\n"
                "  mig: [{ profile: 1g.18gb, count: 4 }, { profile: 3g.69gb }]\n");
    assert_int_equal(d->source, DEVICES_FAKED);
    assert_int_equal(d->num_cores, 192);
    assert_int_equal(d->memory_bytes, 2ULL << 40);
    assert_int_equal(d->cuda_minor, 4);
    assert_string_equal(d->driver_version, "550.54.15");
    assert_int_equal(d->num_gpus, 10);
    assert_int_equal(d->num, 8 + 1 + 5);
    assert_int_equal(d->gpus[7].memory_bytes, 141ULL << 30);
    assert_int_equal(d->gpus[7].compute_major, 9);
    assert_int_equal(d->gpus[7].temperature_celsius, 40);
    assert_int_equal(d->gpus[7].utilisation_percent, -1);
    assert_false(d->list[8].sound);
    assert_string_equal(d->list[13].resource, "nvidia.com/mig-3g.69gb");
    assert_int_equal(d->list[13].memory_bytes, 69ULL << 30);
    for (uint32_t i = 0; i < d->num; i++) /* no UUID twice */
        assert_ptr_equal(devices_find(d, d->list[i].uuid), &d->list[i]);
}

static void shares_are_told_as_to_the_device_plugin(void **state) {
    AUTO(devices)
    d = read_ok("gpus: [{ product: T4, memory: 16Gi, count: 4 }]\n"
                "sharing:\n"
                "  timeSlicing:\n"
                "    renameByDefault: true\n"
                "    resources:\n"
                "    - { name: nvidia.com/gpu, replicas: 10 }\n"
                "    - { name: nvidia.com/mig-1g.5gb, replicas: 2, rename: nvidia.com/x "
                "}\n");
    assert_int_equal(d->list[3].shares, 10);
    assert_string_equal(d->list[3].resource, "nvidia.com/gpu.shared");
    assert_string_equal(d->sharing[1].shared_as, "nvidia.com/x");
    struct error err = ERROR_INIT;
    write_file(
        "version: v1\nsharing: { timeSlicing: { resources: [{ name: nvidia.com/gpu, replicas: "
        "3 }] } }\n");
    assert_int_equal(devices_file_read_sharing(path, d, &err), OK);
    assert_int_equal(d->num_sharing, 1);
    assert_string_equal(d->sharing[0].shared_as, "nvidia.com/gpu");
    write_file("sharing: {}\n");
    assert_int_equal(devices_file_read_sharing(path, d, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "version: nothing is not v1"));
    assert_int_equal(d->num_sharing, 1);
}

#define GPU "product: A, memory: 80Gi"

static void errors_name_file_field_value_and_bound(void **state) {
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"gpus: 3", "gpus: 3 is not a list of 0..64 items"},
        {"- a", "not a mapping of fields to values"},
        {"gpu: []", "gpu: no such field; there are: machine, driver, gpus, sharing"},
        {"gpus: [{" GPU ", colour: 1}]", "gpus[0].colour: no such field; there are: product"},
        {"gpus: [3]", "gpus[0]: not a mapping"},
        {"gpus: [{memory: 1Gi}]", "gpus[0].product: nothing is not the name of a product"},
        {"gpus: [{product: A}]", "gpus[0].memory: nothing is not a quantity of bytes"},
        {"gpus: [{product: A, memory: lots}]", "gpus[0].memory: \"lots\" is not a quantity"},
        {"gpus: [{product: A, memory: -1}]", "gpus[0].memory: -1 is not a quantity"},
        {"gpus: [{product: \"\", memory: 1}]",
         "gpus[0].product: \"\" is not a text of 1..95 bytes"},
        {"gpus: [{" GPU ", count: 0}]", "gpus[0].count: 0 is not a whole number within 1..64"},
        {"gpus: [{" GPU ", count: 60}, {" GPU ", count: 5}]",
         "gpus[1].count: 5 is not a whole number within 1..4"},
        {"gpus: [{" GPU ", count: 64}, {" GPU "}]", "gpus[1]: more than 64 GPUs"},
        {"gpus: [{" GPU ", count: 2, uuid: GPU-x}]", "gpus[0].uuid: \"GPU-x\" names more than one"},
        {"gpus: [{" GPU ", uuid: GPU-x}, {" GPU ", uuid: GPU-x}]", "gpus[1].uuid: \"GPU-x\" names"},
        {"gpus: [{" GPU ", memoryUsed: 81Gi}]", "gpus[0].memoryUsed: \"81Gi\" is more than memory"},
        {"gpus: [{" GPU ", computeCapability: 9.0}]", "is not a text like \"9.0\""},
        {"gpus: [{" GPU ", utilization: 101}]",
         "utilization: 101 is not a whole number within 0..100"},
        {"gpus: [{" GPU ", uncorrectedErrors: -1}]", "uncorrectedErrors: -1 is not a whole number"},
        {"gpus: [{" GPU ", mig: [{profile: big}]}]",
         "gpus[0].mig[0].profile: \"big\" is not a MIG profile"},
        {"gpus: [{" GPU ", mig: [{profile: 1g.10gb, count: 8}]}]",
         "gpus[0].mig[0].count: 8 is not a whole number within 1..7"},
        {"gpus: [{" GPU ", mig: [{profile: 4g.40gb, count: 2}]}]",
         "gpus[0].mig[0]: the slices up to here take 8 of 7 compute slices"},
        {"gpus: [{" GPU ", mig: [{profile: 1g.81gb}]}]", "of 85899345920 bytes"},
        {"machine: {cores: 0}", "machine.cores: 0 is not a whole number within 1..65536"},
        {"machine: {ram: 1}", "machine.ram: no such field; there are: cores, memory"},
        {"driver: {cuda: twelve}", "driver.cuda: \"twelve\" is not a text like"},
        {"sharing: {mps: {}}", "sharing.mps: no such field; there are: timeSlicing"},
        {"sharing: {timeSlicing: {failRequestsGreaterThanOne: true}}", "true is not supported"},
        {"sharing: {timeSlicing: {renameByDefault: 1}}", "renameByDefault: 1 is not true or false"},
        {"sharing: {timeSlicing: {resources: [{name: cpu, replicas: 2}]}}",
         "sharing.timeSlicing.resources[0].name: \"cpu\" is neither nvidia.com/gpu nor"},
        {"sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu}]}}",
         "resources[0].replicas: nothing is not a whole number within 2..1024"},
        {"sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 1025}]}}",
         "resources[0].replicas: 1025 is not a whole number within 2..1024"},
        {"sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 2, rename: x}]}}",
         "rename: \"x\" does not begin with nvidia.com/"},
        {"sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 2, devices: [0]}]}}",
         "devices: [0] is not all"},
        {"sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 2}, {name: "
         "nvidia.com/gpu, replicas: 3}]}}",
         "resources[1].name: \"nvidia.com/gpu\" has a rule already"},
        {"gpus: [", "line"},
        {"", "not a mapping"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct devices *d = NULL;
        struct error err = ERROR_INIT;
        write_file(rows[i].text);
        if (!devices_file_read(path, &d, &err))
            fail_msg("%s: is read", rows[i].text);
        if (!strstr(err.text, rows[i].says) || strncmp(err.text, path, strlen(path)) != 0)
            fail_msg("%s: says \"%s\", not \"%s\"", rows[i].text, err.text, rows[i].says);
        assert_null(d);
    }
}

static void a_file_has_a_bound(void **state) {
    struct devices *d = NULL;
    struct error err = ERROR_INIT;
    char *text = mem_alloc(DEVICES_FILE_BYTES_MAX + 2);
    memset(text, '#', DEVICES_FILE_BYTES_MAX + 1);
    write_file(text);
    free(text);
    assert_int_equal(devices_file_read(path, &d, &err), ERR_TOO_LARGE);
    assert_int_equal(devices_file_read("/nowhere", &d, &err), ERR_IO);
}

static void a_new_file_is_seen_and_a_bad_one_is_not(void **state) {
    const struct device_reader_options opt = {.fake_file = path, .sharing_file = ""};
    struct error err = ERROR_INIT;
    AUTO(device_reader) r = NULL;
    write_file("gpus: [{" GPU ", count: 2}]");
    assert_int_equal(device_reader_open(&opt, &r, &err), OK);
    assert_int_equal(device_reader_period_ms(r), DEVICE_READER_FILE_MS);
    assert_int_equal(device_reader_current(r)->num, 2);
    assert_false(device_reader_poll(r));
    write_file("gpus: [{" GPU "}, {" GPU ", uncorrectedErrors: 3}]");
    assert_true(device_reader_poll(r));
    assert_false(device_reader_current(r)->list[1].sound);
    assert_false(device_reader_poll(r));
    write_file("gpus: [{}]");
    assert_false(device_reader_poll(r));
    assert_int_equal(device_reader_current(r)->num, 2);
    write_file("gpus: [{" GPU ", temperature: 50}, {" GPU ", uncorrectedErrors: 3}]");
    assert_false(device_reader_poll(r)); /* pods can be given the same */
    assert_int_equal(device_reader_current(r)->gpus[0].temperature_celsius, 50);
    write_file("gpus: [{" GPU "}, {" GPU "}]");
    assert_true(device_reader_poll(r));
    assert_true(device_reader_current(r)->list[1].sound);
}

static void no_reader_has_no_devices(void **state) {
    const struct device_reader_options opt = {.fake_file = "/nowhere", .sharing_file = ""};
    struct error err = ERROR_INIT;
    struct device_reader *r = NULL;
    assert_null(device_reader_current(NULL));
    assert_int_equal(device_reader_period_ms(NULL), 0);
    assert_int_equal(device_reader_open(&opt, &r, &err), ERR_IO);
    assert_non_null(strstr(err.text, "fakeDevices: open /nowhere"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_describes_a_machine),
        cmocka_unit_test(shares_are_told_as_to_the_device_plugin),
        cmocka_unit_test(errors_name_file_field_value_and_bound),
        cmocka_unit_test(a_file_has_a_bound),
        cmocka_unit_test(a_new_file_is_seen_and_a_bad_one_is_not),
        cmocka_unit_test(no_reader_has_no_devices),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
