/* What rises and falls: memory, load, heat, power, clocks. */
#define _GNU_SOURCE
#include "access.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static nvmlReturn_t read_memory(nvmlDevice_t d, nvmlMemory_v2_t *out) {
    const state *now;
    const section *gpu;
    nvmlReturn_t status = hold_gpu(d, &now, &gpu);
    if (status) return status;
    out->total = number_or_zero(gpu, "memory_total_mib") * MIB;
    out->reserved = number_or_zero(gpu, "memory_reserved_mib") * MIB;
    out->used = number_or_zero(gpu, "memory_used_mib") * MIB;
    out->free = out->total - out->reserved - out->used;
    state_release();
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t d, nvmlMemory_v2_t *out) {
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    if ((out->version & 0xffffff) != sizeof *out) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return read_memory(d, out);
}

/* The first version counts what the driver keeps for itself as used. */
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t d, nvmlMemory_t *out) {
    nvmlMemory_v2_t full;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t status = read_memory(d, &full);
    if (!status) *out = (nvmlMemory_t){.total = full.total, .free = full.free, .used = full.used + full.reserved};
    return status;
}

nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t d, nvmlBAR1Memory_t *out) {
    u64 total_mib;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t status = read_u64(d, "bar1_total_mib", &total_mib);
    if (!status) *out = (nvmlBAR1Memory_t){.total = total_mib * MIB, .free = (total_mib - 1) * MIB, .used = MIB};
    return status;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t d, nvmlUtilization_t *out) {
    u32 is_cut = 0;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    read_u32(d, "mig_mode", &is_cut);
    if (is_cut) return NVML_ERROR_NOT_SUPPORTED; /* what a board in MIG mode says */
    nvmlReturn_t status = read_u32(d, "utilisation_gpu", &out->gpu);
    return status ? status : read_u32(d, "utilisation_memory", &out->memory);
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t d, int sensor, u32 *out) {
    return sensor == 0 ? read_u32(d, "temperature_c", out) : NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t d, nvmlTemperature_t *out) {
    u32 degrees = 0;
    if (!out || out->sensor != 0) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t status = read_u32(d, "temperature_c", &degrees);
    if (!status) out->temperature = (int)degrees;
    return status;
}

nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t d, u32 kind, u32 *out) {
    return read_numbered(d, "temperature_threshold_", kind, out);
}

nvmlReturn_t nvmlDeviceGetMarginTemperature(nvmlDevice_t d, nvmlMarginTemperature_t *out) {
    u32 degrees, limit;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t status = read_u32(d, "temperature_c", &degrees);
    if (!status) status = read_u32(d, "temperature_threshold_3", &limit);
    if (!status) out->margin = (int)limit - (int)degrees;
    return status;
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t d, u32 *out) { return read_u32(d, "power_mw", out); }
nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t d, u32 *out) { return read_u32(d, "power_limit_mw", out); }
nvmlReturn_t nvmlDeviceGetPowerManagementLimit(nvmlDevice_t d, u32 *out) { return read_u32(d, "power_limit_mw", out); }
nvmlReturn_t nvmlDeviceGetPowerManagementDefaultLimit(nvmlDevice_t d, u32 *out) { return read_u32(d, "power_limit_mw", out); }

/* Energy up to the last change of the file, and the present power since: it only ever rises. */
nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t d, u64 *out) {
    const state *now;
    const section *gpu;
    u64 counted = 0;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t status = hold_gpu(d, &now, &gpu);
    if (status) return status;
    const bool found = number_of(gpu, "energy_mj", &counted);
    const u64 power_mw = number_or_zero(gpu, "power_mw"), now_us = wall_us(), since_us = now->changed_us;
    state_release();
    *out = counted + (now_us > since_us ? (now_us - since_us) / 1000ULL * power_mw / 1000ULL : 0);
    return found ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t d, u32 kind, u32 *out) { return read_numbered(d, "clock_", kind, out); }
nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t d, u32 kind, u32 *out) { return read_numbered(d, "clock_max_", kind, out); }
nvmlReturn_t nvmlDeviceGetApplicationsClock(nvmlDevice_t d, u32 kind, u32 *out) { return read_numbered(d, "clock_max_", kind, out); }

static nvmlReturn_t give_clocks(u32 highest, u32 steps, u32 *count, u32 *out) {
    u32 room = *count;
    *count = steps;
    if (!out || room < steps) return NVML_ERROR_INSUFFICIENT_SIZE;
    for (u32 i = 0; i < steps; i++) out[i] = highest - 15 * i;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSupportedMemoryClocks(nvmlDevice_t d, u32 *count, u32 *out) {
    u32 highest;
    nvmlReturn_t status = read_u32(d, "clock_max_2", &highest);
    return status ? status : give_clocks(highest, 1, count, out);
}

nvmlReturn_t nvmlDeviceGetSupportedGraphicsClocks(nvmlDevice_t d, u32 memory, u32 *count, u32 *out) {
    u32 highest, memory_highest;
    nvmlReturn_t status = read_u32(d, "clock_max_0", &highest);
    if (!status) status = read_u32(d, "clock_max_2", &memory_highest);
    if (status) return status;
    return memory == memory_highest ? give_clocks(highest, 100, count, out) : NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t d, u64 *out) { return read_u64(d, "clocks_event_reasons", out); }
nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t d, u64 *out) { return read_u64(d, "clocks_event_reasons", out); }
nvmlReturn_t nvmlDeviceGetPerformanceState(nvmlDevice_t d, u32 *out) { return read_u32(d, "performance_state", out); }
nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t d, u32 *out) { return read_u32(d, "persistence_mode", out); }
nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t d, u32 *out) { return read_u32(d, "compute_mode", out); }

nvmlReturn_t nvmlDeviceGetViolationStatus(nvmlDevice_t d, u32 policy, nvmlViolationTime_t *out) {
    u32 time_us = 0;
    if (!out || policy > 11) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t status = read_numbered(d, "violation_us_", policy, &time_us);
    if (status && status != NVML_ERROR_NOT_SUPPORTED) return status;
    *out = (nvmlViolationTime_t){.referenceTime = wall_us(), .violationTime = time_us};
    return NVML_SUCCESS;
}
