#include "kernels/parts/embedding_part.h"

namespace lycia::cpu {
namespace {

template <typename T>
void AddRow(const T* from, std::int64_t features, T* to) {
  for (std::int64_t c = 0; c < features; ++c) to[c] += from[c];
}

}  // namespace

void EmbeddingPart(Stream& stream, const EmbeddingPartArgs& args) {
  const std::int64_t rows = args.table.shape[0], features = args.table.shape[1], count = args.tokens.elements();
  LYCIA_CHECK_EQ(args.out.elements(), count * features);
  const std::int32_t* tokens = args.tokens.as<std::int32_t>();
  for (std::int64_t i = 0; i < count; ++i) {
    if (tokens[i] >= 0 && tokens[i] < args.vocabulary) continue;
    return stream.Fail(InvalidArgument("token ", tokens[i], " at place ", i, " of the micro-batch is outside the vocabulary of ",
                                       args.vocabulary, "; tokenize the data with the model's tokenizer, or raise the model's vocabulary"));
  }
  DispatchFloat(args.out.dtype, [&]<typename T>() {
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t row = tokens[i] - args.first;
      const T* from = row >= 0 && row < rows ? args.table.as<T>() + row * features : nullptr;
      T* out = args.out.as<T>() + i * features;
      for (std::int64_t c = 0; c < features; ++c) out[c] = from == nullptr ? T(0) : from[c];
    }
  });
}

void EmbeddingPartBackward(const EmbeddingPartBackwardArgs& args) {
  const std::int64_t rows = args.dtable.shape[0], features = args.dtable.shape[1], count = args.tokens.elements();
  LYCIA_CHECK_EQ(args.dout.elements(), count * features);
  const std::int32_t* tokens = args.tokens.as<std::int32_t>();
  DispatchFloat(args.dout.dtype, [&]<typename T>() {
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t row = tokens[i] - args.first;
      if (row >= 0 && row < rows) AddRow(args.dout.as<T>() + i * features, features, args.dtable.as<T>() + row * features);
    }
  });
}

void AddPositions(const AddPositionsArgs& args) {
  const Matrix rows = AsMatrix(args.rows);
  LYCIA_CHECK(args.table.shape[1] == rows.cols && args.table.shape[0] >= args.position.length) << args.table.shape.ToString() << " ";
  DispatchFloat(args.rows.dtype, [&]<typename T>() {
    for (std::int64_t r = 0; r < rows.rows; ++r) {
      const std::int64_t position = (args.position.first_row + r) % args.position.length;
      AddRow(args.table.as<T>() + position * rows.cols, rows.cols, args.rows.as<T>() + r * rows.cols);
    }
  });
}

void AddPositionsBackward(const AddPositionsBackwardArgs& args) {
  const ConstMatrix rows = AsMatrix(args.drows);
  LYCIA_CHECK(args.dtable.shape[1] == rows.cols && args.dtable.shape[0] >= args.position.length) << args.dtable.shape.ToString() << " ";
  DispatchFloat(args.drows.dtype, [&]<typename T>() {
    for (std::int64_t r = 0; r < rows.rows; ++r) {
      const std::int64_t position = (args.position.first_row + r) % args.position.length;
      AddRow(args.drows.as<T>() + r * rows.cols, rows.cols, args.dtable.as<T>() + position * rows.cols);
    }
  });
}

}  // namespace lycia::cpu
