# Stop, kill, resume: nothing is lost and nothing changes.
load resume.bash

@test "results are not overwritten unasked, complete ones are not computed again" {
    job 1
    run job 1
    [ "$status" = 2 ]
    run job 2 --resume
    [ "$status" = 0 ]
    [[ $output == *"nothing to do"* ]]
    run "$MOEBATCH" status "$work/r.h5"
    [ "$status" = 0 ]
    run "$MOEBATCH" status "$work/none.h5"
    [ "$status" = 2 ]
}

@test "stopped in good order on 2 ranks, resumed on 3, with other batch sizes" {
    reference
    run job 2 --max-hours 0.0008 --max-num-seqs 3 --isa portable
    [ "$status" = 75 ]
    run "$MOEBATCH" status "$work/r.h5"
    [ "$status" = 75 ]
    job 3 --resume --max-num-seqs 64
    [ "$(digest "$work/r.h5")" = "$ref" ]
    [ ! -e "$work/r.h5.d/run-0001" ]
}

@test "a resume with another input, model, seed or dtype is refused by name" {
    run job 1 --max-hours 0.0004 --max-num-seqs 2 --isa portable
    [ "$status" = 75 ]
    head -n 5 "$top/inputs/prompts.jsonl" >"$work/other.jsonl"
    cp -r "$demo" "$work/model"
    sed -i 's/"rms_norm_eps": 1e-05/"rms_norm_eps": 2e-05/' "$work/model/config.json"
    for change in "-i $work/other.jsonl=input" "-m $work/model=config.json" "--seed 5=seed" "--dtype f32=path" "--k 1=path"; do
        run job 1 --resume ${change%=*}
        echo "$change: $status $output"
        [ "$status" = 2 ]
        [[ $output == *"${change##*=}"* ]]
    done
}

@test "damaged journals: what is before the damage is used, the rest computed again" {
    reference
    run job 2 --max-hours 0.001 --max-num-seqs 4 --isa portable
    [ "$status" = 75 ]
    cp -r "$work/r.h5.d" "$work/kept"
    for cut in 30 400 1500; do
        rm -rf "$work/r.h5" "$work/r.h5.d"
        cp -r "$work/kept" "$work/r.h5.d"
        truncate -s -$cut "$work/r.h5.d/run-0001/journal-000000"
        job 1 --resume
        [ "$(digest "$work/r.h5")" = "$ref" ]
    done
    rm -rf "$work/r.h5" "$work/r.h5.d"
    cp -r "$work/kept" "$work/r.h5.d"
    size=$(stat -c %s "$work/r.h5.d/run-0001/journal-000001")
    printf '\377' | dd of="$work/r.h5.d/run-0001/journal-000001" bs=1 seek=$((size / 2)) conv=notrunc
    run job 2 --resume
    [ "$status" = 0 ]
    [[ $output == *[Cc]orrupt* || $output == *damage* ]]
    [ "$(digest "$work/r.h5")" = "$ref" ]
}
