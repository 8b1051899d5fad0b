/* The state file: `key = value` lines, replaced in one piece by whoever changes it. Read again whenever it was replaced. */
#ifndef REDOUBT_NVML_STATE_H
#define REDOUBT_NVML_STATE_H

#include <stdbool.h>
#include <stddef.h>

#define MAX_GPUS 16
#define MAX_ENTRIES 128
#define MAX_EVENTS 64
#define VALUE_BYTES 96

typedef struct { char key[40]; char value[VALUE_BYTES]; } entry;
typedef struct { entry entries[MAX_ENTRIES]; size_t count; } section;
typedef struct { unsigned long long number; unsigned int gpu; unsigned long long kind; unsigned long long data; } event;
typedef struct { section site; section gpus[MAX_GPUS]; unsigned int gpu_count; event events[MAX_EVENTS]; size_t event_count; unsigned long long changed_us; } state;

/* Return the present state, locked until state_release; NULL when the file is missing or cannot be read. */
const state *state_hold(void);
void state_release(void);

/* Return the text behind a key, NULL when the state has none. */
const char *section_find(const section *where, const char *key);

/* Set a key, or take it away with NULL, in a file that replaces the old one; false when that is not allowed. */
bool state_write(const char *key, const char *value);

/* Copy the newest event number, 0 when there has been none. */
unsigned long long state_newest_event(const state *now);

#endif
