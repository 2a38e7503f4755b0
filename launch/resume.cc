#include "launch/resume.h"

#include <cmath>
#include <cstdio>
#include <iterator>

#include "launch/checkpoint/names.h"
#include "launch/trainer_options.h"

namespace lycia {
namespace {

constexpr const char* kPrecisionBytes = "precision_bytes";  // of a weight of the model
constexpr const char* kRopeBase = "rope_base_millionths";   // of a model with rotary positions, only
constexpr const char* kNormEps = "norm_eps_trillionths";    // of a language model
constexpr double kNormEpsBefore = 1e-5;                     // of checkpoints that do not say

}  // namespace

StatusOr<std::int64_t> StepToResume(const Config& config, const std::string& folder) {
  const StatusOr<std::vector<std::int64_t>> steps = ListCheckpointSteps(folder);
  if (!steps.ok()) return steps.status();  // what cannot be read is not "no checkpoint": a run never starts anew by mistake
  const bool any = !steps->empty();
  if (!config.checkpoint.resume) {
    if (!any) return -1;
    return InvalidArgument(config.output.dir, " holds checkpoints of an earlier run (newest: step ", steps->back(),
                           "); add --resume to continue it, or choose another output.dir");
  }
  if (!any) {
    std::fprintf(stderr, "lycia: --resume: no checkpoint in %s yet; starting at step 1\n", folder.c_str());
    return -1;
  }
  std::vector<std::string> warnings;
  const StatusOr<Checkpoint> newest = OpenNewestCheckpoint(folder, &warnings);
  for (const std::string& warning : warnings) std::fprintf(stderr, "lycia: %s\n", warning.c_str());
  if (!newest.ok()) return InvalidArgument("cannot resume: ", std::string(newest.status().message()));
  return newest->step();
}

std::vector<std::pair<std::string, std::int64_t>> IdentityOf(const Config& config, const TrainingData& data) {
  std::vector<std::pair<std::string, std::int64_t>> identity = {
      {"seed", config.train.seed},
      {"data_seed", config.data.seed},
      {"batch", config.train.batch},
      {"heads", config.model.heads},
      {kPrecisionBytes, SizeOf(TrainerPrecision(config))},  // bf16 and f32 have checkpoints of the same shapes and types
      {data.size_name(), data.size()}};
  if (data.images() != nullptr) {
    const std::pair<const char*, std::int64_t> of_images[] = {{"norm_samples", config.model.norm_samples},
                                                              {"fold", config.data.fold},
                                                              {"shift", config.data.shift},
                                                              {"mirror", config.data.mirror ? 1 : 0}};
    identity.insert(identity.end(), std::begin(of_images), std::end(of_images));
  }
  if (config.model.reads_text()) identity.emplace_back(kNormEps, std::llround(1e12 * config.model.norm_eps));
  if (config.model.rotary()) identity.emplace_back(kRopeBase, std::llround(1e6 * config.model.rope_base));
  return identity;
}

Status CheckIdentity(const Checkpoint& checkpoint, const std::vector<std::pair<std::string, std::int64_t>>& mine) {
  for (const auto& [name, value] : mine) {
    const StatusOr<std::int64_t> found = checkpoint.state().Integer(name);
    if (!found.ok() && name == kPrecisionBytes) continue;  // written before there was bf16: the tensors' types tell f32 from f64
    if (!found.ok() && name == kRopeBase) {
      return InvalidArgument("cannot resume ", checkpoint.path(), ": its positions are learned; set model.position = \"learned\"");
    }
    const std::int64_t eps_before = std::llround(1e12 * kNormEpsBefore);
    LYCIA_ASSIGN_OR_RETURN(const std::int64_t saved, !found.ok() && name == kNormEps ? StatusOr<std::int64_t>(eps_before) : found);
    if (saved != value) {
      return InvalidArgument("cannot resume ", checkpoint.path(), ": its ", name, " is ", saved, ", the configuration has ", value,
                             "; a continued run must see the same data and model");
    }
  }
  return OkStatus();
}

}  // namespace lycia
