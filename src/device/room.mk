libmoebatch_a_SOURCES += src/device/ops.h 
