# The CUDA backend (configure --with-cuda). Kernels are compiled by nvcc here, and by g++ with the headers of tests/cuda_emu for the
# tests, which use these lists.
MB_CUDA_FILES_H = cuda/launch.h cuda/row.h cuda/each.h cuda/kernels.h cuda/cuda.h cuda/present.h cuda/gemm.h cuda/gemm_read.h \
	cuda/weight.h cuda/select.h cuda/vocab.h
MB_CUDA_SOURCES_C = cuda/device.c cuda/memory.c cuda/copy.c cuda/rows.c cuda/norm.c cuda/weight.c cuda/weight_stored.c cuda/stage.c \
	cuda/gemm.c cuda/select.c
MB_CUDA_SOURCES_CU = cuda/rows.cu cuda/norm.cu cuda/weight.cu cuda/gemm.cu cuda/gemm_tile.cu cuda/fold.cu cuda/route.cu cuda/logits.cu \
	cuda/sample.cu
EXTRA_DIST += $(MB_CUDA_FILES_H) $(MB_CUDA_SOURCES_C) $(MB_CUDA_SOURCES_CU)
