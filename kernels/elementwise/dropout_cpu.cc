#include <algorithm>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/random_bits.h"
#include "kernels/cpu/vector_loop.h"
#include "kernels/elementwise/dropout.h"

namespace lycia::cpu {
namespace {

constexpr std::int64_t kRun = 256;  // elements whose bits are made at once: 1 KiB

// Which lanes' bits are at least the threshold.
template <typename V, bool kWhole>
LYCIA_INLINE inline MaskOf<V> Kept(const Lanes<V, kWhole>& lanes, const std::uint32_t* bits, std::uint64_t threshold) {
  if (threshold == 0) return V{} == V{};
  using U = SameLanes<V, std::uint32_t>;
  U lane_bits{};
  if constexpr (kWhole) {
    lane_bits = Load<U>(bits + lanes.first);
  } else {
    lane_bits = LoadPart<U>(bits + lanes.first, lanes.count);
  }
  const auto last_dropped = static_cast<std::uint32_t>(threshold - 1);  // all 32 bits may be dropped, so the threshold itself may not fit
  return __builtin_convertvector(lane_bits > last_dropped, MaskOf<V>);
}

// out = (residual +) in * factor for rows [begin, end).
template <Isa isa, typename T>
LYCIA_INLINE inline void Apply(const DropoutMask& mask, const T* in, const T* residual, T* out, std::int64_t begin, std::int64_t end,
                               std::int64_t cols) {
  using A = Arithmetic<T>;
  using V = Vector<A, isa>;
  const std::uint64_t threshold = DropoutThreshold(mask.rate);
  const A keep = static_cast<A>(1 / (1 - mask.rate));
  const std::int64_t stride = mask.row_stride == 0 ? cols : mask.row_stride;
  RandomRun<kRun> run;
  for (std::int64_t r = begin; r < end; ++r) {
    for (std::int64_t c = 0; c < cols; c += kRun) {
      const std::int64_t count = std::min(kRun, cols - c), first = r * cols + c;
      run.template Make<isa>(mask.random, static_cast<std::uint64_t>(mask.first_index + r * stride + c), count);
      ForEachVector<V>(count, [&](auto lanes) LYCIA_INLINE {
        const V kept = Kept(lanes, run.bits(), threshold) ? lanes.Get(in + first) * keep : V{};
        lanes.Put(out + first, residual == nullptr ? kept : lanes.Get(residual + first) + kept);
      });
    }
  }
}

void Run(Stream& stream, const DropoutMask& mask, const ConstTensor& in, const ConstTensor& residual, const Tensor& out) {
  const ConstMatrix matrix = AsMatrix(in);
  LYCIA_CHECK(mask.rate >= 0 && mask.rate < 1) << "dropout rate " << mask.rate << " ";
  LYCIA_CHECK_EQ(in.elements(), out.elements());
  if (residual.data != nullptr) LYCIA_CHECK_EQ(residual.elements(), out.elements());
  DispatchStored(in.dtype, [&]<typename T>() {
    const T *source = in.as<T>(), *added = residual.data == nullptr ? nullptr : residual.as<T>();
    T* to = out.as<T>();
    const Work work{.count = matrix.rows, .bytes_each = matrix.cols * static_cast<std::int64_t>((added == nullptr ? 2 : 3) * sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        if (mask.rate > 0) return Apply<decltype(isa)::value, T>(mask, source, added, to, begin, end, matrix.cols);
        const std::int64_t first = begin * matrix.cols;
        using V = Vector<Arithmetic<T>, decltype(isa)::value>;
        ForEachVector<V>((end - begin) * matrix.cols, [&](auto lanes) LYCIA_INLINE {
          lanes.Put(to + first, added == nullptr ? lanes.Get(source + first) : lanes.Get(added + first) + lanes.Get(source + first));
        });
      });
    });
  });
}

}  // namespace

void DropoutForward(Stream& stream, const DropoutForwardArgs& args) { Run(stream, args.mask, args.in, args.residual, args.out); }

void DropoutBackward(Stream& stream, const DropoutBackwardArgs& args) { Run(stream, args.mask, args.dout, {}, args.din); }

}  // namespace lycia::cpu
