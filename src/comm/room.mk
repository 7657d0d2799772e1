libmoebatch_a_SOURCES += src/comm/comm.h src/comm/xchg.h 
