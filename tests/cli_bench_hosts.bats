# moebatch bench alltoall on several hosts (namespaces of this machine): what crosses between them is what the formulas say.
load hosts.bash

setup() { hosts_or_skip 2; }
teardown() { hosts_end; }

@test "2 hosts of 2 ranks: flat and hier send what the formulas say, hier less" {
    on_hosts 2 2 "$work/moebatch" bench alltoall --hidden 256 --experts 16 --topk 4 --tokens 2,24 --repeats 1 --threads 1 -o a.json --csv >"$work/a.csv"
    "$PYTHON3" "$top_srcdir/tests/alltoall.py" "$work/a.json"
    "$PYTHON3" - "$work/a.json" <<'END'
import json, sys
d = json.load(open(sys.argv[1]))
assert (d["nodes"], d["ranks"]) == (2, 4)
inter = {(x["algorithm"], x["tokens"]): x["bytes"]["inter"] for x in d["results"] if x.get("part") == "both"}
assert inter["hier", 24] < inter["MPI_Alltoallv", 24] < inter["flat", 24], inter
marks = {}
for x in d["results"]:
    if x.get("algorithm") in ("flat", "hier"):
        marks.setdefault(x["tokens"], {}).setdefault(x["algorithm"], set()).add(x["auto"])
assert sorted(marks) == [2, 24] and all(len(a) == 2 and a["flat"] | a["hier"] == {True, False} and a["flat"] != a["hier"] for a in marks.values()), marks
limit = max(next(x for x in d["results"] if x["name"] == "limit/link of a node to others")["samples"])
for x in d["results"]:
    if x["name"].startswith("alltoall/hier"):  # each node has one other, and both send alike
        assert x["bound"] * limit * 1e9 * 2 >= x["bytes"]["inter"] * 0.999, x
END
}

@test "2 hosts of 2 ranks: nodes and the link between them, and who lags by the file's own figures" {
    local got=0
    on_hosts 2 2 "$work/moebatch" bench nodes -m inputs/models/demo --repeats 2 --buffer 4M --threads 1 -o n.json --csv >"$work/n.csv" || got=$?
    [ $got = 0 ] || [ $got = 3 ]
    "$PYTHON3" - "$work/n.json" $got <<'END'
import json, statistics, sys
d, code = json.load(open(sys.argv[1])), int(sys.argv[2])
assert (d["nodes"], d["ranks"], d["threshold"]) == (2, 4, 0.05)
kinds, links = {}, [x for x in d["results"] if x["name"].startswith("link/")]
for x in d["results"]:
    if x["name"].startswith("node/"):
        kinds.setdefault(x["kind"], []).append(x)
assert {"read", "gemm", "weights"} <= set(kinds) and len(links) == 1 and not links[0]["slow"]
for k, v in kinds.items():
    assert len(v) == 2 and len({x["node"] for x in v}) == 2
    m = statistics.median(x["median"] for x in v)
    for x in v:
        assert x["slow"] == (x["median"] < 0.95 * m) or abs(x["median"] / m - 0.95) < 1e-6, (x, m)
slow = sum(x["slow"] for x in d["results"])
assert d["slow_count"] == slow and code == (3 if slow else 0) and (d["slow"] == "none") == (slow == 0), d
END
}
