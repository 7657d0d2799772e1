# tests of src/app
TESTS_UNIT += tests/unit_report
tests_unit_report_SOURCES = tests/unit_report.c
tests_unit_report_LDADD = $(TEST_LIBS)
