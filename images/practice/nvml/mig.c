/* MIG: a GPU cut into instances. What is made and destroyed is written into the state file, as a board keeps it.

   mig_profile.N = ID SLICES INSTANCES MIB NAME    N as nvml.h numbers profiles; SLICES of the memory of one
   mig.GI        = N START HAS_COMPUTE             an instance, and whether it has its compute instance */
#define _GNU_SOURCE
#include "access.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PROFILES 0x12
#define MAX_INSTANCES 16
#define MEMORY_SLICES 8

typedef struct { u32 number, id, slices, instances; u64 mib; char name[32]; } profile;
typedef struct { u32 gi, number, start, has_compute; } instance;
typedef struct { instance all[MAX_INSTANCES]; u32 count; } instances;

static struct gpu_handle mig_devices[MAX_GPUS][MAX_INSTANCES], gpu_instances[MAX_GPUS][MAX_INSTANCES], compute_instances[MAX_GPUS][MAX_INSTANCES];

static struct gpu_handle *handle_in(struct gpu_handle table[MAX_GPUS][MAX_INSTANCES], u32 gpu, u32 gi) {
    table[gpu][gi] = (struct gpu_handle){gpu, gi};
    return &table[gpu][gi];
}

static bool is_in(struct gpu_handle table[MAX_GPUS][MAX_INSTANCES], const struct gpu_handle *handle) {
    return handle >= &table[0][0] && handle < &table[0][0] + MAX_GPUS * MAX_INSTANCES;
}

bool is_mig(nvmlDevice_t d) { return is_in(mig_devices, d); }

static bool read_profile(const section *gpu, u32 number, profile *out) {
    char key[40];
    snprintf(key, sizeof key, "mig_profile.%u", number);
    const char *text = section_find(gpu, key);
    out->number = number;
    return text && sscanf(text, "%u %u %u %llu %31s", &out->id, &out->slices, &out->instances, &out->mib, out->name) == 5;
}

static bool find_profile(const section *gpu, u32 id, profile *out) {
    for (u32 number = 0; number < MAX_PROFILES; number++)
        if (read_profile(gpu, number, out) && out->id == id) return true;
    return false;
}

static u32 compute_slices(const profile *from) { return (u32)(from->name[0] - '0'); }

static void list_instances(const section *gpu, instances *out) {
    out->count = 0;
    for (size_t i = 0; i < gpu->count; i++) {
        instance one;
        if (sscanf(gpu->entries[i].key, "mig.%u", &one.gi) != 1 || one.gi >= MAX_INSTANCES) continue;
        if (sscanf(gpu->entries[i].value, "%u %u %u", &one.number, &one.start, &one.has_compute) != 3) continue;
        if (out->count < MAX_INSTANCES) out->all[out->count++] = one;
    }
}

static const instance *instance_of(const instances *now, u32 gi) {
    for (u32 i = 0; i < now->count; i++)
        if (now->all[i].gi == gi) return &now->all[i];
    return NULL;
}

static bool is_used(const section *gpu) {
    for (size_t i = 0; i < gpu->count; i++)
        if (strncmp(gpu->entries[i].key, "process.", 8) == 0) return true;
    return false;
}

/* Copy what a GPU is: its section and its instances, so that nothing stays locked. */
static nvmlReturn_t look(u32 gpu, section *out, instances *cut) {
    const state *now;
    const section *found;
    nvmlReturn_t status = hold_gpu(&handles[gpu], &now, &found);
    if (status) return status;
    *out = *found;
    state_release();
    list_instances(out, cut);
    return NVML_SUCCESS;
}

static nvmlReturn_t look_at(struct gpu_handle table[MAX_GPUS][MAX_INSTANCES], const struct gpu_handle *handle, section *gpu, instance *one, profile *of) {
    instances cut;
    if (!is_in(table, handle)) return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t status = look(handle->index, gpu, &cut);
    const instance *found = status ? NULL : instance_of(&cut, handle->gi);
    if (status) return status;
    if (!found || !read_profile(gpu, found->number, of)) return NVML_ERROR_INVALID_ARGUMENT;
    *one = *found;
    return NVML_SUCCESS;
}

