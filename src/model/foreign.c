#include "model/foreign.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *bytes;
    size_t n;
    const char *kind;
} heads[] = {
    {"version https://git-lfs.github.com/", 35,
     "a Git-LFS pointer instead of the file; git lfs pull (or a new download) gets it"},
    {"GGUF", 4, "a GGUF file (llama.cpp), which is not read; get the model's safetensors"},
    {"GGML", 4, "a GGML file (llama.cpp), which is not read; get the model's safetensors"},
    {"PK\3\4", 4,
     "a PyTorch checkpoint (or another zip archive), which is not read; convert it to safetensors"},
    {"\x80\2", 2, "a Python pickle, which is never read; convert it to safetensors"},
    {"\x89HDF\r\n\x1a\n", 8, "an HDF5 file, which is not read as a model"},
    {"\x93NUMPY", 6, "a NumPy array, which is not read; convert it to safetensors"},
    {"\x1f\x8b", 2, "a gzip archive; unpack it"},
    {"\x28\xb5\x2f\xfd", 4, "a zstd archive; unpack it"},
    {"<!DOCTYPE", 9, "a web page (a download that failed?)"},
    {"<!doctype", 9, "a web page (a download that failed?)"},
    {"<html", 5, "a web page (a download that failed?)"},
};

/* In the order in which they count where there are several: what is nearest to a model that is read comes
 * first. */
static const struct {
    const char *end, *kind;
} ends[] = {
    {"adapter_model.safetensors", "a LoRA adapter and no model; --adapter NAME=DIR takes it"},
    {".safetensors", "under another name than model.safetensors: another layout (consolidated, for one), or "
                     "an index is missing"},
    {".gguf", "a GGUF file (llama.cpp) and not read; get the model's safetensors"},
    {".ggml", "a GGML file (llama.cpp) and not read; get the model's safetensors"},
    {".bin", "a PyTorch checkpoint and not read; convert it to safetensors"},
    {".pth", "a PyTorch checkpoint and not read; convert it to safetensors"},
    {".pt", "a PyTorch checkpoint and not read; convert it to safetensors"},
    {".msgpack", "a Flax checkpoint and not read; convert it to safetensors"},
    {"tf_model.h5", "a TensorFlow checkpoint and not read; convert it to safetensors"},
    {".onnx", "an ONNX model and not read; get the model's safetensors"},
    {".npz", "a NumPy archive and not read; convert it to safetensors"},
};

const char *mb_foreign_kind(const void *head, size_t n)
{
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        if (n >= heads[i].n && memcmp(head, heads[i].bytes, heads[i].n) == 0)
            return heads[i].kind;
    }
    return NULL;
}

const char *mb_foreign_file(const char *path)
{
    char head[MB_FOREIGN_HEAD];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : pread(fd, head, sizeof head, 0);

    if (fd >= 0)
        close(fd);
    return n > 0 ? mb_foreign_kind(head, (size_t)n) : NULL;
}

enum { N_ENDS = sizeof ends / sizeof ends[0] };

/* Place in the table, N_ENDS: nothing that would be taken for a model. */
static size_t place_of(const char *name)
{
    size_t n = strlen(name);

    for (size_t i = 0; i < N_ENDS; i++) {
        size_t k = strlen(ends[i].end);
        if (n >= k && strcmp(name + n - k, ends[i].end) == 0 && strcmp(name, "training_args.bin") != 0)
            return i;
    }
    return N_ENDS;
}

const char *mb_foreign_in(const char *dir, char *out, size_t cap)
{
    DIR *d = opendir(dir);
    char first[256] = "";
    size_t best = N_ENDS;

    out[0] = 0;
    for (const struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL; e = readdir(d)) {
        size_t at = place_of(e->d_name);
        if (at < best || (at < N_ENDS && at == best && strcmp(e->d_name, first) < 0)) {
            best = at;
            snprintf(first, sizeof first, "%s", e->d_name);
        }
    }
    if (d != NULL)
        closedir(d);
    if (first[0] != 0)
        snprintf(out, cap, "; found %s, which is %s", first, ends[best].kind);
    return out;
}
