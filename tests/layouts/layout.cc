#include "tests/layouts/layout.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_join.h"
#include "parallel/schedule/generators.h"
#include "tests/layouts/truth_run.h"

namespace lycia::layouts {

std::string Layout::Name() const {
  std::string name = StrCat(schedule, " D", stages, " W", data, " N", micro_batches, "x", samples);
  if (x * y * z > 1) name += StrCat(" grid ", x, "x", y, "x", z);
  if (kv_heads != 0) name += StrCat(" kv ", kv_heads);
  if (!policy.cache_inputs) name += " gathers inputs again";
  if (policy.cache_weights) name += " caches weights";
  if (!policy.cache_output_gradients) name += " gathers gradients again";
  if (!policy.overlap) name += " serial";
  if (weights_each_step) name += " weights each step";
  if (pipes != 0) name += StrCat(" pipes ", pipes);
  if (blocks != kBlocks) name += StrCat(" blocks ", blocks);
  if (sync != schedule::GradientSyncMode::kEagerOpt) name += sync == schedule::GradientSyncMode::kLazy ? " lazy sync" : " eager sync";
  if (update == schedule::UpdateMode::kEager) name += " eager update";
  if (!clip) name += " unclipped";
  if (!partition.empty()) name += StrCat(" partition ", absl::StrJoin(partition, "+"));
  if (recompute != Recompute::kNone) name += recompute == Recompute::kLayers ? " recompute layers" : " recompute stage";
  if (credits != 2) name += StrCat(" credits ", credits);
  if (!mesh_order.empty()) name += StrCat(" order ", mesh_order);
  if (rotary) name += " rotary";
  if (llama) name += " llama";
  if (device == DeviceKind::kCuda) name += " cuda";
  if (graphs != CudaGraphs::kAuto) name += graphs == CudaGraphs::kOn ? " graphs" : " without graphs";
  if (tf32) name += " tf32";
  if (threads != 1) name += StrCat(" threads ", threads);
  if (dropout != kDropout) name += StrCat(" dropout ", dropout);
  if (reuse) name += StrCat(" reuse ", static_cast<int>(reuse->layers.policy), reuse->always ? " always" : "");
  if (loss_scale != Layout().loss_scale) name += StrCat(" loss scale ", loss_scale);
  if (images) return StrCat(name, " images of kind ", static_cast<int>(images->kind), " ", masked ? "masked " : "", lycia::Name(precision));
  return StrCat(name, tied ? " tied " : " untied ", masked ? "masked " : "", lycia::Name(precision));
}

std::vector<Layout> LayoutsOf(const std::string& schedule, int workers) {
  std::vector<Layout> layouts;
  for (const int micro_batches : std::set<int>{1, workers - 1, workers, 2 * workers, 2 * workers + 2}) {
    const StatusOr<schedule::Schedule> generated = schedule::Generate(schedule, {.workers = workers, .micro_batches = micro_batches});
    if (!generated.ok()) continue;
    // The planner may choose another number of stages once it knows the run's costs, and halves.
    const bool open = schedule == "auto";
    const int stages = open ? 2 * workers : generated->shape.stages, parts = open ? 2 : schedule::MaxParts(*generated);
    Layout layout{.schedule = schedule, .stages = workers, .micro_batches = micro_batches, .samples = parts};
    layout.blocks = std::max(kBlocks, (stages - 1) / 2);  // 2 blocks + 2 layers, at least one a stage
    layouts.push_back(layout);
  }
  return layouts;
}

std::vector<Layout> GridLayouts() {
  struct Shape {
    int x, y, z;
  };
  std::vector<Layout> layouts;
  for (const Shape& grid : {Shape{1, 1, 1}, {1, 2, 1}, {2, 1, 1}, {1, 1, 2}, {2, 2, 1}, {2, 2, 2}, {3, 2, 1}}) {
    for (const char* schedule : {"gpipe", "1f1b", "chimera", "chimera-zb"}) {
      for (const int data : {1, 2}) {
        layouts.push_back({.schedule = schedule,
                           .stages = std::string(schedule) == "gpipe" ? 1 : 2,
                           .data = data,
                           .micro_batches = 3,
                           .samples = 2,
                           .masked = true,
                           .x = grid.x,
                           .y = grid.y,
                           .z = grid.z,
                           .heads = 12,
                           .width = 24});
      }
    }
  }
  return layouts;
}

TrainerOptions OptionsOf(const Layout& layout) {
  TrainerOptions options;
  options.model = GptConfig{.family = layout.llama ? GptFamily::kLlama : GptFamily::kGpt2,
                            .layers = layout.blocks,
                            .heads = layout.heads,
                            .kv_heads = layout.kv_heads,
                            .hidden = layout.width,
                            .context = kContext,
                            .vocab = kVocabulary,
                            .ffn = kFfn,
                            .tied = layout.tied,
                            .dropout = layout.dropout,
                            .init_std = kInitialStd,
                            .norm_eps = layout.norm_eps(),
                            .position = layout.rotary || layout.llama ? PositionEncoding::kRotary : PositionEncoding::kLearned,
                            .rope_base = kRopeBase};
  if (layout.images) options.model = *layout.images;
  if (layout.reuse) {
    options.reuse = *layout.reuse;
    std::visit([&](auto& model) { model.reuse = layout.reuse->layers; }, options.model);
  }
  options.cpu.threads = layout.threads;
  options.x = layout.x;
  options.y = layout.y;
  options.z = layout.z;
  options.grid_policy = layout.policy;
  options.weights_each_step = layout.weights_each_step;
  options.precision = layout.precision;
  options.loss_scale = {.initial = layout.loss_scale, .least = std::min(layout.loss_scale, 1.0)};
  options.recompute = layout.recompute;
  options.packed_weights = layout.packed_weights;
  options.cuda_graphs = layout.graphs;
  options.cuda.tf32 = layout.tf32;
  options.schedule = layout.schedule;
  options.schedule_csv = layout.csv;
  options.schedule_file = layout.schedule;
  options.gradient_sync = layout.sync;
  options.update = layout.update;
  options.stages = layout.stages;
  options.pipes = layout.pipes;
  options.data = layout.data;
  options.mesh_order = layout.mesh_order;
  options.partition = layout.partition;
  options.micro_batches = layout.micro_batches;
  options.samples_per_micro_batch = layout.samples;
  options.optimizer = {.beta1 = kBeta1, .beta2 = kBeta2, .eps = kEps, .weight_decay = kWeightDecay, .clip = layout.clip ? kClip : 0};
  options.seed = kSeed;
  options.credits = layout.credits;
  options.device = layout.device;
  return options;
}

double LearningRateOf(std::int64_t step) { return truth::LearningRate(TruthOptions(Layout()), static_cast<int>(step)); }

}  // namespace lycia::layouts
