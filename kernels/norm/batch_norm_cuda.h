// What both halves of batch norm on CUDA check of their operands.
#ifndef LYCIA_KERNELS_NORM_BATCH_NORM_CUDA_H_
#define LYCIA_KERNELS_NORM_BATCH_NORM_CUDA_H_

#include <cstdint>

#include "runtime/core/check.h"
#include "runtime/core/tensor.h"

namespace lycia::cuda {

// Rows [G * rows, C] of G groups.
struct GroupShape {
  std::int64_t groups, rows, C;
};
inline GroupShape GroupsOf(const ConstTensor& in, const ConstTensor& statistic) {
  const std::int64_t C = in.shape.dim(-1), all = C == 0 ? 0 : in.elements() / C;
  LYCIA_CHECK(C > 0 && statistic.elements() % C == 0 && statistic.elements() > 0)
      << "batch norm: statistics of " << statistic.elements() << " numbers for " << C << " channels ";
  const std::int64_t groups = statistic.elements() / C;
  LYCIA_CHECK_EQ(all % groups, 0) << "batch norm: rows of " << groups << " groups ";
  return {groups, all / groups, C};
}
inline void CheckElements(const char* name, const ConstTensor& tensor, std::int64_t elements) {
  LYCIA_CHECK(tensor.elements() == elements) << "batch norm: " << name << " has " << tensor.elements() << " elements, not " << elements
                                             << " ";
}
template <typename T>
const T* DataOf(const ConstTensor& tensor) {
  return tensor.data == nullptr ? nullptr : tensor.as<T>();
}

}  // namespace lycia::cuda

#endif  // LYCIA_KERNELS_NORM_BATCH_NORM_CUDA_H_
