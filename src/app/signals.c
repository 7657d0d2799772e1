#include "app/signals.h"

#include <stddef.h>

static volatile sig_atomic_t stop_asked;
static volatile sig_atomic_t stop_signal;

static void on_signal(int sig)
{
    if (!stop_asked)
        stop_signal = sig;
    stop_asked = 1;
}

/* The signals that ask for an end, and what they did when the process began (a shell's background jobs ignore
 * INT). */
enum { ASKS = 4 };
static const int asks[ASKS] = {SIGTERM, SIGINT, SIGUSR1, SIGUSR2};
static struct sigaction before[ASKS];

static void handle(int flags, struct sigaction *old)
{
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = flags};

    sigemptyset(&sa.sa_mask);
    for (int i = 0; i < ASKS; i++)
        sigaction(asks[i], &sa, old != NULL ? old + i : NULL);
}

/* What signals do: stop a job; end a command that writes nothing; stop one that writes, then end it. */
static enum { NOTHING, JOB, SHOWS, WRITES } way;

void mb_signals_install(void)
{
    handle(SA_RESTART, way == NOTHING ? before : NULL);
    way = JOB;
    struct sigaction ign = {.sa_handler = SIG_IGN};
    sigemptyset(&ign.sa_mask);
    sigaction(SIGPIPE, &ign, NULL);
    sigaction(SIGXFSZ, &ign,
              NULL); /* a file that may not grow is an error of its write, which knows its name */
}

void mb_signals_tool(bool writes)
{
    way = writes ? WRITES : SHOWS;
    if (writes) {
        handle(SA_RESTART | (int)SA_RESETHAND, NULL);
        return;
    }
    for (int i = 0; i < ASKS; i++)
        sigaction(asks[i], &before[i], NULL);
    signal(SIGPIPE, SIG_DFL);
    if (stop_asked)
        raise(stop_signal); /* it came while the command line was read */
}

void mb_signals_again(void)
{
    if (way == JOB)
        mb_signals_install();
    else
        mb_signals_tool(way == WRITES);
}

const volatile sig_atomic_t *mb_signals_stop(void)
{
    return &stop_asked;
}

void mb_signals_ask(int sig)
{
    on_signal(sig);
}

int mb_signals_number(void)
{
    return stop_signal;
}

const char *mb_signals_name(void)
{
    switch (stop_signal) {
    case SIGTERM:
        return "SIGTERM";
    case SIGINT:
        return "SIGINT";
    case SIGUSR1:
        return "SIGUSR1";
    case SIGUSR2:
        return "SIGUSR2";
    default:
        return NULL;
    }
}
