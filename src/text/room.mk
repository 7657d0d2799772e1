libmoebatch_a_SOURCES += src/text/tokenizer.h 
