// The order in which a stage's calls use the transfers of its layers, and where those lie in memory.
//
//   Forward         layers in order, each one's transfers as declared
//   Backward        in reverse; recomputed forwards where they run. A weight gradient follows its input gradient in the weight's place
//
//   BackwardInput   the same without what only the weight gradient needs
//
//   BackwardWeight  in reverse, what sends something back
//
// Places are the two ends of one region, used in turn: the region holds any two neighbours of an order, here 5 and 4 of the sizes
// 2 5 4 1, or only the largest where no transfer overlaps:
//
//   |2 2 . . . . . . .|      |. . . . 5 5 5 5 5|      |4 4 4 4 . . . . .|      |. . . . . . . . 1|
#ifndef LYCIA_PARALLEL_PIPELINE_TRANSFER_SEQUENCE_H_
#define LYCIA_PARALLEL_PIPELINE_TRANSFER_SEQUENCE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/layer/layer.h"
#include "parallel/layer/transfer.h"
#include "parallel/pipeline/stage_calls.h"

namespace lycia {

struct TransferSequence {
  std::vector<TransferStep> forward, backward, backward_input, backward_weight;
  std::int64_t bytes = 0;  // of the region
};

TransferSequence SequenceTransfers(std::span<const LayerPlan> plans, const StageCalls& calls);

}  // namespace lycia

#endif  // LYCIA_PARALLEL_PIPELINE_TRANSFER_SEQUENCE_H_
