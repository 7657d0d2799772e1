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
endif
