// How a folder of checkpoints is laid out on disk:
//
//   checkpoints/step_00000020/manifest.json                      a checkpoint: whole, or it does not have this name
//   checkpoints/step_00000020/shard-00000-of-00004.safetensors   one file a rank that wrote
//   checkpoints/step_00000030.k3x9-4.tmp/                        save 4 of run "k3x9", under construction or left by a dead run
//   checkpoints/step_00000030.k3x9-4.tmp/shard-00001.json        rank 1 is done: its table; shard-00001.failed: it gave up
#ifndef LYCIA_LAUNCH_CHECKPOINT_NAMES_H_
#define LYCIA_LAUNCH_CHECKPOINT_NAMES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/status.h"

namespace lycia {

inline constexpr const char* kManifestName = "manifest.json";

// One save of one run.
struct Attempt {
  std::int64_t step = 0;
  std::string run;        // letters, digits and '_' only: the same on all ranks, different for every start of the program
  std::int64_t save = 0;  // counts the saves of this run
};

std::string StepDirectoryName(std::int64_t step);
std::string AttemptDirectoryName(const Attempt& attempt);
std::string ShardFileName(int rank, int ranks);
std::string ShardTableName(int rank);
std::string ShardFailureName(int rank);

// Nothing where the name is not exactly of that form.
std::optional<std::int64_t> ParseStepDirectoryName(std::string_view name);
std::optional<Attempt> ParseAttemptDirectoryName(std::string_view name);
// True for the names of files that we put into these folders.
bool IsCheckpointFileName(std::string_view name);

// Steps of the checkpoints in `directory`, rising, whether they are sound or not; empty where the folder is missing.
StatusOr<std::vector<std::int64_t>> ListCheckpointSteps(const std::string& directory);

// Removes what dead runs left under construction. One rank calls it at the start, before any rank saves. An error is no reason to
// stop: it may be a dying process of the run before that still writes there.
Status RemoveStaleAttempts(const std::string& directory);
// Removes this run's saves before `attempt`, which ended without a checkpoint.
Status RemoveFailedAttempts(const std::string& directory, const Attempt& attempt);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_CHECKPOINT_NAMES_H_
