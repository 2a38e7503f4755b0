#include "launch/generator.h"

#include <algorithm>
#include <cmath>

#include "launch/config.h"
#include "launch/model_weights.h"
#include "runtime/core/philox.h"

namespace lycia {
namespace {

constexpr StageSlots kSlots{.stash = 0};  // one sample at a time

}  // namespace

GptConfig GptConfigOf(const ModelConfig& config) {
  return {.family = config.kind == "llama" ? GptFamily::kLlama : GptFamily::kGpt2,
          .layers = config.layers,
          .heads = config.heads,
          .kv_heads = config.kv_heads,
          .hidden = config.hidden,
          .context = config.context,
          .vocab = config.vocab,
          .ffn = config.ffn_or_default(),
          .tied = config.tied,
          .dropout = config.dropout,
          .init_std = config.init_std,
          .norm_eps = config.norm_eps,
          .position = config.rotary() ? PositionEncoding::kRotary : PositionEncoding::kLearned,
          .rope_base = config.rope_base};
}

std::vector<std::int32_t> BytesToTokens(const std::string& text) {
  std::vector<std::int32_t> tokens;
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  return tokens;
}

std::string TokensToBytes(const std::vector<std::int32_t>& tokens) {
  std::string text;
  for (const std::int32_t token : tokens) text.push_back(static_cast<char>(token));
  return text;
}

StatusOr<std::unique_ptr<Generator>> Generator::Load(const std::string& path, const GptConfig& config) {
  LYCIA_RETURN_IF_ERROR(Validate(config));
  LYCIA_ASSIGN_OR_RETURN(const SafetensorsModel model, SafetensorsModel::Open(path));
  std::unique_ptr<Generator> generator(new Generator(config));
  LYCIA_RETURN_IF_ERROR(CheckModelFile(path, model, config));
  LYCIA_RETURN_IF_ERROR(generator->Prepare(model));
  return generator;
}

Status Generator::Prepare(const SafetensorsModel& model) {
  device_ = NewCpuDevice();
  LYCIA_ASSIGN_OR_RETURN(stream_, device_->NewStream());
  const std::vector<TensorSpec> tokens = {{DType::kI32, {1, config_.context}}};
  LYCIA_ASSIGN_OR_RETURN(stage_, LayerStage::Create(GptLayers(config_), tokens, {.compute = DType::kF32, .recompute = Recompute::kLayers}));
  LYCIA_ASSIGN_OR_RETURN(ParameterGroups groups, DeriveParameterGroups({stage_->parameters()}));
  groups_ = std::make_unique<ParameterGroups>(std::move(groups));

  ArenaPlan plan;
  store_ = std::make_unique<ParameterStore>(*groups_, std::vector<int>{0}, stage_->parameters(), DType::kF32, /*gradients=*/false, plan);
  const Region stash = plan.Add("activations", stage_->bytes(Area::kStash));
  const Region transient = plan.Add("transient", stage_->bytes(Area::kTransient));
  const TensorSpec logits{DType::kF32, {1, config_.context, config_.vocab}};
  const Region logits_region = plan.Add("transient", logits);
  LYCIA_ASSIGN_OR_RETURN(arena_, Arena::Allocate(*device_, plan));
  store_->Bind(arena_);
  logits_ = arena_.At(logits_region, logits);
  LayerStage::Memory memory;
  memory.stash = {arena_.At(stash)};
  memory.transient = arena_.At(transient);
  memory.weight = [this](const std::string& name) { return store_->weight(name); };
  stage_->Bind(memory);
  for (const PlacedParameter& p : groups_->groups[0].parameters) {
    LYCIA_RETURN_IF_ERROR(ReadWeight(model, config_, p.spec.name, p.spec.shape, store_->weight(p.spec.name)));
  }
  return OkStatus();
}

StatusOr<std::vector<std::int32_t>> Generator::Generate(const std::vector<std::int32_t>& prompt, const SamplingOptions& options) {
  if (prompt.empty()) return InvalidArgument("the prompt is empty; give at least one token (e.g. a newline)");
  for (const std::int32_t token : prompt) {
    if (token < 0 || token >= config_.vocab)
      return InvalidArgument("prompt token ", token, " is outside the vocabulary of ", config_.vocab);
  }
  std::vector<std::int32_t> all = prompt;
  auto* window = static_cast<std::int32_t*>(stage_->input(kSlots));
  auto* labels = static_cast<std::int32_t*>(stage_->labels(kSlots));
  std::fill(labels, labels + config_.context, -1);
  StageContext context{.stream = stream_.get(), .training = false, .samples = {0, 1}};
  context.logits = logits_;
  const RandomStream random(options.seed, "sample", 0);
  for (std::int64_t i = 0; i < options.tokens; ++i) {
    const auto length = std::min<std::int64_t>(static_cast<std::int64_t>(all.size()), config_.context);
    std::copy(all.end() - length, all.end(), window);
    std::fill(window + length, window + config_.context, 0);  // later positions are invisible to the last real one
    stage_->Forward(context, kSlots, nullptr);
    LYCIA_RETURN_IF_ERROR(stream_->Synchronize());
    const float* last = logits_.as<float>() + (length - 1) * config_.vocab;
    all.push_back(Draw(last, random.Uniform(static_cast<std::uint64_t>(i)), options));
  }
  return std::vector<std::int32_t>(all.begin() + static_cast<std::ptrdiff_t>(prompt.size()), all.end());
}

// Inverse of the cumulative distribution over the tokens in order of falling logit.
std::int32_t Generator::Draw(const float* logits, double uniform, const SamplingOptions& options) {
  ranked_.clear();
  for (std::int64_t v = 0; v < config_.vocab; ++v) ranked_.emplace_back(logits[v], static_cast<std::int32_t>(v));
  std::sort(ranked_.begin(), ranked_.end(),
            [](const auto& a, const auto& b) { return a.first != b.first ? a.first > b.first : a.second < b.second; });
  if (options.temperature <= 0) return ranked_[0].second;
  const std::size_t kept =
      options.top_k > 0 ? std::min<std::size_t>(static_cast<std::size_t>(options.top_k), ranked_.size()) : ranked_.size();
  auto weight = [&](std::size_t i) { return std::exp((ranked_[i].first - ranked_[0].first) / options.temperature); };
  double total = 0;
  for (std::size_t i = 0; i < kept; ++i) total += weight(i);
  double left = uniform * total;
  for (std::size_t i = 0; i < kept; ++i) {
    left -= weight(i);
    if (left <= 0) return ranked_[i].second;
  }
  return ranked_[kept - 1].second;
}

}  // namespace lycia
