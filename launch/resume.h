// From which checkpoint of its folder a run goes on, and whether that is one of the same run.
#ifndef LYCIA_LAUNCH_RESUME_H_
#define LYCIA_LAUNCH_RESUME_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "launch/checkpoint/checkpoint.h"
#include "launch/config.h"
#include "launch/training_data.h"

namespace lycia {

// The step of the newest good checkpoint of `folder`; -1: there is none, and the run begins. Says on stderr which ones are damaged.
// InvalidArgument where there are some and nobody has asked to resume, or none of them is good.
StatusOr<std::int64_t> StepToResume(const Config& config, const std::string& folder);

// What a continued run must share with the one that wrote the checkpoint, beside the shapes of its tensors. By name.
std::vector<std::pair<std::string, std::int64_t>> IdentityOf(const Config& config, const TrainingData& data);

// InvalidArgument, with what differs, where the checkpoint is of another run.
Status CheckIdentity(const Checkpoint& checkpoint, const std::vector<std::pair<std::string, std::int64_t>>& mine);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_RESUME_H_
