/* Status codes: what a function tells its caller. The function that detects an error logs it once (rank, cause,
 * remedy) with mb_error(); callers only pass the status upwards. Outputs are set only on MB_OK. */
#ifndef MB_BASE_STATUS_H
#define MB_BASE_STATUS_H

enum mb_status {
    MB_OK = 0,
    MB_USAGE,     /* bad command line                      -> exit 1 */
    MB_INPUT,     /* bad input, deck or results file       -> exit 2 */
    MB_MODEL,     /* bad model directory                   -> exit 2 */
    MB_LAYOUT,    /* an impossible layout                  -> exit 2 */
    MB_STOP,      /* asked to stop; --resume goes on       -> exit 75, as all up to MB_DEADLINE once a job has begun; */
    MB_NO_MEMORY, /* before that and in tools                 -> exit 71 */
    MB_NO_SPACE,  /* disk or shared memory full               -> exit 73 */
    MB_CANT_CREATE, /* read-only or missing directory ...     -> exit 73 */
    MB_DENIED,    /* permission                               -> exit 77 */
    MB_IO,        /*                                          -> exit 74 */
    MB_DEVICE,    /*                                          -> exit 71 */
    MB_PEER,      /* another rank died or told us of an error */
    MB_LOST,      /* a communicator is of no more use: a peer or the network is gone */
    MB_DEADLINE,  /* another rank did not answer in time */
    MB_CORRUPT,   /* records differ, a forced token was not reproduced -> exit 70 */
    MB_BUG,       /* -> exit 70 */
    MB_REQUEST,   /* one request is bad: never leaves its row */
    MB_STATUS_COUNT
};

/* Short lower-case name, for messages ("no-memory"). Local. */
const char *mb_status_name(enum mb_status st);

/* Exit code of the process for a final status where nothing is there that could be resumed (the table of the interface). Local. */
int mb_status_exit(enum mb_status st);
/* The same for a job whose journal has begun: 75 for whatever the world did to it, since --resume goes on. Local. */
int mb_status_exit_begun(enum mb_status st);
/* What an errno of a file means: MB_NO_SPACE, MB_CANT_CREATE, MB_DENIED, MB_NO_MEMORY or MB_IO. Local. */
enum mb_status mb_status_of_errno(int err);

/* Passes a failure on. */
#define MB_TRY(expr)                                                                                                   \
    do {                                                                                                               \
        enum mb_status mb_try_st_ = (expr);                                                                            \
        if (mb_try_st_ != MB_OK)                                                                                       \
            return mb_try_st_;                                                                                         \
    } while (0)

#endif
