libmoebatch_a_SOURCES += src/device/ops.h \
	src/device/registry.h src/device/registry.c \
	src/device/view.h src/device/view.c src/device/host.h src/device/host.c \
	src/device/cpu.h \
	src/device/cpu.c \
	src/device/cpu_copy.c \
	src/device/cpu_isa.h \
	src/device/cpu_isa.c \
	src/device/cpu_detect.c \
	src/device/cpu_selftest.c \
	src/device/cpu_tile.h \
	src/device/cpu_team.h \
	src/device/cpu_team.c \
	src/device/cpu_tile.c \
	src/device/cpu_tile_vec.h \
	src/device/cpu_tile_avx2.c \
	src/device/cpu_tile_avx512.c \
	src/device/cpu_tile_code.h \
	src/device/cpu_tile_pairs.h \
	src/device/cpu_tile_bf16.c \
	src/device/cpu_race.c \
	src/device/cpu_tile_amx.c \
	src/device/cpu_weight.h \
	src/device/cpu_weight.c \
	src/device/form.h src/device/form_value.h src/device/kinds.h \
	src/device/cpu_stored.c \
	src/device/cpu_unpack.c \
	src/device/cpu_amx.h \
	src/device/cpu_unpack_avx2.h \
	src/device/cpu_unpack_avx2.c \
	src/device/cpu_unpack_ints_avx2.c \
	src/device/cpu_gemm.c \
	src/device/cpu_s8.h \
	src/device/cpu_s8.c \
	src/device/cpu_s8_avx2.c \
	src/device/cpu_s8_vnni.c \
	src/device/cpu_gemm_s8.c \
	src/device/cpu_kv.h \
	src/device/cpu_kv.c \
	src/device/cpu_attn.h \
	src/device/cpu_tree.h \
	src/device/cpu_attn_item.h \
	src/device/cpu_attn_block.c \
	src/device/cpu_attn.c \
	src/device/cpu_attn_parts.c \
	src/device/cpu_choose.c \
	src/device/cpu_attn_join.c \
	src/device/cpu_attn_vec.h \
	src/device/cpu_attn_portable.c \
	src/device/cpu_attn_avx2.c \
	src/device/cpu_attn_avx512.c
libmoebatch_a_SOURCES += src/device/cpu_vec.h src/device/cpu_vec_body.h src/device/cpu_vec.c \
	src/device/cpu_vec_avx2.c src/device/cpu_vec_avx512.c
libmoebatch_a_SOURCES += src/device/cpu_vec_delta.h src/device/cpu_delta.c
libmoebatch_a_SOURCES += src/device/cpu_rows.c src/device/cpu_norm.c src/device/cpu_route.c src/device/cpu_fold.c
libmoebatch_a_SOURCES += src/device/cpu_logits.h src/device/cpu_logits.c src/device/cpu_sample.c
libmoebatch_a_SOURCES += src/device/limits.h src/device/cpu_limits.c
libmoebatch_a_SOURCES += src/device/check.h src/device/check.c
