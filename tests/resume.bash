# For tests of jobs that stop and go on: the demo job, and its digest in $ref.
load common.bash

job() {
    local n=$1
    shift
    ranks "$n" run -m "$demo" -i "$top/inputs/prompts.jsonl" -o "$work/r.h5" --dtype bf16 "$@"
}

reference() {
    ranks 2 run -m "$demo" -i "$top/inputs/prompts.jsonl" -o "$work/ref.h5" --dtype bf16
    ref=$(digest "$work/ref.h5")
}
