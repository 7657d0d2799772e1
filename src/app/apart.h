/* Reading a file in a process of its own. */
#ifndef MB_APP_APART_H
#define MB_APP_APART_H
#include "conf/conf.h"

/* Runs read(c) in a child, which ends with its exit code (*exit_code) and has written its output. A library
 * that does not survive what is in c->args (HDF5 1.10 reads some damaged files to its death) is then an error
 * of the file, MB_INPUT (logged), and not the end of the program without a word. Signals to this process end
 * the child. Where no process can be had: read(c) here. Local; before MPI. */
enum mb_status mb_app_apart(const struct mb_conf *c,
                            enum mb_status (*read)(const struct mb_conf *c, int *exit_code), int *exit_code);
#endif
