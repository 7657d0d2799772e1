# tests of src/comm
EXTRA_DIST += tests/mpi_comm.h
TESTS_MPI += tests/mpi1_comm tests/mpi2_comm tests/mpi5_comm
tests_mpi1_comm_SOURCES = tests/mpi_comm.c tests/mpi_comm.h
tests_mpi1_comm_LDADD = $(TEST_LIBS)
tests_mpi2_comm_SOURCES = tests/mpi_comm.c tests/mpi_comm.h
tests_mpi2_comm_LDADD = $(TEST_LIBS)
tests_mpi5_comm_SOURCES = tests/mpi_comm.c tests/mpi_comm.h
tests_mpi5_comm_LDADD = $(TEST_LIBS)
