#include "launch/checkpoint/prune.h"

#include <vector>

#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/names.h"
#include "runtime/io/directory.h"

namespace lycia {
namespace {

// Takes the name away first, so that a half-removed folder never looks like a checkpoint.
Status RemoveCheckpoint(const std::string& directory, std::int64_t step) {
  const std::string path = CheckpointPath(directory, step);
  LYCIA_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, ListDirectory(path));
  for (const DirectoryEntry& entry : entries) {
    if (entry.kind != EntryKind::kFile || !IsCheckpointFileName(entry.name)) return OkStatus();
  }
  const std::string doomed = AttemptDirectoryName({step, "pruned", 0});
  LYCIA_RETURN_IF_ERROR(RemoveTree(directory, doomed));
  LYCIA_RETURN_IF_ERROR(PublishDirectory(path, JoinPath(directory, doomed)));
  return RemoveTree(directory, doomed);
}

}  // namespace

Status PruneCheckpoints(const std::string& directory, std::int64_t newest, int keep) {
  LYCIA_CHECK_GE(keep, 1);
  LYCIA_ASSIGN_OR_RETURN(const std::vector<std::int64_t> steps, ListCheckpointSteps(directory));
  int kept = 0;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    if (*step > newest) continue;
    if (kept == keep) {
      LYCIA_RETURN_IF_ERROR(RemoveCheckpoint(directory, *step));
    } else if (*step == newest || Checkpoint::Open(CheckpointPath(directory, *step), Verify::kSizes).ok()) {
      ++kept;
    }
  }
  return OkStatus();
}

}  // namespace lycia
