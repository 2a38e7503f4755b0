#include "parallel/plan/transformer.h"

#include <utility>

namespace lycia::plan {
namespace {

constexpr std::int64_t kGptVocab = 50257;

Transformer Gpt(std::string name, std::int64_t layers, std::int64_t hidden, std::int64_t heads, std::int64_t context) {
  return {.name = std::move(name),
          .hidden = hidden,
          .ffn = 4 * hidden,
          .heads = heads,
          .kv_heads = heads,
          .layers = layers,
          .vocab = kGptVocab,
          .context = context};
}

struct LlamaSizes {
  std::int64_t layers, hidden, heads, kv_heads, ffn, vocab, context;
  bool tied = false;
};
Transformer Llama(std::string name, const LlamaSizes& sizes) {
  return {.name = std::move(name),
          .hidden = sizes.hidden,
          .ffn = sizes.ffn,
          .heads = sizes.heads,
          .kv_heads = sizes.kv_heads,
          .layers = sizes.layers,
          .vocab = sizes.vocab,
          .context = sizes.context,
          .gated = true,
          .bias = false,
          .tied = sizes.tied};
}

}  // namespace

Status Validate(const Transformer& model) {
  const std::pair<std::string_view, std::int64_t> sizes[] = {{"hidden", model.hidden},     {"ffn", model.ffn},       {"heads", model.heads},
                                                             {"kv-heads", model.kv_heads}, {"layers", model.layers}, {"vocab", model.vocab},
                                                             {"context", model.context}};
  for (const auto& [name, size] : sizes) {
    if (size < 1) return InvalidArgument(name, "=", size, " must be at least 1");
  }
  if (model.hidden % model.heads != 0) {
    return InvalidArgument("hidden=", model.hidden, " is not a multiple of heads=", model.heads,
                           "; use hidden=", NearestMultiples(model.hidden, model.heads), " or another number of heads");
  }
  if (model.heads % model.kv_heads != 0) {
    return InvalidArgument("kv-heads=", model.kv_heads, " does not divide heads=", model.heads, "; use a divisor, or ", model.heads,
                           " for one key/value head for each query head");
  }
  return OkStatus();
}

std::span<const Transformer> Presets() {
  // GPT-2: Radford et al. 2019; GPT-3: Brown et al. 2020, table 2.1; Llama: Touvron et al. 2023 (1 and 2), Grattafiori et al. 2024 (3).
  static const Transformer* const kPresets = new Transformer[]{
      Gpt("gpt2-124m", 12, 768, 12, 1024),
      Gpt("gpt2-355m", 24, 1024, 16, 1024),
      Gpt("gpt2-774m", 36, 1280, 20, 1024),
      Gpt("gpt2-1.5b", 48, 1600, 25, 1024),
      Gpt("gpt3-6.7b", 32, 4096, 32, 2048),
      Gpt("gpt3-13b", 40, 5120, 40, 2048),
      Gpt("gpt3-175b", 96, 12288, 96, 2048),
      Llama("llama-7b", {32, 4096, 32, 32, 11008, 32000, 2048}),
      Llama("llama-65b", {80, 8192, 64, 64, 22016, 32000, 2048}),
      Llama("llama2-70b", {80, 8192, 64, 8, 28672, 32000, 4096}),
      Llama("llama3.2-1b", {16, 2048, 32, 8, 8192, 128256, 131072, true}),
      Llama("llama3-8b", {32, 4096, 32, 8, 14336, 128256, 8192}),
      Llama("llama3-405b", {126, 16384, 128, 8, 53248, 128256, 8192}),
  };
  constexpr std::size_t kNumPresets = 13;
  return {kPresets, kNumPresets};
}

const Transformer* FindPreset(std::string_view name) {
  for (const Transformer& preset : Presets()) {
    if (preset.name == name) return &preset;
  }
  return nullptr;
}

StatusOr<Transformer> WithSizes(const Transformer& model, const SizeOverrides& sizes) {
  Transformer other = model;
  const auto or_own = [](std::int64_t size, std::int64_t own) { return size != 0 ? size : own; };
  other.hidden = or_own(sizes.hidden, model.hidden);
  if (sizes.heads == 0 && other.hidden % model.head_size() != 0) {
    return InvalidArgument("hidden=", other.hidden, " is not a multiple of ", model.name, "'s head size ", model.head_size(), "; use ",
                           NearestMultiples(other.hidden, model.head_size()), ", or give heads too");
  }
  other.heads = or_own(sizes.heads, other.hidden / model.head_size());
  const std::int64_t queries = model.heads / model.kv_heads;
  const std::int64_t groups = other.heads % model.kv_heads == 0 ? model.kv_heads : other.heads / queries;
  other.kv_heads = or_own(sizes.kv_heads, queries == 1 ? other.heads : groups);
  other.ffn = or_own(sizes.ffn, model.ffn * other.hidden / model.hidden);
  other.layers = or_own(sizes.layers, model.layers);
  other.vocab = or_own(sizes.vocab, model.vocab);
  LYCIA_RETURN_IF_ERROR(Validate(other));
  return other;
}

std::string NearestMultiples(std::int64_t value, std::int64_t step) {
  const std::int64_t below = value / step * step, above = below + step;
  if (below == value) return StrCat(value);
  return below == 0 ? StrCat(above) : StrCat(below, " or ", above);
}

}  // namespace lycia::plan