static nvmlReturn_t write_instance(u32 gpu, const instance *one) {
    char key[40], value[VALUE_BYTES];
    snprintf(key, sizeof key, "gpu.%u.mig.%u", gpu, one->gi);
    snprintf(value, sizeof value, "%u %u %u", one->number, one->start, one->has_compute);
    return state_write(key, value) ? NVML_SUCCESS : NVML_ERROR_NO_PERMISSION;
}

static nvmlReturn_t write_mode(u32 gpu, const char *which, u32 mode) {
    char key[40];
    snprintf(key, sizeof key, "gpu.%u.%s", gpu, which);
    return state_write(key, mode ? "1" : "0") ? NVML_SUCCESS : NVML_ERROR_NO_PERMISSION;
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t d, u32 *present, u32 *pending) {
    nvmlReturn_t status = read_u32(d, "mig_mode", present);
    return status ? status : read_u32(d, "mig_pending", pending);
}

/* While somebody works on the GPU the mode is kept for the next reset. `activation` then says why. */
nvmlReturn_t nvmlDeviceSetMigMode(nvmlDevice_t d, u32 mode, nvmlReturn_t *activation) {
    section gpu;
    instances cut;
    u32 present;
    nvmlReturn_t status = read_u32(d, "mig_mode", &present);
    if (!status) status = look(d->index, &gpu, &cut);
    if (status) return status;
    if (mode > 1 || !activation) return NVML_ERROR_INVALID_ARGUMENT;
    if (!mode && cut.count) return NVML_ERROR_IN_USE;
    *activation = is_used(&gpu) && mode != present ? NVML_ERROR_IN_USE : NVML_SUCCESS;
    status = write_mode(d->index, "mig_pending", mode);
    return status || *activation ? status : write_mode(d->index, "mig_mode", mode);
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t d, u32 *out) {
    nvmlReturn_t status = read_u32(d, "mig_devices_max", out);
    if (status == NVML_ERROR_NOT_SUPPORTED) *out = 0;
    return status == NVML_ERROR_NOT_SUPPORTED ? NVML_SUCCESS : status;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t d, u32 number, nvmlGpuInstanceProfileInfo_v2_t *out) {
    const state *now;
    const section *gpu;
    profile found;
    if (!out || number >= MAX_PROFILES) return NVML_ERROR_INVALID_ARGUMENT;
    if ((out->version & 0xffffff) != sizeof *out) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t status = hold_gpu(d, &now, &gpu);
    if (status) return status;
    const bool is_there = read_profile(gpu, number, &found);
    state_release();
    if (!is_there) return NVML_ERROR_NOT_SUPPORTED;
    const u32 version = out->version;
    *out = (nvmlGpuInstanceProfileInfo_v2_t){
        .version = version, .id = found.id, .sliceCount = compute_slices(&found), .instanceCount = found.instances, .memorySizeMB = found.mib};
    snprintf(out->name, sizeof out->name, "MIG %s", found.name);
    return NVML_SUCCESS;
}

static bool is_free(const section *gpu, const instances *cut, u32 start, u32 slices) {
    profile other;
    for (u32 i = 0; i < cut->count; i++) {
        if (!read_profile(gpu, cut->all[i].number, &other)) continue;
        if (start < cut->all[i].start + other.slices && cut->all[i].start < start + slices) return false;
    }
    return start + slices <= MEMORY_SLICES;
}

/* A profile may start at every multiple of its size that the number of its instances allows. */
nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements_v2(nvmlDevice_t d, u32 id, nvmlGpuInstancePlacement_t *out, u32 *count) {
    section gpu;
    instances cut;
    profile wanted;
    u32 mode;
    nvmlReturn_t status = read_u32(d, "mig_mode", &mode);
    if (!status) status = look(d->index, &gpu, &cut);
    if (status) return status;
    if (!count || !find_profile(&gpu, id, &wanted)) return NVML_ERROR_INVALID_ARGUMENT;
    if (out && *count < wanted.instances) return NVML_ERROR_INSUFFICIENT_SIZE;
    *count = wanted.instances;
    for (u32 place = 0; out && place < *count; place++) out[place] = (nvmlGpuInstancePlacement_t){place * wanted.slices, wanted.slices};
    return NVML_SUCCESS;
}

