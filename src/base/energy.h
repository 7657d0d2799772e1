/* Energy that this machine's processors have taken, by RAPL's counters in the powercap file system, where the
 * kernel lets one read them. Local. */
#ifndef MB_BASE_ENERGY_H
#define MB_BASE_ENERGY_H
#include <stdbool.h>
#include <stdint.h>

#define MB_ENERGY_ROOT "/sys/class/powercap"
#define MB_ENERGY_ZONES 16

/* Packages (intel-rapl:N; AMD's have the same name), read at one moment. n: 0, nothing can be read, and why
 * says so. */
struct mb_energy {
    int n;
    struct {
        char name[32];
        uint64_t uj, range; /* microjoules; where the counter begins again */
    } zone[MB_ENERGY_ZONES];
    char why[160];
};
/* root: MB_ENERGY_ROOT, or another directory of the same form. */
void mb_energy_read(const char *root, struct mb_energy *out);
/* Joules from one reading to a later one; a counter may have begun again once between them. Negative: not
 * known. */
double mb_energy_between(const struct mb_energy *a, const struct mb_energy *b);
#endif
