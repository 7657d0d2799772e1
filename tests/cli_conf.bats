# The command line as a user meets it: help, mistakes and their exit codes, one deck for all, what the results remember.
load common.bash

@test "help and version need nothing and go to standard output" {
    "$MOEBATCH" --help 2>"$work/err" >"$work/out"
    grep -q "^Usage: moebatch COMMAND" "$work/out"
    [ ! -s "$work/err" ]
    for c in run score inspect status assemble merge tokenize check; do
        "$MOEBATCH" "$c" --help | grep -q "^Usage: moebatch $c "
        "$MOEBATCH" help "$c" | cmp - <("$MOEBATCH" "$c" --help)
        "$MOEBATCH" --help | grep -q "^  $c "
    done
    "$MOEBATCH" --version | grep -q "^moebatch [0-9]"
    "$MOEBATCH" run -m nowhere --version | grep -q "^moebatch [0-9]"
}

@test "mistakes on the command line exit 1, in a deck 2, each with one line" {
    mistake() { # exit code, part of the message, arguments
        local want=$1 says=$2
        shift 2
        run "$MOEBATCH" "$@"
        [ "$status" -eq "$want" ]
        [ "${#lines[@]}" -eq 1 ]
        [[ $output == "moebatch: error: "*"$says"* ]] || { echo "$output"; return 1; }
    }
    mistake 1 "a command is needed"
    mistake 1 "did you mean 'moebatch score'?" scor
    mistake 1 "did you mean --max-tokens?" run -m M -i I -o O --max-token
    mistake 1 "--threads: 'two' is not a whole number" run -m M -i I -o O --threads two
    mistake 1 "run needs an input (-i)" run -m M
    mistake 1 "--resume and --overwrite contradict" run -m M -i I -o O --resume --overwrite
    printf 'seed: 1\nmax_tokns: 5\n' >"$work/deck.yaml"
    mistake 2 "deck.yaml:2: there is no key 'max_tokns'; did you mean 'max_tokens'?" run -c "$work/deck.yaml" -m M -i I -o O
    mistake 2 "$work/none.yaml" run -c "$work/none.yaml"
    MOEBATCH_THREADS=many mistake 1 "MOEBATCH_THREADS: 'many'" run -m M -i I -o O
}

@test "every rank finds the mistake, one says it" {
    run ranks 3 run -m M -i I -o O --kv-segment 100
    [ "$status" -eq 1 ]
    [ "$(grep -c "kv-segment 100 is not a multiple of 64; 128 is" <<<"$output")" -eq 1 ]
}

# late RANK COMMAND...: that rank starts a second after the others
late() {
    local late=$1
    shift
    sh "$top/tests/mpirun.sh" 3 sh -c '[ "${OMPI_COMM_WORLD_RANK:-$PMIX_RANK}" != "$0" ] || sleep 1; exec "$@"' "$late" "$@"
}

@test "the one that says it may come late; a mistake of one rank alone is said by it" {
    run late 0 "$MOEBATCH" run -m M -i I -o O --kv-segment 100
    [ "$status" -eq 1 ]
    [ "$(grep -c "kv-segment 100 is not a multiple of 64; 128 is" <<<"$output")" -eq 1 ]
    run sh "$top/tests/mpirun.sh" 2 sh -c '[ "${OMPI_COMM_WORLD_RANK:-$PMIX_RANK}" = 0 ] || export MOEBATCH_THREADS=many; exec "$@"' x \
        "$MOEBATCH" run -m "$demo" -i "$top/inputs/greedy.jsonl" -o "$work/r.h5"
    echo "$output"
    [ "$status" -ne 0 ]
    grep -q "MOEBATCH_THREADS: 'many'" <<<"$output"
}

@test "impossible layouts exit 2, name both values and what would work" {
    run ranks 3 run -m "$demo" -i "$top/inputs/greedy.jsonl" -o "$work/r.h5" --expert-parallel-size 2
    [ "$status" -eq 2 ]
    grep -q -e "--expert-parallel-size 2 .*does not divide the 3 ranks.*nearest layout that works: 3 ranks with --expert-parallel-size 3" <<<"$output"
    run "$MOEBATCH" run -m "$demo" -i "$top/inputs/greedy.jsonl" -o "$work/r.h5" --kv-pages 30000000
    [ "$status" -eq 2 ]
    grep -q "but needs .*30000000 KV pages" <<<"$output"
    [ ! -e "$work/r.h5" ]
}

@test "the effective deck in the results is a deck that runs the same job again" {
    printf 'max_tokens: 3\nmax_num_seqs: 5\nseed: 9\n' >"$work/deck.yaml"
    MOEBATCH_MAX_NUM_SEQS=6 "$MOEBATCH" run -c "$work/deck.yaml" -m "$demo" -i "$top/inputs/greedy.jsonl" -o "$work/a.h5" --seed 4
    "$PYTHON3" -c 'import h5py, sys; sys.stdout.write(h5py.File(sys.argv[1])["provenance/deck"][()].decode())' \
        "$work/a.h5" >"$work/effective.yaml"
    grep -qx "max_tokens: 3" "$work/effective.yaml"
    grep -qx "max_num_seqs: 6" "$work/effective.yaml"
    grep -qx "seed: 4" "$work/effective.yaml"
    "$MOEBATCH" run -c "$work/effective.yaml" --output "$work/b.h5"
    "$PYTHON3" "$top/tests/digest.py" "$work/a.h5" >"$work/a"
    "$PYTHON3" "$top/tests/digest.py" "$work/b.h5" | cmp - "$work/a"
}
