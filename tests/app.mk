# tests of src/app, and of the program as users run it
TESTS_UNIT += tests/unit_report
tests_unit_report_SOURCES = tests/unit_report.c
tests_unit_report_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_nodes
tests_unit_nodes_SOURCES = tests/unit_nodes.c
tests_unit_nodes_LDADD = $(TEST_LIBS)
APP_CLI = tests/cli_golden.bats tests/cli_formats.bats tests/cli_formats2.bats tests/cli_stage.bats tests/cli_power.bats tests/cli_demo.bats tests/cli_layouts.bats tests/cli_matrix.bats tests/cli_matrix2.bats tests/cli_delta.bats tests/cli_wrong.bats tests/cli_prefix.bats tests/cli_zero.bats tests/cli_hot.bats tests/cli_split.bats tests/cli_placement.bats tests/cli_resume.bats tests/cli_shards.bats \
	tests/cli_kill.bats tests/cli_lora.bats tests/cli_lora2.bats tests/cli_lora3.bats tests/cli_models.bats tests/cli_models2.bats \
	tests/cli_contract.bats tests/cli_text.bats tests/cli_apart.bats tests/cli_score.bats tests/cli_tools.bats tests/cli_results.bats tests/cli_inspect.bats tests/cli_export.bats tests/cli_plan.bats tests/cli_operators.bats tests/cli_slurm.bats
APP_CLI += tests/cli_int8.bats tests/cli_kv8.bats tests/cli_quantize.bats tests/cli_quantize2.bats tests/cli_compare.bats tests/cli_cut.bats tests/cli_ctl.bats
APP_LONG = tests/long_valgrind.sh tests/long_sanitize.sh tests/long_kill.sh tests/long_power.sh tests/long_goldens.sh \
	tests/long_million.sh tests/long_layouts.sh tests/long_matrix.sh tests/long_twelve.sh tests/long_hybrids.sh tests/long_memory.sh
TESTS_CLI += $(APP_CLI)
TESTS_LONG += $(APP_LONG)
EXTRA_DIST += $(APP_CLI) $(APP_LONG) tests/common.bash tests/prefix_input.py tests/resume.bash tests/golden.py tests/dequantise.py tests/golden_table.py tests/wrong_variants.py tests/demo.py \
	tests/jobs.py tests/tool_signals.py tests/alerts_test.yml tests/check_spread.py tests/check_split.py tests/kill.py tests/power.py tests/sync_log.c tests/stop.py tests/lora.py tests/lora_merged.py tests/adapters.py tests/long_million.py tests/long_memory.py \
	tests/contract.py tests/windows.py tests/lm_eval_compare.py tests/lm_eval_tasks.py tests/bf16.py tests/e2e.py \
	tests/lsan.supp tests/valgrind.supp tests/data/demo/expected.json

# one failure on one rank
TESTS_CLI += tests/cli_faults.bats tests/cli_ranks.bats
TESTS_LONG += tests/long_faults.sh
EXTRA_DIST += tests/cli_faults.bats tests/cli_ranks.bats tests/long_faults.sh tests/faults.py tests/fault_shim.c

# hostile files and texts
TESTS_UNIT += tests/unit_fuzz
tests_unit_fuzz_SOURCES = tests/unit_fuzz.c tests/fuzz/targets.c tests/fuzz/files_disk.c tests/fuzz/fuzz.h tests/fuzz/files.h
tests_unit_fuzz_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests -I$(top_srcdir)/tests/fuzz
tests_unit_fuzz_LDADD = $(TEST_LIBS)
TESTS_LONG += tests/long_fuzz.sh
EXTRA_DIST += tests/long_fuzz.sh tests/fuzz/libfuzzer.c tests/fuzz/files_memory.c tests/fuzz/make_seeds.py tests/fuzz/journal tests/fuzz/seeds

# a rank whose exchange fails while the others wait in it
check_PROGRAMS += tests/moebatch_apart
tests_moebatch_apart_SOURCES = $(moebatch_SOURCES) tests/apart_xchg.c
tests_moebatch_apart_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=mb_xchg_dispatch_begin
tests_moebatch_apart_LDADD = $(moebatch_LDADD)

# benchmarks
BENCH_CLI = tests/cli_bench.bats tests/cli_bench_load.bats tests/cli_bench_a2a.bats tests/cli_bench_hosts.bats tests/cli_verify.bats
TESTS_CLI += $(BENCH_CLI)
EXTRA_DIST += $(BENCH_CLI) tests/random_weights.py tests/alltoall.py
TESTS_UNIT += tests/unit_bench
tests_unit_bench_SOURCES = tests/unit_bench.c
tests_unit_bench_LDADD = $(TEST_LIBS)
TESTS_CLI += tests/cli_bench_run.bats tests/cli_calibrate.bats
EXTRA_DIST += tests/cli_bench_run.bats tests/cli_calibrate.bats
TESTS_CLI += tests/check_modules.sh
EXTRA_DIST += tests/check_modules.sh
