// What reuse did in a step, as numbers on the device that all calls of the step add to and ranks add up.
#ifndef LYCIA_KERNELS_REUSE_MEASURES_H_
#define LYCIA_KERNELS_REUSE_MEASURES_H_

#include "kernels/dispatch.h"
#include "kernels/reuse/gather.h"
#include "kernels/reuse/index_map.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

struct ReuseMeasures {
  double rows = 0, clusters = 0;                          // of all maps
  double squares = 0, error_squares = 0;                  // of their meters
  double dot = 0, dense_squares = 0, reused_squares = 0;  // of compared gradients
  double seconds = 0;                                     // of the layer's calls, where the host can tell

  // U / M; 1 where nothing was counted.
  double UniqueRatio() const { return rows > 0 ? clusters / rows : 1; }
  // |X - C| / |X|, exact (papers on deep reuse estimate it).
  double RelativeError() const { return lycia::RelativeError({.squares = squares, .error_squares = error_squares}); }
  // Of the dense gradient and the reused one; 1 where none was compared.
  double Cosine() const;
};
inline constexpr std::int64_t kReuseMeasures = sizeof(ReuseMeasures) / sizeof(double);

struct CountReuseArgs {
  IndexMap map;                       // a partition of rows
  const ReuseMeter* meter = nullptr;  // on the device; null: no error
  ReuseMeasures* measures = nullptr;  // on the device, +=; null: nothing is counted
};

// Sums in f64, on the CPU in the order of the elements.
struct CompareGradientsArgs {
  ConstTensor dense, reused;          // of one shape and type, f32 or f64
  ReuseMeasures* measures = nullptr;  // on the device, += dot and squares
};

// The column sums of dout's first *map.size rows, else as BiasGradient (kernels/gemm/gemm.h).
struct MappedBiasGradientArgs {
  IndexMap map;      // a partition of M rows
  ConstMatrix dout;  // [U of M, N]
  Tensor dbias;      // [N], +=
};

namespace cpu {
void CountReuse(Stream& stream, const CountReuseArgs& args);
void CompareGradients(Stream& stream, const CompareGradientsArgs& args);
void MappedBiasGradient(Stream& stream, const MappedBiasGradientArgs& args);
}  // namespace cpu
// Sums in orders of their own, functions of the sizes.
namespace cuda {
void CountReuse(Stream& stream, const CountReuseArgs& args);
void CompareGradients(Stream& stream, const CompareGradientsArgs& args);
void MappedBiasGradient(Stream& stream, const MappedBiasGradientArgs& args);
}  // namespace cuda

inline void CountReuse(Stream& stream, const CountReuseArgs& args) {
  Dispatch(
      stream, [&] { cpu::CountReuse(stream, args); }, [&] { cuda::CountReuse(stream, args); });
}
inline void CompareGradients(Stream& stream, const CompareGradientsArgs& args) {
  Dispatch(
      stream, [&] { cpu::CompareGradients(stream, args); }, [&] { cuda::CompareGradients(stream, args); });
}
inline void MappedBiasGradient(Stream& stream, const MappedBiasGradientArgs& args) {
  Dispatch(
      stream, [&] { cpu::MappedBiasGradient(stream, args); }, [&] { cuda::MappedBiasGradient(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_REUSE_MEASURES_H_
