# tests of src/device
TESTS_UNIT += tests/unit_ops
tests_unit_ops_SOURCES = tests/unit_ops.c tests/ops_help.c tests/ops_help.h
tests_unit_ops_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_ops_parts
tests_unit_ops_parts_SOURCES = tests/unit_ops_parts.c tests/ops_help.c tests/ops_help.h
tests_unit_ops_parts_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_route
tests_unit_route_SOURCES = tests/unit_route.c tests/ops_help.c tests/ops_help.h
tests_unit_route_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_sample
tests_unit_sample_SOURCES = tests/unit_sample.c tests/ops_help.c tests/ops_help.h
tests_unit_sample_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_vec
tests_unit_vec_SOURCES = tests/unit_vec.c
tests_unit_vec_LDADD = $(TEST_LIBS)
EXTRA_DIST += tests/device_help.h tests/attn_help.h
TESTS_UNIT += tests/unit_gemm tests/unit_attention
tests_unit_gemm_SOURCES = tests/unit_gemm.c
tests_unit_gemm_LDADD = $(TEST_LIBS)
tests_unit_attention_SOURCES = tests/unit_attention.c
tests_unit_attention_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_choose
tests_unit_choose_SOURCES = tests/unit_choose.c
tests_unit_choose_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_stored
tests_unit_stored_SOURCES = tests/unit_stored.c
tests_unit_stored_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_attention_parts
tests_unit_attention_parts_SOURCES = tests/unit_attention_parts.c
tests_unit_attention_parts_LDADD = $(TEST_LIBS)
# the guard backend: the operations' tests and the whole program on memory that is closed outside operations
GUARD = tests/registry_guard.c tests/guard_backend.c tests/guard_backend.h
TESTS_UNIT += tests/unit_guard tests/guard_ops tests/guard_route tests/guard_sample tests/guard_attention_parts \
	tests/guard_ops_parts
tests_unit_guard_SOURCES = tests/unit_guard.c tests/ops_help.h $(GUARD)
tests_unit_guard_LDADD = $(TEST_LIBS)
tests_guard_ops_SOURCES = $(tests_unit_ops_SOURCES) $(GUARD)
tests_guard_ops_LDADD = $(TEST_LIBS)
tests_guard_ops_parts_SOURCES = $(tests_unit_ops_parts_SOURCES) $(GUARD)
tests_guard_ops_parts_LDADD = $(TEST_LIBS)
tests_guard_route_SOURCES = $(tests_unit_route_SOURCES) $(GUARD)
tests_guard_route_LDADD = $(TEST_LIBS)
tests_guard_sample_SOURCES = $(tests_unit_sample_SOURCES) $(GUARD)
tests_guard_sample_LDADD = $(TEST_LIBS)
tests_guard_attention_parts_SOURCES = $(tests_unit_attention_parts_SOURCES) $(GUARD)
tests_guard_attention_parts_CPPFLAGS = $(AM_CPPFLAGS) '-DRIG_BACKEND="guard"'
tests_guard_attention_parts_LDADD = $(TEST_LIBS)
check_PROGRAMS += tests/moebatch_guard
tests_moebatch_guard_SOURCES = $(moebatch_SOURCES) $(GUARD)
tests_moebatch_guard_LDADD = $(moebatch_LDADD)
# the same tests with stand-ins for AVX-512 and AMX, on any machine
WIDE = tests/wide_avx512.c tests/wide_bf16.c tests/wide_attn.c tests/wide_amx.c
TESTS_UNIT += tests/wide_gemm tests/wide_attention
tests_wide_gemm_SOURCES = tests/unit_gemm.c $(WIDE)
tests_wide_gemm_CPPFLAGS = $(AM_CPPFLAGS) -DFIRST_ISA=2
tests_wide_gemm_LDADD = $(TEST_LIBS)
tests_wide_attention_SOURCES = tests/unit_attention.c $(WIDE)
tests_wide_attention_CPPFLAGS = $(AM_CPPFLAGS) -DFIRST_ISA=2
tests_wide_attention_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/wide_attention_parts
tests_wide_attention_parts_SOURCES = tests/unit_attention_parts.c $(WIDE) tests/wide_vec.c
tests_wide_attention_parts_CPPFLAGS = $(AM_CPPFLAGS) -DFIRST_ISA=2
tests_wide_attention_parts_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/wide_vec
tests_wide_vec_SOURCES = tests/unit_vec.c tests/wide_vec.c
tests_wide_vec_CPPFLAGS = $(AM_CPPFLAGS) -DWIDE=1
tests_wide_vec_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_selftest
tests_unit_selftest_SOURCES = tests/unit_selftest.c tests/wide_avx512.c tests/wide_bf16.c tests/wide_attn.c
tests_unit_selftest_LDADD = $(TEST_LIBS)
# speed beside the machine's own: make tests/bench_gemm
EXTRA_PROGRAMS += tests/bench_gemm
tests_bench_gemm_SOURCES = tests/bench_gemm.c
tests_bench_gemm_LDADD = libmoebatch.a $(MB_LIBS)
TESTS_UNIT += tests/unit_team
tests_unit_team_SOURCES = tests/unit_team.c
tests_unit_team_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_s8
tests_unit_s8_SOURCES = tests/unit_s8.c tests/wide_vnni.c
tests_unit_s8_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_kv8
tests_unit_kv8_SOURCES = tests/unit_kv8.c
tests_unit_kv8_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_delta
tests_unit_delta_SOURCES = tests/unit_delta.c
tests_unit_delta_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/wide_delta tests/guard_delta
tests_wide_delta_SOURCES = tests/unit_delta.c $(WIDE) tests/wide_vec.c
tests_wide_delta_CPPFLAGS = $(AM_CPPFLAGS) -DFIRST_ISA=2
tests_wide_delta_LDADD = $(TEST_LIBS)
tests_guard_delta_SOURCES = tests/unit_delta.c $(GUARD)
tests_guard_delta_CPPFLAGS = $(AM_CPPFLAGS) '-DRIG_BACKEND="guard"'
tests_guard_delta_LDADD = $(TEST_LIBS)
TESTS_LONG += tests/long_cuda.sh
EXTRA_DIST += tests/long_cuda.sh
