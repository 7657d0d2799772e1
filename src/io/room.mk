include src/io/input.mk
libmoebatch_a_SOURCES +=
libmoebatch_a_SOURCES += src/io/identity.h src/io/identity.c
libmoebatch_a_SOURCES += src/io/journal.h src/io/journal_format.h src/io/journal.c src/io/journal_read.c
libmoebatch_a_SOURCES += src/io/scan.h src/io/scan.c
libmoebatch_a_SOURCES += src/io/resume.h src/io/resume.c src/io/resume_map.h src/io/resume_map.c
libmoebatch_a_SOURCES += src/io/sink.h src/io/sink.c src/io/stops.h src/io/stops.c
libmoebatch_a_SOURCES += src/io/h5.h src/io/h5_own.h src/io/h5.c src/io/h5_read.c src/io/h5_tree.c src/io/seal.h src/io/seal.c src/io/describe.h src/io/describe.c src/io/schema.h src/io/schema.c
libmoebatch_a_SOURCES += src/io/column.h src/io/column.c src/io/results.h src/io/results.c
libmoebatch_a_SOURCES += src/io/rundir.h src/io/rundir.c src/io/run_last.c src/io/life.h src/io/life.c src/io/decide.h src/io/decide.c src/io/start.h src/io/start.c src/io/openai_late.c
libmoebatch_a_SOURCES += src/io/group.h src/io/group.c src/io/shape.h src/io/shape.c src/io/extras.h src/io/extras.c src/io/counts.h src/io/counts.c
libmoebatch_a_SOURCES += src/io/rows.h src/io/rows.c src/io/assemble.h src/io/assemble.c src/io/asm.h src/io/asm_index.c src/io/asm_sort.c
libmoebatch_a_SOURCES += src/io/asm_batch.h src/io/asm_batch.c src/io/asm_numbers.c src/io/asm_bulk.c src/io/asm_text.c src/io/asm_openai.c
libmoebatch_a_SOURCES += src/io/digest.h src/io/digest.c src/io/digest_sort.h src/io/digest_sort.c src/io/safe.h src/io/safe.c
libmoebatch_a_SOURCES += src/io/tools.h src/io/table.h src/io/table.c src/io/inspect.c src/io/inspect_job.h src/io/inspect_job.c src/io/compare.c
libmoebatch_a_SOURCES += src/io/job_info.h src/io/job_info.c src/io/status.c src/io/pending.h src/io/pending.c src/io/assemble_tool.c
libmoebatch_a_SOURCES += src/io/orders.h src/io/orders.c src/io/orders_ask.c src/io/prom.h src/io/prom.c src/io/merge.c src/io/export.c src/io/export_rows.c src/io/export_rows.h src/io/unpack.h src/io/unpack.c
