// One rank of a GPT on a tensor grid, from owned weights to owned gradients of one step: a stage made of all layers, its memory, and the
// exchange of vectors. What a trainer will do, without optimizer, schedule and files.
#ifndef LYCIA_TESTS_GRID_GRID_RANK_FOR_TEST_H_
#define LYCIA_TESTS_GRID_GRID_RANK_FOR_TEST_H_

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "models/grid_gpt.h"
#include "parallel/grid/step_exchange.h"
#include "parallel/pipeline/layer_stage.h"
#include "parallel/pipeline/stage_memory_for_test.h"
#include "tests/truth/serial_trainer.h"

namespace lycia {

struct GridCase {
  int x = 1, y = 1, z = 1;
  GridGptOptions options;  // grid is filled in
  int micro_batches = 2;
  bool split = false;  // all forwards, all input gradients, then the weight gradients in reverse
  Recompute recompute = Recompute::kNone;
  std::string order = "data,context,expert,pipeline,z,x,y";

  int ranks() const { return x * y * z; }
  std::string ToString() const;
};

// What all ranks of a run put together, by the tensors' own indices.
struct GridResult {
  std::mutex mutex;
  std::map<std::string, std::vector<double>> weights, gradients;
  std::map<std::string, std::vector<int>> owners;  // of each element
  std::vector<double> logits;                      // [samples of all micro-batches, T, V]
  double loss = 0;
};

inline constexpr std::uint64_t kGridSeed = 11;

// Where a test may do wrong on purpose.
struct GridFaults {
  Grid::Wrap wrap;
  std::function<std::unique_ptr<Layer>(std::unique_ptr<Layer>)> wrap_layer;
  std::function<std::unique_ptr<Stream>(std::unique_ptr<Stream>)> wrap_stream;
  bool local_samples = false;  // random keys from this rank's sample index
};

// Number: double or float.
template <typename Number>
class GridRankOf {
 public:
  static StatusOr<std::unique_ptr<GridRankOf>> Create(Communicator& world, const GridCase& c, const GridFaults& faults = {});

  // One step over the batch; gradients are divided by its loss tokens.
  Status Step(const truth::TokenBatch& batch, GridResult& result);
  // After Step: its exchanges, forwards and backwards once more on what it loaded, and nothing that a training step does not do.
  Status StepAgain();
  const Grid& grid() const { return *grid_; }
  const LayerStage& stage() const { return *stage_; }
  const std::vector<GridParameter>& parameters() const { return parameters_; }

 private:
  GridRankOf(const GridCase& c, const GridFaults& faults) : case_(c), faults_(faults) {}
  Status Build(Communicator& world);
  std::vector<Number>& Owned(const GridParameter& parameter);
  std::vector<Number>& OwnedGradient(const GridParameter& parameter);
  void Load(const truth::TokenBatch& batch, int micro_batch);
  void RunMicroBatches(const truth::TokenBatch& batch, double loss_tokens, GridResult& result);
  void PutLogits(int micro_batch, const std::vector<Number>& logits, GridResult& result) const;
  void Put(GridResult& result);

  GridCase case_;
  GridFaults faults_;
  std::unique_ptr<Device> device_ = NewCpuDevice();
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Grid> grid_;
  std::unique_ptr<LayerStage> stage_;
  std::unique_ptr<StageMemoryOf<Number>> memory_;
  std::vector<GridParameter> parameters_;  // each once
  std::unique_ptr<StepExchange> exchange_;
  std::vector<Number> staging_;
  std::map<std::string, std::vector<Number>> owned_, owned_gradients_;  // of what is exchanged once a step
  std::vector<double> sample_losses_;
  Number loss_ = 0;  // this rank's share, then the step's
};
using GridRank = GridRankOf<double>;

truth::TokenBatch RandomBatch(const GridCase& c);
truth::GptSizes TruthSizes(const GptConfig& model);

// Runs the case on threads, one a rank; `check` is called on each rank after the step.
Status RunGrid(const GridCase& c, GridResult& result, const GridFaults& faults = {},
               const std::function<Status(const GridRank&)>& check = {});
// The same in f32, without faults.
Status RunGridInF32(const GridCase& c, GridResult& result);
// Loss, logits and every gradient within `tolerance` of the serial truth, relative to each tensor's largest element; every element of
// every parameter owned once; initial weights equal bit by bit. The first difference, with its index and both values.
Status CompareWithTruth(const GridCase& c, const GridResult& result, double tolerance);
// For f32 (docs/numerics.md): each tensor's gradient within 1e-5 of its layer's gradient norm, and no further from f64 than 4 times the
// serial f32 run.
Status CompareF32WithTruth(const GridCase& c, const GridResult& result);

}  // namespace lycia

#endif  // LYCIA_TESTS_GRID_GRID_RANK_FOR_TEST_H_
