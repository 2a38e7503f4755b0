// Weights in files: safetensors with Hugging Face's names. GPT-2's are ours (docs/numerics.md), Llama's are llama_files.h's.
#ifndef LYCIA_LAUNCH_MODEL_WEIGHTS_H_
#define LYCIA_LAUNCH_MODEL_WEIGHTS_H_

#include <string>
#include <vector>

#include "launch/checkpoint/checkpoint.h"
#include "launch/trainer.h"
#include "models/model.h"
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
// F32, F64, F16 or BF16; what CheckModelFile refuses. Random values never stand in.
Status LoadModelWeights(const std::string& path, Trainer& trainer);
// InvalidArgument where the file, opened from `path`, is of another language model although its tensors might fit: learned positions
// (wpe.weight) for rotary ones; for a Llama a head (lm_head.weight) where it is tied, and a config.json beside it that CheckLlamaConfig
// refuses.
Status CheckModelFile(const std::string& path, const SafetensorsModel& model, const GptConfig& config);
// One tensor of such a model as f32 or f64, by its own name.
Status ReadModelTensor(const SafetensorsModel& model, const std::string& name, const Shape& shape, const Tensor& to);
// The same of one of our tensors, which a Llama's file has under other names, in parts.
Status ReadWeight(const SafetensorsModel& file, const GptConfig& config, const std::string& name, const Shape& shape, const Tensor& to);

// Writes the weights and states of a checkpoint of the model as one safetensors file; one rank calls it. The tied head has no tensor of its
// own, as in Hugging Face's files.
Status ExportModel(const Checkpoint& checkpoint, const Model& model, const std::string& path);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_MODEL_WEIGHTS_H_
