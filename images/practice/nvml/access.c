#define _GNU_SOURCE
#include "access.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct gpu_handle handles[MAX_GPUS];
int users;

nvmlReturn_t hold(const state **now) {
    if (__atomic_load_n(&users, __ATOMIC_SEQ_CST) == 0) return NVML_ERROR_UNINITIALIZED;
    *now = state_hold();
    return *now ? NVML_SUCCESS : NVML_ERROR_DRIVER_NOT_LOADED;
}

static bool is_lost(const section *gpu) {
    const char *lost = section_find(gpu, "lost");
    return lost && strcmp(lost, "0") != 0;
}

nvmlReturn_t hold_gpu(nvmlDevice_t device, const state **now, const section **gpu) {
    if (device < handles || device >= handles + MAX_GPUS) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t status = hold(now);
    if (status) return status;
    *gpu = &(*now)->gpus[device->index];
    if (device->index < (*now)->gpu_count && !is_lost(*gpu)) return NVML_SUCCESS;
    state_release();
    return NVML_ERROR_GPU_IS_LOST;
}

bool number_of(const section *gpu, const char *key, u64 *out) {
    const char *text = section_find(gpu, key);
    if (text) *out = strtoull(text, NULL, 0);
    return text != NULL;
}

u64 number_or_zero(const section *gpu, const char *key) {
    u64 value = 0;
    number_of(gpu, key, &value);
    return value;
}

nvmlReturn_t read_u64(nvmlDevice_t device, const char *key, u64 *out) {
    const state *now;
    const section *gpu;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t status = hold_gpu(device, &now, &gpu);
    if (status) return status;
    bool found = number_of(gpu, key, out);
    state_release();
    return found ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t read_u32(nvmlDevice_t device, const char *key, u32 *out) {
    u64 value = 0;
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t status = read_u64(device, key, &value);
    if (!status) *out = (u32)value;
    return status;
}

nvmlReturn_t read_numbered(nvmlDevice_t device, const char *stem, u32 number, u32 *out) {
    char key[40];
    snprintf(key, sizeof key, "%s%u", stem, number);
    return read_u32(device, key, out);
}

nvmlReturn_t copy_text(const char *text, char *out, u32 length) {
    if (!out) return NVML_ERROR_INVALID_ARGUMENT;
    if (!text) return NVML_ERROR_NOT_SUPPORTED;
    if (strlen(text) + 1 > length) return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(out, text);
    return NVML_SUCCESS;
}

nvmlReturn_t read_text(nvmlDevice_t device, const char *key, char *out, u32 length) {
    const state *now;
    const section *gpu;
    nvmlReturn_t status = hold_gpu(device, &now, &gpu);
    if (status) return status;
    status = copy_text(section_find(gpu, key), out, length);
    state_release();
    return status;
}

nvmlReturn_t read_site_text(const char *key, char *out, u32 length) {
    const state *now;
    nvmlReturn_t status = hold(&now);
    if (status) return status;
    status = copy_text(section_find(&now->site, key), out, length);
    state_release();
    return status;
}

u64 wall_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (u64)now.tv_sec * 1000000ULL + (u64)now.tv_nsec / 1000ULL;
}