static nvmlReturn_t create(nvmlDevice_t d, u32 id, const nvmlGpuInstancePlacement_t *where, nvmlGpuInstance_t *out) {
    section gpu;
    instances cut;
    profile wanted;
    u32 mode, gi = 1;
    nvmlReturn_t status = read_u32(d, "mig_mode", &mode);
    if (!status) status = look(d->index, &gpu, &cut);
    if (status) return status;
    if (!mode) return NVML_ERROR_NOT_SUPPORTED;
    if (!out || !find_profile(&gpu, id, &wanted)) return NVML_ERROR_INVALID_ARGUMENT;
    while (instance_of(&cut, gi)) gi++;
    for (u32 place = 0; place < wanted.instances; place++) {
        const instance made = {gi, wanted.number, place * wanted.slices, 0};
        if (where && where->start != made.start) continue;
        if (!is_free(&gpu, &cut, made.start, wanted.slices)) continue;
        *out = handle_in(gpu_instances, d->index, gi);
        return write_instance(d->index, &made);
    }
    return NVML_ERROR_INSUFFICIENT_RESOURCES;
}

nvmlReturn_t nvmlDeviceCreateGpuInstance(nvmlDevice_t d, u32 id, nvmlGpuInstance_t *out) { return create(d, id, NULL, out); }

