#include "base/fault.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/log.h"

#ifdef MB_FAULTS
void mb_fault(const char *place)
{
    const char *want = getenv("MOEBATCH_FAULT");
    size_t n = strlen(place);

    if (want == NULL || strncmp(want, place, n) != 0 || want[n] != ':')
        return;
    long ms = strtol(want + n + 1, NULL, 10);
    unsetenv("MOEBATCH_FAULT");
    mb_print("fault: %s", place);
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}
#else
typedef int mb_fault_is_absent; /* an empty translation unit is not C */
#endif
