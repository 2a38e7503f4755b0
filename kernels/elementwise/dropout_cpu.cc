#include <algorithm>

#include "kernels/cpu/random_bits.h"
#include "kernels/elementwise/dropout.h"

namespace lycia::cpu {
namespace {

constexpr std::int64_t kRun = 256;  // elements whose bits are made at once: 1 KiB

// out = (residual +) in * factor.
template <Isa isa, typename T>
LYCIA_INLINE inline void Apply(const DropoutMask& mask, const T* in, const T* residual, T* out, std::int64_t rows, std::int64_t cols) {
  const std::uint64_t threshold = DropoutThreshold(mask.rate);
  const T keep = static_cast<T>(1 / (1 - mask.rate));
  const std::int64_t stride = mask.row_stride == 0 ? cols : mask.row_stride;
  RandomRun<kRun> run;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; c += kRun) {
      const std::int64_t count = std::min(kRun, cols - c), first = r * cols + c;
      run.template Make<isa>(mask.random, static_cast<std::uint64_t>(mask.first_index + r * stride + c), count);
      for (std::int64_t i = 0; i < count; ++i) {
        const T kept = run.bits()[i] >= threshold ? in[first + i] * keep : T(0);
        out[first + i] = residual == nullptr ? kept : residual[first + i] + kept;
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
    ForBestIsa([&](auto isa) LYCIA_INLINE {
      if (mask.rate > 0) return Apply<decltype(isa)::value, T>(mask, source, added, to, matrix.rows, matrix.cols);
      for (std::int64_t i = 0; i < in.elements(); ++i) to[i] = added == nullptr ? source[i] : added[i] + source[i];
    });
  });
}

}  // namespace

void DropoutForward(Stream&, const DropoutForwardArgs& args) { Run(args.mask, args.in, args.residual, args.out); }

void DropoutBackward(Stream&, const DropoutBackwardArgs& args) { Run(args.mask, args.dout, {}, args.din); }

}  // namespace lycia::cpu
