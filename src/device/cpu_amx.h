/* AMX tiles as the kernels and the measurement of their rate set them: eight of 16 rows of 64 bytes. */
#ifndef MB_DEVICE_CPU_AMX_H
#define MB_DEVICE_CPU_AMX_H
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { MB_AMX_ROWS = 16, MB_AMX_ROW_BYTES = 64 };

static inline __attribute__((target("amx-tile"))) void mb_amx_begin(void)
{
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config;
    memset(&config, 0, sizeof config);
    config.palette = 1;
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = MB_AMX_ROW_BYTES;
        config.rows[i] = MB_AMX_ROWS;
    }
    __asm__ volatile("" ::"m"(config) : "memory");
    _tile_loadconfig(&config);
}
#endif
