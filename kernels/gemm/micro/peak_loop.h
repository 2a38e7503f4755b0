// The most that an instruction set can multiply: its tile's multiply-adds on registers alone, nothing loaded or stored.
#ifndef LYCIA_KERNELS_GEMM_MICRO_PEAK_LOOP_H_
#define LYCIA_KERNELS_GEMM_MICRO_PEAK_LOOP_H_

#include <cstdint>

#include "kernels/cpu/isa.h"

namespace lycia::cpu {

// Twelve independent chains hide the latency of any multiply-add. Returns the floating-point operations of `rounds` rounds.
template <typename Ops, int kOperationsOfLane>
double PeakLoop(std::int64_t rounds, float* sink) {
  using V = typename Ops::Float;
  constexpr int kChains = 12;
  V sum[kChains];
  const V x = Ops::Load(sink), y = Ops::Load(sink);  // zeros, which the compiler does not know
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) sum[i] = x + static_cast<float>(i);  // all different, or one chain would serve for all
  for (std::int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sum[i] = Ops::MultiplyAdd(x, y, sum[i]);
  }
  V all = sum[0];
#pragma GCC unroll 12
  for (int i = 1; i < kChains; ++i) all = Ops::Add(all, sum[i]);
  Ops::Store(sink, all);
  return static_cast<double>(rounds) * kChains * Ops::kLanes * kOperationsOfLane;
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_GEMM_MICRO_PEAK_LOOP_H_
