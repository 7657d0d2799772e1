# moebatch bench alltoall on several hosts (namespaces of this machine): what crosses between them is what the formulas say.
load hosts.bash

setup() {
    why=$(hosts_need)
    [ -z "$why" ] || skip "$why"
    hosts_up 2 || skip "no network namespaces here"
}

teardown() {
    [ -z "${work:-}" ] || hosts_down
}

@test "2 hosts of 2 ranks: flat and hier send what the formulas say, hier less" {
    on_hosts 2 2 "$work/moebatch" bench alltoall --hidden 256 --experts 16 --topk 4 --tokens 2,24 --repeats 1 --threads 1 -o a.json --csv >"$work/a.csv"
    "$PYTHON3" "$top_srcdir/tests/alltoall.py" "$work/a.json"
    "$PYTHON3" - "$work/a.json" <<'END'
import json, sys
d = json.load(open(sys.argv[1]))
assert (d["nodes"], d["ranks"]) == (2, 4)
inter = {(x["algorithm"], x["tokens"]): x["bytes"]["inter"] for x in d["results"] if x.get("part") == "both"}
assert inter["hier", 24] < inter["MPI_Alltoallv", 24] < inter["flat", 24], inter
assert [x["auto"] for x in d["results"] if x.get("algorithm") == "hier"] == [True] * 6
limit = max(next(x for x in d["results"] if x["name"] == "limit/link of a node to others")["samples"])
for x in d["results"]:
    if x["name"].startswith("alltoall/hier"):  # each node has one other, and both send alike
        assert x["bound"] * limit * 1e9 * 2 >= x["bytes"]["inter"] * 0.999, x
END
}
