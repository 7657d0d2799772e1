# tests of src/conf
TESTS_UNIT += tests/unit_conf
tests_unit_conf_SOURCES = tests/unit_conf.c
tests_unit_conf_LDADD = $(TEST_LIBS)
TESTS_CLI += tests/check_options.sh
EXTRA_DIST += tests/check_options.sh
TESTS_CLI += tests/check_layers.sh tests/check_waits.sh tests/check_structs.sh
EXTRA_DIST += tests/check_layers.sh tests/check_waits.sh tests/check_structs.sh tests/check_structs.py
TESTS_CLI += tests/cli_conf.bats
EXTRA_DIST += tests/cli_conf.bats
