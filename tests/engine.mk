# tests of src/engine: every layout gives the same bits (cli_matrix.bats has a sample, long_matrix.sh all)
check_PROGRAMS += tests/mpi_matrix
tests_mpi_matrix_SOURCES = tests/mpi_matrix.c tests/mpi_comm.h tests/quiet_sink.h
tests_mpi_matrix_LDADD = $(TEST_LIBS)
# few or no requests on many ranks: nobody hangs (cli_matrix.bats has a sample, long_fill.sh the campaign)
check_PROGRAMS += tests/mpi_fill
tests_mpi_fill_SOURCES = tests/mpi_fill.c tests/draw.h tests/mpi_comm.h tests/quiet_sink.h
tests_mpi_fill_LDADD = $(TEST_LIBS)
tests_mpi_fill_LDFLAGS = $(AM_LDFLAGS) -rdynamic
TESTS_LONG += tests/long_fill.sh
EXTRA_DIST += tests/long_fill.sh
