// Embedding on CUDA. Forward, one pack of up to 16 bytes a thread (kernels/cuda/map.cuh): reads a token's row and its position's, writes
// their sum, 3 * n * C elements. Backward: token_sums_cuda.cuh, which reads dout once and reads and writes the rows of the tokens that
// occur; positions add over the samples, in their order. Bound by memory bandwidth; share of it: not yet run (tests/gpu measures it).
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/map.cuh"
#include "kernels/embedding/embedding.h"
#include "kernels/embedding/token_sums_cuda.cuh"

namespace lycia::cuda {
namespace {

struct Sizes {
  std::int64_t samples, tokens, features, vocabulary;
};

Sizes SizesOf(const ConstTensor& tokens, const ConstTensor& rows, const ConstTensor& wte, const ConstTensor& wpe,
              std::int64_t first_position) {
  LYCIA_CHECK(tokens.shape.rank() == 2 && rows.shape.rank() == 3) << "tokens " << tokens.shape.ToString() << " ";
  const Sizes size{tokens.shape[0], tokens.shape[1], rows.shape.dim(-1), wte.data == nullptr ? INT32_MAX : wte.shape[0]};
  LYCIA_CHECK_EQ(rows.elements(), size.samples * size.tokens * size.features);
  if (wte.data != nullptr) LYCIA_CHECK_EQ(wte.shape[1], size.features);
  if (wpe.data != nullptr) {
    LYCIA_CHECK_EQ(wpe.shape[1], size.features);
    LYCIA_CHECK_GE(wpe.shape[0], first_position + size.tokens);
  }
  return size;
}

template <typename T>
struct EmbeddingForwardMap {
  static constexpr int kVector = kWidest<T>;
  const std::int32_t* tokens;
  const T *wte, *wpe;  // wpe from the first position on, or null
  T* out;
  std::int64_t length, cols, vocabulary;
  FaultWord* fault;
  template <int V>
  __device__ void Run(std::int64_t place, std::int64_t col) const {
    const std::int32_t token = tokens[place];
    if (token < 0 || token >= vocabulary) {
      *fault = {1, token, static_cast<int>(place), static_cast<int>(vocabulary)};
      return;
    }
    Values<Arithmetic<T>, V> x = Load<V>(wte + token * cols + col);
    if (wpe != nullptr) {
      const Values<Arithmetic<T>, V> p = Load<V>(wpe + SplitIndex(place, length).column * cols + col);
#pragma unroll
      for (int k = 0; k < V; ++k) x[k] += p[k];
    }
    Store<V>(out + place * cols + col, x);
  }
};

// A row of the map is a position.
template <typename T>
struct PositionSumMap {
  using A = Arithmetic<T>;
  static constexpr int kVector = kWidest<A>;
  const T* dout;
  A* dwpe;  // from the first position on
  std::int64_t samples, length, cols;
  template <int V>
  __device__ void Run(std::int64_t t, std::int64_t col) const {
    Values<A, V> sum = Load<V>(dwpe + t * cols + col);
#pragma unroll 4
    for (std::int64_t b = 0; b < samples; ++b) {
      const Values<A, V> x = Load<V>(dout + (b * length + t) * cols + col);
#pragma unroll
      for (int k = 0; k < V; ++k) sum[k] += x[k];
    }
    Store<V>(dwpe + t * cols + col, sum);
  }
};

}  // namespace

void EmbeddingForward(Stream& stream, const EmbeddingForwardArgs& args) {
  const Sizes size = SizesOf(args.tokens, args.out, args.wte, args.wpe, args.first_position);
  const StreamTarget target = TargetOf(stream);
  DispatchAnyStored(args.out.dtype, [&]<typename T>() {
    const EmbeddingForwardMap<T> f{.tokens = args.tokens.as<std::int32_t>(),
                                   .wte = args.wte.as<T>(),
                                   .wpe = args.wpe.data == nullptr ? nullptr : args.wpe.as<T>() + args.first_position * size.features,
                                   .out = args.out.as<T>(),
                                   .length = size.tokens,
                                   .cols = size.features,
                                   .vocabulary = size.vocabulary,
                                   .fault = target.faults + static_cast<int>(Fault::kToken)};
    LaunchMap(stream, "EmbeddingForward", size.samples * size.tokens, size.features,
              {Rows(f.wte, f.cols), Rows(f.wpe, f.cols), Rows(f.out, f.cols)}, f);
  });
}

void EmbeddingBackward(Stream& stream, const EmbeddingBackwardArgs& args) {
  const Sizes size = SizesOf(args.tokens, args.dout, args.dwte, args.dwpe, args.first_position);
  DispatchAnyStored(args.dout.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T* dout = args.dout.as<T>();
    if (args.dwte.data != nullptr) {
      AddByToken<T>(stream, "EmbeddingBackward",
                    {.tokens = args.tokens.as<std::int32_t>(),
                     .n = size.samples * size.tokens,
                     .cols = size.features,
                     .vocabulary = size.vocabulary,
                     .table_rows = size.vocabulary},
                    dout, args.dwte.as<A>());
    }
    if (args.dwpe.data != nullptr) {
      const PositionSumMap<T> f{dout, args.dwpe.as<A>() + args.first_position * size.features, size.samples, size.tokens, size.features};
      LaunchMap(stream, "EmbeddingBackward", size.tokens, size.features, {Rows(f.dout, f.cols), Rows(f.dwpe, f.cols)}, f);
    }
  });
}

}  // namespace lycia::cuda
