// Checkpoints of one layout, loaded and saved again by another; of f32 or f64, where a checkpoint holds what stages compute with.
#ifndef LYCIA_TESTS_LAYOUTS_CHECKPOINT_RUN_H_
#define LYCIA_TESTS_LAYOUTS_CHECKPOINT_RUN_H_

#include <map>
#include <string>
#include <vector>

#include "tests/layouts/layout_run.h"

namespace lycia::layouts {

// Trains for two steps and saves below `directory`.
Status TrainAndSave(const Layout& layout, const std::string& directory);
// Loads what lies below `from` into a trainer that began with other weights, and saves it below `directory`. Internal where a rank then
// holds a weight, of its shard or not, or a state, that differs from the checkpoint.
Status LoadAndSave(const std::string& from, const Layout& layout, const std::string& directory);

using CheckpointBytes = std::map<std::string, std::vector<char>>;  // tensors by name and shape
StatusOr<CheckpointBytes> ReadAll(const std::string& directory);
// Names of tensors that differ, or that only one has.
std::vector<std::string> Differences(const CheckpointBytes& a, const CheckpointBytes& b);

}  // namespace lycia::layouts

#endif  // LYCIA_TESTS_LAYOUTS_CHECKPOINT_RUN_H_
