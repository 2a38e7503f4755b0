// Trainer: one rank of a training run. It owns everything below it (device, mesh, schedule, stages, weights, optimizer, executor) and knows
// nothing of files, configurations or time. A rank is an object: eight of them fit in one process.
#ifndef LYCIA_LAUNCH_TRAINER_H_
#define LYCIA_LAUNCH_TRAINER_H_

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launch/batch_staging.h"
#include "launch/host_access.h"
#include "launch/rank_model.h"
#include "launch/reuse_control.h"
#include "models/model.h"
#include "parallel/grid/state.h"
#include "parallel/grid/working_weights.h"
#include "parallel/mesh/mesh.h"
#include "parallel/optimizer/sharded_adamw.h"
#include "parallel/pipeline/emulated_clock.h"
#include "parallel/pipeline/executor.h"
#include "parallel/pipeline/graph_stage.h"
#include "parallel/pipeline/graph_trial.h"
#include "parallel/pipeline/layer_stage.h"
#include "parallel/pipeline/state_store.h"
#include "parallel/schedule/costs.h"
#include "parallel/schedule/passes.h"
#include "parallel/schedule/schedule.h"
#include "parallel/schedule/simulate.h"
#include "runtime/comm/communicator.h"

namespace lycia {

// Where samples come from. A pure function of its arguments: any rank asks for any sample.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  // inputs as the model's first layer reads them: tokens [count, T] i32, or images [count, H, W, C] u8; labels [count, T] i32 or, of
  // images, [count, 1]. Either may be nullptr. Must not allocate.
  virtual void Load(std::int64_t step, std::int64_t first_sample, std::int64_t count, void* inputs, std::int32_t* labels) const = 0;
  // Labels >= 0 in samples [first_sample, first_sample + count) of a step.
  virtual std::int64_t LossTokens(std::int64_t step, std::int64_t first_sample, std::int64_t count) const = 0;
};

// An emulated device: what the step of a real one would take.
struct EmulationOptions {
  ClockKind clock = ClockKind::kLogical;
  schedule::Costs costs;        // in milliseconds; Costs::transmit follows from the bandwidth
  double bytes_per_second = 0;  // of a worker's link; 0: infinite
};

// Whether stages hold their weights packed (LayerPlan::Packed). kAuto: where more than one micro-batch of a step reads them.
enum class PackedWeights : std::uint8_t { kAuto, kOn, kOff };

struct TrainerOptions {
  Model model;
  ReuseTraining reuse;                   // its layers are the model's own
  CpuOptions cpu;                        // threads of this rank
  DeviceKind device = DeviceKind::kCpu;  // kShape: no data, for a dry run of the real step
  int gpu = 0;                           // of this rank, for kCuda: its ordinal
  CudaOptions cuda;                      // for kCuda
  DType precision = DType::kF32;         // of weights and activations: bf16, f16 (not on the CPU), f32 or f64 (docs/numerics.md)
  Recompute recompute = Recompute::kNone;
  PackedWeights packed_weights = PackedWeights::kAuto;
  CudaGraphs cuda_graphs = CudaGraphs::kAuto;  // of stages that communicate only between calls, without computation reuse
  std::string schedule = "1f1b";
  std::string schedule_csv;                       // not empty: the text of a schedule written by a user, to train with instead
  std::string schedule_file;                      // its path, for messages
  int stages = 1;                                 // D: workers of a replica; with c chunks the model is cut into c D stages
  int pipes = 0, chunks = 0;                      // 0: the schedule's own
  std::optional<schedule::Costs> measured_costs;  // what schedules are planned for; else by FLOPs and common speeds
  int max_activations = 0;                        // most that a worker may keep, in stages of D; 0: no limit
  schedule::GradientSyncMode gradient_sync = schedule::GradientSyncMode::kEagerOpt;
  schedule::UpdateMode update = schedule::UpdateMode::kDecided;
  int data = 1;             // W, replicas of the pipeline
  int x = 1, y = 1, z = 1;  // the tensor grid
  GridPolicy grid_policy;
  bool weights_each_step = false;       // on a grid: weights are gathered and gradients reduced once a step, not for every micro-batch
  std::string mesh_order;               // "": Mesh's default
  std::vector<std::int64_t> partition;  // layers of each stage; empty: by cost
  std::int64_t micro_batches = 1;       // N, of one replica in one step
  std::int64_t samples_per_micro_batch = 1;
  AdamWOptions optimizer;
  LossScaleOptions loss_scale;  // of f16
  std::uint64_t seed = 1;
  int credits = 2;
  std::optional<EmulationOptions> emulation;  // of a device of kind kShape: EmulateStep instead of TrainStep
  StepObserver* observer = nullptr;           // may be null
  WaitGuard* guard = nullptr;                 // of every wait in a step; may be null
};

