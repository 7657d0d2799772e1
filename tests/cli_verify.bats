# moebatch verify: equal rows are equal on any layout, and one bit of a log-probability, of routing or of a weight is found.
load common.bash

job() { # OPTION...: results of every kind of row in r.h5
    cat >"$work/in.jsonl" <<'END'
{"id": "a", "prompt": "Once upon a time", "max_tokens": 6, "temperature": 0}
{"id": "b", "prompt": "The old man", "max_tokens": 5, "temperature": 0.9, "seed": 4, "n": 2}
{"id": "c", "prompt_ids": [5, 6, 7, 8], "max_tokens": 3, "echo": true, "logprobs": 1, "stop": "e"}
{"id": "d", "context": "One day", "continuation": " a boy went"}
{"id": "e", "text": "The sun was warm and the sky was blue."}
{"id": "f", "prompt": 5}
{"id": "g", "prompt_ids": [9], "max_tokens": 0}
{"id": "h", "prompt_ids": [9, 10], "max_tokens": 1}
END
    "$MOEBATCH" run -m "$demo" -i "$work/in.jsonl" -o "$work/r.h5" --save-routing "$@" 2>/dev/null
}

# verify CODE OPTION...: runs it on the results with --json, into v.json
verify() {
    local code=$1 got=0
    shift
    "$MOEBATCH" verify "$work/r.h5" --json "$@" >"$work/v.json" 2>"$work/err" || got=$?
    [ $got = "$code" ] || { echo "exit $got"; cat "$work/err" "$work/v.json"; return 1; }
}

field() {
    "$PYTHON3" -c 'import json, sys
v = json.load(open(sys.argv[1]))
for k in sys.argv[2].split("."): v = v[k]
print(v)' "$work/v.json" "$1"
}

# flip DATASET INDEX BIT: one bit of an element
flip() {
    "$PYTHON3" - "$work/r.h5" "$@" <<'END'
import h5py, numpy as np, sys
path, name, index, bit = sys.argv[1:5]
index = tuple(int(i) for i in index.split(","))
with h5py.File(path, "r+") as f:
    v = np.array([f[name][index]])
    u = v.view({2: np.uint16, 4: np.uint32, 8: np.uint64}[v.itemsize])
    u[0] ^= u.dtype.type(1 << int(bit))
    f[name][index] = v[0]
END
}

@test "verify: what was computed is computed again, on any layout" {
    job
    verify 0 -m "$demo" --fraction 1
    # 9 rows: f is an error, g has nothing
    [ "$(field rows) $(field sampled) $(field left_out) $(field verified) $(field differ)" = "9 9 2 7 0" ]
    "$PYTHON3" - "$work" <<'END'
import h5py, json, numpy as np, sys
f, v = h5py.File(sys.argv[1] + "/r.h5"), json.load(open(sys.argv[1] + "/v.json"))
po, oo, ro, kind = (f[x][:] for x in ("tokens/prompt_offsets", "tokens/output_offsets", "rows/offsets", "requests/kind"))
lp, rows = 0, 0
for i in range(9):
    if f["requests/status"][i] != 0 or po[i + 1] - po[i] + oo[i + 1] - oo[i] < 2:
        continue
    asked = not np.isnan(f["tokens/prompt_logprobs"][po[i] + 1:po[i + 1]]).all() if po[i + 1] - po[i] > 1 else False
    lp += oo[i + 1] - oo[i] + (po[i + 1] - po[i] if kind[i] != 0 or asked else 0)
    rows += ro[i + 1] - ro[i]
assert (v["log_probabilities"], v["routed_rows"]) == (lp, rows), (v, lp, rows)
END
    ranks 4 verify "$work/r.h5" -m "$demo" --fraction 1 --tensor-parallel-size 2 --threads 1 >"$work/text"
    grep -q '^differ  *: 0 rows' "$work/text"
    grep -q '^computed again  *: 7 rows' "$work/text"
}

