# Reference models on several ranks against their goldens: logits, experts, weights, greedy ids, log-likelihoods.
load common.bash

golden() {
    "$PYTHON3" "$top/tests/golden.py" "$MOEBATCH" "$top/tests/mpirun.sh" "$2" "$models/$1" "$work"
}

@test "mixtral_a on 1 rank" { golden mixtral_a 1; }
@test "mixtral_a on 3 ranks" { golden mixtral_a 3; }
@test "mixtral_b on 1 rank" { golden mixtral_b 1; }
@test "mixtral_b on 3 ranks" { golden mixtral_b 3; }
@test "mixtral_dense on 1 rank" { golden mixtral_dense 1; }
@test "mixtral_dense on 3 ranks" { golden mixtral_dense 3; }
@test "mixtral_a on 2 ranks, each with a slice of every expert" {
    "$PYTHON3" "$top/tests/golden.py" "$MOEBATCH" "$top/tests/mpirun.sh" 2 "$models/mixtral_a" "$work" \
        --expert-tensor-parallel-size 2
}
