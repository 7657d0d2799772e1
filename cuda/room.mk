# The CUDA backend (configure --with-cuda). Kernels are compiled by nvcc here, and by g++ with the headers of tests/cuda_emu for the
# tests, which use these lists.
MB_CUDA_FILES_H = cuda/launch.h cuda/row.h cuda/each.h cuda/kernels.h cuda/cuda.h cuda/present.h cuda/gemm.h cuda/gemm_read.h \
	cuda/weight.h cuda/select.h cuda/vocab.h cuda/tree.h cuda/s8.h
MB_CUDA_SOURCES_C = cuda/device.c cuda/memory.c cuda/copy.c cuda/rows.c cuda/norm.c cuda/weight.c cuda/weight_stored.c cuda/stage.c \
	cuda/gemm.c cuda/s8.c cuda/select.c
MB_CUDA_SOURCES_CU = cuda/rows.cu cuda/norm.cu cuda/weight.cu cuda/gemm.cu cuda/gemm_tile.cu cuda/fold.cu cuda/route.cu cuda/logits.cu \
	cuda/sample.cu cuda/s8.cu
# KV pages, attention, linear attention
MB_CUDA_FILES_H += cuda/kv.h cuda/cuda_kv.h cuda/page.h cuda/stage.h cuda/osm.h
MB_CUDA_SOURCES_C += cuda/kv.c cuda/attn.c cuda/choose.c cuda/delta.c
MB_CUDA_SOURCES_CU += cuda/kv.cu cuda/attn.cu cuda/attn_join.cu cuda/choose.cu cuda/delta.cu
EXTRA_DIST += $(MB_CUDA_FILES_H) $(MB_CUDA_SOURCES_C) $(MB_CUDA_SOURCES_CU)
EXTRA_DIST += cuda/backends.c src/device/backends.c
# one object for each kernel source; nvcc says what it would have to be told of -fmad (rule 4 of the numeric contract)
MB_NVCCFLAGS = -std=c++17 -O3 -fmad=false -ftz=true -prec-div=true -prec-sqrt=true -lineinfo --Werror all-warnings -Xcompiler -Wall,-Wextra
# (make would else make sources of objects)
%.cu: %.cu.o
%.cu.o: %.cu
	$(AM_V_GEN)$(MKDIR_P) $(@D) && $(NVCC) $(MB_NVCCFLAGS) $(CUDA_GENCODE) $(NVCCFLAGS) -I$(top_srcdir) -I$(top_srcdir)/src \
	  -MD -MF $@.d -c $< -o $@
CLEANFILES += $(MB_CUDA_SOURCES_CU:.cu=.cu.o) $(MB_CUDA_SOURCES_CU:.cu=.cu.o.d)
if WITH_CUDA
libmoebatch_a_SOURCES += $(MB_CUDA_SOURCES_C) cuda/backends.c
libmoebatch_a_LIBADD = $(MB_CUDA_SOURCES_CU:.cu=.cu.o)
-include $(MB_CUDA_SOURCES_CU:.cu=.cu.o.d)
else
libmoebatch_a_SOURCES += src/device/backends.c
endif