@test "verify: the sample follows from the seed" {
    job
    for seed in 0 3; do
        verify 0 -m "$demo" --fraction 0.4 --seed $seed
        want=$("$PYTHON3" -c 'import struct, sys, xxhash
print(sum(xxhash.xxh3_64_intdigest(struct.pack("<QQ", int(sys.argv[1]), i)) < 0.4 * 2**64 for i in range(9)))' $seed)
        [ "$(field sampled)" = "$want" ] || { echo "seed $seed: $(field sampled), not $want"; false; }
    done
}

@test "verify: one bit of what is stored is found and named" {
    job
    cp "$work/r.h5" "$work/good.h5"
    flip tokens/output_logprobs 9 0 # of b's first choice: 6 outputs of a, then the fourth
    verify 3 -m "$demo" --fraction 1
    [ "$(field differ) $(field first.row) $(field first.id) $(field first.field) $(field first.at)" = "1 1 b /tokens/output_logprobs 3" ]
    [ $(($(field first.stored_bits) ^ $(field first.computed_bits))) = 1 ]
    ranks 3 verify "$work/r.h5" -m "$demo" --fraction 1 --threads 1 >"$work/text" || [ $? = 3 ]
    grep -q '^first  *: row 1 (id b), /tokens/output_logprobs \[3\]: stored -[0-9.]* (0x' "$work/text"
    for where in "tokens/prompt_logprobs 16 3" "requests/logprob_sum 4 1" "routing/experts 1,3,1 0" "routing/weights 0,5,0 2"; do
        cp "$work/good.h5" "$work/r.h5"
        [[ $where != tokens/* ]] || where="tokens/prompt_logprobs $("$PYTHON3" -c 'import h5py, sys
f = h5py.File(sys.argv[1]); print(f["tokens/prompt_offsets"][5] + 2)' "$work/r.h5") 3"
        flip $where
        verify 3 -m "$demo" --fraction 1
        [ "$(field differ) $(field first.field)" = "1 /${where%% *}" ] || { cat "$work/v.json"; false; }
    done
}

@test "verify: one bit of a weight is found" {
    job
    mkdir "$work/model"
    cp "$demo"/* "$work/model/"
    chmod u+w "$work"/model/*
    "$PYTHON3" - "$work/model/model.safetensors" <<'END'
import json, struct, sys
with open(sys.argv[1], "r+b") as f:
    n = struct.unpack("<Q", f.read(8))[0]
    head = json.loads(f.read(n))
    at = 8 + n + head["model.layers.2.self_attn.o_proj.weight"]["data_offsets"][0] + 2 * 1000
    f.seek(at)
    b = f.read(1)[0]
    f.seek(at)
    f.write(bytes([b ^ 0x40]))
END
    verify 3 -m "$work/model" --fraction 1
    [ "$(field differ)" -ge 1 ]
    [ "$(field first.row)" = 0 ]
}

@test "verify: what is refused" {
    job
    refused() {
        local code=$1 text=$2 got=0
        shift 2
        "$@" >"$work/out" 2>"$work/err" || got=$?
        [ $got = "$code" ] || { echo "exit $got"; cat "$work/err"; return 1; }
        grep -qF -- "$text" "$work/err" || { cat "$work/err"; return 1; }
    }
    refused 1 "needs a model" "$MOEBATCH" verify "$work/r.h5"
    refused 1 "verify with 0 file names" "$MOEBATCH" verify -m "$demo"
    refused 1 "--fraction" "$MOEBATCH" verify "$work/r.h5" -m "$demo" --fraction 0
    refused 1 "--workload is no option of verify" "$MOEBATCH" verify "$work/r.h5" -m "$demo" --workload 1x1+1
    refused 2 "none.h5" "$MOEBATCH" verify "$work/none.h5" -m "$demo"
    refused 2 "numeric path 'bf16 kv=bf16" "$MOEBATCH" verify "$work/r.h5" -m "$demo" --dtype f32
    refused 2 "numeric path" "$MOEBATCH" verify "$work/r.h5" -m "$demo" --kv-segment 64
    refused 2 "routing of 5 layers" "$MOEBATCH" verify "$work/r.h5" -m "$models/mixtral_a"
    refused 2 "" "$MOEBATCH" verify "$work/in.jsonl" -m "$demo"
}
