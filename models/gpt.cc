#include "models/gpt.h"

#include <algorithm>
#include <cmath>

#include "models/layers/gpt_attention.h"
#include "models/layers/gpt_embedding.h"
#include "models/layers/gpt_head.h"
#include "models/layers/gpt_mlp.h"
#include "models/layers/rotary_angles.h"

namespace lycia {

Status Validate(const GptConfig& config) {
  if (config.layers < 1 || config.heads < 1 || config.hidden < 1 || config.context < 1 || config.vocab < 1 || config.ffn < 1) {
    return InvalidArgument("model sizes start at 1: layers ", config.layers, ", heads ", config.heads, ", hidden ", config.hidden,
                           ", context ", config.context, ", vocab ", config.vocab, ", ffn ", config.ffn);
  }
  if (config.hidden % config.heads != 0) {
    return InvalidArgument("model.hidden ", config.hidden, " does not divide into model.heads ", config.heads, "; use hidden ",
                           (config.hidden / config.heads + 1) * config.heads, " or other heads");
  }
  if (config.kv_heads < 0 || config.heads % config.key_heads() != 0) {
    std::int64_t below = std::clamp<std::int64_t>(config.kv_heads, 1, config.heads);
    while (config.heads % below != 0) --below;
    return InvalidArgument("model.kv_heads ", config.kv_heads, " does not divide model.heads ", config.heads, "; use ", below);
  }
  if (config.rotary() && config.head_dim() % 2 != 0) {
    return InvalidArgument("model.position = rotary turns pairs of features, but model.hidden ", config.hidden, " / model.heads ",
                           config.heads, " = ", config.head_dim(), " is odd; use hidden ", config.hidden + config.heads, " or other heads");
  }
  if (config.rotary() && !(config.rope_base > 0 && std::isfinite(config.rope_base))) {
    return InvalidArgument("model.rope_base ", config.rope_base, " is no base of a power; use a number above 0, as 10000");
  }
  if (config.family == GptFamily::kLlama && !config.rotary()) {
    return InvalidArgument("a Llama has rotary positions, not learned ones; use model.position = rotary, or a model of kind gpt");
  }
  if (!(config.norm_eps > 0 && std::isfinite(config.norm_eps))) {
    return InvalidArgument("model.norm_eps ", config.norm_eps, " must be a number above 0, as 1e-5");
  }
  if (config.dropout < 0 || config.dropout >= 1) return InvalidArgument("model.dropout ", config.dropout, " is not in [0, 1)");
  return OkStatus();
}

std::vector<std::unique_ptr<Layer>> GptLayers(const GptConfig& config) {
  std::vector<std::unique_ptr<Layer>> layers;
  const std::shared_ptr<RotaryAngles> angles = RotaryAngles::Of(config);
  layers.push_back(std::make_unique<GptEmbedding>(config));
  for (int block = 0; block < config.layers; ++block) {
    layers.push_back(std::make_unique<GptAttention>(config, block, angles));
    layers.push_back(std::make_unique<GptMlp>(config, block));
  }
  layers.push_back(std::make_unique<GptHead>(config));
  return layers;
}

}  // namespace lycia
