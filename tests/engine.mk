# tests of src/engine: every layout gives the same bits (cli_matrix.bats has a sample, long_matrix.sh all)
check_PROGRAMS += tests/mpi_matrix
tests_mpi_matrix_SOURCES = tests/mpi_matrix.c tests/mpi_comm.h tests/quiet_sink.h
tests_mpi_matrix_LDADD = $(TEST_LIBS)
