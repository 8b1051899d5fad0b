/* A driver library without a driver: the system, finding a GPU, and who it is. */
#define _GNU_SOURCE
#include "access.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define NAMED(value, text) case value: return text;

nvmlReturn_t nvmlInitWithFlags(u32 flags) {
    (void)flags;
    const state *now = state_hold();
    if (!now) return NVML_ERROR_DRIVER_NOT_LOADED;
    state_release();
    for (u32 i = 0; i < MAX_GPUS; i++) handles[i].index = i;
    __atomic_add_fetch(&users, 1, __ATOMIC_SEQ_CST);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
nvmlReturn_t nvmlInit(void) { return nvmlInitWithFlags(0); }

nvmlReturn_t nvmlShutdown(void) {
    int now = __atomic_load_n(&users, __ATOMIC_SEQ_CST);
    do {
        if (now == 0) return NVML_ERROR_UNINITIALIZED;
    } while (!__atomic_compare_exchange_n(&users, &now, now - 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    return NVML_SUCCESS;
}

const char *nvmlErrorString(nvmlReturn_t status) {
    switch (status) {
    NAMED(NVML_SUCCESS, "The operation was successful")
    NAMED(NVML_ERROR_UNINITIALIZED, "Uninitialized")
    NAMED(NVML_ERROR_INVALID_ARGUMENT, "Invalid Argument")
    NAMED(NVML_ERROR_NOT_SUPPORTED, "Not Supported")
    NAMED(NVML_ERROR_NO_PERMISSION, "Insufficient Permissions")
    NAMED(NVML_ERROR_NOT_FOUND, "Not Found")
    NAMED(NVML_ERROR_INSUFFICIENT_SIZE, "Insufficient Size")
    NAMED(NVML_ERROR_DRIVER_NOT_LOADED, "Driver Not Loaded")
    NAMED(NVML_ERROR_TIMEOUT, "Timeout")
    NAMED(NVML_ERROR_GPU_IS_LOST, "GPU is lost")
    NAMED(NVML_ERROR_IN_USE, "In use by another client")
    NAMED(NVML_ERROR_MEMORY, "Insufficient Memory")
    NAMED(NVML_ERROR_INSUFFICIENT_RESOURCES, "Insufficient Resources")
    NAMED(NVML_ERROR_ARGUMENT_VERSION_MISMATCH, "The provided version is invalid/unsupported")
    default: return "Unknown Error";
    }
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *out, u32 length) { return read_site_text("driver_version", out, length); }
nvmlReturn_t nvmlSystemGetNVMLVersion(char *out, u32 length) { return read_site_text("nvml_version", out, length); }

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *out) {
    char text[VALUE_BYTES];
    nvmlReturn_t status = read_site_text("cuda_version", text, sizeof text);
    if (!status) *out = atoi(text);
    return status;
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *out) { return nvmlSystemGetCudaDriverVersion_v2(out); }

nvmlReturn_t nvmlSystemGetProcessName(u32 pid, char *out, u32 length) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
    FILE *file = fopen(path, "re");
    if (!out || !length) return NVML_ERROR_INVALID_ARGUMENT;
    if (!file) return NVML_ERROR_NOT_FOUND;
    size_t used = fread(out, 1, length - 1, file);
    out[used] = '\0';
    fclose(file);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount_v2(u32 *out) {
    const state *now;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t status = hold(&now);
    if (status) return status;
    *out = now->gpu_count;
    state_release();
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount(u32 *out) { return nvmlDeviceGetCount_v2(out); }

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(u32 index, nvmlDevice_t *out) {
    u32 count = 0;
    const state *now;
    const section *gpu;
    nvmlReturn_t status = nvmlDeviceGetCount_v2(&count);
    if (status) return status;
    if (!out || index >= count) return NVML_ERROR_INVALID_ARGUMENT;
    status = hold_gpu(&handles[index], &now, &gpu);
    if (status) return status;
    state_release();
    *out = &handles[index];
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex(u32 index, nvmlDevice_t *out) { return nvmlDeviceGetHandleByIndex_v2(index, out); }

static nvmlReturn_t find_by(const char *key, const char *wanted, nvmlDevice_t *out) {
    const state *now;
    u32 found = MAX_GPUS;
    if (!wanted || !out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t status = hold(&now);
    if (status) return status;
    for (u32 i = 0; i < now->gpu_count; i++) {
        const char *value = section_find(&now->gpus[i], key);
        if (value && strcasecmp(value, wanted) == 0) found = i;
    }
    state_release();
    return found < MAX_GPUS ? nvmlDeviceGetHandleByIndex_v2(found, out) : NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *out) { return find_by("uuid", uuid, out); }
nvmlReturn_t nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *out) { return find_by("serial", serial, out); }

nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *address, nvmlDevice_t *out) {
    char full[32];
    u32 domain, bus, slot;
    if (!address || sscanf(address, "%x:%x:%x", &domain, &bus, &slot) != 3) return NVML_ERROR_INVALID_ARGUMENT;
    snprintf(full, sizeof full, "%08X:%02X:%02X.0", domain, bus, slot);
    return find_by("pci", full, out);
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *address, nvmlDevice_t *out) {
    return nvmlDeviceGetHandleByPciBusId_v2(address, out);
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t d, char *out, u32 length) { return is_mig(d) ? mig_name(d, out, length) : read_text(d, "name", out, length); }
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t d, char *out, u32 length) { return is_mig(d) ? mig_uuid(d, out, length) : read_text(d, "uuid", out, length); }
nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t d, char *out, u32 length) { return read_text(d, "serial", out, length); }
nvmlReturn_t nvmlDeviceGetVbiosVersion(nvmlDevice_t d, char *out, u32 length) { return read_text(d, "vbios", out, length); }
nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t d, u32 *out) { return read_u32(d, "minor", out); }
nvmlReturn_t nvmlDeviceGetBrand(nvmlDevice_t d, u32 *out) { return read_u32(d, "brand", out); }
nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t d, u32 *out) { return read_u32(d, "architecture", out); }
nvmlReturn_t nvmlDeviceGetNumGpuCores(nvmlDevice_t d, u32 *out) { return read_u32(d, "cores", out); }

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t d, int *major, int *minor) {
    u32 both = 0;
    nvmlReturn_t status = read_u32(d, "compute_capability", &both);
    if (status) return status;
    *major = (int)(both / 10);
    *minor = (int)(both % 10);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t d, u32 *out) {
    u32 minor;
    nvmlReturn_t status = read_u32(d, "minor", &minor);
    if (!status) *out = d->index;
    return status;
}

