#include "app/apart.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/log.h"

static _Noreturn void child(const struct mb_conf *c,
                            enum mb_status (*read)(const struct mb_conf *c, int *exit_code), pid_t parent)
{
    int code = -1;
    struct rlimit none = {0, 0};

    (void)setrlimit(RLIMIT_CORE, &none); /* a file's damage is no bug to be looked into */
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || getppid() != parent)
        _exit(mb_status_exit(MB_IO));
    enum mb_status st = read(c, &code);
    if ((fflush(stdout) != 0 || ferror(stdout)) && st == MB_OK) {
        st = mb_error(MB_IO, "standard output can't be written: %s", strerror(errno));
        code = -1;
    }
    exit(code >= 0 ? code : mb_status_exit(st));
}

/* Signals by which a program dies of its own doing. */
static bool died(int sig)
{
    return sig == SIGSEGV || sig == SIGBUS || sig == SIGABRT || sig == SIGFPE || sig == SIGILL;
}

enum mb_status mb_app_apart(const struct mb_conf *c,
                            enum mb_status (*read)(const struct mb_conf *c, int *exit_code), int *exit_code)
{
    int how = 0;
    pid_t me = getpid();

    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        return read(c, exit_code);
    if (pid == 0)
        child(c, read, me);
    while (waitpid(pid, &how, 0) < 0) {
        if (errno != EINTR)
            return mb_error(MB_IO, "the process that reads %s is gone: %s", c->args[0], strerror(errno));
    }
    if (WIFEXITED(how)) {
        *exit_code = WEXITSTATUS(how);
        return MB_OK;
    }
    int sig = WTERMSIG(how);
    if (died(sig))
        return mb_error(MB_INPUT,
                        "%s%s: reading ended with signal %d (%s): a file is damaged in a way that the HDF5 "
                        "library does not survive",
                        c->args[0], c->n_args > 1 ? " ..." : "", sig, strsignal(sig));
    signal(sig, SIG_DFL); /* a closed pipe, or whatever somebody sent */
    raise(sig);
    return mb_error(MB_IO, "the process that reads %s ended with signal %d", c->args[0], sig);
}
