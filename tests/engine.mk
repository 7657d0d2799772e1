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
# the scheduler without ranks, weights or a device
TESTS_UNIT += tests/unit_sched
tests_unit_sched_SOURCES = tests/unit_sched.c tests/sched_game.h tests/draw.h
tests_unit_sched_LDADD = $(TEST_LIBS)
# pages and the tree of prefixes
TESTS_UNIT += tests/unit_prefix
tests_unit_prefix_SOURCES = tests/unit_prefix.c tests/draw.h
tests_unit_prefix_LDADD = $(TEST_LIBS)
TESTS_LONG += tests/long_prefix.sh
EXTRA_DIST += tests/long_prefix.sh
# guessed tokens
TESTS_UNIT += tests/unit_draft
tests_unit_draft_SOURCES = tests/unit_draft.c tests/draw.h
tests_unit_draft_LDADD = $(TEST_LIBS)
TESTS_CLI += tests/cli_spec.bats
TESTS_LONG += tests/long_spec.sh
EXTRA_DIST += tests/cli_spec.bats tests/long_spec.sh tests/spec.py
# whole engines without MPI: ranks are threads, and what would call it is taken over
TESTS_UNIT += tests/unit_engine
tests_unit_engine_SOURCES = tests/unit_engine.c tests/ranks.c tests/ranks.h
tests_unit_engine_LDADD = $(TEST_LIBS)
tests_unit_engine_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=mb_comm_agree,--wrap=mb_comm_max_i64,--wrap=mb_comm_allgather,--wrap=mb_comm_bcast \
	-Wl,--wrap=mb_comm_rank,--wrap=mb_comm_size,--wrap=mb_comm_world_rank,--wrap=mb_comm_begin,--wrap=mb_comm_alive \
	-Wl,--wrap=mb_comm_split,--wrap=mb_comm_destroy,--wrap=mb_comm_destroy_parts,--wrap=mb_comm_end,--wrap=mb_comm_moved,--wrap=mb_comm_meet \
	-Wl,--wrap=mb_comm_swap,--wrap=mb_comm_swap_some,--wrap=mb_comm_post,--wrap=mb_comm_take,--wrap=mb_ctl_counts \
	-Wl,--wrap=mb_wait_until,--wrap=mb_xchg_create
# what a step says and hears
TESTS_UNIT += tests/unit_step
tests_unit_step_SOURCES = tests/unit_step.c tests/draw.h
tests_unit_step_LDADD = $(TEST_LIBS)
