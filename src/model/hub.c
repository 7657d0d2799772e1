#include "model/hub.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

#define MAX_REF 256u

static bool is_dir(const char *path)
{
    struct stat sb;
    return path != NULL && stat(path, &sb) == 0 && S_ISDIR(sb.st_mode);
}

static enum mb_status no_memory(void)
{
    return mb_error(MB_NO_MEMORY, "no memory for a path");
}

/* A plain file name: nothing that could leave the directory. */
static bool plain(const char *s)
{
    return s[0] != 0 && s[0] != '.' && strchr(s, '/') == NULL;
}

/* The snapshot that refs/main names. *out NULL: there is no such file. */
static enum mb_status main_ref(const char *repo, char **out)
{
    struct mb_bytes text = {0};
    char *path = mb_path_join(repo, "refs/main"), name[MAX_REF + 1] = "";
    enum mb_status st = path == NULL ? no_memory() : MB_OK;

    *out = NULL;
    if (st == MB_OK && mb_path_exists(path)) {
        st = mb_file_read(path, MAX_REF, MB_MODEL, &text);
        snprintf(name, sizeof name, "%.*s", (int)text.len, text.data != NULL ? (const char *)text.data : "");
        name[strcspn(name, " \r\n\t")] = 0;
        if (st == MB_OK && !plain(name))
            st = mb_error(MB_MODEL, "%s: expected the name of a snapshot, found \"%.80s\"", path, name);
        if (st == MB_OK && (*out = strdup(name)) == NULL)
            st = no_memory();
    }
    mb_bytes_fini(&text);
    free(path);
    return st;
}

/* The only snapshot; *n: how many there are. */
static enum mb_status only_snapshot(const char *dir, int *n, char **out)
{
    DIR *d = opendir(dir);

    *n = 0;
    *out = NULL;
    for (const struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL; e = readdir(d)) {
        if (!plain(e->d_name))
            continue;
        (*n)++;
        free(*out);
        *out = strdup(e->d_name);
        if (*out == NULL) {
            closedir(d);
            return no_memory();
        }
    }
    if (d != NULL)
        closedir(d);
    return MB_OK;
}

static enum mb_status snapshot_of(const char *repo, char **out)
{
    char *dir = mb_path_join(repo, "snapshots"), *name = NULL;
    int n = 1;
    enum mb_status st = dir == NULL ? no_memory() : main_ref(repo, &name);

    if (st == MB_OK && name == NULL)
        st = only_snapshot(dir, &n, &name);
    if (st == MB_OK && n != 1)
        st = mb_error(
            MB_MODEL,
            "%s: expected refs/main or a single snapshot, found %d; give the directory of one of them", repo,
            n);
    if (st == MB_OK) {
        *out = mb_path_join(dir, name);
        if (*out == NULL)
            st = no_memory();
        else if (!is_dir(*out))
            st = mb_error(
                MB_MODEL,
                "%s: expected the snapshot that refs/main names, found none; the download is not complete",
                *out);
    }
    if (st != MB_OK) {
        free(*out);
        *out = NULL;
    }
    free(name);
    free(dir);
    return st;
}

/* ORG/NAME or NAME in the characters that the hub allows. */
static bool hub_name(const char *s)
{
    int slashes = 0;

    if (!isalnum((unsigned char)s[0]))
        return false;
    for (const char *p = s; *p != 0; p++) {
        slashes += *p == '/';
        if (!isalnum((unsigned char)*p) && strchr("._-/", *p) == NULL)
            return false;
    }
    return slashes <= 1 && s[strlen(s) - 1] != '/' && strlen(s) < 200;
}

/* The repository of a hub name in the caches that the environment names; NULL: not there. */
static char *cached(const char *name)
{
    static const struct {
        const char *variable, *below;
    } places[] = {{"HF_HUB_CACHE", ""}, {"HF_HOME", "/hub"}, {"HOME", "/.cache/huggingface/hub"}};
    char path[4096];

    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const char *root = getenv(places[i].variable);
        if (root == NULL || root[0] == 0)
            continue;
        int n = snprintf(path, sizeof path, "%s%s/models--", root, places[i].below);
        for (const char *p = name; *p != 0 && n > 0 && (size_t)n + 3 < sizeof path; p++)
            n += snprintf(path + n, sizeof path - (size_t)n, *p == '/' ? "--" : "%c", *p);
        if (is_dir(path))
            return strdup(path);
    }
    return NULL;
}

enum mb_status mb_hub_find(const char *name, char **out)
{
    char *found = NULL;

    *out = NULL;
    if (!mb_path_exists(name) && hub_name(name) && (found = cached(name)) != NULL) {
        enum mb_status st = snapshot_of(found, out);
        free(found);
        return st;
    }
    char *snapshots = mb_path_join(name, "snapshots"), *config = mb_path_join(name, "config.json");
    enum mb_status st = snapshots == NULL || config == NULL ? no_memory() : MB_OK;
    if (st == MB_OK && is_dir(snapshots) && !mb_path_exists(config)) {
        st = snapshot_of(name, out);
    } else if (st == MB_OK) {
        *out = strdup(name);
        st = *out != NULL ? MB_OK : no_memory();
    }
    free(snapshots);
    free(config);
    return st;
}
