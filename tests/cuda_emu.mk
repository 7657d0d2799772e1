# The CUDA runtime on the CPU (tests/cuda_emu/emu.h), and what is tested on it.
EMU_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests/cuda_emu/include -I$(top_srcdir)
# Kernels call the emulator at each load and store: that is what -fsanitize=thread is for; its library is not linked.
EMU_CXXFLAGS = -std=c++17 -O2 -g -fsanitize=thread -ffp-contract=off -fno-math-errno -fno-strict-aliasing \
	-fno-exceptions -fno-rtti -fno-threadsafe-statics -Wall -Wextra $(MB_WERROR)
%.emu.o: %.cu
	$(AM_V_GEN)$(MKDIR_P) $(@D) && $(CXX) $(DEFS) $(EMU_CPPFLAGS) $(EMU_CXXFLAGS) -MMD -MP -MF $@.d -c -x c++ $< -o $@
mostlyclean-local: clean-emu
clean-emu:
	-find tests cuda -name '*.emu.o' -o -name '*.emu.o.d' 2>/dev/null | xargs rm -f
.PHONY: clean-emu
EXTRA_DIST += tests/cuda_emu/kernels.cu
if HAVE_CXX
check_LIBRARIES = tests/cuda_emu/libcuda_emu.a
tests_cuda_emu_libcuda_emu_a_SOURCES = tests/cuda_emu/include/cuda_runtime.h tests/cuda_emu/include/emu_calls.h \
	tests/cuda_emu/include/emu_device.h tests/cuda_emu/emu.h tests/cuda_emu/emu_report.c tests/cuda_emu/emu_memory.c \
	tests/cuda_emu/emu_block.c tests/cuda_emu/emu_access.c tests/cuda_emu/emu_stream.c tests/cuda_emu/emu_device.c
tests_cuda_emu_libcuda_emu_a_CPPFLAGS = $(EMU_CPPFLAGS)
TESTS_UNIT += tests/unit_cuda_emu
tests_unit_cuda_emu_SOURCES = tests/unit_cuda_emu.c tests/unit_cuda_emu.h
tests_unit_cuda_emu_CPPFLAGS = $(EMU_CPPFLAGS)
tests_unit_cuda_emu_LDADD = tests/cuda_emu/kernels.emu.o tests/cuda_emu/libcuda_emu.a $(TEST_LIBS)
-include tests/cuda_emu/kernels.emu.o.d

# the backend of cuda/ on it
EMU_CUDA_OBJECTS = $(MB_CUDA_SOURCES_CU:.cu=.emu.o)
check_LIBRARIES += tests/cuda_emu/libcuda.a
tests_cuda_emu_libcuda_a_SOURCES = $(MB_CUDA_SOURCES_C)
tests_cuda_emu_libcuda_a_CPPFLAGS = $(EMU_CPPFLAGS)
tests_cuda_emu_libcuda_a_LIBADD = $(EMU_CUDA_OBJECTS)
tests_cuda_emu_libcuda_a_DEPENDENCIES = $(EMU_CUDA_OBJECTS)
EMU_LIBS = tests/cuda_emu/libcuda.a tests/cuda_emu/libcuda_emu.a
EMU_TEST_CPPFLAGS = $(AM_CPPFLAGS) '-DRIG_BACKEND="cuda"' -DRIG_EMU -DFIRST_ISA=3
-include $(MB_CUDA_SOURCES_CU:.cu=.emu.o.d)

# its operations by the tests of the CPU's
TESTS_UNIT += tests/emu_attention tests/emu_attention_parts tests/emu_choose tests/emu_delta tests/emu_kv8
tests_emu_attention_SOURCES = tests/unit_attention.c cuda/backends.c
tests_emu_attention_CPPFLAGS = $(EMU_TEST_CPPFLAGS)
tests_emu_attention_LDADD = $(EMU_LIBS) $(TEST_LIBS)
tests_emu_attention_parts_SOURCES = tests/unit_attention_parts.c cuda/backends.c
tests_emu_attention_parts_CPPFLAGS = $(EMU_TEST_CPPFLAGS)
tests_emu_attention_parts_LDADD = $(EMU_LIBS) $(TEST_LIBS)
tests_emu_choose_SOURCES = tests/unit_choose.c cuda/backends.c
tests_emu_choose_CPPFLAGS = $(EMU_TEST_CPPFLAGS)
tests_emu_choose_LDADD = $(EMU_LIBS) $(TEST_LIBS)
tests_emu_delta_SOURCES = tests/unit_delta.c cuda/backends.c
tests_emu_delta_CPPFLAGS = $(EMU_TEST_CPPFLAGS)
tests_emu_delta_LDADD = $(EMU_LIBS) $(TEST_LIBS)
tests_emu_kv8_SOURCES = tests/unit_kv8.c cuda/backends.c
tests_emu_kv8_CPPFLAGS = $(EMU_TEST_CPPFLAGS)
tests_emu_kv8_LDADD = $(EMU_LIBS) $(TEST_LIBS)
TESTS_UNIT += tests/unit_cuda_ops
tests_unit_cuda_ops_SOURCES = tests/unit_cuda_ops.c cuda/backends.c
tests_unit_cuda_ops_CPPFLAGS = $(EMU_CPPFLAGS)
tests_unit_cuda_ops_LDADD = $(EMU_LIBS) $(TEST_LIBS)

# the whole program on it
check_PROGRAMS += tests/moebatch-cuda-emu
tests_moebatch_cuda_emu_SOURCES = $(moebatch_SOURCES) cuda/backends.c
tests_moebatch_cuda_emu_LDADD = $(EMU_LIBS) $(moebatch_LDADD)
endif
TESTS_CLI += tests/cli_cuda.bats
EXTRA_DIST += tests/cli_cuda.bats
# mistakes in cuda/, each of which has to be found: ../tests/long_cuda_mutants.sh
TESTS_LONG += tests/long_cuda_mutants.sh
EXTRA_DIST += tests/long_cuda_mutants.sh
print-emu-libs:
	@echo $(TEST_LIBS)
print-emu-cxx:
	@echo $(CXX) $(DEFS) -I$(abs_top_srcdir)/tests/cuda_emu/include -I$(abs_top_srcdir)/src -I$(abs_top_builddir) $(EMU_CXXFLAGS) -x c++
print-emu-cc:
	@echo $(CC) $(DEFS) -I$(abs_top_srcdir)/tests/cuda_emu/include -I$(abs_top_srcdir)/src -I$(abs_top_builddir) $(MB_CFLAGS) -O2
.PHONY: print-emu-libs print-emu-cxx print-emu-cc
