// The independent truth: GPT-2 and Llama of docs/numerics.md trained serially, everything materialised, the whole global batch at once.
//
// It shares no code with layers, executor, schedule, communicators or optimizer, and its loops are its own: only the random numbers of
// runtime/core/philox.h are common. It is itself held against PyTorch (tests/golden) and against the complex step (truth_test.cc).
#ifndef LYCIA_TESTS_TRUTH_SERIAL_TRAINER_H_
#define LYCIA_TESTS_TRUTH_SERIAL_TRAINER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace lycia::truth {

struct GptSizes {
  int blocks = 1;
  int width = 0;  // C; a multiple of heads
  int heads = 1;
  int kv_heads = 0;  // 0: as many as heads
  int ffn = 0;       // F
  int context = 0;   // T: rows of wpe, if there is one; the longest sequence
  int vocabulary = 0;
  bool tied = true;
  double rope_base = 0;  // above 0: no wpe, but rotary positions of this base
  bool llama = false;    // RMS norms, SwiGLU, no biases; needs rope_base
  double norm_eps = 1e-5;
};

struct TrainingOptions {
  std::uint64_t seed = 0;
  double std = 0.02;  // of the initial weights
  double dropout = 0;
  double clip = 0;  // largest 2-norm of all gradients; 0: no clipping
  double lr = 1e-3;
  double min_lr = 0;
  int warmup = 0;  // steps
  int steps = 1;   // of the whole run, for the cosine
  double weight_decay = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
};

// The global batch of one step; tokens and labels [samples, sequence], row-major; label -1: no loss token.
struct TokenBatch {
  int samples = 0;
  int sequence = 0;
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> labels;
};

struct StepResult {
  double loss = 0;
  double grad_norm = 0;  // before clipping
  double lr = 0;
};

// Number is float, double or std::complex<double> (for derivatives by the complex step); all arithmetic is done in it.
template <typename Number>
class SerialGpt {
 public:
  using Array = std::vector<Number>;
  using Arrays = std::map<std::string, Array>;  // by Hugging Face name, without "transformer."

  // Weights get their initial values.
  SerialGpt(const GptSizes& sizes, const TrainingOptions& options);

  // One optimizer step: loss, gradients, clipping, AdamW. The first call is step 0.
  StepResult Step(const TokenBatch& batch);
  // Mean loss over the loss tokens; `dropout`: under the masks of the step that comes next. Changes nothing.
  Number Loss(const TokenBatch& batch, bool dropout) const;

  // [samples * sequence, vocabulary], likewise.
  Array Logits(const TokenBatch& batch, bool dropout) const;

  int steps_done() const { return step_; }
  Arrays& weights() { return weights_; }
  const Arrays& weights() const { return weights_; }
  // Of the latest Step, before clipping; a tied wte.weight has the sum of head and embedding.
  const Arrays& gradients() const { return gradients_; }
  // Moments of AdamW, zero before the first step.
  const Arrays& first_moments() const { return first_moments_; }
  const Arrays& second_moments() const { return second_moments_; }

 private:
  struct Pass;  // forward and backward of one batch
  void Update(double lr, double clip_factor);

  GptSizes sizes_;
  TrainingOptions options_;
  int step_ = 0;
  Arrays weights_, gradients_, first_moments_, second_moments_;
};

// Learning rate of step s = 0, 1, ...: linear warm-up, then a cosine down to min_lr.
double LearningRate(const TrainingOptions& options, int step);

}  // namespace lycia::truth

#endif  // LYCIA_TESTS_TRUTH_SERIAL_TRAINER_H_
