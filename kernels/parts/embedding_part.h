// Embedding where a rank holds a part of the vocabulary, and position embedding where it holds a range of the micro-batch's tokens.
//
// A token of another part gets a row of zeros, so that the sum over the parts is the embedding.
#ifndef LYCIA_KERNELS_PARTS_EMBEDDING_PART_H_
#define LYCIA_KERNELS_PARTS_EMBEDDING_PART_H_

#include <cstdint>

#include "kernels/dispatch.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// Tables and rows are of one type, bf16, f32 or f64, and so are the tables' gradients, but f32 for bf16.
//
// n tokens, C features, rows [first, first + table rows) of the vocabulary. A token outside [0, vocabulary) fails the stream with
// InvalidArgument.
struct EmbeddingPartArgs {
  ConstTensor tokens;  // [n...] i32
  ConstTensor table;   // [Vp, C]
  std::int64_t first = 0;
  std::int64_t vocabulary = 0;
  Tensor out;  // [n, C]
};
struct EmbeddingPartBackwardArgs {
  ConstTensor tokens;  // [n...] i32
  ConstTensor dout;    // [n, C]
  std::int64_t first = 0;
  Tensor dtable;  // [Vp, C], +=, token by token
};

// Row r is token first_row + r of sequences of `length` tokens that lie one after the other: its position is (first_row + r) % length.
struct PositionRows {
  std::int64_t first_row = 0;
  std::int64_t length = 0;
};
struct AddPositionsArgs {
  Tensor rows;        // [n, C], += table[position]
  ConstTensor table;  // [>= length, C]
  PositionRows position;
};
struct AddPositionsBackwardArgs {
  ConstTensor drows;  // [n, C]
  Tensor dtable;      // [>= length, C], +=
  PositionRows position;
};

namespace cpu {
void EmbeddingPart(Stream& stream, const EmbeddingPartArgs& args);
void EmbeddingPartBackward(Stream& stream, const EmbeddingPartBackwardArgs& args);
void AddPositions(Stream& stream, const AddPositionsArgs& args);
void AddPositionsBackward(Stream& stream, const AddPositionsBackwardArgs& args);
}  // namespace cpu
namespace cuda {
void EmbeddingPart(Stream& stream, const EmbeddingPartArgs& args);
void EmbeddingPartBackward(Stream& stream, const EmbeddingPartBackwardArgs& args);
void AddPositions(Stream& stream, const AddPositionsArgs& args);
void AddPositionsBackward(Stream& stream, const AddPositionsBackwardArgs& args);
}  // namespace cuda

inline void EmbeddingPart(Stream& stream, const EmbeddingPartArgs& args) {
  Dispatch(
      stream, [&] { cpu::EmbeddingPart(stream, args); }, [&] { cuda::EmbeddingPart(stream, args); });
}
inline void EmbeddingPartBackward(Stream& stream, const EmbeddingPartBackwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::EmbeddingPartBackward(stream, args); }, [&] { cuda::EmbeddingPartBackward(stream, args); });
}
inline void AddPositions(Stream& stream, const AddPositionsArgs& args) {
  Dispatch(
      stream, [&] { cpu::AddPositions(stream, args); }, [&] { cuda::AddPositions(stream, args); });
}
inline void AddPositionsBackward(Stream& stream, const AddPositionsBackwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::AddPositionsBackward(stream, args); }, [&] { cuda::AddPositionsBackward(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_PARTS_EMBEDDING_PART_H_
