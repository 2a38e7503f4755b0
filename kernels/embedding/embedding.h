// Token and position embedding: out[b, t] = wte[tokens[b, t]] + wpe[first_position + t].
#ifndef LYCIA_KERNELS_EMBEDDING_EMBEDDING_H_
#define LYCIA_KERNELS_EMBEDDING_EMBEDDING_H_

#include <cstdint>

#include "kernels/dispatch.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// Tables and rows are of one type, bf16, f32 or f64, and so are the tables' gradients, but f32 for bf16. The sum of the two rows is rounded
// once.
//
// B samples, T positions, C features, V vocabulary. A token outside [0, V) fails the stream with InvalidArgument, naming sample and
// position (on CUDA when it is next waited for, naming the place).
struct EmbeddingForwardArgs {
  ConstTensor tokens;  // [B, T] i32
  ConstTensor wte;     // [V, C]
  ConstTensor wpe;     // [>= first_position + T, C]; absent when data is null
  Tensor out;          // [B, T, C]
  std::int64_t first_position = 0;
};

// Added token by token in the order of (b, t): repeated tokens always sum in the same order.
struct EmbeddingBackwardArgs {
  ConstTensor tokens;  // [B, T] i32
  ConstTensor dout;    // [B, T, C]
  Tensor dwte;         // [V, C], +=; f32 for dout in bf16; absent when data is null
  Tensor dwpe;         // [>= first_position + T, C], +=; likewise
  std::int64_t first_position = 0;
};

namespace cpu {
void EmbeddingForward(Stream& stream, const EmbeddingForwardArgs& args);
void EmbeddingBackward(Stream& stream, const EmbeddingBackwardArgs& args);
}  // namespace cpu
namespace cuda {
void EmbeddingForward(Stream& stream, const EmbeddingForwardArgs& args);
void EmbeddingBackward(Stream& stream, const EmbeddingBackwardArgs& args);
}  // namespace cuda

inline void EmbeddingForward(Stream& stream, const EmbeddingForwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::EmbeddingForward(stream, args); }, [&] { cuda::EmbeddingForward(stream, args); });
}
inline void EmbeddingBackward(Stream& stream, const EmbeddingBackwardArgs& args) {
  Dispatch(
      stream, [&] { cpu::EmbeddingBackward(stream, args); }, [&] { cuda::EmbeddingBackward(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_EMBEDDING_EMBEDDING_H_
