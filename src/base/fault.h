/* Pause points for the kill tests: MOEBATCH_FAULT=place:ms makes the process announce "fault: place" on stderr and
 * sleep there, once. Present only under configure --enable-faults. */
#ifndef MB_BASE_FAULT_H
#define MB_BASE_FAULT_H
#include "config.h"
#ifdef MB_FAULTS
void mb_fault(const char *place);
#else
#define mb_fault(place) ((void)0)
#endif
#endif
