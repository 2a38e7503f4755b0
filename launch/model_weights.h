// Weights in files: safetensors with Hugging Face's GPT-2 names, which are ours (docs/numerics.md).
#ifndef LYCIA_LAUNCH_MODEL_WEIGHTS_H_
#define LYCIA_LAUNCH_MODEL_WEIGHTS_H_

#include <string>
#include <vector>

#include "launch/checkpoint/checkpoint.h"
#include "launch/trainer.h"
#include "models/gpt.h"
#include "runtime/io/safetensors.h"

namespace lycia {

// What this rank must save and can load: its own shards of weights and optimizer states, as "weight/NAME", "adam_m/NAME", "adam_v/NAME",
// and the states that it owns, as "state/NAME".
std::vector<Piece> CheckpointPieces(Trainer& trainer);

// This rank's own shards of weights and optimizer states, and all its states, from a checkpoint of any layout; Trainer::PublishWeights must
// follow, once all ranks have theirs.
Status LoadCheckpoint(const Checkpoint& checkpoint, Trainer& trainer);

// The same of weights from a model file or folder (SafetensorsModel), with or without the prefix "transformer.". Buffers that
// GPT-2 files carry (attn.bias, attn.masked_bias) are ignored. InvalidArgument: a missing tensor, another shape, or a type that is not
// F32, F64, F16 or BF16; learned positions (wpe.weight) for a model without. Random values never stand in.
Status LoadModelWeights(const std::string& path, Trainer& trainer);
// The last of these mistakes: such a model's weights for one whose positions are rotary.
Status RefuseLearnedPositions(const SafetensorsModel& model);
// One tensor of such a model as f32 or f64.
Status ReadModelTensor(const SafetensorsModel& model, const std::string& name, const Shape& shape, const Tensor& to);

// Writes the weights and states of a checkpoint as one safetensors file; one rank calls it. The tied head has no tensor of its own, as in
// GPT-2's files.
Status ExportModel(const Checkpoint& checkpoint, const std::string& path);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_MODEL_WEIGHTS_H_
