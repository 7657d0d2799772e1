/* adapter_config.json of a LoRA adapter: an allow-list of what leaves the terms plain. Local. */
#ifndef MB_MODEL_ADAPTER_CONFIG_H
#define MB_MODEL_ADAPTER_CONFIG_H
#include "model/adapter.h"

#define MB_MAX_RANK 4096

/* Fills rank and scale. Every key of the file is known to change nothing, or is read, or is not set (absent,
 * null, false, empty), or the adapter is refused by the name of what it is (PiSSA, DoRA, aLoRA, ...). Errors:
 * MB_MODEL, MB_NO_MEMORY. */
enum mb_status mb_adapter_settings(const char *dir, struct mb_adapter *a);
#endif
