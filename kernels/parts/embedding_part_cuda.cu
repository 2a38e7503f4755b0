// Embedding of a part of the vocabulary, positions of a range of tokens, and bias on CUDA: one pack of up to 16 bytes a thread
// (kernels/cuda/map.cuh), sums by token as in the whole embedding. Bytes moved, in elements: EmbeddingPart 2 * n * C, AddPositions and
// AddBias as much; the tables stay in the caches as far as they fit. Bound by memory bandwidth; share of it: not yet run.
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/map.cuh"
#include "kernels/embedding/token_sums_cuda.cuh"
#include "kernels/parts/bias.h"
#include "kernels/parts/embedding_part.h"

namespace lycia::cuda {
namespace {

template <typename T>
struct EmbeddingPartMap {
  static constexpr int kVector = kWidest<T>;
  const std::int32_t* tokens;
  const T* table;
  T* out;
  std::int64_t first, table_rows, vocabulary, cols;
  FaultWord* fault;
  template <int V>
  __device__ void Run(std::int64_t place, std::int64_t col) const {
    const std::int32_t token = tokens[place];
    if (token < 0 || token >= vocabulary) {
      *fault = {1, token, static_cast<int>(place), static_cast<int>(vocabulary)};
      return;
    }
    const std::int64_t row = token - first;
    Values<Arithmetic<T>, V> x{};
    if (row >= 0 && row < table_rows) x = Load<V>(table + row * cols + col);
    Store<V>(out + place * cols + col, x);
  }
};

template <typename T>
struct AddPositionsMap {
  static constexpr int kVector = kWidest<T>;
  T* rows;
  const T* table;
  std::int64_t first_row, length, cols;
  template <int V>
  __device__ void Run(std::int64_t row, std::int64_t col) const {
    Values<Arithmetic<T>, V> x = Load<V>(rows + row * cols + col);
    const Values<Arithmetic<T>, V> p = Load<V>(table + SplitIndex(first_row + row, length).column * cols + col);
#pragma unroll
    for (int k = 0; k < V; ++k) x[k] += p[k];
    Store<V>(rows + row * cols + col, x);
  }
};

// A row of the map is a position: its rows are added in their order.
template <typename T>
struct AddPositionsBackwardMap {
  using A = Arithmetic<T>;
  static constexpr int kVector = kWidest<A>;
  const T* drows;
  A* dtable;
  std::int64_t first_row, length, count, cols;
  template <int V>
  __device__ void Run(std::int64_t position, std::int64_t col) const {
    const std::int64_t at_first = SplitIndex(first_row, length).column;
    Values<A, V> sum = Load<V>(dtable + position * cols + col);
    for (std::int64_t r = position - at_first + (position < at_first ? length : 0); r < count; r += length) {
      const Values<A, V> x = Load<V>(drows + r * cols + col);
#pragma unroll
      for (int k = 0; k < V; ++k) sum[k] += x[k];
    }
    Store<V>(dtable + position * cols + col, sum);
  }
};

template <typename T>
struct AddBiasMap {
  static constexpr int kVector = kWidest<T>;
  T* rows;
  const T* bias;
  std::int64_t cols;
  template <int V>
  __device__ void Run(std::int64_t row, std::int64_t col) const {
    Values<Arithmetic<T>, V> x = Load<V>(rows + row * cols + col);
    const Values<Arithmetic<T>, V> b = Load<V>(bias + col);
#pragma unroll
    for (int k = 0; k < V; ++k) x[k] += b[k];
    Store<V>(rows + row * cols + col, x);
  }
};

}  // namespace

void EmbeddingPart(Stream& stream, const EmbeddingPartArgs& args) {
  const std::int64_t rows = args.table.shape[0], features = args.table.shape[1], count = args.tokens.elements();
  LYCIA_CHECK_EQ(args.out.elements(), count * features);
  LYCIA_CHECK(args.table.dtype == args.out.dtype) << "table of " << Name(args.table.dtype) << " into " << Name(args.out.dtype) << " ";
  const StreamTarget target = TargetOf(stream);
  DispatchAnyStored(args.table.dtype, [&]<typename T>() {
    const EmbeddingPartMap<T> f{.tokens = args.tokens.as<std::int32_t>(),
                                .table = args.table.as<T>(),
                                .out = args.out.as<T>(),
                                .first = args.first,
                                .table_rows = rows,
                                .vocabulary = args.vocabulary,
                                .cols = features,
                                .fault = target.faults + static_cast<int>(Fault::kToken)};
    LaunchMap(stream, "EmbeddingPart", count, features, {Rows(f.table, features), Rows(f.out, features)}, f);
  });
}

void EmbeddingPartBackward(Stream& stream, const EmbeddingPartBackwardArgs& args) {
  const std::int64_t rows = args.dtable.shape[0], features = args.dtable.shape[1], count = args.tokens.elements();
  LYCIA_CHECK_EQ(args.dout.elements(), count * features);
  DispatchAnyStored(args.dout.dtype, [&]<typename T>() {
    AddByToken<T>(stream, "EmbeddingPartBackward",
                  {.tokens = args.tokens.as<std::int32_t>(),
                   .n = count,
                   .cols = features,
                   .vocabulary = INT32_MAX,  // the forward has looked
                   .first = args.first,
                   .table_rows = rows},
                  args.dout.as<T>(), args.dtable.as<Arithmetic<T>>());
  });
}

void AddPositions(Stream& stream, const AddPositionsArgs& args) {
  const Matrix rows = AsMatrix(args.rows);
  LYCIA_CHECK(args.table.shape[1] == rows.cols && args.table.shape[0] >= args.position.length) << args.table.shape.ToString() << " ";
  DispatchAnyStored(args.rows.dtype, [&]<typename T>() {
    const AddPositionsMap<T> f{args.rows.as<T>(), args.table.as<T>(), args.position.first_row, args.position.length, rows.cols};
    LaunchMap(stream, "AddPositions", rows.rows, rows.cols, {Rows(f.rows, rows.cols), Rows(f.table, rows.cols)}, f);
  });
}

void AddPositionsBackward(Stream& stream, const AddPositionsBackwardArgs& args) {
  const ConstMatrix rows = AsMatrix(args.drows);
  LYCIA_CHECK(args.dtable.shape[1] == rows.cols && args.dtable.shape[0] >= args.position.length) << args.dtable.shape.ToString() << " ";
  DispatchAnyStored(args.drows.dtype, [&]<typename T>() {
    const AddPositionsBackwardMap<T> f{
        args.drows.as<T>(), args.dtable.as<Arithmetic<T>>(), args.position.first_row, args.position.length, rows.rows, rows.cols};
    LaunchMap(stream, "AddPositionsBackward", args.position.length, rows.cols, {Rows(f.drows, rows.cols), Rows(f.dtable, rows.cols)}, f);
  });
}

void AddBias(Stream& stream, const AddBiasArgs& args) {
  const Matrix rows = AsMatrix(args.rows);
  LYCIA_CHECK_EQ(args.bias.elements(), rows.cols);
  DispatchAnyStored(args.rows.dtype, [&]<typename T>() {
    const AddBiasMap<T> f{args.rows.as<T>(), args.bias.as<T>(), rows.cols};
    LaunchMap(stream, "AddBias", rows.rows, rows.cols, {Rows(f.rows, rows.cols), Rows(f.bias, rows.cols)}, f);
  });
}

}  // namespace lycia::cuda
