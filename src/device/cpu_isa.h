/* Which instruction sets this machine may use. All functions Local. */
#ifndef MB_DEVICE_CPU_ISA_H
#define MB_DEVICE_CPU_ISA_H
#include "device/cpu.h"

const char *mb_isa_name(enum mb_isa isa);
/* The widest ISA that the CPU, the kernel's context switches and (AMX) its permission for tile data allow.
 * Asks the kernel for that permission, once per process and harmlessly again. */
enum mb_isa mb_isa_detect(void);
/* Whether an ISA up to that one is there, too: a machine with AMX may lack MB_ISA_BF16. */
bool mb_isa_has(enum mb_isa isa);
/* name: "auto" (or NULL) or an ISA's name. The choice has passed the self-test: an ISA whose kernels differ
 * from the scalar dot rule on this machine is left out with a warning under "auto" and is MB_LAYOUT when
 * asked for by name, as is one the machine does not have. An unknown name is MB_USAGE. Under "auto" MB_ISA_BF16 is chosen only
 * where it is faster than FMA, which is measured. */
enum mb_status mb_isa_choose(const char *name, enum mb_isa *out);
#endif
