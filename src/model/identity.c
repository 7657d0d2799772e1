#include "model/identity.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/fs.h"
#include "base/log.h"
#include "model/load.h"

static enum mb_status hash_file(struct mb_hasher *h, const char *dir, const char *name, bool optional)
{
    struct mb_bytes text = {0};
    char *path = mb_path_join(dir, name);
    enum mb_status st = MB_OK;

    if (path == NULL)
        st = mb_error(MB_NO_MEMORY, "no memory for a path");
    else if (!optional || mb_path_exists(path))
        st = mb_file_read(path, MB_MAX_CONFIG_BYTES, MB_MODEL, &text);
    if (st == MB_OK)
        mb_hasher_field(h, text.data, text.len);
    mb_bytes_fini(&text);
    free(path);
    return st;
}

static enum mb_status hash_header(struct mb_hasher *h, const char *dir, const char *name)
{
    struct mb_bytes raw = {0};
    uint64_t size;
    char *path = mb_path_join(dir, name);
    enum mb_status st = path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : mb_st_raw_header(path, &raw, &size);
    if (st == MB_OK) {
        mb_hasher_field(h, name, strlen(name));
        mb_hasher_put(h, &size, sizeof size);
        mb_hasher_field(h, raw.data, raw.len);
    }
    mb_bytes_fini(&raw);
    free(path);
    return st;
}

enum mb_status mb_identity_of(const char *dir, const char *config, const char *extra, const char *name, struct mb_hash128 *out)
{
    struct mb_shards s = {0};
    struct mb_hasher *h = mb_hasher_create();
    enum mb_status st = h == NULL ? mb_error(MB_NO_MEMORY, "no memory for a hash") : hash_file(h, dir, config, false);

    if (st == MB_OK && extra != NULL)
        st = hash_file(h, dir, extra, true);
    if (st == MB_OK)
        st = mb_shards_list(dir, name, &s);
    for (int32_t i = 0; st == MB_OK && i < s.n_files; i++)
        st = hash_header(h, dir, s.files[i]);
    if (st == MB_OK)
        *out = mb_hasher_128(h);
    mb_shards_fini(&s);
    mb_hasher_destroy(h);
    return st;
}

/* A config.json alone. */
static enum mb_status identity_of_file(const char *path, struct mb_hash128 *out)
{
    struct mb_bytes text = {0};
    enum mb_status st = mb_file_read(path, MB_MAX_CONFIG_BYTES, MB_MODEL, &text);

    if (st == MB_OK)
        *out = mb_hash128_of(text.data, text.len);
    mb_bytes_fini(&text);
    return st;
}

enum mb_status mb_model_identity(const char *dir, struct mb_hash128 *out)
{
    struct stat sb;

    if (stat(dir, &sb) == 0 && S_ISREG(sb.st_mode))
        return identity_of_file(dir, out);
    return mb_identity_of(dir, "config.json", "generation_config.json", "model", out);
}
