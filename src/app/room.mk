libmoebatch_a_SOURCES += \
	src/app/report.h \
	src/app/report.c \
	src/app/apart.h \
	src/app/apart.c \
	src/app/launcher.h \
	src/app/launcher.c \
	src/app/nodes.h \
	src/app/nodes.c \
	src/app/workload.h \
	src/app/workload.c \
	src/app/bench_nodes.h \
	src/app/bench_nodes_pure.c \
	src/app/bench_out.h \
	src/app/bench_out.c \
	src/app/bench_h5.h \
	src/app/bench_h5.c
moebatch_SOURCES += \
	src/app/job.h \
	src/app/run.h \
	src/app/run.c \
	src/app/run_setup.c \
	src/app/run_defaults.c \
	src/app/run_start.c \
	src/app/run_tick.c \
	src/app/run_extras.c \
	src/app/run_finish.c \
	src/app/stage.c \
	src/app/identity.c src/app/usage.c \
	src/app/adapters.c \
	src/app/run_chat.c \
	src/app/setup.h \
	src/app/setup.c \
	src/app/signals.h \
	src/app/signals.c \
	src/app/tools.h \
	src/app/tools.c \
	src/app/quantize.c \
	src/app/quantize_text.h \
	src/app/quantize_text.c \
	src/app/auto.c \
	src/app/plan.c \
	src/app/plan_print.h \
	src/app/plan_print_json.c \
	src/app/plan_print.c \
	src/app/plan_simulate.h \
	src/app/plan_simulate.c \
	src/app/plan_sbatch.c \
	src/app/text.h \
	src/app/text.c \
	src/app/tokenize.c \
	src/app/shapes.c \
	src/app/bench.h \
	src/app/bench.c \
	src/app/bench_gemm.c \
	src/app/bench_roof.h \
	src/app/bench_roof.c \
	src/app/bench_work.h \
	src/app/bench_work.c \
	src/app/bench_feed.h \
	src/app/bench_feed.c \
	src/app/bench_load.c \
	src/app/bench_load_impl.h \
	src/app/bench_load_figures.c \
	src/app/bench_load_other.c \
	src/app/bench_run.c \
	src/app/bench_calibrate.c \
	src/app/bench_rules.h \
	src/app/bench_rules.c \
	src/app/bench_routes.h \
	src/app/bench_routes.c \
	src/app/bench_a2a.h \
	src/app/bench_a2a.c \
	src/app/bench_a2a_run.c \
	src/app/bench_a2a_print.c \
	src/app/bench_compare.c \
	src/app/bench_nodes.c \
	src/app/verify.h \
	src/app/verify.c \
	src/app/verify_feed.h \
	src/app/verify_feed.c

# What moebatch.sbatch does, as strings: `plan --sbatch` prints it.
BUILT_SOURCES += src/app/sbatch_body.h
CLEANFILES += src/app/sbatch_body.h
src/app/sbatch_body.h: $(top_srcdir)/slurm/moebatch.sbatch
	$(AM_V_GEN)$(MKDIR_P) $(@D) && sed -n -e '1,/^set -u/d' -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/.*/"&\\n"/p' $< >$@.tmp && mv $@.tmp $@
src/app/plan_sbatch.$(OBJEXT): src/app/sbatch_body.h

dist_pkgdata_DATA = slurm/array.sbatch slurm/moebatch.sbatch

# The man page and the completion come from the tables of options, request keys and datasets.
noinst_PROGRAMS += src/app/mkdocs
src_app_mkdocs_SOURCES = src/app/mkdocs.c
src_app_mkdocs_LDADD = libmoebatch.a $(MB_LIBS)
nodist_man_MANS = moebatch.1
bashcompdir = $(datadir)/bash-completion/completions
nodist_bashcomp_DATA = src/conf/completion/moebatch
CLEANFILES += moebatch.1 src/conf/completion/moebatch

moebatch.1: src/app/mkdocs$(EXEEXT)
	$(AM_V_GEN)./src/app/mkdocs$(EXEEXT) man > $@.tmp && mv $@.tmp $@
src/conf/completion/moebatch: src/app/mkdocs$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) $(@D) && ./src/app/mkdocs$(EXEEXT) completion > $@.tmp && mv $@.tmp $@