static void fill_pci(const char *address, u32 device_id, u32 subsystem_id, nvmlPciInfo_t *out) {
    memset(out, 0, sizeof *out);
    sscanf(address, "%x:%x:%x", &out->domain, &out->bus, &out->device);
    snprintf(out->busId, sizeof out->busId, "%.31s", address);
    snprintf(out->busIdLegacy, sizeof out->busIdLegacy, "%04X:%02X:%02X.0", out->domain & 0xffff, out->bus & 0xff, out->device & 0xff);
    out->pciDeviceId = device_id;
    out->pciSubSystemId = subsystem_id;
}

nvmlReturn_t copy_pci(const section *gpu, nvmlPciInfo_t *out) {
    const char *address = section_find(gpu, "pci");
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    if (!address) return NVML_ERROR_NOT_SUPPORTED;
    fill_pci(address, (u32)number_or_zero(gpu, "pci_device_id"), (u32)number_or_zero(gpu, "pci_subsystem_id"), out);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t d, nvmlPciInfo_t *out) {
    const state *now;
    const section *gpu;
    nvmlReturn_t status = hold_gpu(d, &now, &gpu);
    if (status) return status;
    status = copy_pci(gpu, out);
    state_release();
    return status;
}

nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t d, nvmlPciInfo_t *out) { return nvmlDeviceGetPciInfo_v3(d, out); }

/* All processors of this machine: an empty set is fatal to slurmd. */
nvmlReturn_t nvmlDeviceGetCpuAffinity(nvmlDevice_t d, u32 words, unsigned long *out) {
    u32 index;
    nvmlReturn_t status = nvmlDeviceGetIndex(d, &index);
    if (status) return status;
    if (!out || !words) return NVML_ERROR_INVALID_ARGUMENT;
    long processors = sysconf(_SC_NPROCESSORS_CONF);
    const u32 bits = 8 * sizeof *out;
    memset(out, 0, words * sizeof *out);
    for (u32 cpu = 0; cpu < words * bits && (cpu == 0 || cpu < (u32)processors); cpu++) out[cpu / bits] |= 1UL << (cpu % bits);
    return NVML_SUCCESS;
}

/* The NUMA node that the GPU hangs on; both scopes are one, for a practice node has one NUMA node a socket. */
nvmlReturn_t nvmlDeviceGetMemoryAffinity(nvmlDevice_t d, u32 words, unsigned long *out, u32 scope) {
    u32 node;
    const u32 bits = 8 * sizeof *out;
    nvmlReturn_t status = read_u32(d, "numa_node", &node);
    if (status) return status;
    if (!out || scope > 1 || node >= words * bits) return NVML_ERROR_INVALID_ARGUMENT;
    memset(out, 0, words * sizeof *out);
    out[node / bits] |= 1UL << (node % bits);
    return NVML_SUCCESS;
}
