/* How every call reaches the state: checked, locked, copied out. "Not supported" is a key the state does not have. */
#ifndef REDOUBT_NVML_ACCESS_H
#define REDOUBT_NVML_ACCESS_H

#include "shapes.h"
#include "state.h"

#define NOT_MIG 0xffffffffu
#define MIB (1024ULL * 1024ULL)

/* `gi` numbers the instance that a handle of MIG means. */
struct gpu_handle { u32 index, gi; };

extern struct gpu_handle handles[MAX_GPUS];
extern int users;

nvmlReturn_t hold(const state **now);
nvmlReturn_t hold_gpu(nvmlDevice_t device, const state **now, const section **gpu);
bool number_of(const section *gpu, const char *key, u64 *out);
u64 number_or_zero(const section *gpu, const char *key);
nvmlReturn_t read_u64(nvmlDevice_t device, const char *key, u64 *out);
nvmlReturn_t read_u32(nvmlDevice_t device, const char *key, u32 *out);
nvmlReturn_t read_numbered(nvmlDevice_t device, const char *stem, u32 number, u32 *out);
nvmlReturn_t copy_text(const char *text, char *out, u32 length);
nvmlReturn_t read_text(nvmlDevice_t device, const char *key, char *out, u32 length);
nvmlReturn_t copy_pci(const section *gpu, nvmlPciInfo_t *out);
nvmlReturn_t read_site_text(const char *key, char *out, u32 length);
u64 wall_us(void);

bool is_mig(nvmlDevice_t d);
nvmlReturn_t mig_name(nvmlDevice_t d, char *out, u32 length);
nvmlReturn_t mig_uuid(nvmlDevice_t d, char *out, u32 length);

/* Used by more than one file of the library itself. */
nvmlReturn_t nvmlDeviceGetCount_v2(u32 *out);
nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t d, u32 *out);
nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t d, nvmlPciInfo_t *out);
nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t d, u64 *out);

#endif
