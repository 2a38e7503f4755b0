// GridScratch: regions that all products of one layer use in turn, each as large as the largest need.
#ifndef LYCIA_PARALLEL_GRID_SCRATCH_H_
#define LYCIA_PARALLEL_GRID_SCRATCH_H_

#include <algorithm>
#include <array>
#include <cstdint>

#include "parallel/layer/layer.h"

namespace lycia {

class GridScratch {
 public:
  // kInput: a gathered X or an unreduced dX. kInputGradient: dX where X is gathered at the same time. kOutput: an unreduced Y or a
  // gathered dY. Weights have transfers.
  enum class Use : std::uint8_t { kInput, kInputGradient, kOutput };

  void Need(Use use, std::int64_t bytes) { bytes_[At(use)] = std::max(bytes_[At(use)], bytes); }
  // Once, after all needs are known.
  void Declare(LayerPlan& plan) {
    for (std::size_t i = 0; i < bytes_.size(); ++i) {
      if (bytes_[i] > 0) handles_[i] = plan.Workspace(bytes_[i]);
    }
  }
  Tensor View(const LayerContext& context, Use use, const TensorSpec& spec, std::int64_t offset = 0) const {
    LYCIA_CHECK_LE(offset + spec.bytes(), bytes_[At(use)]);
    char* data = static_cast<char*>(context.temporary(handles_[At(use)]).data);
    return {data == nullptr ? nullptr : data + offset, spec.dtype, spec.shape};
  }

 private:
  static std::size_t At(Use use) { return static_cast<std::size_t>(use); }
  std::array<std::int64_t, 3> bytes_{};
  std::array<ScratchHandle, 3> handles_;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_GRID_SCRATCH_H_
