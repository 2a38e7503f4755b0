// StageLayout: where each tensor of a stage lives, decided from what its layers declared, before any memory exists.
//
//   slots       stash    inputs (and kept outputs) of layers and kept tensors that BackwardWeight reads; all that is kept where the backward is never split
//               input    the same that only BackwardInput reads, and labels
//               handoff  handoffs; with recompute also what BackwardInput computed again and BackwardWeight reads
//   transient   [two edges][two edge gradients][scratch][transfers][recomputed tensors][handoffs of a full backward]
#ifndef LYCIA_PARALLEL_PIPELINE_STAGE_LAYOUT_H_
#define LYCIA_PARALLEL_PIPELINE_STAGE_LAYOUT_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "parallel/layer/layer.h"
#include "parallel/pipeline/stage_calls.h"
#include "parallel/pipeline/transfer_sequence.h"

namespace lycia {

enum class Area : std::uint8_t { kStash, kInput, kHandoff, kTransient };
inline constexpr std::size_t kNumAreas = 4;

struct Place {
  Area area = Area::kTransient;
  std::int64_t offset = 0;
};

struct StageLayout {
  using Options = StageCalls;
  // One place for every tensor, by layer.
  struct Places {
    std::vector<std::vector<Place>> in, out, dout, din, kept, handoffs, scratch;
    Place labels;
  };
  Places full;   // of Forward and Backward
  Places split;  // of BackwardInput and BackwardWeight: what Forward keeps lies where it does in `full`

  bool keeps_output = false;  // the output of the stage stands in a slot, and is copied from there

  TransferSequence transfers;
  Place transfers_at;

  std::array<std::int64_t, kNumAreas> bytes{};  // of one slot of each kind; of the transient memory
  std::int64_t bytes_of(Area area) const { return bytes[static_cast<std::size_t>(area)]; }
};

// edges[i] is the input of layer i, the last the output of the stage; labels of rank 0: none are read.
StageLayout LayOut(std::span<const LayerPlan> plans, std::span<const std::vector<TensorSpec>> edges, const TensorSpec& labels,
                   const StageLayout::Options& options);

}  // namespace lycia

#endif  // LYCIA_PARALLEL_PIPELINE_STAGE_LAYOUT_H_
