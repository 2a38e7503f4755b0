// AdamW with decoupled decay, global-norm clipping and optimizer states sharded over the holders of each parameter (ZeRO stage 1 over
// Chimera's model copies and the data replicas alike). Formulas: docs/numerics.md.
//
// A model in bf16 or f16 has f32 gradients and states, and a master weight in f32 for each element of a rank's own shard: what is stepped,
// saved and exported. The model's weights are the masters rounded, gathered from their owners.
//
// With a loss scale all gradients are `loss_scale()` times the loss's own. The factor that clips takes it out again where AdamW reads a
// gradient, so that nothing is passed over for it. A step that is skipped counts as none in AdamW's corrections.
#ifndef LYCIA_PARALLEL_OPTIMIZER_SHARDED_ADAMW_H_
#define LYCIA_PARALLEL_OPTIMIZER_SHARDED_ADAMW_H_

#include <map>
#include <optional>
#include <vector>

#include "kernels/optimizer/adamw.h"
#include "kernels/optimizer/squared_norm.h"
#include "kernels/optimizer/step_scalars.h"
#include "parallel/optimizer/loss_scaler.h"
#include "parallel/optimizer/optimizer.h"
#include "parallel/optimizer/parameter_store.h"
#include "runtime/comm/communicator.h"

namespace lycia {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double weight_decay = 0.1;
  double clip = 0;  // of the global norm; 0: off
};

// This rank among the holders of a group.
struct GroupMember {
  int rank = 0;
  int size = 1;
};

class ShardedAdamW final : public Optimizer {
 public:
  struct Args {
    AdamWOptions options;
    std::map<int, GroupMember> members;  // one for each local group of the store
    std::int64_t samples = 0;            // of the global batch
    DType dtype = DType::kF32;           // of the weights: bf16, f16, f32 or f64
    std::optional<LossScaleOptions> loss_scale = std::nullopt;
  };
  ShardedAdamW(ParameterStore& store, const Args& args, ArenaPlan& plan);
  // holders: the communicator of each local group, of the size told above. Internal error for a gradient that nobody has summed over the
  // grid (MayUpdate).
  Status Bind(Device& device, const Arena& arena, Communicator* world, const std::map<int, Communicator*>& holders);

  void BeginStep(Stream& stream) override;
  double* sample_losses() override { return decide_.data == nullptr ? nullptr : decide_.as<double>() + kNumFlags; }
  void Synchronize(Stream& stream, int group) override;
  void UpdateGroup(Stream& stream, int group, std::int64_t step, double learning_rate) override;
  void Update(Stream& stream, std::int64_t step, double learning_rate, bool stop) override;
  const Decision& decision() const override { return decision_; }
  // What the gradient of the next step's loss has to be multiplied by.
  double loss_scale() const { return scaler_ ? scaler_->scale() : 1.0; }
  LossScaler* scaler() { return scaler_ ? &*scaler_ : nullptr; }  // nullptr: the loss is not scaled

  // The part of a group's flat buffer that this rank updates, and its states (empty tensors for an empty shard).
  struct Shard {
    std::int64_t begin = 0, end = 0;
    Tensor weight, m, v;  // weight: the masters, or the shard of the flat weights itself
  };
  Shard shard(int group) const;
  // After the own shards' weights were set from outside: rounds the masters where there are some and gives all holders every shard.
  // Collective.
  void PublishWeights(Stream& stream);
  Communicator* holders(int group) const { return groups_.at(group).communicator; }

 private:
  // Layout of the Decide vector: flags, then one loss a sample, then one sum of squares a norm block of the model. Every entry has one
  // owner; on a tensor grid, one for each part of the model, and what they have found is added up.
  static constexpr std::int64_t kStopFlag = 0;
  static constexpr std::int64_t kNumFlags = 1;

  struct Group {
    GroupMember member;
    std::vector<std::int64_t> offsets;  // of the shards
    std::vector<Segment> segments;      // of the own shard
    Region m_region, v_region, master_region;
    Tensor m, v, master;
    Communicator* communicator = nullptr;
    Event summed, gathered;
    bool updated = false;  // in this step
  };
  bool has_masters() const { return ArithmeticDType(dtype_) != dtype_; }
  Tensor OwnShard(const Tensor& flat, const Group& group) const;
  void StartGather(Stream& stream, int index, Group& group, Tag tag);
  // Sums of squares of the own shard's blocks, once its sum over ranks is there.
  void SquareBlocks(Stream& stream, int index, const Group& group);
  void Decide(Stream& stream, bool stop);
  void SetScalars(Stream& stream, std::int64_t step, double learning_rate, double clip);
  // Steps the own shard and starts the gather.
  void StepGroup(Stream& stream, int index, Group& group);

  std::int64_t decide_elements() const { return kNumFlags + samples_ + store_.groups().num_norm_blocks; }

  ParameterStore& store_;
  AdamWOptions options_;
  std::int64_t samples_;
  DType dtype_;
  std::map<int, Group> groups_;
  Region decide_region_, scalars_region_;
  Tensor decide_;
  StepScalars* scalars_ = nullptr;  // device memory
  // What the host writes and reads of the two above: copied by the stream, because the device's memory may not be the host's.
  struct HostSide {
    StepScalars scalars;
    double stop = 0;
  };
  Buffer host_buffer_;
  HostSide* host_ = nullptr;
  double* decided_ = nullptr;  // as long as decide_
  Communicator* world_ = nullptr;
  Decision decision_;
  std::optional<LossScaler> scaler_;
  // Of one group's segments; a step does not allocate.
  std::vector<AdamWArgs> updates_;
  std::vector<SquaredNormArgs> norms_;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_OPTIMIZER_SHARDED_ADAMW_H_
