libmoebatch_a_SOURCES += src/job/counters.h src/job/record.h src/job/request.h src/job/sink.h src/job/source.h 
libmoebatch_a_SOURCES += src/job/record.c
libmoebatch_a_SOURCES += src/job/request.c
