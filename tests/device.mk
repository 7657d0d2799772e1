# tests of src/device
TESTS_UNIT += tests/unit_ops
tests_unit_ops_SOURCES = tests/unit_ops.c tests/ops_help.c tests/ops_help.h
tests_unit_ops_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_route
tests_unit_route_SOURCES = tests/unit_route.c tests/ops_help.c tests/ops_help.h
tests_unit_route_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_sample
tests_unit_sample_SOURCES = tests/unit_sample.c tests/ops_help.c tests/ops_help.h
tests_unit_sample_LDADD = $(TEST_LIBS)
EXTRA_DIST += tests/device_help.h
TESTS_UNIT += tests/unit_gemm tests/unit_attention
tests_unit_gemm_SOURCES = tests/unit_gemm.c
tests_unit_gemm_LDADD = $(TEST_LIBS)
tests_unit_attention_SOURCES = tests/unit_attention.c
tests_unit_attention_LDADD = $(TEST_LIBS)
