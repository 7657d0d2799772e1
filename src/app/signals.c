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

void mb_signals_install(void)
{
    static const int asks[] = {SIGTERM, SIGINT, SIGUSR1, SIGUSR2};
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

    sigemptyset(&sa.sa_mask);
    for (size_t i = 0; i < sizeof asks / sizeof asks[0]; i++)
        sigaction(asks[i], &sa, NULL);
    struct sigaction ign = {.sa_handler = SIG_IGN};
    sigemptyset(&ign.sa_mask);
    sigaction(SIGPIPE, &ign, NULL);
    sigaction(SIGXFSZ, &ign, NULL); /* a file that may not grow is an error of its write, which knows its name */
}

void mb_signals_pipe_ends(void)
{
    signal(SIGPIPE, SIG_DFL);
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
