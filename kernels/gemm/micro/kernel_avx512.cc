// f32 on AVX-512. Tile: 14 rows x 32 columns in 28 registers; two more hold b, one the spread a. A word costs 28 multiply-adds, 2 loads of
// b and 14 of a (broadcast): arithmetic is the limit on chips with one or two 512-bit units. The b panel (at most 384 words x 128 bytes, 48
// KiB) is read once for every panel of a, 14 rows apart; it stays in the nearest caches.
#include "kernels/gemm/micro/avx512.h"
#include "kernels/gemm/micro/epilogue.h"
#include "kernels/gemm/micro/peak_loop.h"
#include "kernels/gemm/micro/tile.h"

namespace lycia::cpu {
namespace {

constexpr int kRows = 14, kCols = 32;

constexpr MicroKernel kKernel = {.name = "avx512 f32",
                                 .rows = kRows,
                                 .cols = kCols,
                                 .even_rows = true,
                                 .block_words = 384,
                                 .pack_a = PackPanelOfFloats<Avx512, kRows>,
                                 .pack_b = PackPanelOfFloats<Avx512, kCols>,
                                 .tile = RegisterTileOfRows<Avx512, kRows>,
                                 .tile_rows = RegisterTileOfRows<Avx512, kRows, From::kRowsOfA>,
                                 .tile_columns = RegisterTileOfRows<Avx512, kRows, From::kColumnsOfB>,
                                 .epilogue = Epilogue<Avx512>,
                                 .peak = PeakLoop<Avx512, 2>};

}  // namespace

const MicroKernel& Avx512Kernel() { return kKernel; }

}  // namespace lycia::cpu
