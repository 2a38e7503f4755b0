// A training run in f16 on a GPU, from its configuration to its files: metrics of the loss scale, skipped steps, and a resumed run that is
// the unbroken one bit for bit. Like cuda_layouts_test it runs twice: on CUDA's kernels emulated on the CPU, and on a GPU where there is
// one.
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/training_run.h"
#include "runtime/device/device.h"
#include "runtime/io/directory.h"
#include "runtime/io/temp_directory.h"

namespace lycia {
namespace {

constexpr int kRanks = 2, kSteps = 8, kSaved = 6;
constexpr double kScale = 0x1p24;  // far too high at first

class CudaRun : public testing::Test {
 protected:
  void SetUp() override {
    const StatusOr<std::unique_ptr<Device>> device = NewCudaDevice(0);
    if (!device.ok()) GTEST_SKIP() << device.status().message();
    std::ofstream text(directory_ / "text");
    for (int i = 0; i < 400; ++i) text << "all that is said here is " << i * i % 37 << " of it; ";
  }

  // Runs into the folder `name`; the configuration beside it.
  Status Train(const std::string& name, bool resume, const std::vector<std::string>& more = {}) {
    std::vector<std::string> keys = {"model.layers=1",
                                     "model.heads=2",
                                     "model.hidden=16",
                                     "model.context=8",
                                     "data.files=[\"" + (directory_ / "text") + "\"]",
                                     "train.steps=" + std::to_string(kSteps),
                                     "train.batch=4",
                                     "train.precision=f16",
                                     "train.loss_scale_initial=16777216",
                                     "train.loss_scale_growth_interval=2",
                                     "train.warmup_steps=1",
                                     "train.eval_batches=1",
                                     "parallel.device=cuda",
                                     "parallel.stages=2",
                                     "checkpoint.every=2",
                                     "checkpoint.keep=4",
                                     "generate.tokens=0",
                                     "output.dir=" + (directory_ / name)};
    keys.insert(keys.end(), more.begin(), more.end());
    LYCIA_ASSIGN_OR_RETURN(Config config, ParseConfig("", "test", keys));
    config.checkpoint.resume = resume;
    LYCIA_RETURN_IF_ERROR(ResolveConfig(kRanks, config));
    LYCIA_ASSIGN_OR_RETURN(const TrainingData data, TrainingData::Open(config));
    return RunRanks({.thread_ranks = kRanks, .cuda = true}, [&](Session& session) { return RunTraining(config, session, data); });
  }

  std::vector<nlohmann::json> Steps(const std::string& name) const {
    std::vector<nlohmann::json> steps;
    std::ifstream file(directory_ / (name + "/metrics.jsonl"));
    for (std::string line; std::getline(file, line);) {
      const nlohmann::json json = nlohmann::json::parse(line);
      if (json.contains("loss")) steps.push_back(json);
    }
    return steps;
  }
  std::string Checkpoints(const std::string& name) const { return directory_ / (name + "/checkpoints"); }

  TempDirectory directory_;
};

TEST_F(CudaRun, TheLossScaleIsShownAndResumed) {
  ASSERT_TRUE(Train("whole", false).ok());
  const std::vector<nlohmann::json> steps = Steps("whole");
  ASSERT_EQ(steps.size(), static_cast<std::size_t>(kSteps));
  // The rule of train.loss_scale_*, told by what the steps found: the norm of a step that is not finite is null.
  double scale = kScale;
  int good = 0, skipped = 0, updated = 0;
  for (const nlohmann::json& step : steps) {
    EXPECT_EQ(step["loss_scale"], scale) << step;
    if (step["grad_norm"].is_null()) {
      scale /= 2, good = 0, ++skipped;
    } else if (++updated, ++good == 2) {
      scale *= 2, good = 0;
    }
    EXPECT_EQ(step["skipped_steps"], skipped) << step;
  }
  EXPECT_TRUE(skipped > 0 && updated > 0) << skipped << " skipped, " << updated << " updated";

  // From a checkpoint between the two, in a folder that has nothing else.
  ASSERT_TRUE(CreateDirectories(Checkpoints("resumed")).ok());
  const std::string saved = CheckpointPath(Checkpoints("whole"), kSaved);
  std::filesystem::copy(saved, CheckpointPath(Checkpoints("resumed"), kSaved), std::filesystem::copy_options::recursive);
  ASSERT_TRUE(Train("resumed", true).ok());
  const StatusOr<Checkpoint> whole = Checkpoint::Open(CheckpointPath(Checkpoints("whole"), kSteps), Verify::kChecksums);
  const StatusOr<Checkpoint> resumed = Checkpoint::Open(CheckpointPath(Checkpoints("resumed"), kSteps), Verify::kChecksums);
  ASSERT_TRUE(whole.ok() && resumed.ok()) << whole.status() << resumed.status();
  EXPECT_EQ(whole->state().integers, resumed->state().integers);
  EXPECT_EQ(whole->state().reals, resumed->state().reals);
  ASSERT_EQ(whole->state().reals.size(), 1u);
  EXPECT_EQ(whole->state().reals[0].second, scale);
  for (const LogicalTensor& tensor : whole->tensors()) {
    const std::int64_t elements = tensor.spec.shape.elements();
    std::vector<char> a(static_cast<std::size_t>(tensor.spec.bytes())), b(a.size());
    ASSERT_TRUE(whole->ReadRange(tensor.name, 0, elements, a.data()).ok() && resumed->ReadRange(tensor.name, 0, elements, b.data()).ok());
    EXPECT_TRUE(a == b) << tensor.name;
  }
  const std::vector<nlohmann::json> rest = Steps("resumed");
  ASSERT_EQ(rest.size(), static_cast<std::size_t>(kSteps - kSaved));
  for (std::size_t i = 0; i < rest.size(); ++i) {
    for (const char* key : {"step", "loss", "grad_norm", "loss_scale", "skipped_steps"})
      EXPECT_EQ(rest[i][key], steps[kSaved + i][key]) << key;
  }

  // A checkpoint of f16 is none of bf16.
  EXPECT_EQ(Train("resumed", true, {"train.precision=bf16", "train.steps=9"}).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(CudaRun, AnOverflowAtAFixedScaleEndsTheRun) {
  EXPECT_FALSE(Train("fixed", false, {"train.loss_scale=16777216"}).ok());
  EXPECT_TRUE(Steps("fixed").empty());
  EXPECT_TRUE(Train("lower", false, {"train.loss_scale=256", "train.steps=2"}).ok());
  for (const nlohmann::json& step : Steps("lower")) EXPECT_EQ(step["loss_scale"], 256);
}

}  // namespace
}  // namespace lycia