nvmlReturn_t nvmlDeviceCreateGpuInstanceWithPlacement(nvmlDevice_t d, u32 id, const nvmlGpuInstancePlacement_t *where, nvmlGpuInstance_t *out) {
    return where ? create(d, id, where, out) : NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetGpuInstances(nvmlDevice_t d, u32 id, nvmlGpuInstance_t *out, u32 *count) {
    section gpu;
    instances cut;
    profile wanted;
    u32 mode;
    nvmlReturn_t status = read_u32(d, "mig_mode", &mode);
    if (!status) status = look(d->index, &gpu, &cut);
    if (status) return status;
    if (!out || !count || !find_profile(&gpu, id, &wanted)) return NVML_ERROR_INVALID_ARGUMENT;
    *count = 0;
    for (u32 i = 0; mode && i < cut.count; i++)
        if (cut.all[i].number == wanted.number) out[(*count)++] = handle_in(gpu_instances, d->index, cut.all[i].gi);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpuInstanceGetInfo(nvmlGpuInstance_t handle, nvmlGpuInstanceInfo_t *out) {
    section gpu;
    instance one;
    profile of;
    nvmlReturn_t status = look_at(gpu_instances, handle, &gpu, &one, &of);
    if (!status && out) *out = (nvmlGpuInstanceInfo_t){&handles[handle->index], one.gi, of.id, {one.start, of.slices}};
    return status;
}

nvmlReturn_t nvmlGpuInstanceDestroy(nvmlGpuInstance_t handle) {
    section gpu;
    instance one;
    profile of;
    char key[40];
    nvmlReturn_t status = look_at(gpu_instances, handle, &gpu, &one, &of);
    if (status) return status;
    if (one.has_compute) return NVML_ERROR_IN_USE;
    snprintf(key, sizeof key, "gpu.%u.mig.%u", handle->index, one.gi);
    return state_write(key, NULL) ? NVML_SUCCESS : NVML_ERROR_NO_PERMISSION;
}

static const u32 compute_profiles[] = {1, 2, 3, 4, 7};
#define COMPUTE_PROFILES (sizeof compute_profiles / sizeof *compute_profiles)

nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfoV(nvmlGpuInstance_t handle, u32 number, u32 engines, nvmlComputeInstanceProfileInfo_v2_t *out) {
    section gpu;
    instance one;
    profile of;
    nvmlReturn_t status = look_at(gpu_instances, handle, &gpu, &one, &of);
    if (status) return status;
    if (!out || engines) return NVML_ERROR_INVALID_ARGUMENT;
    if ((out->version & 0xffffff) != sizeof *out) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (number >= COMPUTE_PROFILES || compute_profiles[number] > compute_slices(&of)) return NVML_ERROR_NOT_SUPPORTED;
    const u32 version = out->version;
    *out = (nvmlComputeInstanceProfileInfo_v2_t){
        .version = version, .id = number, .sliceCount = compute_profiles[number], .instanceCount = compute_slices(&of) / compute_profiles[number]};
    return NVML_SUCCESS;
}

/* Only the compute instance that takes the whole of its GPU instance is simulated. */
nvmlReturn_t nvmlGpuInstanceCreateComputeInstance(nvmlGpuInstance_t handle, u32 id, nvmlComputeInstance_t *out) {
    section gpu;
    instance one;
    profile of;
    nvmlReturn_t status = look_at(gpu_instances, handle, &gpu, &one, &of);
    if (status) return status;
    if (!out || id >= COMPUTE_PROFILES) return NVML_ERROR_INVALID_ARGUMENT;
    if (compute_profiles[id] != compute_slices(&of)) return NVML_ERROR_NOT_SUPPORTED;
    if (one.has_compute) return NVML_ERROR_INSUFFICIENT_RESOURCES;
    one.has_compute = 1;
    *out = handle_in(compute_instances, handle->index, one.gi);
    return write_instance(handle->index, &one);
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstances(nvmlGpuInstance_t handle, u32 id, nvmlComputeInstance_t *out, u32 *count) {
    section gpu;
    instance one;
    profile of;
    nvmlReturn_t status = look_at(gpu_instances, handle, &gpu, &one, &of);
    if (status) return status;
    if (!out || !count || id >= COMPUTE_PROFILES) return NVML_ERROR_INVALID_ARGUMENT;
    *count = one.has_compute && compute_profiles[id] == compute_slices(&of) ? 1 : 0;
    if (*count) *out = handle_in(compute_instances, handle->index, one.gi);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlComputeInstanceDestroy(nvmlComputeInstance_t handle) {
    section gpu;
    instance one;
    profile of;
    nvmlReturn_t status = look_at(compute_instances, handle, &gpu, &one, &of);
    if (status) return status;
    if (is_used(&gpu)) return NVML_ERROR_IN_USE;
    one.has_compute = 0;
    return write_instance(handle->index, &one);
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t d, u32 index, nvmlDevice_t *out) {
    section gpu;
    instances cut;
    u32 mode, seen = 0;
    nvmlReturn_t status = read_u32(d, "mig_mode", &mode);
    if (!status) status = look(d->index, &gpu, &cut);
    if (status) return status;
    for (u32 i = 0; mode && i < cut.count; i++) {
        if (!cut.all[i].has_compute || seen++ != index) continue;
        *out = handle_in(mig_devices, d->index, cut.all[i].gi);
        return NVML_SUCCESS;
    }
    return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t d, u32 *out) {
    u32 index;
    *out = is_mig(d);
    return *out ? NVML_SUCCESS : nvmlDeviceGetIndex(d, &index);
}

nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t d, nvmlDevice_t *out) {
    if (!is_mig(d)) return NVML_ERROR_INVALID_ARGUMENT;
    *out = &handles[d->index];
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t d, u32 *out) {
    if (!is_mig(d)) return NVML_ERROR_NOT_SUPPORTED;
    *out = d->gi;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t d, u32 *out) {
    if (!is_mig(d)) return NVML_ERROR_NOT_SUPPORTED;
    *out = 0;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t d, nvmlDeviceAttributes_t *out) {
    section gpu;
    instance one;
    profile of;
    if (!is_mig(d)) return NVML_ERROR_NOT_SUPPORTED;
    nvmlReturn_t status = look_at(mig_devices, d, &gpu, &one, &of);
    if (!status)
        *out = (nvmlDeviceAttributes_t){
            .gpuInstanceSliceCount = compute_slices(&of), .computeInstanceSliceCount = compute_slices(&of), .memorySizeMB = of.mib};
    return status;
}

nvmlReturn_t mig_name(nvmlDevice_t d, char *out, u32 length) {
    section gpu;
    instance one;
    profile of;
    char text[2 * VALUE_BYTES];
    nvmlReturn_t status = look_at(mig_devices, d, &gpu, &one, &of);
    if (status) return status;
    snprintf(text, sizeof text, "%s MIG %s", section_find(&gpu, "name"), of.name);
    return copy_text(text, out, length);
}

/* The UUID of the board with the number of the instance at its end. */
nvmlReturn_t mig_uuid(nvmlDevice_t d, char *out, u32 length) {
    section gpu;
    instance one;
    profile of;
    char text[2 * VALUE_BYTES];
    nvmlReturn_t status = look_at(mig_devices, d, &gpu, &one, &of);
    if (status) return status;
    const char *board = section_find(&gpu, "uuid");
    if (!board || strlen(board) < 8) return NVML_ERROR_NOT_SUPPORTED;
    snprintf(text, sizeof text, "MIG-%.*s%02x", (int)(strlen(board) - 6), board + 4, one.gi);
    return copy_text(text, out, length);
}
