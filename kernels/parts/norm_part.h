// Layer and RMS normalisation where a rank holds a part of every row's features, in steps between which ranks exchange two numbers a row,
// or one.
//
// Forward: RowMoments -> all-gather -> MergeRowMoments (mean, rstd) -> NormalisePart. The moments of a part are its mean and its sum of
// squares about that mean, merged as Chan, Golub & LeVeque 1983 do: E[x²] - E[x]² would cancel.
// Backward: NormGradientSums -> all-gather -> NormPartBackwardInput; the gradients of gamma and beta are LayerNormBackwardWeight's
// (kernels/norm), which needs no other part.
// R rows, C features in this part, Q parts of equal width. All tensors of one dtype, bf16, f32 or f64; for bf16 moments, mean,
// rstd and sums are f32.
//
// RMS normalisation (Zhang & Sennrich 2019) has no mean and no beta, which are then absent (data null), and needs one number a row, the
// second of each pair: moments [.., 1] are the sum of in², sums [.., 1] that of g h with h = in rstd; the gradient of gamma is
// RmsNormBackwardWeight's.
#ifndef LYCIA_KERNELS_PARTS_NORM_PART_H_
#define LYCIA_KERNELS_PARTS_NORM_PART_H_

#include "kernels/dispatch.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

struct RowMomentsArgs {
  ConstTensor in;  // [R, C]
  Tensor moments;  // [R, 2], = mean, sum of (in - mean)²; [R, 1]: of an RMS norm
};
struct MergeRowMomentsArgs {
  ConstTensor moments;     // [Q, R, 2], or [Q, R, 1], of every part
  std::int64_t width = 0;  // C
  Tensor mean;             // [R]; absent: RMS norm
  Tensor rstd;             // [R]
  double eps = 1e-5;
};
struct NormalisePartArgs {
  ConstTensor in;           // [R, C]
  ConstTensor gamma, beta;  // [C]; no beta: RMS norm
  ConstTensor mean, rstd;   // [R]; no mean: RMS norm
  Tensor out;               // [R, C]; may be `in`
};
struct NormGradientSumsArgs {
  ConstTensor dout, in;    // [R, C]
  ConstTensor gamma;       // [C]
  ConstTensor mean, rstd;  // [R]; no mean: RMS norm
  Tensor sums;             // [R, 2], = sum of g, sum of g h, with g = dout gamma and h = (in - mean) rstd; [R, 1]: the second alone
};
struct NormPartBackwardInputArgs {
  ConstTensor dout, in;     // [R, C]
  ConstTensor gamma;        // [C]
  ConstTensor mean, rstd;   // [R]; no mean: RMS norm
  ConstTensor sums;         // [Q, R, 2], or [Q, R, 1], of every part
  Tensor din;               // [R, C], = rstd (g - mean(g) - h mean(g h)), RMS: rstd (g - h mean(g h)); means over all Q C features
  bool accumulate = false;  // += instead
};

// Numbers that parts exchange for each row.
constexpr std::int64_t NumbersOfRow(bool rms) { return rms ? 1 : 2; }

namespace cpu {
void RowMoments(Stream& stream, const RowMomentsArgs& args);
void MergeRowMoments(Stream& stream, const MergeRowMomentsArgs& args);
void NormalisePart(Stream& stream, const NormalisePartArgs& args);
void NormGradientSums(Stream& stream, const NormGradientSumsArgs& args);
void NormPartBackwardInput(Stream& stream, const NormPartBackwardInputArgs& args);
}  // namespace cpu
namespace cuda {
void RowMoments(Stream& stream, const RowMomentsArgs& args);
void MergeRowMoments(Stream& stream, const MergeRowMomentsArgs& args);
void NormalisePart(Stream& stream, const NormalisePartArgs& args);
void NormGradientSums(Stream& stream, const NormGradientSumsArgs& args);
void NormPartBackwardInput(Stream& stream, const NormPartBackwardInputArgs& args);
}  // namespace cuda

inline void RowMoments(Stream& stream, const RowMomentsArgs& args) {
  Dispatch(
      stream, [&] { cpu::RowMoments(stream, args); }, [&] { cuda::RowMoments(stream, args); });
}
inline void MergeRowMoments(Stream& stream, const MergeRowMomentsArgs& args) {
  Dispatch(
      stream, [&] { cpu::MergeRowMoments(stream, args); }, [&] { cuda::MergeRowMoments(stream, args); });
}
inline void NormalisePart(Stream& stream, const NormalisePartArgs& args) {
  Dispatch(
      stream, [&] { cpu::NormalisePart(stream, args); }, [&] { cuda::NormalisePart(stream, args); });
}
inline void NormGradientSums(Stream& stream, const NormGradientSumsArgs& args) {
  Dispatch(
      stream, [&] { cpu::NormGradientSums(stream, args); }, [&] { cuda::NormGradientSums(stream, args); });
}
inline void NormPartBackwardInput(Stream& stream, const NormPartBackwardInputArgs& args) {
  Dispatch(
      stream, [&] { cpu::NormPartBackwardInput(stream, args); }, [&] { cuda::NormPartBackwardInput(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_PARTS_NORM_PART_H_
