// Softmax cross-entropy where a rank holds a part of the vocabulary, in steps between which ranks reduce one number a row, then two:
// RowLargest -> all-reduce (largest) -> RowExpSums -> all-reduce (sum) -> CrossEntropyPart.
//
// Logits and their gradient are of one type, bf16, f32 or f64; what ranks reduce is too, but f32 for bf16.
// R rows (tokens), Vp columns in this part, of which the first `valid` exist and the others are padding: no logit, zero gradient.
#ifndef LYCIA_KERNELS_PARTS_LOSS_PART_H_
#define LYCIA_KERNELS_PARTS_LOSS_PART_H_

#include <cstdint>

#include "kernels/dispatch.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// Columns [first, first + valid) of a vocabulary.
struct VocabularyPart {
  std::int64_t first = 0;
  std::int64_t valid = 0;
  std::int64_t vocabulary = 0;
};

struct RowLargestArgs {
  ConstTensor logits;  // [R, Vp]
  VocabularyPart part;
  Tensor largest;  // [R]; -infinity where the part is all padding
};
// A label outside [-1, vocabulary) fails the stream with InvalidArgument.
struct RowExpSumsArgs {
  ConstTensor logits;   // [R, Vp]
  ConstTensor labels;   // [R] i32
  ConstTensor largest;  // [R], over the whole vocabulary
  VocabularyPart part;
  Tensor sums;  // [2, R], = sum of exp(logit - largest); the label's logit, 0 where another part has it
};
struct CrossEntropyPartArgs {
  ConstTensor logits;   // [R, Vp]
  ConstTensor labels;   // [R] i32; -1 is not a loss token
  ConstTensor largest;  // [R]
  ConstTensor sums;     // [2, R], over the whole vocabulary
  VocabularyPart part;
  double scale = 1;  // 1 / loss tokens of the global batch
  Tensor dlogits;    // [R, Vp], = scale (softmax - onehot); may be `logits`; absent when data is null
  // [samples], = sum of the losses of a sample's rows in f64, in row order; row r is of sample (first_row + r) / length. Zeros where
  // another rank that has these rows reports them. Absent when null.
  double* sample_losses = nullptr;
  double* sample_hits = nullptr;  // the same of its labels whose logit is as large as any of the whole row (kernels/loss/label_hits.h)
  std::int64_t samples = 0;
  bool reports = true;
  std::int64_t first_row = 0;
  std::int64_t length = 0;
};

namespace cpu {
void RowLargest(Stream& stream, const RowLargestArgs& args);
void RowExpSums(Stream& stream, const RowExpSumsArgs& args);
void CrossEntropyPart(Stream& stream, const CrossEntropyPartArgs& args);
}  // namespace cpu
namespace cuda {
void RowLargest(Stream& stream, const RowLargestArgs& args);
void RowExpSums(Stream& stream, const RowExpSumsArgs& args);
void CrossEntropyPart(Stream& stream, const CrossEntropyPartArgs& args);
}  // namespace cuda

inline void RowLargest(Stream& stream, const RowLargestArgs& args) {
  Dispatch(
      stream, [&] { cpu::RowLargest(stream, args); }, [&] { cuda::RowLargest(stream, args); });
}
inline void RowExpSums(Stream& stream, const RowExpSumsArgs& args) {
  Dispatch(
      stream, [&] { cpu::RowExpSums(stream, args); }, [&] { cuda::RowExpSums(stream, args); });
}
inline void CrossEntropyPart(Stream& stream, const CrossEntropyPartArgs& args) {
  Dispatch(
      stream, [&] { cpu::CrossEntropyPart(stream, args); }, [&] { cuda::CrossEntropyPart(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_PARTS_LOSS_PART_H_
