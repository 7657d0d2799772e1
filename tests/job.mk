# tests of src/job
TESTS_UNIT += tests/unit_record
tests_unit_record_SOURCES = tests/unit_record.c tests/records.h
tests_unit_record_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_request
tests_unit_request_SOURCES = tests/unit_request.c
tests_unit_request_LDADD = $(TEST_LIBS)
