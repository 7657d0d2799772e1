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
EXTRA_DIST += tests/digest.py tests/check_results.py
TESTS_MPI += tests/mpi1_assemble tests/mpi3_assemble tests/mpi4_assemble
tests_mpi1_assemble_SOURCES = tests/mpi_assemble.c tests/mpi_comm.h tests/records.h tests/synth.h tests/tmpdir.h
tests_mpi1_assemble_LDADD = $(TEST_LIBS)
tests_mpi3_assemble_SOURCES = tests/mpi_assemble.c tests/mpi_comm.h tests/records.h tests/synth.h tests/tmpdir.h
tests_mpi3_assemble_LDADD = $(TEST_LIBS)
tests_mpi4_assemble_SOURCES = tests/mpi_assemble.c tests/mpi_comm.h tests/records.h tests/synth.h tests/tmpdir.h
tests_mpi4_assemble_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_results
tests_unit_results_SOURCES = tests/unit_results.c tests/records.h tests/synth.h tests/tmpdir.h
tests_unit_results_LDADD = $(TEST_LIBS)
EXTRA_PROGRAMS += tests/bench_assemble
tests_bench_assemble_SOURCES = tests/bench_assemble.c tests/mpi_comm.h tests/records.h tests/synth.h tests/tmpdir.h
tests_bench_assemble_LDADD = $(TEST_LIBS)
