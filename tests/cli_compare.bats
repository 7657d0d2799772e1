# moebatch compare: names what differs, and calls nothing different that is not.
load common.bash

requests() {
    for i in $(seq 12); do
        echo "{\"id\":\"r$i\",\"prompt\":\"The package $i is\",\"max_tokens\":6,\"n\":$((1 + i % 2)),\"logprobs\":2,\"seed\":$i}"
        echo "{\"id\":\"s$i\",\"context\":\"Package $i\",\"continuation\":\" is needed by\"}"
    done
    echo '{"id":"bad","max_tokens":-1}'
}

@test "each field that is changed in a copy is named with its row and place" {
    requests >"$work/in.jsonl"
    "$MOEBATCH" run -m "$demo" -i "$work/in.jsonl" -o "$work/r.h5" --save-routing --save-logits --save-hidden
    "$PYTHON3" "$top/tests/compare_edits.py" "$MOEBATCH" "$work/r.h5" "$work"
}

@test "other layouts are equal; another order, and what one file alone has, is said; other rows differ" {
    cd "$work"
    requests >in.jsonl
    tac in.jsonl >back.jsonl
    "$MOEBATCH" run -m "$demo" -i in.jsonl -o a.h5 --save-routing
    ranks 2 run -m "$demo" -i in.jsonl -o b.h5 --save-routing
    "$MOEBATCH" run -m "$demo" -i in.jsonl -o c.h5
    "$MOEBATCH" run -m "$demo" -i back.jsonl -o d.h5
    head -n 20 in.jsonl >less.jsonl
    "$MOEBATCH" run -m "$demo" -i less.jsonl -o e.h5
    "$MOEBATCH" run -m "$demo" -i in.jsonl -o f.h5 --seed 5 --temperature 2
    [ "$("$MOEBATCH" compare a.h5 b.h5)" = "equal: 31 rows" ]
    run "$MOEBATCH" compare a.h5 c.h5
    [ "$status" -eq 0 ]
    [ "$output" = "routing: only the first has it, not compared
equal: 31 rows" ]
    [ "$("$MOEBATCH" compare c.h5 d.h5)" = "equal: 31 rows, in another order" ]
    run "$MOEBATCH" compare c.h5 e.h5
    [ "$status" -eq 3 ]
    [[ $output == "rows: 31, in the other file 25" ]]
    run "$MOEBATCH" compare c.h5 f.h5 # seeds of the rows stay, the temperature is another
    [ "$status" -eq 3 ]
    [[ $output == "first difference: row 0, id r1, choice 0: output_ids ["*"rows differ" ]]
    run "$MOEBATCH" compare a.h5 in.jsonl
    [ "$status" -eq 2 ]
    run "$MOEBATCH" compare a.h5
    [ "$status" -eq 1 ]
}
