# tests of src/comm
EXTRA_DIST += tests/mpi_comm.h tests/plain_ops.h
TESTS_MPI += \
	tests/mpi1_comm \
	tests/mpi2_comm \
	tests/mpi5_comm \
	tests/mpi1_xchg \
	tests/mpi2_xchg \
	tests/mpi3_xchg \
	tests/mpi4_xchg \
	tests/mpi5_xchg \
	tests/mpi8_xchg
tests_mpi1_comm_SOURCES = tests/mpi_comm.c tests/mpi_comm.h
tests_mpi1_comm_LDADD = $(TEST_LIBS)
tests_mpi2_comm_SOURCES = tests/mpi_comm.c tests/mpi_comm.h
tests_mpi2_comm_LDADD = $(TEST_LIBS)
tests_mpi5_comm_SOURCES = tests/mpi_comm.c tests/mpi_comm.h
tests_mpi5_comm_LDADD = $(TEST_LIBS)
tests_mpi1_xchg_SOURCES = tests/mpi_xchg.c tests/mpi_comm.h tests/plain_ops.h
tests_mpi1_xchg_LDADD = $(TEST_LIBS)
tests_mpi2_xchg_SOURCES = tests/mpi_xchg.c tests/mpi_comm.h tests/plain_ops.h
tests_mpi2_xchg_LDADD = $(TEST_LIBS)
tests_mpi3_xchg_SOURCES = tests/mpi_xchg.c tests/mpi_comm.h tests/plain_ops.h
tests_mpi3_xchg_LDADD = $(TEST_LIBS)
tests_mpi4_xchg_SOURCES = tests/mpi_xchg.c tests/mpi_comm.h tests/plain_ops.h
tests_mpi4_xchg_LDADD = $(TEST_LIBS)
tests_mpi5_xchg_SOURCES = tests/mpi_xchg.c tests/mpi_comm.h tests/plain_ops.h
tests_mpi5_xchg_LDADD = $(TEST_LIBS)
tests_mpi8_xchg_SOURCES = tests/mpi_xchg.c tests/mpi_comm.h tests/plain_ops.h
tests_mpi8_xchg_LDADD = $(TEST_LIBS)
