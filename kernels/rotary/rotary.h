// Rotary position embedding (Su et al. 2021, RoFormer, sec. 3.2.2): pair i of a head's features, at position p, is turned by the angle
// p base^(-2 i / D). Scores of queries and keys then depend on the difference of their positions.
//
// Feature i is paired with feature i + D / 2, the order of Hugging Face's Llama. The paper's pairs (2 i, 2 i + 1) are the same map after a
// fixed permutation of a head's features.
#ifndef LYCIA_KERNELS_ROTARY_ROTARY_H_
#define LYCIA_KERNELS_ROTARY_ROTARY_H_

#include <cstdint>

#include "kernels/dispatch.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// Row p is position p. Angles are computed in f64, then rounded.
struct RotaryTableArgs {
  Tensor cosines, sines;  // [P, D / 2] f32 or f64, =
  double base = 10000;
};

// In place on `heads` heads of D features that lie side by side in each row, beginning at feature first_feature: of packed rows
// q | k | v, the heads of q and k in one call. rows bf16 (computed in f32, rounded once), f32 or f64.
struct RotaryArgs {
  Tensor rows;                 // [B, T, W]
  ConstTensor cosines, sines;  // [P, D / 2], f32 for rows of bf16, else of rows' type
  std::int64_t heads = 0;
  std::int64_t first_feature = 0;
  std::int64_t first_position = 0;  // of token 0 of each sample
  ConstTensor positions;            // [B, T] i32, instead of first_position + t; absent when data is null. Outside [0, P): InvalidArgument
  bool inverse = false;             // turns back: of gradients, since the transpose of a rotation is its inverse
};

namespace cpu {
// Into host memory, at once.
void FillRotaryTable(const RotaryTableArgs& args);
void RotaryTable(Stream& stream, const RotaryTableArgs& args);
void Rotary(Stream& stream, const RotaryArgs& args);
}  // namespace cpu
namespace cuda {
void RotaryTable(Stream& stream, const RotaryTableArgs& args);
void Rotary(Stream& stream, const RotaryArgs& args);
}  // namespace cuda

inline void RotaryTable(Stream& stream, const RotaryTableArgs& args) {
  Dispatch(
      stream, [&] { cpu::RotaryTable(stream, args); }, [&] { cuda::RotaryTable(stream, args); });
}
inline void Rotary(Stream& stream, const RotaryArgs& args) {
  Dispatch(
      stream, [&] { cpu::Rotary(stream, args); }, [&] { cuda::Rotary(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_ROTARY_ROTARY_H_
