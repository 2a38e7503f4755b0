// One small model, a GPT, a Llama or one of images, trained for a few steps on any layout, recorded so that layouts can be compared with
// each other and with the truth.
#ifndef LYCIA_TESTS_LAYOUTS_LAYOUT_RUN_H_
#define LYCIA_TESTS_LAYOUTS_LAYOUT_RUN_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "launch/trainer.h"
#include "runtime/comm/communicator.h"
#include "tests/layouts/layout.h"

namespace lycia::layouts {

// Random tokens by (step, sample, position).
class RandomBatches final : public BatchSource {
 public:
  explicit RandomBatches(bool masked) : masked_(masked) {}
  void Load(std::int64_t step, std::int64_t first_sample, std::int64_t count, void* inputs, std::int32_t* labels) const override;
  std::int64_t LossTokens(std::int64_t step, std::int64_t first_sample, std::int64_t count) const override;

 private:
  bool masked_;
};

// Random tokens or images, whatever the layout's model reads.
std::unique_ptr<BatchSource> SourceOf(const Layout& layout);

using Tensors = std::map<std::string, std::vector<double>>;  // by parameter name; f32 values are widened, which is exact

struct StepRecord {
  double loss = 0, grad_norm = 0;
  Tensors weights;         // after the step; NaN where this rank of a grid does not hold them
  Tensors gradients;       // of the loss itself, before clipping, summed over all ranks; NaN where this rank does not own the sum
  double clip_factor = 1;  // of the update's gradients; the truth's
  Tensors states;          // of layers, after the step; NaN where this rank of a grid does not hold them
};
struct Record {
  std::vector<StepRecord> steps;
  double evaluation = 0;  // summed loss of kEvaluationBatches after the first step
  double hits = -1;       // its labels with the largest logit; -1: not recorded
};

// Looks over the shoulder of one rank.
class RankWatch {
 public:
  virtual ~RankWatch() = default;
  virtual StepObserver* observer() = 0;
  // Around the training of a step, and (training false) around an evaluation.
  virtual void Start(const Trainer& trainer, bool training) = 0;
  virtual Status Finish(const Trainer& trainer, bool training) = 0;
};
using NewWatch = std::function<std::unique_ptr<RankWatch>()>;

// This rank's part of a layout's training; collective. watch may be null.
StatusOr<Record> RunRank(const Layout& layout, Communicator& world, RankWatch* watch = nullptr);

// Runs body on all ranks as threads, on the layout's device.
Status OnRanks(const Layout& layout, const std::function<Status(Communicator&)>& body);
// What runs a body on all ranks of a layout, as OnRanks does, over a transport of the caller's.
using RunsRanks = std::function<Status(const Layout&, const std::function<Status(Communicator&)>&)>;
// All ranks as threads, merged. Internal, with name, element, ranks and both values, where two holders of a parameter differ in a bit after
// any step, or of a state, where ranks disagree about loss or norm, or where a gradient element has not exactly one owner.
StatusOr<Record> RunOnThreads(const Layout& layout, const NewWatch& new_watch = nullptr, const RunsRanks& on_ranks = OnRanks);

// Internal, naming the first difference, unless both records hold the same bits; names that only one of them has are ignored.
Status CompareBitwise(const Record& a, const Record& b);

}  // namespace lycia::layouts

#endif  // LYCIA_TESTS_LAYOUTS_LAYOUT_RUN_H_
