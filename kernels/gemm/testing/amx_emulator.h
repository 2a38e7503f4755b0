// Runs AMX code on processors without AMX: a handler of SIGILL carries out the instruction that the processor refused, in software. So the
// kernel for AMX is tested everywhere as it is compiled, instruction by instruction; only its speed needs the hardware.
#ifndef LYCIA_KERNELS_GEMM_TESTING_AMX_EMULATOR_H_
#define LYCIA_KERNELS_GEMM_TESTING_AMX_EMULATOR_H_

namespace lycia::testing {

// From here on, for the whole process. Known: ldtilecfg, tilerelease, tilezero, tileloadd, tilestored, tdpbf16ps, with the meaning of
// Intel's manual (volume 2): f32 sums rounded to nearest even, subnormal operands and results zero. Any other refused instruction ends the
// process, as does a tile instruction without a configuration.
void EmulateAmx();

// Tile configurations loaded and not yet released, on this thread: 0 or 1.
int ConfiguredTiles();

}  // namespace lycia::testing

#endif  // LYCIA_KERNELS_GEMM_TESTING_AMX_EMULATOR_H_
