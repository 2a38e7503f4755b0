// Blocks of convolutions on a tensor grid against a dense, serial truth in f64: one rank of a step from owned filters to owned gradients,
// and the same step by the loops of kernels/conv/conv_ref.h and kernels/norm/batch_norm_ref.h.
#ifndef LYCIA_TESTS_GRID_GRID_CONV_FOR_TEST_H_
#define LYCIA_TESTS_GRID_GRID_CONV_FOR_TEST_H_

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "models/layers/grid_conv_block.h"
#include "parallel/grid/step_exchange.h"
#include "parallel/pipeline/layer_stage.h"

namespace lycia {

struct ConvCase {
  int x = 1, y = 1, z = 1;
  GridImages in;
  struct Block {
    std::vector<GridConvUnit::Options> units;
    bool skip = false;
    std::optional<GridConvUnit::Options> projection = {};  // of what goes around
  };
  std::vector<Block> blocks;
  DType dtype = DType::kF64;
  int micro_batches = 1;
  GridPolicy policy;
  bool weights_each_step = false;
  bool packed = false;  // the stage holds packed filters
  bool split = false;   // all forwards, all input gradients, then the weight gradients in reverse
  bool input_gradient = true;
  Recompute recompute = Recompute::kNone;

  int ranks() const { return x * y * z; }
  std::string ToString() const;
  std::vector<GridConvUnit::Options> Units() const;  // of all blocks, without projections
  // Input of unit i; of one past the last: the result.
  GridImages ImagesAt(std::size_t i) const;
  // All convolutions, projections too, each with its input.
  struct Placed {
    GridConvUnit::Options unit;
    GridImages in, out;
    bool first = false;  // reads the model's input
  };
  std::vector<Placed> All() const;
};

// What a step reads and makes, by the tensors' own indices: out and din of all micro-batches' samples.
struct ConvNumbers {
  std::vector<double> out, din;
  std::map<std::string, std::vector<double>> weights, gradients, states;
};
// What all ranks of a run put together.
struct ConvResult {
  std::mutex mutex;
  ConvNumbers numbers;
  std::map<std::string, std::vector<int>> owners;  // of each element
  std::vector<double> evaluated;                   // an evaluation's out of the first micro-batch, with the states after the step
};

// Small multiples of 2^-6, which every type holds; element `index` of the input, of the result's gradient.
double ConvInput(std::int64_t index);
double ConvOutputGradient(std::int64_t index);

// One step by plain loops with these weights; ReLU, norm and residual as the units say.
ConvNumbers SerialStep(const ConvCase& c, const std::map<std::string, std::vector<double>>& weights);
std::vector<double> SerialEvaluation(const ConvCase& c, const ConvNumbers& after);
// What a vector's element has beside its initial value, so that scales are not one and offsets not zero; a multiple of 2^-3.
inline double VectorShift(std::int64_t index) { return 0.125 * static_cast<double>(index * 7 % 5 - 2); }
// Initial values, by the rule of parallel/layer/parameter.h, and shifted vectors.
std::map<std::string, std::vector<double>> InitialWeights(const ConvCase& c);

class ConvRank {
 public:
  static StatusOr<std::unique_ptr<ConvRank>> Create(Communicator& world, const ConvCase& c);
  Status Step(ConvResult& result);
  // Folds the step's statistics into the states, and evaluates the first micro-batch with them.
  Status Evaluate(ConvResult& result);
  // Once more, on what Step loaded, and nothing that a training step does not do.
  Status StepAgain();
  const Grid& grid() const { return *grid_; }
  const LayerStage& stage() const { return *stage_; }

 private:
  struct alignas(64) Line {
    std::uint64_t words[8];
  };
  // Memory of a tensor, or of bytes; starts as NaN.
  class Buffer {
   public:
    Buffer() = default;
    explicit Buffer(std::int64_t bytes);
    void* data() { return lines_.data(); }
    Tensor As(const TensorSpec& spec) { return {lines_.data(), spec.dtype, spec.shape}; }

   private:
    std::vector<Line> lines_;
  };

  explicit ConvRank(const ConvCase& c) : case_(c) {}
  Status Build(Communicator& world);
  void Bind();
  void BindExchange();
  Tensor Zeroed(std::map<std::string, Buffer>& in, const std::string& name, const TensorSpec& spec);
  void RunMicroBatches(ConvResult* result);
  void MergeStates();
  void PutParameters(ConvResult& result);

  ConvCase case_;
  std::unique_ptr<Device> device_ = NewCpuDevice();
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Grid> grid_;
  std::unique_ptr<LayerStage> stage_;
  std::vector<GridParameter> parameters_;
  std::unique_ptr<StepExchange> exchange_;
  GridImages out_images_;
  Buffer staging_, transient_, packed_;
  std::vector<Buffer> stash_, input_, handoff_, out_, dout_;
  Buffer din_;
  std::map<std::string, Buffer> weights_, gradients_, owned_, owned_gradients_, states_, observations_;
  std::map<std::string, Tensor> tensors_of_states_, tensors_of_observations_;
  std::map<std::string, Tensor> owned_tensors_, owned_gradient_tensors_;  // of every parameter
};

// Runs the case on threads, one a rank.
Status RunConv(const ConvCase& c, ConvResult& result, const std::function<Status(const ConvRank&)>& check = {});

}  // namespace lycia

#endif  // LYCIA_TESTS_GRID_GRID_CONV_FOR_TEST_H_
