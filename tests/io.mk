# tests of src/io
include tests/input.mk
TESTS_UNIT += tests/unit_journal
tests_unit_journal_SOURCES = tests/unit_journal.c tests/records.h tests/tmpdir.h
tests_unit_journal_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_resume
tests_unit_resume_SOURCES = tests/unit_resume.c tests/records.h tests/tmpdir.h
tests_unit_resume_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_sink
tests_unit_sink_SOURCES = tests/unit_sink.c tests/records.h tests/tmpdir.h
tests_unit_sink_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_rundir
tests_unit_rundir_SOURCES = tests/unit_rundir.c tests/records.h tests/tmpdir.h
tests_unit_rundir_LDADD = $(TEST_LIBS)
