# bench run: a class of the rule gives its digest on any layout, says what clusters are compared by, and counts with no other.
load common.bash

@test "the class's digest on one rank and on three; another shape is refused" {
    "$MOEBATCH" bench run --random-weights "$demo/config.json" --repeats 1 --buffer 4M --json >"$work/a.json"
    ranks 3 bench run --class demo --random-weights "$demo" --repeats 1 --buffer 4M --isa portable --expert-parallel-size 3 -o "$work/b.json"
    "$PYTHON3" - "$work" <<'PY'
import json, sys
a, b = (json.load(open(f"{sys.argv[1]}/{n}.json")) for n in "ab")
assert a["bench"] == "run" and a["digest"] == b["digest"] == a["rule"]["digest"] and a["rule"] == b["rule"]
assert a["rule"]["class"] == "demo" and a["rule"]["number"] == 1
m = {x["name"]: x["median"] for x in b["results"]}
assert abs(m["throughput/total of a node"] - m["throughput/total"]) < 1e-6 * m["throughput/total"]
assert abs(3 * m["throughput/total of a rank"] - m["throughput/total"]) < 1e-6 * m["throughput/total"]
# joules, or why there are none
assert ("energy" in b and b["energy"].startswith("not known: ")) != ("energy/job" in m)
assert not any(n.startswith("decode/") or n == "prefill" for n in m)
PY
    sed 's/"vocab_size": 4096/"vocab_size": 4097/' "$demo/config.json" >"$work/config.json"
    ! cmp -s "$demo/config.json" "$work/config.json"
    run "$MOEBATCH" bench run --random-weights "$work/config.json" --repeats 1 --buffer 4M -o "$work/c.json"
    [ "$status" -eq 70 ]
    [[ $output == *"the digest is "*", not "* ]]
    [ ! -e "$work/c.json" ]
    run "$MOEBATCH" bench run --class none --random-weights "$demo"
    [ "$status" -eq 1 ]
    [[ $output == *"is none of demo"* ]]
    run "$MOEBATCH" bench run
    [ "$status" -eq 1 ]
    [[ $output == *"needs --random-weights"* ]]
    run "$MOEBATCH" bench run --random-weights "$demo" --workload 1x8+8
    [ "$status" -eq 1 ] # the rule fixes it
}
