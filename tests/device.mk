# tests of src/device
TESTS_UNIT += tests/unit_ops
tests_unit_ops_SOURCES = tests/unit_ops.c tests/ops_help.c tests/ops_help.h
tests_unit_ops_LDADD = $(TEST_LIBS)
