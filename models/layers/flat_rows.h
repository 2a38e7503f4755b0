// A tensor [N, ...] as [N, F], all features of a sample in one row.
#ifndef LYCIA_MODELS_LAYERS_FLAT_ROWS_H_
#define LYCIA_MODELS_LAYERS_FLAT_ROWS_H_

#include "runtime/core/tensor.h"

namespace lycia {

inline Tensor FlatRows(const Tensor& tensor) {
  const std::int64_t N = tensor.shape.dim(0);
  return {tensor.data, tensor.dtype, {N, tensor.elements() / N}};
}

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_FLAT_ROWS_H_