class Trainer final : private StepActions {
 public:
  // Collective over `world`. InvalidArgument for sizes that do not fit, the same on every rank.
  static StatusOr<std::unique_ptr<Trainer>> Create(const TrainerOptions& options, Communicator& world);
  ~Trainer() override;

  // One optimizer step (step counts from 0) on the global batch of data * micro_batches * samples_per_micro_batch samples; collective.
  // stop: this rank was asked to stop; every rank sees it in decision().
  Status TrainStep(std::int64_t step, const BatchSource& source, double learning_rate, bool stop);
  const Decision& decision() const { return optimizer_->decision(); }
  double loss() const { return decision().loss_sum / static_cast<double>(loss_tokens_); }  // mean over the loss tokens of the last step

  // One step on the emulated device; collective. No loss is computed and nothing is updated; returns the makespan in ns.
  StatusOr<std::int64_t> EmulateStep(std::int64_t step);
  // The same step as the simulator sees it.
  const schedule::Timeline& simulated_step() const { return simulated_; }

  struct Evaluation {
    double loss = 0;  // sum over the labels
    double hits = 0;  // labels whose logit was the largest; 0 where the model does not tell
  };
  // Of `batches` global batches starting with sample 0 of source's step 0; dropout off, nothing changed; collective.
  StatusOr<Evaluation> Evaluate(const BatchSource& source, std::int64_t batches);
  // After the weights of the own shards (optimizer().shard) were set from outside: all holders get them. Collective.
  Status PublishWeights();
  // Compares the weights of all holders of every local group; DataLoss naming the stages, the ranks that hold them and their hashes.
  // Collective.
  Status CompareReplicas();

  // Whether steps are replayed as CUDA graphs; nullptr where they cannot be.
  const GraphTrial* graphs() const { return graph_trial_ ? &*graph_trial_ : nullptr; }
  GraphStage::Counts graph_counts() const;  // of all stages since the beginning

  // Of a run with computation reuse; nullptr: none.
  ReuseControl* reuse() const { return reuse_.get(); }

  std::int64_t samples_per_step() const { return options_.data * options_.micro_batches * options_.samples_per_micro_batch; }
  double flops_per_step() const {
    return 3 * forward_flops_ * static_cast<double>(options_.micro_batches * options_.data);
  }  // forward and backward of the global batch, matrix products and attention; not what a grid pads or computes twice
  std::int64_t num_parameters() const { return num_parameters_; }
  const Model& model() const { return options_.model; }
  DType precision() const { return options_.precision; }
  int threads() const { return options_.cpu.threads; }  // of this rank
  const Mesh& mesh() const { return *mesh_; }
  // What this rank moved along each group of its tensor grid in the last training step (logical bytes, runtime/comm/counters.h).
  using GridBytes = std::array<std::int64_t, kNumGridGroups>;
  const GridBytes& grid_bytes() const { return grid_bytes_; }
  const schedule::Schedule& schedule() const { return schedule_; }
  const schedule::Schedule& evaluation_schedule() const { return forward_; }
  const std::string& why() const { return why_; }  // this schedule, where it was chosen ("auto"): all candidates, lines of text
  int worker() const { return worker_; }
  const ParameterGroups& groups() const { return *groups_; }
  // Which elements of which tensor of the model the stored parameter `name` is: all of them, or some without further order.
  struct Stored {
    std::string tensor;
    Shape shape;             // of the tensor
    Block block;             // no rows: the whole tensor in order
    std::int64_t begin = 0;  // the first stored element, of the block
    std::int64_t count = 0;  // what is stored beyond is zero
  };
  Stored stored(const std::string& name) const;
  // What this rank owns: elements [begin, end) of the stored parameter `spec`, with their master weights and averages, [end - begin] each.
  // Over all ranks every element of the model is in one part.
  struct OwnPart {
    const ParameterSpec* spec = nullptr;
    Stored stored;
    std::int64_t begin = 0, end = 0;
    Tensor weight, m, v;
  };
  std::vector<OwnPart> OwnParts() const;
  // States of the layers of this rank. Every rank that holds one has the same numbers; one of them is its owner, which saves it.
  struct OwnState {
    const StateSpec* spec = nullptr;
    Stored stored;
    Tensor state;
    bool owner = false;
  };
  std::vector<OwnState> States() const;
  ParameterStore& store() { return *store_; }
  ShardedAdamW& optimizer() { return *optimizer_; }
  const Communicator& pipeline() const { return *pipeline_; }
  const std::vector<int>& cuts() const { return cuts_; }  // first layer of each stage, and the number of layers
  const std::map<std::pair<int, int>, std::unique_ptr<LayerStage>>& stages() const { return stages_; }  // of this rank, by (pipe, stage)
  const ArenaPlan& memory_plan() const { return memory_plan_; }
  std::int64_t memory_bytes() const { return arena_.bytes(); }
  Stream& stream() { return *stream_; }
  Device& device() { return *device_; }
  // For the parts, weights and gradients above, which lie in the device's memory.
  HostAccess& host() { return *host_; }

