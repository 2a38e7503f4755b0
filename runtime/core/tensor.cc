#include "runtime/core/tensor.h"

namespace lycia {

std::string Shape::ToString() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) text += (i ? ", " : "") + std::to_string((*this)[i]);
  return text + "]";
}

std::string TensorSpec::ToString() const { return std::string(Name(dtype)) + shape.ToString(); }

}  // namespace lycia
