// Bytes of images as numbers around zero on CUDA: a thread has a pack of up to 16 bytes of numbers and the bytes they are of
// (kernels/cuda/map.cuh). Bytes moved: one of each element's byte and those of its number. The two divisions are in f64, so that the bits
// are the CPU's: about sixty instructions an element, on an H100 four times the time of the memory, once a step on its smallest tensor.
// Share of either limit: not yet run.
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/map.cuh"
#include "kernels/image/normalize.h"

namespace lycia::cuda {
namespace {

template <typename T>
struct NormalizeMap {
  static constexpr int kVector = kWidest<T>;
  const std::uint8_t* in;
  T* out;
  int channels;
  double mean0, mean1, mean2, mean3, deviation0, deviation1, deviation2, deviation3;

  // Chosen, not indexed: an indexed argument would be copied to the stack.
  __device__ double Mean(int c) const { return c == 0 ? mean0 : c == 1 ? mean1 : c == 2 ? mean2 : mean3; }
  __device__ double Deviation(int c) const { return c == 0 ? deviation0 : c == 1 ? deviation1 : c == 2 ? deviation2 : deviation3; }

  template <int V>
  __device__ void Run(std::int64_t, std::int64_t i) const {
    const Pack<std::uint8_t, V> bytes = *reinterpret_cast<const Pack<std::uint8_t, V>*>(in + i);
    int c = static_cast<int>(i % channels);
    Values<Arithmetic<T>, V> x;
#pragma unroll
    for (int k = 0; k < V; ++k) {
      x[k] = static_cast<Arithmetic<T>>((static_cast<double>(bytes.at[k]) / 255 - Mean(c)) / Deviation(c));
      c = c + 1 == channels ? 0 : c + 1;
    }
    Store<V>(out + i, x);
  }
};

}  // namespace

void NormalizeImages(Stream& stream, const NormalizeImagesArgs& args) {
  static_assert(kMaxImageChannels == 4);
  const std::int64_t channels = args.in.shape.dim(-1);
  LYCIA_CHECK(channels >= 1 && channels <= kMaxImageChannels) << channels << " channels ";
  LYCIA_CHECK_EQ(args.in.elements(), args.out.elements());
  DispatchAnyStored(args.out.dtype, [&]<typename T>() {
    const NormalizeMap<T> f{.in = args.in.as<std::uint8_t>(),
                            .out = args.out.as<T>(),
                            .channels = static_cast<int>(channels),
                            .mean0 = args.mean[0],
                            .mean1 = args.mean[1],
                            .mean2 = args.mean[2],
                            .mean3 = args.mean[3],
                            .deviation0 = args.deviation[0],
                            .deviation1 = args.deviation[1],
                            .deviation2 = args.deviation[2],
                            .deviation3 = args.deviation[3]};
    LaunchMap(stream, "NormalizeImages", 1, args.in.elements(), {Flat(f.in), Flat(f.out)}, f);
  });
}

}  // namespace lycia::cuda
