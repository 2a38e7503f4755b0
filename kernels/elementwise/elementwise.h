// Kernels that touch each element once: sums, scaling, filling, converting. bf16, f32 and f64; operands of one type and number of elements.
// bf16 is computed in f32 and rounded once.
#ifndef LYCIA_KERNELS_ELEMENTWISE_ELEMENTWISE_H_
#define LYCIA_KERNELS_ELEMENTWISE_ELEMENTWISE_H_

#include <cstdint>

#include "kernels/dispatch.h"
#include "runtime/core/philox.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

struct AddArgs {
  ConstTensor a, b;
  Tensor out;  // = a + b; may be a or b
};
struct AddInPlaceArgs {
  Tensor x;  // += y
  ConstTensor y;
};
struct AddAndClearArgs {
  Tensor x;  // += y, where y is not zero; f32 or f64
  Tensor y;  // = 0
};
struct ScaleArgs {
  Tensor values;  // *= factor, rounded to the tensor's type first (f32 for bf16)
  double factor = 1;
};
struct FillArgs {
  Tensor out;  // = value
  double value = 0;
};
struct ConvertArgs {
  ConstTensor in;  // any of the types
  Tensor out;      // = in, rounded to its own type; f64 -> bf16 by way of f32
};
struct FillNormalArgs {
  Tensor out;  // element i = std * random.Normal(first_index + i), in f64, then rounded
  RandomStream random;
  double std = 1;
  std::int64_t first_index = 0;
};

namespace cpu {
void Add(Stream& stream, const AddArgs& args);
void AddInPlace(Stream& stream, const AddInPlaceArgs& args);
// For a y that is zero nearly everywhere: it is read, and memory of either is touched further only where it is not zero.
void AddAndClear(Stream& stream, const AddAndClearArgs& args);
void Scale(Stream& stream, const ScaleArgs& args);
void Fill(Stream& stream, const FillArgs& args);
void Convert(Stream& stream, const ConvertArgs& args);
void FillNormal(Stream& stream, const FillNormalArgs& args);
}  // namespace cpu
namespace cuda {
void Add(Stream& stream, const AddArgs& args);
void AddInPlace(Stream& stream, const AddInPlaceArgs& args);
void Scale(Stream& stream, const ScaleArgs& args);
void Fill(Stream& stream, const FillArgs& args);
void Convert(Stream& stream, const ConvertArgs& args);
void FillNormal(Stream& stream, const FillNormalArgs& args);
}  // namespace cuda

inline void Add(Stream& stream, const AddArgs& args) {
  Dispatch(
      stream, [&] { cpu::Add(stream, args); }, [&] { cuda::Add(stream, args); });
}
inline void AddInPlace(Stream& stream, const AddInPlaceArgs& args) {
  Dispatch(
      stream, [&] { cpu::AddInPlace(stream, args); }, [&] { cuda::AddInPlace(stream, args); });
}
inline void Scale(Stream& stream, const ScaleArgs& args) {
  Dispatch(
      stream, [&] { cpu::Scale(stream, args); }, [&] { cuda::Scale(stream, args); });
}
inline void Fill(Stream& stream, const FillArgs& args) {
  Dispatch(
      stream, [&] { cpu::Fill(stream, args); }, [&] { cuda::Fill(stream, args); });
}
inline void Convert(Stream& stream, const ConvertArgs& args) {
  Dispatch(
      stream, [&] { cpu::Convert(stream, args); }, [&] { cuda::Convert(stream, args); });
}
inline void FillNormal(Stream& stream, const FillNormalArgs& args) {
  Dispatch(
      stream, [&] { cpu::FillNormal(stream, args); }, [&] { cuda::FillNormal(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_ELEMENTWISE_ELEMENTWISE_H_
