/* The entry points of libFuzzer for the target that FUZZ_TARGET names. */
#include <stdlib.h>
#include <string.h>
#include "fuzz.h"

static const struct fuzz_target *target;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
size_t LLVMFuzzerMutate(uint8_t *data, size_t n, size_t max); /* libFuzzer's own */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned int seed);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *name = getenv("FUZZ_TARGET"), *top = getenv("FUZZ_TOP"), *work = getenv("FUZZ_WORK");
    (void)argc;
    (void)argv;
    if (name == NULL || top == NULL || work == NULL)
        abort();
    for (int i = 0; i < fuzz_n_targets; i++) {
        if (strcmp(fuzz_targets[i].name, name) == 0)
            target = &fuzz_targets[i];
    }
    if (target == NULL)
        abort();
    fuzz_start(top, work);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    target->run(data, n);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t max, unsigned int seed)
{
    n = LLVMFuzzerMutate(data, n, max);
    if (target->mend != NULL && seed % 8 != 0) /* some stay as they are: lengths and hashes must be wrong as well */
        target->mend(data, n);
    return n;
}
