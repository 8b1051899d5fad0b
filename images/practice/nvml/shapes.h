/* Shapes of the driver library's public interface, as nvidia-ml-py (BSD) lays them out. */
#ifndef REDOUBT_NVML_SHAPES_H
#define REDOUBT_NVML_SHAPES_H

typedef enum {
    NVML_SUCCESS = 0,
    NVML_ERROR_UNINITIALIZED = 1,
    NVML_ERROR_INVALID_ARGUMENT = 2,
    NVML_ERROR_NOT_SUPPORTED = 3,
    NVML_ERROR_NO_PERMISSION = 4,
    NVML_ERROR_NOT_FOUND = 6,
    NVML_ERROR_INSUFFICIENT_SIZE = 7,
    NVML_ERROR_DRIVER_NOT_LOADED = 9,
    NVML_ERROR_TIMEOUT = 10,
    NVML_ERROR_GPU_IS_LOST = 15,
    NVML_ERROR_IN_USE = 19,
    NVML_ERROR_MEMORY = 20,
    NVML_ERROR_INSUFFICIENT_RESOURCES = 23,
    NVML_ERROR_ARGUMENT_VERSION_MISMATCH = 25
} nvmlReturn_t;

typedef struct gpu_handle *nvmlDevice_t;
typedef struct gpu_handle *nvmlGpuInstance_t;
typedef struct gpu_handle *nvmlComputeInstance_t;
typedef struct event_set *nvmlEventSet_t;
typedef unsigned int u32;
typedef unsigned long long u64;

typedef struct {
    char busIdLegacy[16];
    u32 domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32];
} nvmlPciInfo_t;

typedef struct { u64 total, free, used; } nvmlMemory_t;
typedef struct { u32 version; u64 total, reserved, free, used; } nvmlMemory_v2_t;
typedef struct { u64 total, free, used; } nvmlBAR1Memory_t;
typedef struct { u32 gpu, memory; } nvmlUtilization_t;
typedef struct { u64 referenceTime, violationTime; } nvmlViolationTime_t;
typedef struct { u32 version; int sensor, temperature; } nvmlTemperature_t;
typedef struct { u32 version; int margin; } nvmlMarginTemperature_t;
typedef struct { u32 pid; u64 usedGpuMemory; u32 gpuInstanceId, computeInstanceId; } nvmlProcessInfo_t;
typedef struct { u32 max, high, partial, low, none; } nvmlRowRemapperHistogramValues_t;

typedef struct {
    u32 version;
    u64 aggregateUncParity, aggregateUncSecDed, aggregateCor, volatileUncParity, volatileUncSecDed, volatileCor;
    u64 aggregateUncBucket[5];
    u32 bThresholdExceeded;
} nvmlEccSramErrorStatus_t;

/* Versions 2 and 3 differ by one byte at the end. */
typedef struct {
    u32 version;
    unsigned char clusterUuid[16];
    nvmlReturn_t status;
    u32 cliqueId;
    unsigned char state, padding[3];
    u32 healthMask;
} nvmlGpuFabricInfo_t;

typedef struct {
    u32 fieldId, scopeId;
    long long timestamp, latencyUsec;
    int valueType;
    nvmlReturn_t nvmlReturn;
    union { double d; u32 u; u64 ull; } value;
} nvmlFieldValue_t;

typedef struct {
    nvmlDevice_t device;
    u64 eventType, eventData;
    u32 gpuInstanceId, computeInstanceId;
} nvmlEventData_t;

typedef struct {
    u32 version, id, isP2pSupported, sliceCount, instanceCount, multiprocessorCount;
    u32 copyEngineCount, decoderCount, encoderCount, jpegCount, ofaCount;
    u64 memorySizeMB;
    char name[96];
} nvmlGpuInstanceProfileInfo_v2_t;

typedef struct { u32 start, size; } nvmlGpuInstancePlacement_t;
typedef struct { nvmlDevice_t device; u32 id, profileId; nvmlGpuInstancePlacement_t placement; } nvmlGpuInstanceInfo_t;

typedef struct {
    u32 version, id, sliceCount, instanceCount, multiprocessorCount;
    u32 sharedCopyEngineCount, sharedDecoderCount, sharedEncoderCount, sharedJpegCount, sharedOfaCount;
    char name[96];
} nvmlComputeInstanceProfileInfo_v2_t;

typedef struct {
    u32 multiprocessorCount, sharedCopyEngineCount, sharedDecoderCount, sharedEncoderCount, sharedJpegCount, sharedOfaCount;
    u32 gpuInstanceSliceCount, computeInstanceSliceCount;
    u64 memorySizeMB;
} nvmlDeviceAttributes_t;

#endif
