// A checkpoint has no layout: saved on one, loaded and saved again on another, every tensor has the same bits, optimizer states included.
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/writer.h"
#include "launch/model_weights.h"
#include "runtime/comm/transports.h"
#include "runtime/io/temp_directory.h"
#include "tests/layouts/layout_run.h"

namespace lycia {
namespace {

using layouts::Layout;
using layouts::OptionsOf;

constexpr int kSteps = 2;

std::vector<Layout> Layouts(bool tied) {
  std::vector<Layout> all = {
      {.schedule = "1f1b", .stages = 1, .micro_batches = 4},
      {.schedule = "chimera", .stages = 4, .micro_batches = 4},
      {.schedule = "1f1b", .stages = 2, .data = 2, .micro_batches = 2},
      {.schedule = "chimera", .stages = 4, .data = 2, .micro_batches = 2, .pipes = 4},
      {.schedule = "zb-v", .stages = 2, .micro_batches = 4},
      {.schedule = "dualpipe", .stages = 2, .micro_batches = 4},
      {.schedule = "gpipe", .micro_batches = 2, .samples = 2, .x = 2, .z = 2},
      {.schedule = "chimera", .stages = 2, .data = 2, .micro_batches = 2, .y = 2},
      {.schedule = "1f1b", .stages = 2, .micro_batches = 2, .samples = 2, .y = 2, .z = 2, .weights_each_step = true},
  };
  for (Layout& layout : all) {
    layout.tied = tied;
    layout.precision = DType::kF32;
  }
  return all;
}

// Saves what the trainer holds as `directory`/step_<steps>.
Status Save(Trainer& trainer, Communicator& world, const std::string& directory) {
  std::vector<Piece> pieces = CheckpointPieces(trainer);
  std::vector<char> staging(static_cast<std::size_t>(StagingBytes(pieces)));
  const CheckpointWriter::Options options{.directory = directory, .run = "test", .rank = world.rank(), .ranks = world.size()};
  LYCIA_ASSIGN_OR_RETURN(auto writer, CheckpointWriter::Create(options, std::move(pieces), staging.data()));
  CheckpointState state;
  state.step = kSteps;
  LYCIA_RETURN_IF_ERROR(writer->Save(state, trainer.stream()));
  return writer->Wait();
}

Status TrainAndSave(const Layout& layout, const std::string& directory) {
  return RunThreadRanks(layout.ranks(), [&](Communicator& world) -> Status {
    LYCIA_ASSIGN_OR_RETURN(auto trainer, Trainer::Create(OptionsOf(layout), world));
    const layouts::RandomBatches batches(/*masked=*/false);
    for (int step = 0; step < kSteps; ++step) {
      LYCIA_RETURN_IF_ERROR(trainer->TrainStep(step, batches, layouts::kLearningRate, /*stop=*/false));
    }
    return Save(*trainer, world, directory);
  });
}

// Every weight a rank holds, whether it is of its shard or not.
Status CompareWeights(const Checkpoint& checkpoint, Trainer& trainer, int rank) {
  for (const int g : trainer.store().local_groups()) {
    for (const PlacedParameter& p : trainer.groups().groups[static_cast<std::size_t>(g)].parameters) {
      const Tensor weight = trainer.store().weight(p.spec.name);
      const Trainer::Stored stored = trainer.stored(p.spec.name);
      const std::int64_t element_bytes = SizeOf(weight.dtype);
      std::vector<char> saved(static_cast<std::size_t>(stored.shape.elements() * element_bytes));
      LYCIA_RETURN_IF_ERROR(checkpoint.ReadRange("weight/" + stored.tensor, 0, stored.shape.elements(), saved.data()));
      std::vector<char> own(static_cast<std::size_t>(stored.count * element_bytes));
      PlaceRuns(stored.block.rows.empty() ? WholeTensor(stored.count) : stored.block,
                {.tensor = saved.data(),
                 .to = own.data(),
                 .begin = stored.begin,
                 .end = stored.begin + stored.count,
                 .element_bytes = element_bytes});
      if (std::memcmp(own.data(), weight.data, own.size()) == 0) continue;
      return absl::InternalError(StrCat("rank ", rank, " holds another ", p.spec.name));
    }
  }
  return OkStatus();
}

Status LoadAndSave(const std::string& from, const Layout& layout, const std::string& directory) {
  return RunThreadRanks(layout.ranks(), [&](Communicator& world) -> Status {
    TrainerOptions options = OptionsOf(layout);
    options.seed += 1;  // what is not loaded differs
    LYCIA_ASSIGN_OR_RETURN(auto trainer, Trainer::Create(options, world));
    LYCIA_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(CheckpointPath(from, kSteps), Verify::kChecksums));
    LYCIA_RETURN_IF_ERROR(LoadCheckpoint(checkpoint, *trainer));
    LYCIA_RETURN_IF_ERROR(trainer->PublishWeights());
    LYCIA_RETURN_IF_ERROR(CompareWeights(checkpoint, *trainer, world.rank()));
    return Save(*trainer, world, directory);
  });
}

using Bytes = std::map<std::string, std::vector<char>>;  // tensors by name

StatusOr<Bytes> ReadAll(const std::string& directory) {
  LYCIA_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(CheckpointPath(directory, kSteps), Verify::kChecksums));
  Bytes all;
  for (const LogicalTensor& tensor : checkpoint.tensors()) {
    std::vector<char>& bytes = all[StrCat(tensor.name, " ", tensor.spec.shape.ToString())];
    bytes.resize(static_cast<std::size_t>(tensor.spec.shape.elements() * SizeOf(tensor.spec.dtype)));
    LYCIA_RETURN_IF_ERROR(checkpoint.ReadRange(tensor.name, 0, tensor.spec.shape.elements(), bytes.data()));
  }
  return all;
}

