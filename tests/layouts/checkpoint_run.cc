#include "tests/layouts/checkpoint_run.h"

#include <cstring>
#include <utility>

#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/writer.h"
#include "launch/model_weights.h"

namespace lycia::layouts {
namespace {

constexpr int kSavedSteps = 2;

// Saves what the trainer holds as `directory`/step_<steps>.
Status Save(Trainer& trainer, Communicator& world, const std::string& directory) {
  std::vector<Piece> pieces = CheckpointPieces(trainer);
  std::vector<char> staging(static_cast<std::size_t>(StagingBytes(pieces)));
  const CheckpointWriter::Options options{.directory = directory, .run = "test", .rank = world.rank(), .ranks = world.size()};
  LYCIA_ASSIGN_OR_RETURN(auto writer, CheckpointWriter::Create(options, std::move(pieces), staging.data()));
  CheckpointState state;
  state.step = kSavedSteps;
  LYCIA_RETURN_IF_ERROR(writer->Save(state, trainer.stream()));
  return writer->Wait();
}

// What a rank holds of a tensor against the checkpoint's, which is exact: rounded to the type of what is held.
Status Compare(const Checkpoint& checkpoint, Trainer& trainer, const std::string& name, const Trainer::Stored& stored, const Tensor& held,
               int rank) {
  const std::int64_t element_bytes = SizeOf(ArithmeticDType(held.dtype));
  std::vector<char> saved(static_cast<std::size_t>(stored.shape.elements() * element_bytes));
  LYCIA_RETURN_IF_ERROR(checkpoint.ReadRange(name, 0, stored.shape.elements(), saved.data()));
  std::vector<char> own(static_cast<std::size_t>(stored.count * element_bytes));
  PlaceRuns(stored.block.rows.empty() ? WholeTensor(stored.count) : stored.block, {.tensor = saved.data(),
                                                                                   .to = own.data(),
                                                                                   .begin = stored.begin,
                                                                                   .end = stored.begin + stored.count,
                                                                                   .element_bytes = element_bytes});
  return trainer.host().Read(held, [&](const Tensor& host) -> Status {
    const bool same = DispatchAnyStored(held.dtype, [&]<typename T>() {
      const auto* exact = reinterpret_cast<const Arithmetic<T>*>(own.data());
      for (std::int64_t i = 0; i < stored.count; ++i) {
        const T rounded = static_cast<T>(exact[i]);
        if (std::memcmp(&rounded, host.as<T>() + i, sizeof rounded) != 0) return false;
      }
      return true;
    });
    if (same) return OkStatus();
    return absl::InternalError(StrCat("rank ", rank, " holds another ", name));
  });
}

// Every weight and state a rank holds, whether it is of its shard or not.
Status CompareAll(const Checkpoint& checkpoint, Trainer& trainer, int rank) {
  for (const int g : trainer.store().local_groups()) {
    for (const PlacedParameter& p : trainer.groups().groups[static_cast<std::size_t>(g)].parameters) {
      const Trainer::Stored stored = trainer.stored(p.spec.name);
      LYCIA_RETURN_IF_ERROR(Compare(checkpoint, trainer, "weight/" + stored.tensor, stored, trainer.store().weight(p.spec.name), rank));
    }
  }
  for (const Trainer::OwnState& own : trainer.States()) {
    LYCIA_RETURN_IF_ERROR(Compare(checkpoint, trainer, "state/" + own.stored.tensor, own.stored, own.state, rank));
  }
  return OkStatus();
}

}  // namespace

Status TrainAndSave(const Layout& layout, const std::string& directory) {
  return OnRanks(layout, [&](Communicator& world) -> Status {
    LYCIA_ASSIGN_OR_RETURN(auto trainer, Trainer::Create(OptionsOf(layout), world));
    const std::unique_ptr<BatchSource> batches = SourceOf(layout);
    for (int step = 0; step < kSavedSteps; ++step) {
      LYCIA_RETURN_IF_ERROR(trainer->TrainStep(step, *batches, kLearningRate, /*stop=*/false));
    }
    return Save(*trainer, world, directory);
  });
}

Status LoadAndSave(const std::string& from, const Layout& layout, const std::string& directory) {
  return OnRanks(layout, [&](Communicator& world) -> Status {
    TrainerOptions options = OptionsOf(layout);
    options.seed += 1;  // what is not loaded differs
    LYCIA_ASSIGN_OR_RETURN(auto trainer, Trainer::Create(options, world));
    LYCIA_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(CheckpointPath(from, kSavedSteps), Verify::kChecksums));
    LYCIA_RETURN_IF_ERROR(LoadCheckpoint(checkpoint, *trainer));
    LYCIA_RETURN_IF_ERROR(trainer->PublishWeights());
    LYCIA_RETURN_IF_ERROR(CompareAll(checkpoint, *trainer, world.rank()));
    return Save(*trainer, world, directory);
  });
}

StatusOr<CheckpointBytes> ReadAll(const std::string& directory) {
  LYCIA_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(CheckpointPath(directory, kSavedSteps), Verify::kChecksums));
  CheckpointBytes all;
  for (const LogicalTensor& tensor : checkpoint.tensors()) {
    std::vector<char>& bytes = all[StrCat(tensor.name, " ", tensor.spec.shape.ToString())];
    bytes.resize(static_cast<std::size_t>(tensor.spec.shape.elements() * SizeOf(tensor.spec.dtype)));
    LYCIA_RETURN_IF_ERROR(checkpoint.ReadRange(tensor.name, 0, tensor.spec.shape.elements(), bytes.data()));
  }
  return all;
}

std::vector<std::string> Differences(const CheckpointBytes& a, const CheckpointBytes& b) {
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

}  // namespace lycia::layouts
