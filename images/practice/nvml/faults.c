/* What only rises: errors of memory and links; and the numbered fields. */
#define _GNU_SOURCE
#include "access.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t d, u32 *present, u32 *pending) {
    nvmlReturn_t status = read_u32(d, "ecc_mode", present);
    return status ? status : read_u32(d, "ecc_mode", pending);
}

static nvmlReturn_t read_ecc(nvmlDevice_t d, const char *place, u32 kind, u32 counter, u64 *out) {
    char key[40];
    if (kind > 1 || counter > 1) return NVML_ERROR_INVALID_ARGUMENT;
    snprintf(key, sizeof key, "%s_%s_%s", place, kind ? "uncorrected" : "corrected", counter ? "aggregate" : "volatile");
    return read_u64(d, key, out);
}

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t d, u32 kind, u32 counter, u64 *out) {
    u64 in_dram, in_sram;
    nvmlReturn_t status = read_ecc(d, "dram", kind, counter, &in_dram);
    if (!status) status = read_ecc(d, "sram", kind, counter, &in_sram);
    if (!status) *out = in_dram + in_sram;
    return status;
}

nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t d, u32 kind, u32 counter, u32 place, u64 *out) {
    switch (place) {
    case 2: return read_ecc(d, "dram", kind, counter, out);
    case 7: return read_ecc(d, "sram", kind, counter, out);
    default: return place < 8 ? NVML_ERROR_NOT_SUPPORTED : NVML_ERROR_INVALID_ARGUMENT;
    }
}

nvmlReturn_t nvmlDeviceGetSramEccErrorStatus(nvmlDevice_t d, nvmlEccSramErrorStatus_t *out) {
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    const u32 version = out->version;
    if ((version & 0xffffff) != sizeof *out) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    *out = (nvmlEccSramErrorStatus_t){.version = version};
    nvmlReturn_t status = read_ecc(d, "sram", 1, 1, &out->aggregateUncSecDed);
    if (!status) status = read_ecc(d, "sram", 0, 1, &out->aggregateCor);
    if (!status) status = read_ecc(d, "sram", 1, 0, &out->volatileUncSecDed);
    if (!status) status = read_ecc(d, "sram", 0, 0, &out->volatileCor);
    return status ? status : read_u32(d, "sram_threshold_exceeded", &out->bThresholdExceeded);
}

nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t d, u32 *corrected, u32 *uncorrected, u32 *pending, u32 *failed) {
    nvmlReturn_t status = read_u32(d, "remapped_corrected", corrected);
    if (!status) status = read_u32(d, "remapped_uncorrected", uncorrected);
    if (!status) status = read_u32(d, "remap_pending", pending);
    return status ? status : read_u32(d, "remap_failed", failed);
}

nvmlReturn_t nvmlDeviceGetRowRemapperHistogram(nvmlDevice_t d, nvmlRowRemapperHistogramValues_t *out) {
    u32 corrected, uncorrected, pending, failed, banks;
    nvmlReturn_t status = nvmlDeviceGetRemappedRows(d, &corrected, &uncorrected, &pending, &failed);
    if (!status) status = read_u32(d, "memory_banks", &banks);
    if (status) return status;
    const u32 worn = corrected + uncorrected < banks ? corrected + uncorrected : banks;
    *out = (nvmlRowRemapperHistogramValues_t){.max = banks - worn, .high = failed ? worn - 1 : worn, .none = failed ? 1 : 0};
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPcieReplayCounter(nvmlDevice_t d, u32 *out) { return read_u32(d, "pcie_replays", out); }
nvmlReturn_t nvmlDeviceGetCurrPcieLinkGeneration(nvmlDevice_t d, u32 *out) { return read_u32(d, "pcie_generation", out); }
nvmlReturn_t nvmlDeviceGetMaxPcieLinkGeneration(nvmlDevice_t d, u32 *out) { return read_u32(d, "pcie_generation_max", out); }
nvmlReturn_t nvmlDeviceGetCurrPcieLinkWidth(nvmlDevice_t d, u32 *out) { return read_u32(d, "pcie_width", out); }
nvmlReturn_t nvmlDeviceGetMaxPcieLinkWidth(nvmlDevice_t d, u32 *out) { return read_u32(d, "pcie_width_max", out); }
nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t d, u32 direction, u32 *out) {
    return direction > 1 ? NVML_ERROR_INVALID_ARGUMENT : read_numbered(d, "pcie_kib_per_s_", direction, out);
}

static nvmlReturn_t check_link(nvmlDevice_t d, u32 link) {
    u32 links;
    nvmlReturn_t status = read_u32(d, "nvlink_count", &links);
    return status ? status : link < links ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t d, u32 link, u32 *active) {
    u64 down;
    nvmlReturn_t status = check_link(d, link);
    if (!status) status = read_u64(d, "nvlink_down_mask", &down);
    if (!status) *active = !(down >> link & 1);
    return status;
}

