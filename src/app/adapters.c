/* --adapter NAME=DIR[,NAME=DIR...]: rank 0 reads and checks what adapters say of themselves; the others get it by broadcast. */
#include <stdlib.h>
#include <string.h>
#include "app/setup.h"
#include "base/log.h"

#define MAX_ADAPTERS 64

/* Cuts the option's text (a copy of ours) into names and directories. */
static enum mb_status split_names(struct mb_app *a, const char **dir)
{
    a->adapter_text = strdup(a->conf->adapter);
    if (a->adapter_text == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for adapters");
    for (char *at = a->adapter_text, *next; at != NULL && *at != 0; at = next) {
        next = strchr(at, ',');
        if (next != NULL)
            *next++ = 0;
        char *eq = strchr(at, '=');
        if (eq == NULL || eq == at || eq[1] == 0)
            return mb_error(MB_USAGE, "--adapter %s: expected NAME=DIR", at);
        *eq = 0;
        if (a->n_adapters == MAX_ADAPTERS)
            return mb_error(MB_USAGE, "--adapter: more than %d adapters", MAX_ADAPTERS);
        for (int32_t i = 0; i < a->n_adapters; i++) {
            if (strcmp(a->adapter_name[i], at) == 0)
                return mb_error(MB_USAGE, "--adapter: the name %s is there twice", at);
        }
        dir[a->n_adapters] = eq + 1;
        a->adapter_name[a->n_adapters++] = at;
    }
    return MB_OK;
}

static enum mb_status share(struct mb_app *a, int32_t i, const char *dir)
{
    struct mb_bytes flat = {0};
    enum mb_status st = MB_OK;

    if (a->rank == 0) {
        st = mb_adapter_open(dir, a->model, &a->adapter[i]);
        if (st == MB_OK)
            st = mb_adapter_identity(dir, &a->adapter_id[i]);
        if (st == MB_OK)
            st = mb_adapter_pack(a->adapter[i], &flat);
    }
    st = mb_comm_agree(a->comm, st, "reading an adapter's description");
    if (st == MB_OK)
        st = mb_comm_bcast_bytes(a->comm, &flat, 0, "adapter description");
    if (st == MB_OK)
        st = mb_comm_bcast(a->comm, &a->adapter_id[i], sizeof a->adapter_id[i], 0, "adapter identity");
    if (st == MB_OK && a->rank != 0)
        st = mb_adapter_unpack(flat.data, flat.len, &a->adapter[i]);
    mb_bytes_fini(&flat);
    return mb_comm_agree(a->comm, st, "taking over an adapter's description");
}

enum mb_status mb_app_adapters(struct mb_app *a)
{
    const char *dir[MAX_ADAPTERS];

    if (a->conf->adapter[0] == 0)
        return MB_OK;
    a->adapter_name = calloc(MAX_ADAPTERS, sizeof *a->adapter_name);
    a->adapter = calloc(MAX_ADAPTERS, sizeof *a->adapter);
    a->adapter_id = calloc(MAX_ADAPTERS, sizeof *a->adapter_id);
    enum mb_status st = a->adapter_name == NULL || a->adapter == NULL || a->adapter_id == NULL
                            ? mb_error(MB_NO_MEMORY, "no memory for adapters")
                            : split_names(a, dir);
    MB_TRY(mb_comm_agree(a->comm, st, "adapters"));
    for (int32_t i = 0; i < a->n_adapters; i++)
        MB_TRY(share(a, i, dir[i]));
    return MB_OK;
}

void mb_app_adapters_free(struct mb_app *a)
{
    for (int32_t i = 0; i < a->n_adapters && a->adapter != NULL; i++)
        mb_adapter_destroy(a->adapter[i]);
    free(a->adapter);
    free(a->adapter_name);
    free(a->adapter_id);
    free(a->adapter_text);
    a->n_adapters = 0;
    a->adapter = NULL;
    a->adapter_name = NULL;
    a->adapter_id = NULL;
    a->adapter_text = NULL;
}
