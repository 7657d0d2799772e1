# tests of src/comm
EXTRA_DIST += tests/mpi_comm.h tests/plain_ops.h tests/cli_deadline.bats tests/cli_bytes.bats tests/cli_overlap.bats tests/testbed/minihosts.sh
TESTS_CLI += tests/cli_deadline.bats tests/cli_bytes.bats tests/cli_overlap.bats
check_PROGRAMS += tests/comm_wait tests/xchg_bytes tests/xchg_cost
tests_xchg_cost_SOURCES = tests/xchg_cost.c tests/draw.h
tests_xchg_cost_LDADD = $(TEST_LIBS)
TESTS_LONG += tests/long_cost.sh
EXTRA_DIST += tests/long_cost.sh
tests_comm_wait_SOURCES = tests/comm_wait.c tests/mpi_comm.h tests/plain_ops.h
tests_comm_wait_LDADD = $(TEST_LIBS)
tests_xchg_bytes_SOURCES = tests/xchg_bytes.c tests/mpi_comm.h
tests_xchg_bytes_LDADD = $(TEST_LIBS)
TESTS_UNIT += tests/unit_xchg tests/unit_xport
tests_unit_xport_SOURCES = tests/unit_xport.c tests/draw.h
tests_unit_xport_LDADD = $(TEST_LIBS)
tests_unit_xchg_SOURCES = tests/unit_xchg.c tests/draw.h tests/plain_ops.h
tests_unit_xchg_LDADD = $(TEST_LIBS)
# The same programs with their ranks as threads.
TESTS_UNIT += tests/unit_comm tests/unit_comm_xchg tests/unit_comm_fail tests/unit_comm_wait
AS_THREADS = $(AM_CPPFLAGS) -Dmain=test_main
tests_unit_comm_SOURCES = tests/mpi_comm.c tests/mpi_comm.h tests/mpi_threads.c
tests_unit_comm_CPPFLAGS = $(AS_THREADS) -DRANKS=4 -DCASES="\"1\""
tests_unit_comm_LDADD = $(TEST_LIBS)
tests_unit_comm_xchg_SOURCES = tests/mpi_xchg.c tests/xchg_case.h tests/xchg_expect.h tests/xchg_expect.c tests/mpi_comm.h tests/plain_ops.h tests/mpi_threads.c
tests_unit_comm_xchg_CPPFLAGS = $(AS_THREADS) -DRANKS=6 -DCASES="\"3\""
tests_unit_comm_xchg_LDADD = $(TEST_LIBS)
tests_unit_comm_wait_SOURCES = tests/mpi_wait.c tests/mpi_comm.h tests/mpi_threads.c
tests_unit_comm_wait_CPPFLAGS = $(AS_THREADS) -DRANKS=3 -DCASES="\"1\""
tests_unit_comm_wait_LDADD = $(TEST_LIBS)
tests_unit_comm_fail_SOURCES = tests/mpi_xchg_fail.c tests/mpi_comm.h tests/plain_ops.h tests/mpi_threads.c
tests_unit_comm_fail_CPPFLAGS = $(AS_THREADS) -DRANKS=3 -DCASES="\"1\""
tests_unit_comm_fail_LDADD = $(TEST_LIBS)
TESTS_MPI += \
	tests/mpi1_comm \
	tests/mpi2_comm \
	tests/mpi5_comm \
	tests/mpi1_xchg \
	tests/mpi2_xchg \
	tests/mpi3_xchg \
	tests/mpi4_xchg \
	tests/mpi5_xchg \
	tests/mpi8_xchg \
	tests/mpi3_xchg_fail \
	tests/mpi5_xchg_fail \
	tests/mpi4_same_node
tests_mpi1_comm_SOURCES = tests/mpi_comm.c tests/mpi_comm.h
tests_mpi1_comm_LDADD = $(TEST_LIBS)
tests_mpi2_comm_SOURCES = tests/mpi_comm.c tests/mpi_comm.h
tests_mpi2_comm_LDADD = $(TEST_LIBS)
tests_mpi5_comm_SOURCES = tests/mpi_comm.c tests/mpi_comm.h
tests_mpi5_comm_LDADD = $(TEST_LIBS)
tests_mpi1_xchg_SOURCES = tests/mpi_xchg.c tests/xchg_case.h tests/xchg_expect.h tests/xchg_expect.c tests/mpi_comm.h tests/plain_ops.h
tests_mpi1_xchg_LDADD = $(TEST_LIBS)
tests_mpi2_xchg_SOURCES = tests/mpi_xchg.c tests/xchg_case.h tests/xchg_expect.h tests/xchg_expect.c tests/mpi_comm.h tests/plain_ops.h
tests_mpi2_xchg_LDADD = $(TEST_LIBS)
tests_mpi3_xchg_SOURCES = tests/mpi_xchg.c tests/xchg_case.h tests/xchg_expect.h tests/xchg_expect.c tests/mpi_comm.h tests/plain_ops.h
tests_mpi3_xchg_LDADD = $(TEST_LIBS)
tests_mpi4_xchg_SOURCES = tests/mpi_xchg.c tests/xchg_case.h tests/xchg_expect.h tests/xchg_expect.c tests/mpi_comm.h tests/plain_ops.h
tests_mpi4_xchg_LDADD = $(TEST_LIBS)
tests_mpi5_xchg_SOURCES = tests/mpi_xchg.c tests/xchg_case.h tests/xchg_expect.h tests/xchg_expect.c tests/mpi_comm.h tests/plain_ops.h
tests_mpi5_xchg_LDADD = $(TEST_LIBS)
tests_mpi8_xchg_SOURCES = tests/mpi_xchg.c tests/xchg_case.h tests/xchg_expect.h tests/xchg_expect.c tests/mpi_comm.h tests/plain_ops.h
tests_mpi8_xchg_LDADD = $(TEST_LIBS)
tests_mpi3_xchg_fail_SOURCES = tests/mpi_xchg_fail.c tests/mpi_comm.h tests/plain_ops.h
tests_mpi3_xchg_fail_LDADD = $(TEST_LIBS)
tests_mpi4_same_node_SOURCES = tests/mpi_same_node.c tests/mpi_comm.h
tests_mpi4_same_node_LDADD = $(TEST_LIBS)
tests_mpi5_xchg_fail_SOURCES = tests/mpi_xchg_fail.c tests/mpi_comm.h tests/plain_ops.h
tests_mpi5_xchg_fail_LDADD = $(TEST_LIBS)
