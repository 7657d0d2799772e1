/* Commands for a running job, by files: it works from any machine that sees RESULTS.h5.d, with no port and no
 * signal. `moebatch ctl` puts RESULTS.h5.d/ctl/ask-NUMBER there (by a rename: whole or not at all); a thread
 * of rank 0 looks twice a second, takes what belongs to the job's user, writes ctl/answer-NUMBER and one line
 * into RESULTS.h5.d/events, which becomes /health/events of the results. What changes the job is done by its
 * main thread at the next step (mb_orders_wanted). */
#ifndef MB_IO_ORDERS_H
#define MB_IO_ORDERS_H
#include <stdint.h>
#include <stdio.h>
#include "base/status.h"
#include "io/extras.h"

/* status: status.json; drain: no more requests are begun, those under way are finished, exit 75 if some are
 * left; stop: the end of the step, exit 75. */
enum mb_order { MB_ORDER_STATUS, MB_ORDER_DRAIN, MB_ORDER_STOP, MB_ORDERS };
extern const char *const mb_order_names[MB_ORDERS];

struct mb_orders;
/* dir: RESULTS.h5.d; run: of this job, since an ask is for one run. What earlier runs left in ctl/ goes. Rank
 * 0; Local. */
enum mb_status mb_orders_start(const char *dir, int32_t run, struct mb_orders **out);
void mb_orders_stop(struct mb_orders *c); /* NULL ok */
/* Bits 1 << verb of what was asked for and not yet fetched by this call. NULL: none. Never waits. */
unsigned mb_orders_wanted(struct mb_orders *c);

/* Asks the job that runs at RESULTS.h5 and prints its answer. Errors: MB_INPUT (no job runs there, or it says
 * no), MB_IO (no answer for `patience` seconds). Local. */
enum mb_status mb_order_ask(FILE *out, const char *results, const char *verb, double patience);

/* Lines of dir/events as /health/events; nothing where there are none. The last MB_ORDER_EVENTS lines. */
#define MB_ORDER_EVENTS 10000
enum mb_status mb_order_events(const char *dir, struct mb_extras *x);
#endif