std::vector<std::string> Differences(const Bytes& a, const Bytes& b) {
  std::vector<std::string> names;
  for (const auto& [name, bytes] : a) {
    const auto other = b.find(name);
    if (other == b.end() || other->second != bytes) names.push_back(name);
  }
  for (const auto& [name, bytes] : b) {
    if (a.find(name) == a.end()) names.push_back(name);
  }
  return names;
}

class LayoutCheckpoint : public testing::TestWithParam<bool> {};

TEST_P(LayoutCheckpoint, KeepsEveryBitFromAnyLayoutToAnyOther) {
  const bool tied = GetParam();
  const std::vector<Layout> all = Layouts(tied);
  const TempDirectory folder;
  for (std::size_t from = 0; from < all.size(); ++from) {
    const std::string saved = folder / StrCat("from", from);
    const Status trained = TrainAndSave(all[from], saved);
    ASSERT_TRUE(trained.ok()) << all[from].Name() << ": " << trained;
    const StatusOr<Bytes> before = ReadAll(saved);
    ASSERT_TRUE(before.ok()) << before.status();
    // Per block two norms of two vectors and four products with biases; two embeddings, a last norm, perhaps a head; each with m and v.
    EXPECT_EQ(before->size(), 3u * (layouts::kBlocks * 12 + 4 + (tied ? 0 : 1)));
    for (const auto& [name, bytes] : *before) {
      EXPECT_NE(bytes, std::vector<char>(bytes.size(), 0)) << name << " of " << all[from].Name() << " is zero and proves nothing";
    }
    for (std::size_t to = 0; to < all.size(); ++to) {
      // Every pair with a tied head; with one of its own, each layout to two others.
      if (!tied && to != (from + 1) % all.size() && to != (from + 4) % all.size()) continue;
      const std::string again = folder / StrCat("from", from, "to", to);
      const Status loaded = LoadAndSave(saved, all[to], again);
      ASSERT_TRUE(loaded.ok()) << all[from].Name() << " to " << all[to].Name() << ": " << loaded;
      const StatusOr<Bytes> after = ReadAll(again);
      ASSERT_TRUE(after.ok()) << after.status();
      EXPECT_THAT(Differences(*before, *after), testing::IsEmpty()) << all[from].Name() << " to " << all[to].Name();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Heads, LayoutCheckpoint, testing::Bool(), [](const auto& info) { return info.param ? "Tied" : "Untied"; });

}  // namespace
}  // namespace lycia
