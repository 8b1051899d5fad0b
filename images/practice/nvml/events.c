/* Processes and the events of a GPU. */
#define _GNU_SOURCE
#include "access.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POLL_NS 10000000L

struct event_set { u64 kinds[MAX_GPUS]; u64 after; };

static u32 list_processes(const section *gpu, nvmlProcessInfo_t *out, u32 room) {
    u32 found = 0, pid;
    u64 mib;
    for (size_t i = 0; i < gpu->count; i++) {
        if (strncmp(gpu->entries[i].key, "process.", 8) != 0) continue;
        if (sscanf(gpu->entries[i].value, "%u %llu", &pid, &mib) != 2) continue;
        if (found < room) out[found] = (nvmlProcessInfo_t){pid, mib * MIB, NOT_MIG, NOT_MIG};
        found++;
    }
    return found;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t d, u32 *count, nvmlProcessInfo_t *out) {
    const state *now;
    const section *gpu;
    if (!count) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t status = hold_gpu(d, &now, &gpu);
    if (status) return status;
    const u32 room = out ? *count : 0;
    *count = list_processes(gpu, out, room);
    state_release();
    return *count > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t d, u32 *count, nvmlProcessInfo_t *out) {
    return nvmlDeviceGetComputeRunningProcesses_v3(d, count, out);
}

nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t d, u32 *count, nvmlProcessInfo_t *out) {
    u32 index;
    (void)out;
    nvmlReturn_t status = nvmlDeviceGetIndex(d, &index);
    if (!status && count) *count = 0;
    return status;
}

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t d, void *out, u32 *count, u64 since) {
    u32 index;
    (void)out, (void)since;
    nvmlReturn_t status = nvmlDeviceGetIndex(d, &index);
    if (!status && count) *count = 0;
    return status ? status : NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t d, u64 *out) { return read_u64(d, "event_types", out); }

nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *out) {
    const state *now;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t status = hold(&now);
    if (status) return status;
    *out = calloc(1, sizeof **out);
    if (*out) (*out)->after = state_newest_event(now);
    state_release();
    return *out ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}

nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) {
    free(set);
    return set ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t d, u64 kinds, nvmlEventSet_t set) {
    u64 supported;
    nvmlReturn_t status = nvmlDeviceGetSupportedEventTypes(d, &supported);
    if (status) return status;
    if (!set) return NVML_ERROR_INVALID_ARGUMENT;
    if (kinds & ~supported) return NVML_ERROR_NOT_SUPPORTED;
    set->kinds[d->index] |= kinds;
    return NVML_SUCCESS;
}

static const event *next_event(const state *now, const struct event_set *set) {
    const event *next = NULL;
    for (size_t i = 0; i < now->event_count; i++) {
        const event *one = &now->events[i];
        bool wanted = one->number > set->after && one->gpu < MAX_GPUS && (set->kinds[one->gpu] & one->kind);
        if (wanted && (!next || one->number < next->number)) next = one;
    }
    return next;
}

static bool take_event(nvmlEventSet_t set, nvmlEventData_t *out) {
    const state *now;
    if (hold(&now)) return false;
    const event *found = next_event(now, set);
    if (found) {
        set->after = found->number;
        *out = (nvmlEventData_t){&handles[found->gpu], found->kind, found->data, NOT_MIG, NOT_MIG};
    }
    state_release();
    return found != NULL;
}

static u64 steady_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (u64)now.tv_sec * 1000000ULL + (u64)now.tv_nsec / 1000ULL;
}

nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *out, u32 timeout_ms) {
    const struct timespec pause = {.tv_nsec = POLL_NS};
    const u64 end_us = steady_us() + timeout_ms * 1000ULL + 1;
    if (!set || !out) return NVML_ERROR_INVALID_ARGUMENT;
    if (__atomic_load_n(&users, __ATOMIC_SEQ_CST) == 0) return NVML_ERROR_UNINITIALIZED;
    for (;;) {
        if (take_event(set, out)) return NVML_SUCCESS;
        if (steady_us() >= end_us) return NVML_ERROR_TIMEOUT;
        nanosleep(&pause, NULL);
    }
}

nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t *out, u32 timeout_ms) {
    return nvmlEventSetWait_v2(set, out, timeout_ms);
}
