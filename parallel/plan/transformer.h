// The sizes of a transformer that decide what a tensor grid moves and keeps, and a table of well-known ones.
#ifndef LYCIA_PARALLEL_PLAN_TRANSFORMER_H_
#define LYCIA_PARALLEL_PLAN_TRANSFORMER_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "runtime/core/status.h"

namespace lycia::plan {

struct Transformer {
  std::string name;
  std::int64_t hidden = 0;    // h
  std::int64_t ffn = 0;       // f, features inside the feed-forward layer
  std::int64_t heads = 0;     // query heads, each of hidden / heads features
  std::int64_t kv_heads = 0;  // key and value heads; fewer than heads: grouped-query attention
  std::int64_t layers = 0;    // L, blocks
  std::int64_t vocab = 0;     // V
  std::int64_t context = 0;   // tokens of a sequence
  bool gated = false;         // SwiGLU: the first feed-forward matrix is [h, 2f] and its two halves are multiplied
  bool bias = true;           // biases of the linear layers, and layer norm with beta; false: none, and RMS norm
  bool tied = true;           // the head shares the embedding's matrix

  std::int64_t head_size() const { return hidden / heads; }
  bool operator==(const Transformer&) const = default;
};

// InvalidArgument with the numbers and the nearest sizes that work: a size below 1, heads that do not divide hidden, kv_heads that do not
// divide heads.
Status Validate(const Transformer& model);

// Published shapes, by name.
std::span<const Transformer> Presets();
const Transformer* FindPreset(std::string_view name);  // nullptr: none of that name

// Sizes to change; 0 keeps the model's own.
struct SizeOverrides {
  std::int64_t hidden = 0, ffn = 0, heads = 0, kv_heads = 0, layers = 0, vocab = 0;
};
// The model with other sizes. What follows from another hidden size unless it is given too: heads of the same size, ffn in the same ratio.
// Key/value heads stay one for each query head, else as many as they were, else as many queries for each. The result is valid, or
// InvalidArgument.
StatusOr<Transformer> WithSizes(const Transformer& model, const SizeOverrides& sizes);

// "nearest sizes that work" of messages: the multiples of `step` around `value`, "64" or "64 or 128"; never 0.
std::string NearestMultiples(std::int64_t value, std::int64_t step);

}  // namespace lycia::plan

#endif  // LYCIA_PARALLEL_PLAN_TRANSFORMER_H_
