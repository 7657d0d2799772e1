libmoebatch_a_SOURCES += src/model/model.h src/model/reader.h 
