# Tests. unit_*: no MPI. mpiN_*: started by tests/mpirun.sh on N ranks. cli_*.bats: as a user runs it.
# Each room's tests are listed in a fragment of their own.
# make distcheck is content with the unit tests of the unpacked archive.
AM_DISTCHECK_CONFIGURE_FLAGS = --enable-short-check
check_PROGRAMS += $(TESTS_UNIT)
if SHORT_CHECK
TESTS = $(TESTS_UNIT)
else
check_PROGRAMS += $(TESTS_MPI)
TESTS = $(TESTS_UNIT) $(TESTS_MPI) $(TESTS_CLI)
endif
EXTRA_DIST += tests/mpirun.sh tests/driver.sh
LOG_COMPILER = $(SHELL) $(top_srcdir)/tests/driver.sh
BATS_LOG_COMPILER = $(SHELL) $(top_srcdir)/tests/driver.sh
SH_LOG_COMPILER = $(SHELL) $(top_srcdir)/tests/driver.sh
TEST_EXTENSIONS = .bats .sh
AM_TESTS_ENVIRONMENT = top_srcdir='$(top_srcdir)' top_builddir='$(top_builddir)' PYTHON3='$(PYTHON3)' MB_TEST_FLAGS='$(MB_CFLAGS)' \
	MOEBATCH='$(abs_top_builddir)/moebatch' BATS='$(BATS)' export top_srcdir top_builddir PYTHON3 MOEBATCH MB_TEST_FLAGS BATS;

check-long: all $(check_PROGRAMS)
	TEST_LIMIT=$${TEST_LIMIT:-7200} $(MAKE) -j1 check TESTS='$(TESTS_LONG)'
.PHONY: check-long

include tests/base.mk
include tests/conf.mk
include tests/job.mk
include tests/text.mk
include tests/guide.mk
include tests/model.mk
include tests/topo.mk
include tests/plan.mk
include tests/device.mk
include tests/comm.mk
include tests/engine.mk
include tests/io.mk
include tests/app.mk
include tests/ops.mk
include tests/cuda_emu.mk
