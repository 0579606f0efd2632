/* What the GPUs do, in the words of DCGM's exporter. */
#include "core/control/device_metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

static void figures_have_dcgms_names_and_units(void **state) {
    AUTO(metrics) m = metrics_create();
    AUTO(devices) d = mem_alloc(sizeof(*d));
    AUTO_BUF out = BUF_INIT;
    d->num_gpus = 2;
    d->gpus[0] = (struct device_gpu){.product = "NVIDIA H200",
                                     .uuid = "GPU-a",
                                     .memory_bytes = 141ULL << 30,
                                     .memory_used_bytes = 41ULL << 30,
                                     .utilisation_percent = 93,
                                     .temperature_celsius = 61,
                                     .power_milliwatts = 512500,
                                     .ecc = true};
    d->gpus[1] = (struct device_gpu){.product = "Tesla T4",
                                     .uuid = "GPU-b",
                                     .memory_bytes = 16ULL << 30,
                                     .utilisation_percent = -1,
                                     .temperature_celsius = -1,
                                     .power_milliwatts = -1};
    device_metrics_set(m, d, "gpu1");
    d->gpus[0].utilisation_percent = 7;
    device_metrics_set(m, d, "gpu1");
    device_metrics_set(NULL, d, "gpu1");
    device_metrics_set(m, NULL, "gpu1");
    metrics_write(m, &out);
#define OF_A                                                                                       \
    "{gpu=\"0\",UUID=\"GPU-a\",device=\"nvidia0\",modelName=\"NVIDIA H200\",Hostname=\"gpu1\"} "
#define OF_B                                                                                       \
    "{gpu=\"1\",UUID=\"GPU-b\",device=\"nvidia1\",modelName=\"Tesla T4\",Hostname=\"gpu1\"} "
    static const char *const lines[] = {
        "# TYPE DCGM_FI_DEV_GPU_UTIL gauge\n",        "\nDCGM_FI_DEV_GPU_UTIL" OF_A "7\n",
        "\nDCGM_FI_DEV_GPU_TEMP" OF_A "61\n",         "\nDCGM_FI_DEV_POWER_USAGE" OF_A "512.5\n",
        "\nDCGM_FI_DEV_FB_USED" OF_A "41984\n",       "\nDCGM_FI_DEV_FB_FREE" OF_A "102400\n",
        "\nDCGM_FI_DEV_ECC_DBE_VOL_TOTAL" OF_A "0\n", "\nDCGM_FI_DEV_FB_FREE" OF_B "16384\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        if (!strstr(out.data, lines[i]))
            fail_msg("no %s in %s", lines[i], out.data);
    }
    /* The second card tells of its memory only. */
    assert_null(strstr(out.data, "DCGM_FI_DEV_GPU_UTIL" OF_B));
    assert_null(strstr(out.data, "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL" OF_B));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(figures_have_dcgms_names_and_units)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
