# For the bats tests: a work directory of its own for each test, and short names.
setup() {
    top=$(cd "$top_srcdir" && pwd)
    work=$(mktemp -d "${TMPDIR:-/tmp}/moebatch-test.XXXXXX")
    demo=$top/inputs/models/demo
    models=$top/tests/data/models
}

teardown() {
    rm -rf "$work"
}

# For tests that put a library before the program: the sanitizers' has to come first. And for those that limit memory.
no_sanitizers() {
    if grep -q sanitize <<<"${MB_TEST_FLAGS:-}"; then skip "not in a build with sanitizers"; fi
}

# ranks N COMMAND...: the program on N ranks
ranks() {
    local n=$1
    shift
    sh "$top/tests/mpirun.sh" "$n" "$MOEBATCH" "$@"
}

# The file digest, and nothing else
digest() {
    "$MOEBATCH" inspect "$1" --digest | tail -n 1
}
