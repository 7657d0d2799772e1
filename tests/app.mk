# tests of src/app, and of the program as users run it
TESTS_UNIT += tests/unit_report
tests_unit_report_SOURCES = tests/unit_report.c
tests_unit_report_LDADD = $(TEST_LIBS)
TESTS_CLI += tests/cli_golden.bats tests/cli_demo.bats tests/cli_layouts.bats tests/cli_resume.bats
EXTRA_DIST += tests/cli_golden.bats tests/cli_demo.bats tests/cli_layouts.bats tests/cli_resume.bats \
	tests/common.bash tests/golden.py tests/demo.py tests/data/demo/expected.json
TESTS_CLI += tests/cli_results.bats
EXTRA_DIST += tests/cli_results.bats
