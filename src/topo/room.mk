libmoebatch_a_SOURCES += src/topo/topo.h 
