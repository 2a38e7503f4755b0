// Memory of a rank of a tensor grid, from the arena that a training step has used up (memory_watch.h): parameters, gradients, optimizer
// states and activations are the model's over the number of ranks; what is kept beside them is what docs/tensor_grid.md declares, to the
// byte.
//
// The sizes divide by every grid and leave no padding, so that every equation is exact.
#include <cstdint>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "runtime/comm/transports.h"
#include "tests/layouts/memory_watch.h"

namespace lycia::layouts {
namespace {

constexpr std::int64_t kBytes = 4;  // f32
constexpr std::int64_t L = 1, h = 384, H = 12, f = 2 * h, V = 384, T = 96, m = 2 * T;

struct Case {
  int x, y, z;
  GridPolicy policy;
  std::string ToString() const {
    return StrCat(x, "x", y, "x", z, policy.cache_inputs ? " inputs" : "", policy.cache_weights ? " weights" : "");
  }
};

TrainerOptions OptionsOf(const Case& c) {
  return {.model = GptConfig{.layers = L, .heads = H, .hidden = h, .context = T, .vocab = V, .ffn = f},
          .precision = DType::kF32,
          .schedule = "gpipe",
          .x = c.x,
          .y = c.y,
          .z = c.z,
          .grid_policy = c.policy,
          .samples_per_micro_batch = 2};
}

// Random tokens; only memory matters here.
class Tokens final : public BatchSource {
 public:
  void Load(std::int64_t, std::int64_t first, std::int64_t count, void* inputs, std::int32_t* labels) const override {
    auto* tokens = static_cast<std::int32_t*>(inputs);
    for (std::int64_t i = 0; i < count * T; ++i) {
      const auto token = static_cast<std::int32_t>((first * T + i) * 7 % V);
      if (tokens != nullptr) tokens[i] = token;
      if (labels != nullptr) labels[i] = (token + 1) % static_cast<std::int32_t>(V);
    }
  }
  std::int64_t LossTokens(std::int64_t, std::int64_t, std::int64_t count) const override { return count * T; }
};

// Elements, by hand.
constexpr std::int64_t kVectors = L * (3 * h + h + f + h + 4 * h) + 2 * h + T * h;
constexpr std::int64_t kParameters = L * (4 * h * h + 2 * f * h) + V * h + kVectors;

// Kept by one rank for one micro-batch.
std::int64_t Activations(const Case& c) {
  const std::int64_t P = c.x * c.y * c.z;
  // Inputs of norms and of products, QKV, softmax statistics, hidden units, logits: all cut P ways.
  std::int64_t elements = m * (L * (8 * h + 2 * f + H) + 2 * h + V) / P;
  // Mean and rstd of a row are with all ranks along x; tokens and labels with all ranks of one z.
  elements += (2 * L + 1) * 2 * m / (c.z * c.y) + 2 * m / c.z;
  if (c.policy.cache_inputs) {
    elements += (2 * L + 1) * (m * h / (c.z * c.x) - m * h / P);  // gathered along y: QKV's, FC1's, the head's
    elements += L * (m * h / (c.z * c.y) - m * h / P);            // along x: the heads' outputs,
    elements += L * (m * f / (c.z * c.y) - m * f / P);            // and the hidden units
  }
  if (c.policy.cache_weights && c.z > 1) elements += (L * (4 * h * h + 2 * h * f) + V * h) / (c.x * c.y);
  return elements * kBytes;
}

// Of the vectors' gathered copies, and the message they travel in.
std::int64_t WorkingCopies(const Case& c) {
  const auto copy = [](std::int64_t elements, std::int64_t cut, std::int64_t owners) { return owners == 1 ? 0 : elements / cut; };
  const std::int64_t qkv = L * copy(3 * h, c.y * c.x, c.z), fc = L * copy(f, c.y, c.z * c.x);
  const std::int64_t features = copy(L * 6 * h + 2 * h + T * h, c.x, c.z * c.y);
  return (qkv + fc + features + std::max({qkv, fc, features})) * kBytes;
}

void Check(const Case& c) {
  SCOPED_TRACE(c.ToString());
  const int ranks = c.x * c.y * c.z;
  const Status ran = RunThreadRanks(ranks, [&](Communicator& world) -> Status {
    MemoryWatch watch;
    TrainerOptions options = OptionsOf(c);
    options.observer = watch.observer();
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer, Trainer::Create(options, world));
    watch.Start(*trainer, /*training=*/true);
    LYCIA_RETURN_IF_ERROR(trainer->TrainStep(0, Tokens(), 1e-3, false));
    LYCIA_RETURN_IF_ERROR(watch.Finish(*trainer, /*training=*/true));
    watch.Start(*trainer, /*training=*/false);
    LYCIA_RETURN_IF_ERROR(trainer->Evaluate(Tokens(), 1).status());
    LYCIA_RETURN_IF_ERROR(watch.Finish(*trainer, /*training=*/false));  // all that was planned was used

    const ArenaPlan& plan = trainer->memory_plan();
    EXPECT_EQ(trainer->num_parameters(), kParameters);
    EXPECT_EQ(plan.bytes("weights") * ranks, kParameters * kBytes);
    EXPECT_EQ(plan.bytes("gradients") * ranks, kParameters * kBytes);
    EXPECT_EQ(plan.bytes("optimizer states") * ranks, 2 * kParameters * kBytes);
    EXPECT_EQ(plan.bytes("activations"), Activations(c));
    EXPECT_EQ(plan.bytes("working copies"), WorkingCopies(c));
    return OkStatus();
  });
  EXPECT_TRUE(ran.ok()) << ran;
}

TEST(GridMemory, IsTheModelsOverTheRanksAndWhatIsDeclared) {
  for (const GridPolicy& policy : {GridPolicy{.cache_inputs = false}, GridPolicy{}, GridPolicy{.cache_weights = true}}) {
    for (const Case& c :
         {Case{1, 2, 1, policy}, {2, 1, 1, policy}, {1, 1, 2, policy}, {2, 2, 1, policy}, {2, 2, 2, policy}, {3, 2, 1, policy}}) {
      Check(c);
    }
  }
}

}  // namespace
}  // namespace lycia::layouts
