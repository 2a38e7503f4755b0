#include "kernels/elementwise/dropout.h"

namespace lycia::cpu {
namespace {

// out = (residual +) in * factor, element by element; four neighbours share one block of random bits.
template <typename T>
void Apply(const DropoutMask& mask, const T* in, const T* residual, T* out, std::int64_t rows, std::int64_t cols) {
  const std::uint64_t threshold = DropoutThreshold(mask.rate);
  const T keep = static_cast<T>(1 / (1 - mask.rate));
  const std::int64_t stride = mask.row_stride == 0 ? cols : mask.row_stride;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::uint64_t first = static_cast<std::uint64_t>(mask.first_index + r * stride);
    for (std::int64_t c = 0; c < cols;) {
      const std::uint64_t index = first + static_cast<std::uint64_t>(c);
      const Philox4 block = Philox(mask.random.key, index >> 2, mask.random.step);
      const std::uint32_t bits[4] = {block.x0, block.x1, block.x2, block.x3};
      for (std::uint64_t j = index & 3; j < 4 && c < cols; ++j, ++c) {
        const std::int64_t i = r * cols + c;
        const T kept = bits[j] >= threshold ? in[i] * keep : T(0);
        out[i] = residual == nullptr ? kept : residual[i] + kept;
      }
    }
  }
}

void Run(const DropoutMask& mask, const ConstTensor& in, const ConstTensor& residual, const Tensor& out) {
  const ConstMatrix matrix = AsMatrix(in);
  LYCIA_CHECK(mask.rate >= 0 && mask.rate < 1) << "dropout rate " << mask.rate << " ";
  LYCIA_CHECK_EQ(in.elements(), out.elements());
  if (residual.data != nullptr) LYCIA_CHECK_EQ(residual.elements(), out.elements());
  DispatchFloat(in.dtype, [&]<typename T>() {
    const T *source = in.as<T>(), *added = residual.data == nullptr ? nullptr : residual.as<T>();
    T* to = out.as<T>();
    if (mask.rate > 0) return Apply<T>(mask, source, added, to, matrix.rows, matrix.cols);
    for (std::int64_t i = 0; i < in.elements(); ++i) to[i] = added == nullptr ? source[i] : added[i] + source[i];
  });
}

}  // namespace

void DropoutForward(Stream&, const DropoutForwardArgs& args) { Run(args.mask, args.in, args.residual, args.out); }

void DropoutBackward(Stream&, const DropoutBackwardArgs& args) { Run(args.mask, args.dout, {}, args.din); }

}  // namespace lycia::cpu
