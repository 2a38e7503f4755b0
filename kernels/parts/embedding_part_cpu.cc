#include <cstring>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_loop.h"
#include "kernels/parts/embedding_part.h"

namespace lycia::cpu {
namespace {

// to += from.
template <typename V, typename T, typename S>
LYCIA_INLINE inline void AddRow(const T* from, std::int64_t count, S* to) {
  ForEachVector<V>(count, [&](auto lanes) LYCIA_INLINE { lanes.Put(to, lanes.Get(to) + lanes.Get(from)); });
}

}  // namespace

void EmbeddingPart(Stream& stream, const EmbeddingPartArgs& args) {
  const std::int64_t rows = args.table.shape[0], features = args.table.shape[1], count = args.tokens.elements();
  LYCIA_CHECK_EQ(args.out.elements(), count * features);
  LYCIA_CHECK(args.table.dtype == args.out.dtype) << "table of " << Name(args.table.dtype) << " into " << Name(args.out.dtype) << " ";
  const std::int32_t* tokens = args.tokens.as<std::int32_t>();
  for (std::int64_t i = 0; i < count; ++i) {
    if (tokens[i] >= 0 && tokens[i] < args.vocabulary) continue;
    return stream.Fail(InvalidArgument("token ", tokens[i], " at place ", i, " of the micro-batch is outside the vocabulary of ",
                                       args.vocabulary, "; tokenize the data with the model's tokenizer, or raise the model's vocabulary"));
  }
  const auto row_bytes = static_cast<std::size_t>(features * SizeOf(args.table.dtype));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t row = tokens[i] - args.first;
    char* out = static_cast<char*>(args.out.data) + static_cast<std::size_t>(i) * row_bytes;
    if (row >= 0 && row < rows) {
      std::memcpy(out, static_cast<const char*>(args.table.data) + static_cast<std::size_t>(row) * row_bytes, row_bytes);
    } else {
      std::memset(out, 0, row_bytes);
    }
  }
}

void EmbeddingPartBackward(Stream& stream, const EmbeddingPartBackwardArgs& args) {
  const std::int64_t rows = args.dtable.shape[0], features = args.dtable.shape[1], count = args.tokens.elements();
  LYCIA_CHECK_EQ(args.dout.elements(), count * features);
  const std::int32_t* tokens = args.tokens.as<std::int32_t>();
  DispatchStored(args.dout.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T* dout = args.dout.as<T>();
    A* dtable = args.dtable.as<A>();
    // Threads take features: each sums repeated tokens in their order.
    const Work work{.count = features, .unit = kElementUnit, .bytes_each = count * static_cast<std::int64_t>(sizeof(T) + 2 * sizeof(A))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        for (std::int64_t i = 0; i < count; ++i) {
          const std::int64_t row = tokens[i] - args.first;
          if (row < 0 || row >= rows) continue;
          AddRow<Vector<A, decltype(isa)::value>>(dout + i * features + begin, end - begin, dtable + row * features + begin);
        }
      });
    });
  });
}

void AddPositions(Stream& stream, const AddPositionsArgs& args) {
  const Matrix matrix = AsMatrix(args.rows);
  LYCIA_CHECK(args.table.shape[1] == matrix.cols && args.table.shape[0] >= args.position.length) << args.table.shape.ToString() << " ";
  DispatchStored(args.rows.dtype, [&]<typename T>() {
    const T* table = args.table.as<T>();
    T* rows = args.rows.as<T>();
    const Work work{.count = matrix.rows, .bytes_each = 2 * matrix.cols * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        for (std::int64_t r = begin; r < end; ++r) {
          const std::int64_t position = (args.position.first_row + r) % args.position.length;
          AddRow<Vector<Arithmetic<T>, decltype(isa)::value>>(table + position * matrix.cols, matrix.cols, rows + r * matrix.cols);
        }
      });
    });
  });
}

void AddPositionsBackward(Stream& stream, const AddPositionsBackwardArgs& args) {
  const ConstMatrix matrix = AsMatrix(args.drows);
  LYCIA_CHECK(args.dtable.shape[1] == matrix.cols && args.dtable.shape[0] >= args.position.length) << args.dtable.shape.ToString() << " ";
  DispatchStored(args.drows.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T* drows = args.drows.as<T>();
    A* dtable = args.dtable.as<A>();
    const Work work{
        .count = matrix.cols, .unit = kElementUnit, .bytes_each = matrix.rows * static_cast<std::int64_t>(sizeof(T) + 2 * sizeof(A))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        for (std::int64_t r = 0; r < matrix.rows; ++r) {
          const std::int64_t position = (args.position.first_row + r) % args.position.length;
          AddRow<Vector<A, decltype(isa)::value>>(drows + r * matrix.cols + begin, end - begin, dtable + position * matrix.cols + begin);
        }
      });
    });
  });
}

}  // namespace lycia::cpu
