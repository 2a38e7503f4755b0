// The packed weights of a stage: what its layers declared with LayerPlan::Packed, for kernels that read weights in another order than they
// lie in.
#ifndef LYCIA_PARALLEL_PIPELINE_STAGE_PACKS_H_
#define LYCIA_PARALLEL_PIPELINE_STAGE_PACKS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/layer/layer.h"

namespace lycia {

class StagePacks {
 public:
  // Of all layers. 0 where the device's kernels read weights as they are.
  static std::int64_t Bytes(std::span<const LayerPlan> plans, DeviceKind device);

  // Once. memory: as many bytes; null: the stage holds none. plans outlives this.
  void Bind(std::span<const LayerPlan> plans, DeviceKind device, void* memory);

  // The weights may have changed: Refresh packs them again. So it is at first.
  void MarkStale() { stale_ = true; }
  // parameters: [layer].
  void Refresh(Stream& stream, std::span<const std::vector<Tensor>> parameters);

  // By layer; empty: none.
  std::span<const PackedMatrix> matrices(std::size_t layer) const { return matrices_[layer]; }
  std::span<const PackedConvWeight> convs(std::size_t layer) const { return convs_[layer]; }

 private:
  std::span<const LayerPlan> plans_;
  std::vector<std::vector<PackedMatrix>> matrices_;  // [layer]
  std::vector<std::vector<PackedConvWeight>> convs_;
  bool stale_ = true;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_PIPELINE_STAGE_PACKS_H_
