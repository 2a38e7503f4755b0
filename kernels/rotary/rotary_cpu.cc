#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_loop.h"
#include "kernels/rotary/rotary.h"

namespace lycia::cpu {
namespace {

// The first position that the table does not have fails the stream; true if there is none.
bool PositionsInTable(Stream& stream, const RotaryArgs& args, std::int64_t count, std::int64_t table) {
  if (args.positions.data == nullptr) return true;
  const std::int32_t* positions = args.positions.as<std::int32_t>();
  for (std::int64_t i = 0; i < count; ++i) {
    if (positions[i] >= 0 && positions[i] < table) continue;
    stream.Fail(InvalidArgument("position ", positions[i], " at place ", i, " of the micro-batch is outside the rotary table of ", table,
                                " positions; raise the model's context"));
    return false;
  }
  return true;
}

}  // namespace

void FillRotaryTable(const RotaryTableArgs& args) {
  const Matrix matrix = AsMatrix(args.cosines);
  LYCIA_CHECK(args.sines.shape == args.cosines.shape && args.sines.dtype == args.cosines.dtype) << args.sines.shape.ToString() << " ";
  DispatchFloat(args.cosines.dtype, [&]<typename T>() {
    for (std::int64_t i = 0; i < matrix.cols; ++i) {
      const double frequency = std::pow(args.base, -static_cast<double>(i) / static_cast<double>(matrix.cols));
      for (std::int64_t p = 0; p < matrix.rows; ++p) {
        args.cosines.as<T>()[p * matrix.cols + i] = static_cast<T>(std::cos(static_cast<double>(p) * frequency));
        args.sines.as<T>()[p * matrix.cols + i] = static_cast<T>(std::sin(static_cast<double>(p) * frequency));
      }
    }
  });
}

void RotaryTable(Stream&, const RotaryTableArgs& args) { FillRotaryTable(args); }

void Rotary(Stream& stream, const RotaryArgs& args) {
  LYCIA_CHECK(args.rows.shape.rank() == 3 && args.cosines.shape.rank() == 2 && args.sines.shape == args.cosines.shape)
      << args.rows.shape.ToString() << " ";
  const std::int64_t T = args.rows.shape[1], width = args.rows.shape[2], count = args.rows.shape[0] * T;
  const std::int64_t table = args.cosines.shape[0], half = args.cosines.shape[1];
  LYCIA_CHECK(args.first_feature + args.heads * 2 * half <= width)
      << args.heads << " heads of " << 2 * half << " in rows of " << width << " ";
  if (args.positions.data != nullptr) {
    LYCIA_CHECK_EQ(args.positions.elements(), count);
  } else {
    LYCIA_CHECK(args.first_position >= 0 && args.first_position + T <= table) << T << " positions of a table of " << table << " ";
  }
  if (!PositionsInTable(stream, args, count, table)) return;
  DispatchStored(args.rows.dtype, [&]<typename N>() {
    using A = Arithmetic<N>;
    const A *cosines = args.cosines.as<A>(), *sines = args.sines.as<A>();
    N* rows = args.rows.as<N>();
    const Work work{.count = count, .bytes_each = args.heads * 4 * half * static_cast<std::int64_t>(sizeof(N))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<A, decltype(isa)::value>;
        for (std::int64_t i = begin; i < end; ++i) {
          const std::int64_t position =
              args.positions.data == nullptr ? args.first_position + i % T : static_cast<const std::int32_t*>(args.positions.data)[i];
          const A *c = cosines + position * half, *s = sines + position * half;
          for (std::int64_t h = 0; h < args.heads; ++h) {
            N *first = rows + i * width + args.first_feature + h * 2 * half, *second = first + half;
            ForEachVector<V>(half, [&](auto lanes) LYCIA_INLINE {
              const V a = lanes.Get(first), b = lanes.Get(second), cosine = lanes.Get(c);
              const V sine = args.inverse ? -lanes.Get(s) : lanes.Get(s);
              lanes.Put(first, a * cosine - b * sine);
              lanes.Put(second, b * cosine + a * sine);
            });
          }
        }
      });
    });
  });
}

}  // namespace lycia::cpu
