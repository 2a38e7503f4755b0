// A byte has 256 values: each channel's results stand in a table, made anew in every call, which is small beside an image.
#include "kernels/cpu/parallel.h"
#include "kernels/image/normalize.h"

namespace lycia::cpu {
namespace {

template <typename T>
void Run(Stream& stream, const NormalizeImagesArgs& args, std::int64_t channels) {
  std::array<std::array<T, 256>, kMaxImageChannels> table;
  for (std::int64_t c = 0; c < channels; ++c) {
    const auto at = static_cast<std::size_t>(c);
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const double value = (static_cast<double>(byte) / 255 - args.mean[at]) / args.deviation[at];
      table[at][byte] = static_cast<T>(static_cast<Arithmetic<T>>(value));
    }
  }
  const std::uint8_t* in = args.in.as<std::uint8_t>();
  T* out = args.out.as<T>();
  const Work work{.count = args.in.elements() / channels, .bytes_each = channels * static_cast<std::int64_t>(1 + sizeof(T))};
  ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t pixel = begin; pixel < end; ++pixel) {
      for (std::int64_t c = 0; c < channels; ++c) {
        const std::int64_t i = pixel * channels + c;
        out[i] = table[static_cast<std::size_t>(c)][in[i]];
      }
    }
  });
}

}  // namespace

void NormalizeImages(Stream& stream, const NormalizeImagesArgs& args) {
  const std::int64_t channels = args.in.shape.dim(-1);
  LYCIA_CHECK(channels >= 1 && channels <= kMaxImageChannels) << channels << " channels ";
  LYCIA_CHECK_EQ(args.in.elements(), args.out.elements());
  DispatchStored(args.out.dtype, [&]<typename T>() { Run<T>(stream, args, channels); });
}

}  // namespace lycia::cpu
