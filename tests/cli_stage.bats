# --stage: copies have the contents of the model, whatever happened to either since they were made.
load common.bash

job() { # OUT [OPTION...]
    ranks 2 run -m "$work/m" -i "$work/in" -o "$work/$1.h5" "${@:2}" 2>"$work/err"
}

# swaps two rows of a matrix: another model of the same names and sizes; times of the file stay
change() {
    cp -p "$1" "$work/times"
    "$PYTHON3" -c 'import sys
f = open(sys.argv[1], "r+b"); n = f.seek(0, 2) // 2
f.seek(n); a = f.read(4096); b = f.read(4096); f.seek(n); f.write(b + a)' "$1"
    touch -r "$work/times" "$1"
}

@test "a staged model follows its source, and a damaged copy is made again" {
    cp -r "$models/mixtral_a" "$work/m"
    printf '%s\n' '{"id":"a","prompt_ids":[1,5,9,20,33,7,2],"max_tokens":8,"temperature":0,"ignore_eos":true}' >"$work/in"
    job one --stage "$work/stage"
    job plain
    [ "$(digest "$work/one.h5")" = "$(digest "$work/plain.h5")" ]
    copy=$(ls "$work"/stage/moebatch-*/*.safetensors | tail -n 1)
    inode=$(stat -c %i "$copy")
    job again --stage "$work/stage"
    [ "$(stat -c %i "$copy")" = "$inode" ]
    change "$copy"
    job damaged --stage "$work/stage"
    [ "$(digest "$work/damaged.h5")" = "$(digest "$work/plain.h5")" ]
    change "$work/m/$(basename "$copy")"
    job other
    job staged --stage "$work/stage"
    [ "$(digest "$work/other.h5")" != "$(digest "$work/plain.h5")" ]
    [ "$(digest "$work/staged.h5")" = "$(digest "$work/other.h5")" ]
}