 private:
  explicit Trainer(const TrainerOptions& options, Communicator& world) : options_(options), world_(&world) {}
  // trainer_plan.cc
  Status PlanModel();     // layers, the schedule's compute, cuts, groups
  Status PlanSchedule();  // training and evaluation programs, proven
  Status PlanMemory();    // stages, store, optimizer, executor; one allocation
  struct StageMemory;
  Status PlanStages(ArenaPlan& plan, StageMemory& memory);
  Status PlanWeights(const StageMemory& memory, ArenaPlan& plan);
  void BindStages(const StageMemory& memory);
  Status OpenChannels();  // communicators and channels
  Status InitialiseWeights();
  // trainer_emulation.cc
  Status PlanEmulation();
  Status OpenClock(const std::map<int, Communicator*>& holders);

  int grid_ranks() const { return options_.x * options_.y * options_.z; }
  GridBytes TotalGridBytes() const;
  Status MergeStates();
  bool CanCapture() const;
  void BeginWeights();  // what layers see of the weights, before a step or an evaluation

  void LoadInputs(Stream& stream, const SampleRange& samples, void* to) override;
  void LoadLabels(Stream& stream, const SampleRange& samples, void* to) override;
  LayerStage::Options OptionsOfStage(int pipe, int stage) const;  // what the schedule asks of it

  void SynchronizeGradients(Stream& stream, int sync_set) override;
  void UpdateSet(Stream& stream, int sync_set) override;
  void Update(Stream& stream) override;
  double* SampleLosses(const SampleRange& samples) override;
  double* SampleHits(const SampleRange& samples) override;

  TrainerOptions options_;
  Communicator* world_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<HostAccess> host_;
  std::unique_ptr<Mesh> mesh_;
  std::unique_ptr<RankModel> model_;
  int worker_ = 0, replica_ = 0;
  std::vector<int> cuts_;
  std::unique_ptr<ParameterGroups> groups_;
  schedule::Schedule compute_, schedule_, forward_;
  schedule::Costs costs_;
  std::string why_;
  Program training_, evaluation_;
  Arena arena_;
  ArenaPlan memory_plan_;
  schedule::TickCosts emulated_costs_;    // ns
  schedule::Timeline simulated_;          // of an emulated step
  std::unique_ptr<EmulatedClock> clock_;  // of an emulated device; declared before the communicators that write into it
  std::unique_ptr<Communicator> clock_ranks_;
  std::map<std::pair<int, int>, std::unique_ptr<LayerStage>> stages_;
  std::vector<std::unique_ptr<GraphStage>> graph_stages_;  // what the executor calls instead; empty where calls are not captured
  std::optional<GraphTrial> graph_trial_;
  std::unique_ptr<ParameterStore> store_;
  std::unique_ptr<WorkingWeights> working_weights_;  // with a grid
  std::unique_ptr<StateStore> states_;
  std::map<std::string, GridState> grid_states_;  // with a grid, by name
  std::unique_ptr<ReuseControl> reuse_;
  std::vector<ReuseSpec> reuse_specs_;  // of the whole model
  std::unique_ptr<ShardedAdamW> optimizer_;
  // Communicators go before the memory that they may still write to.
  std::unique_ptr<Grid> grid_;  // null: no tensor grid
  std::unique_ptr<Communicator> pipeline_;
  std::vector<std::unique_ptr<Communicator>> holders_;  // [group]; null where this rank holds none of it
  std::unique_ptr<Executor> executor_;
  BatchStaging batches_;
  Tensor evaluated_;                  // [2, samples_per_step] f64: losses, hits
  std::vector<std::int64_t> hashes_;  // of CompareReplicas
  double forward_flops_ = 0;          // of one micro-batch through the whole model
  std::int64_t num_parameters_ = 0;   // of the model

  // Of the step under way.
  const BatchSource* source_ = nullptr;
  std::int64_t step_ = 0, loss_tokens_ = 1, first_source_sample_ = 0;
  double learning_rate_ = 0;
  bool stop_ = false, training_now_ = true;
  GridBytes grid_bytes_{};
};

}  // namespace lycia

#endif  // LYCIA_LAUNCH_TRAINER_H_
