libmoebatch_a_SOURCES += src/plan/plan.h 
