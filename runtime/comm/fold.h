// The one sum between ranks: a left fold in rank order, so that it is bitwise the same wherever and however often it is made.
#ifndef LYCIA_RUNTIME_COMM_FOLD_H_
#define LYCIA_RUNTIME_COMM_FOLD_H_

#include <cstdint>
#include <span>

#include "runtime/core/dtype.h"

namespace lycia {

enum class Fold : std::uint8_t { kSum, kLargest };

// bf16, f16, f32, f64, i64.
bool CanFold(DType dtype);

// out[i] (+)= ((sources[0][i] + sources[1][i]) + sources[2][i]) + ..., each addition rounded to dtype; with `accumulate` the sum is added
// to out[i] last. bf16 and f16 are added in f32 and rounded once, when it is written. Fold::kLargest takes the largest instead of the sum,
// and never accumulates. A source may be `out` itself.
void LeftFold(DType dtype, std::span<const void* const> sources, std::int64_t elements, Fold fold, bool accumulate, void* out);

}  // namespace lycia

#endif  // LYCIA_RUNTIME_COMM_FOLD_H_
