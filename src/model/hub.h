/* Where a model's or adapter's files are: a directory as it is, a repository in a Hugging Face cache, or the
 * hub name of one. */
#ifndef MB_MODEL_HUB_H
#define MB_MODEL_HUB_H
#include "base/status.h"

/* *out (malloc'd) is the directory with the files that `name` means:
 *  - a directory models--ORG--NAME of a cache: its snapshot, the one refs/main names, or the only one;
 *  - a hub name (ORG/NAME or NAME) that is no path here: that repository in $HF_HUB_CACHE, $HF_HOME/hub or
 *    $HOME/.cache/huggingface/hub;
 *  - anything else: the name itself, which whoever opens it will judge.
 * Nothing is ever downloaded. Errors: MB_MODEL (a cache without a usable snapshot), MB_NO_MEMORY. Local. */
enum mb_status mb_hub_find(const char *name, char **out);
#endif
