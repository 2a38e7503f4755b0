// Layouts that tests train one small model on, a GPT, a Llama or one of images, and what the trainer is told of each.
#ifndef LYCIA_TESTS_LAYOUTS_LAYOUT_H_
#define LYCIA_TESTS_LAYOUTS_LAYOUT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launch/trainer.h"

namespace lycia::layouts {

inline constexpr int kBlocks = 2;  // of the model: six stages have one layer each
inline constexpr double kDropout = 0.2;
inline constexpr int kHeads = 2, kWidth = 8, kFfn = 20, kContext = 6, kVocabulary = 17;  // all extents differ
inline constexpr double kLlamaNormEps = 0.05;  // of about the size of the mean squares, so that it matters

// How the ranks share the work, and the few properties of model and data that tests vary.
struct Layout {
  std::string schedule = "1f1b";
  std::string csv;        // not empty: this schedule instead
  int stages = 1;         // D, workers of a replica
  int data = 1;           // W
  int micro_batches = 1;  // N
  int samples = 1;        // of a micro-batch
  int pipes = 0;          // 0: the schedule's own
  int credits = 2;
  int blocks = kBlocks;
  schedule::GradientSyncMode sync = schedule::GradientSyncMode::kEagerOpt;
  schedule::UpdateMode update = schedule::UpdateMode::kDecided;
  bool clip = true;
  bool tied = true;
  bool rotary = false;  // positions, of base kRopeBase
  bool llama = false;   // instead of a GPT; its positions are rotary too
  bool masked = false;  // every fifth label is -1
  DType precision = DType::kF64;
  double loss_scale = 1024;  // of f16, at first: above any underflow and below any overflow of the model here
  Recompute recompute = Recompute::kNone;
  PackedWeights packed_weights = PackedWeights::kAuto;
  std::vector<std::int64_t> partition;
  std::string mesh_order;
  // The tensor grid, and a model whose sizes it divides.
  int x = 1, y = 1, z = 1;
  int heads = kHeads, kv_heads = 0, width = kWidth;
  GridPolicy policy;
  bool weights_each_step = false;
  std::optional<ImageModelConfig> images;  // this model instead of a GPT, on random images
  int threads = 1;
  double dropout = kDropout;
  std::optional<ReuseTraining> reuse;
  DeviceKind device = DeviceKind::kCpu;  // kCuda: all ranks on GPU 0
  CudaGraphs graphs = CudaGraphs::kAuto;
  bool tf32 = false;

  int ranks() const { return stages * data * x * y * z; }
  int global_batch() const { return data * micro_batches * samples; }
  double norm_eps() const { return llama ? kLlamaNormEps : GptConfig().norm_eps; }
  std::string Name() const;  // "chimera D4 W2 N3x2 tied f64"
};

inline constexpr int kSteps = 3;
inline constexpr int kEvaluationBatches = 2;
inline constexpr std::uint64_t kSeed = 11;
inline constexpr double kInitialStd = 0.3;  // large, so that every gradient stands well above rounding
inline constexpr double kClip = 0.25;       // below every gradient norm: clipping acts in all steps
inline constexpr double kLearningRate = 1e-2, kMinLearningRate = 1e-3, kWeightDecay = 0.1, kBeta1 = 0.9, kBeta2 = 0.95, kEps = 1e-8;
inline constexpr double kRopeBase = 50;  // so that every pair of so few positions turns by an angle that matters
inline constexpr int kWarmup = 1;

// Layouts of a schedule on D workers: one each for fewer, as many and more micro-batches than workers, as far as the schedule takes them,
// with as many blocks and samples as its stages and parts need.
std::vector<Layout> LayoutsOf(const std::string& schedule, int workers);

// Grids of 1 to 8 ranks x no pipeline, 1F1B, Chimera and its zero-bubble relative on 2 workers x 1 and 2 replicas: tied head, dropout,
// clipping, three micro-batches of two samples, of which some labels are none.
std::vector<Layout> GridLayouts();

TrainerOptions OptionsOf(const Layout& layout);
double LearningRateOf(std::int64_t step);  // step counts from 0

}  // namespace lycia::layouts

#endif  // LYCIA_TESTS_LAYOUTS_LAYOUT_H_
