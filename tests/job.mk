# tests of src/job
TESTS_UNIT += tests/unit_record
tests_unit_record_SOURCES = tests/unit_record.c tests/records.h
tests_unit_record_LDADD = $(TEST_LIBS)
