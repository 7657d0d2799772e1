/* A model known by its shapes: weights may be missing. */
#include <stdlib.h>
#include "app/setup.h"
#include "base/fs.h"
#include "base/log.h"

enum mb_status mb_app_open_shapes(const char *path, int32_t k, struct mb_model **out)
{
    static const char *const weights[] = {"model.safetensors.index.json", "model.safetensors"};
    bool there = false;

    for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++) {
        char *file = mb_path_join(path, weights[i]);
        if (file == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for a path");
        there |= mb_path_exists(file);
        free(file);
    }
    char *config = mb_path_join(path, "config.json");
    if (config == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    enum mb_status st = mb_model_open(there || !mb_path_exists(config) ? path : config, k, out);
    free(config);
    return st;
}
