#!/bin/bash
# A build with AddressSanitizer and UBSan: jobs of two ranks that save everything, stop, resume and use
# adapters; the unit tests and the tests on several ranks. Leaks in other libraries are suppressed
# (lsan.supp), nothing else.
set -eu
top=$(cd "$top_srcdir" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export ASAN_OPTIONS=fast_unwind_on_malloc=0:detect_stack_use_after_return=1
export UBSAN_OPTIONS=print_stacktrace=1 LSAN_OPTIONS="suppressions=$top/tests/lsan.supp:print_suppressions=0"
mkdir "$work/build"
cd "$work/build"
"$top/configure" -q --enable-sanitize >/dev/null
make -s -j"${JOBS:-$(nproc)}" >make.log 2>&1 || { tail -n 40 make.log; exit 1; }
failed=0

# The job of two ranks, with the kernels of this machine and the portable ones
job() {
    sh "$top/tests/mpirun.sh" 2 ./moebatch run -o "$work/r.h5" --overwrite --threads 2 "$@" >"$work/log" 2>&1 || {
        local code=$?
        [ $code = "${want:-0}" ] || { cat "$work/log"; echo "exit $code: $*"; failed=1; }
    }
    ! grep -E 'Sanitizer|runtime error' "$work/log" || { cat "$work/log"; echo "a finding: $*"; failed=1; }
}
demo=(-m "$top/inputs/models/demo" -i "$top/inputs/prompts.jsonl")
for isa in portable auto; do
    for how in flat hier; do
        job "${demo[@]}" --isa $isa --alltoall $how --save-routing --save-logits=all --save-hidden
    done
done
want=75 job "${demo[@]}" --max-hours 0.0003 --max-num-seqs 2
sh "$top/tests/mpirun.sh" 3 ./moebatch run -o "$work/r.h5" --resume "${demo[@]}" >"$work/log" 2>&1 ||
    { cat "$work/log"; failed=1; }
./moebatch inspect "$work/r.h5" --digest | tail -n 1
for model in mixtral_b deepseekv3_a gptoss_a; do
    "$PYTHON3" "$top/tests/golden.py" "$PWD/moebatch" "$top/tests/mpirun.sh" 2 "$top/tests/data/models/$model" \
        "$work" || failed=1
done
"$PYTHON3" "$top/tests/lora.py" "$PWD/moebatch" "$top/tests/mpirun.sh" 2 "$top/tests/data" "$work" || failed=1
echo "jobs: failed $failed"
# the unit tests and the tests on several ranks, as make check runs them
printf 'include Makefile\nprint:\n\t@echo $(TESTS_UNIT) $(TESTS_MPI)\n' >print.mk
tests=$(make -s -f print.mk print | tail -n 1)
TEST_LIMIT=1800 make -s -j"${JOBS:-$(nproc)}" check TESTS="$tests" >check.log 2>&1 || failed=1
grep -E '^# (TOTAL|PASS|SKIP|FAIL|ERROR)|^(FAIL|ERROR)' check.log || tail -n 20 check.log
[ $failed = 0 ] ||
    find tests -name '*.log' -exec grep -lE 'Sanitizer|runtime error|FAILED' {} + | xargs -r tail -n 40
exit $failed