nvmlReturn_t nvmlDeviceGetNvLinkVersion(nvmlDevice_t d, u32 link, u32 *out) {
    nvmlReturn_t status = check_link(d, link);
    return status ? status : read_u32(d, "nvlink_version", out);
}

nvmlReturn_t nvmlDeviceGetNvLinkErrorCounter(nvmlDevice_t d, u32 link, u32 kind, u64 *out) {
    char key[40];
    nvmlReturn_t status = check_link(d, link);
    if (status) return status;
    if (kind > 4 || !out) return NVML_ERROR_INVALID_ARGUMENT;
    snprintf(key, sizeof key, "nvlink_errors_%u_%u", link, kind);
    status = read_u64(d, key, out);
    if (status == NVML_ERROR_NOT_SUPPORTED) *out = 0;
    return status == NVML_ERROR_NOT_SUPPORTED ? NVML_SUCCESS : status;
}

/* The n-th of the other GPUs of the same island, counted from the one after it; MAX_GPUS when there is none. */
static u32 neighbour(const state *now, u32 own, u32 n) {
    u32 found[MAX_GPUS], count = 0;
    const u64 island = number_or_zero(&now->gpus[own], "nvlink_island");
    for (u32 step = 1; step < now->gpu_count; step++) {
        const u32 other = (own + step) % now->gpu_count;
        u64 links;
        if (!number_of(&now->gpus[other], "nvlink_count", &links)) continue;
        if (number_or_zero(&now->gpus[other], "nvlink_island") == island) found[count++] = other;
    }
    return count ? found[n % count] : MAX_GPUS;
}

/* The links of a GPU are dealt out over the others of its island in turn. A far end that is lost keeps its address. */
nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t d, u32 link, nvmlPciInfo_t *out) {
    const state *now;
    const section *gpu;
    nvmlReturn_t status = check_link(d, link);
    if (!status) status = hold_gpu(d, &now, &gpu);
    if (status) return status;
    const u32 far = neighbour(now, d->index, link);
    status = far < MAX_GPUS ? copy_pci(&now->gpus[far], out) : NVML_ERROR_NOT_SUPPORTED;
    state_release();
    return status;
}

nvmlReturn_t nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t d, nvmlGpuFabricInfo_t *out) {
    u32 phase;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t status = read_u32(d, "fabric_state", &phase);
    if (status) return status;
    memset((char *)out + sizeof out->version, 0, sizeof *out - sizeof out->version);
    out->state = phase;
    return NVML_SUCCESS;
}

static const struct { u32 id; int type; const char *key; } fields[] = {
    {1, 1, "ecc_mode"},           {2, 1, "ecc_mode"},
    {82, 1, "temperature_memory_c"}, {91, 1, "nvlink_count"},
    {94, 1, "pcie_replays"},      {142, 1, "remapped_corrected"},
    {143, 1, "remapped_uncorrected"}, {144, 1, "remap_pending"},
    {145, 1, "remap_failed"},     {185, 1, "power_mw"},
    {186, 1, "power_mw"},         {230, 1, "recovery_action"},
};

static nvmlReturn_t read_counted_field(nvmlDevice_t d, u32 id, u64 *out) {
    switch (id) {
    case 3: return nvmlDeviceGetTotalEccErrors(d, 0, 0, out);
    case 4: return nvmlDeviceGetTotalEccErrors(d, 1, 0, out);
    case 5: return nvmlDeviceGetTotalEccErrors(d, 0, 1, out);
    case 6: return nvmlDeviceGetTotalEccErrors(d, 1, 1, out);
    case 83: return nvmlDeviceGetTotalEnergyConsumption(d, out);
    default: return NVML_ERROR_NOT_SUPPORTED;
    }
}

static void read_field(nvmlDevice_t d, nvmlFieldValue_t *field) {
    field->timestamp = (long long)wall_us();
    field->latencyUsec = 0;
    field->value.ull = 0;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (fields[i].id != field->fieldId) continue;
        field->valueType = fields[i].type;
        field->nvmlReturn = read_u32(d, fields[i].key, &field->value.u);
        return;
    }
    field->valueType = 3;
    field->nvmlReturn = read_counted_field(d, field->fieldId, &field->value.ull);
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t d, int count, nvmlFieldValue_t *values) {
    u32 index;
    nvmlReturn_t status = nvmlDeviceGetIndex(d, &index);
    if (status) return status;
    if (!values || count < 1) return NVML_ERROR_INVALID_ARGUMENT;
    for (int i = 0; i < count; i++) read_field(d, &values[i]);
    return NVML_SUCCESS;
}
