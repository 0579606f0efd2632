/* DCGM's own program reads counters of the card that NVML has not; these are the ones that both
 * have. A GPU keeps its series while the daemon runs: one that fell off its bus is at fault, and
 * shows the last that it said. */
#include "core/control/device_metrics.h"

#include <stdio.h>

enum figure { UTILISATION, TEMPERATURE, POWER, MEMORY_USED, MEMORY_FREE, ERRORS, NUM_FIGURES };

#define GPU_LABELS                                                                                 \
    { "gpu", "UUID", "device", "modelName", "Hostname", NULL }

static const struct metric_family families[NUM_FIGURES] = {
    [UTILISATION] =
        {METRIC_GAUGE, "DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", GPU_LABELS, {0}},
    [TEMPERATURE] =
        {METRIC_GAUGE, "DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).", GPU_LABELS, {0}},
    [POWER] = {METRIC_GAUGE, "DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", GPU_LABELS, {0}},
    [MEMORY_USED] =
        {METRIC_GAUGE, "DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB).", GPU_LABELS, {0}},
    [MEMORY_FREE] =
        {METRIC_GAUGE, "DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).", GPU_LABELS, {0}},
    [ERRORS] = {METRIC_GAUGE,
                "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
                "Double-bit volatile ECC errors since the driver started or the GPU was reset.",
                GPU_LABELS,
                {0}},
};

/* -1: the card does not tell. */
static double figure_of(const struct device_gpu *g, enum figure figure) {
    switch (figure) {
    case UTILISATION:
        return g->utilisation_percent;
    case TEMPERATURE:
        return g->temperature_celsius;
    case POWER:
        return g->power_milliwatts < 0 ? -1 : (double)g->power_milliwatts / 1000;
    case MEMORY_USED:
        return (double)(g->memory_used_bytes >> 20);
    case MEMORY_FREE:
        return (double)((g->memory_bytes - g->memory_used_bytes) >> 20);
    case ERRORS:
        return g->ecc || g->uncorrected_errors ? (double)g->uncorrected_errors : -1;
    case NUM_FIGURES:
        break;
    }
    return -1;
}

void device_metrics_set(struct metrics *m, const struct devices *d, const char *node_name) {
    for (uint32_t i = 0; m && d && i < d->num_gpus; i++) {
        const struct device_gpu *g = &d->gpus[i];
        char index[16], device[32];
        snprintf(index, sizeof(index), "%u", i);
        snprintf(device, sizeof(device), "nvidia%u", i);
        const char *const values[] = {index, g->uuid, device, g->product, node_name, NULL};
        for (enum figure figure = 0; figure < NUM_FIGURES; figure++) {
            double value = figure_of(g, figure);
            if (value >= 0)
                metric_set(metrics_get(m, &families[figure], values), value);
        }
    }
}
