# The commands that look at models and text, without MPI.
load common.bash

@test "inspect -m: the model and what a rank needs" {
    run "$MOEBATCH" inspect -m "$models/mixtral_a"
    [ "$status" = 0 ]
    [[ $output == *"experts   : 8, 2 per token"* ]]
    [ "$(grep -c 'of experts on the fullest' <<<"$output")" = 4 ]
}

@test "inspect -m --json: bytes per rank by hand" {
    "$MOEBATCH" inspect -m "$models/mixtral_a" --json >"$work/m.json"
    "$PYTHON3" - "$work/m.json" <<'END'
import json, sys
m = json.load(open(sys.argv[1]))
rows = m["bytes_per_rank"]
assert [r["ranks"] for r in rows] == [1, 2, 4, 8], rows
up = lambda v, to: (v + to - 1) // to * to
# f32, panels of 16 outputs, blocks of 32 inputs. gate and up: 2 * 28 outputs of 48 inputs; down: 48 outputs, its 28 inputs in
# 8 leaves of their own blocks. 2 layers of 8 experts.
expert = (up(2 * 28, 16) * up(48, 32) + up(48, 16) * 8 * 32) * 4
assert [r["experts"] for r in rows] == [16 * expert // n for n in (1, 2, 4, 8)], (rows, expert)
# keys of 8 fill a block of 32, values of 8 a panel of 16; 2 KV heads, 2 layers
assert all(r["kv_page"] == 64 * 2 * (32 + 16) * 4 * 2 for r in rows), rows
assert len({r["weights"] for r in rows}) == 1 and rows[0]["weights"] > 0
END
}

@test "check -m: a good directory, a cut file, none at all" {
    run "$MOEBATCH" check -m "$models/mixtral_a"
    [ "$status" = 0 ]
    [[ $output == *"no error found"* && $output == *"can be run"* ]]
    mkdir "$work/bad"
    cp "$models"/mixtral_a/* "$work/bad/"
    chmod u+w "$work"/bad/*
    truncate -s 1000 "$work/bad/model-00001-of-00003.safetensors"
    run "$MOEBATCH" check -m "$work/bad"
    [ "$status" = 2 ]
    [[ $output == *"model-00001-of-00003.safetensors: header length"* ]]
    run "$MOEBATCH" check -m "$work/none"
    [ "$status" = 2 ]
    [[ $output == *"config.json: No such file"* ]]
}

@test "tokenize: there and back" {
    echo '"Hello world"' >"$work/text"
    "$MOEBATCH" tokenize -m "$demo" <"$work/text" >"$work/ids"
    grep -q '^\[[0-9, ]*\]$' "$work/ids"
    "$MOEBATCH" tokenize -m "$demo" --decode --no-special <"$work/ids" | cmp - "$work/text"
}

@test "version, help, and a command that does not exist" {
    run "$MOEBATCH" --version
    [ "$status" = 0 ]
    [[ $output == moebatch\ * ]]
    run "$MOEBATCH" --help
    [ "$status" = 0 ]
    [[ $output == *inspect* ]]
    run "$MOEBATCH" frobnicate
    [ "$status" = 1 ]
    [[ $output == *"no command 'frobnicate'"* ]]
}

@test "a signal ends commands that show; those that write leave nothing half written" {
    for i in $(seq 400); do echo "{\"id\":\"r$i\",\"prompt\":\"The package $i is\",\"max_tokens\":2}"; done >"$work/in.jsonl"
    for part in 1 2; do
        "$MOEBATCH" run -m "$demo" -i "$work/in.jsonl" -o "$work/p$part.h5" --shard $part/2 2>"$work/log" || { cat "$work/log"; false; }
    done
    "$PYTHON3" "$top/tests/tool_signals.py" "$MOEBATCH" "$demo" "$work/p1.h5" "$work/p1.h5" "$work/p2.h5" "$work/w"
}
