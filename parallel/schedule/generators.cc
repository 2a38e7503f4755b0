#include "parallel/schedule/generators.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

namespace lycia::schedule {
namespace {

constexpr int kMaxWorkers = 4096;
constexpr std::int64_t kMaxInstructions = std::int64_t{1} << 22;  // a picture or a program of more helps nobody

int EditDistance(std::string_view a, std::string_view b) {
  std::vector<int> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    int diagonal = std::exchange(row[0], static_cast<int>(i));
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const int replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, replaced}));
    }
  }
  return row.back();
}

Status UnknownName(std::string_view name) {
  std::vector<std::pair<int, std::string>> names;
  for (const Generator& generator : Generators()) names.emplace_back(EditDistance(name, generator.name), generator.name);
  const std::string all = absl::StrJoin(names, ", ", [](std::string* out, const auto& entry) { *out += entry.second; });
  const auto& nearest = *std::min_element(names.begin(), names.end());
  const std::string hint =
      nearest.first <= 2 + static_cast<int>(name.size()) / 3 ? absl::StrCat("; did you mean ", nearest.second, "?") : "";
  return InvalidArgument("no schedule is called \"", absl::string_view(name.data(), name.size()), "\"", hint, " (known: ", all, ")");
}

}  // namespace

const std::vector<Generator>& Generators() {
  static const std::vector<Generator>& table = *new std::vector<Generator>{
      {"gpipe", "all forwards, then all backwards", "any D, N; keeps N activations", GPipe},
      {"1f1b", "one forward, one backward (DAPPLE, PipeDream-Flush): GPipe's bubble with at most D activations", "any D, N", OneFOneB},
      {"chimera", "bidirectional pipelines, two copies of the model: half the bubble (Li & Hoefler 2021)",
       "D even, any N; pipes = 2f with f a divisor of D/2 (default 2)", Chimera},
      {"chimera-continuous", "chimera without the bubbles between its units: 3N + 2D - 4 instead of 3N + (K + 1)(D - 2)", "D even, any N",
       ChimeraContinuous},
      {"chimera-zb", "chimera with the backward split in two: the least bubble that two copies of the model allow",
       "D even, any N; pipes = 2f with f a divisor of D/2 (default 2)", ChimeraZb},
  };
  return table;
}

StatusOr<Schedule> Generate(std::string_view name, const GenerateOptions& options) {
  for (const Generator& generator : Generators()) {
    if (generator.name != name) continue;
    if (options.workers < 1 || options.workers > kMaxWorkers) {
      return InvalidArgument(generator.name, ": stages must be 1 to ", kMaxWorkers, ", got ", options.workers);
    }
    if (options.micro_batches < 1)
      return InvalidArgument(generator.name, ": micro-batches must be at least 1, got ", options.micro_batches);
    if (std::int64_t{2} * options.workers * options.micro_batches > kMaxInstructions) {
      return InvalidArgument(generator.name, ": ", options.workers, " stages x ", options.micro_batches, " micro-batches make more than ",
                             kMaxInstructions, " instructions; use fewer micro-batches");
    }
    return generator.generate(options);
  }
  return UnknownName(name);
}

Schedule OnePipe(std::string name, const GenerateOptions& options) {
  Schedule schedule;
  schedule.name = std::move(name);
  schedule.shape = {.workers = options.workers, .stages = options.workers, .chunks = 1, .pipes = 1, .micro_batches = options.micro_batches};
  schedule.worker_of.resize(1);
  for (int stage = 0; stage < options.workers; ++stage) schedule.worker_of[0].push_back(stage);
  schedule.pipe_of_micro_batch = PipeOfMicroBatch(1, 1, options.micro_batches);
  schedule.program.resize(options.workers);
  return schedule;
}

std::vector<int> PipeOfMicroBatch(int unit, int pipes, int micro_batches) {
  std::vector<int> pipe_of;
  for (int first = 0; first < micro_batches; first += unit) {
    const int count = std::min(unit, micro_batches - first);
    for (int pipe = 0; pipe < pipes; ++pipe) pipe_of.insert(pipe_of.end(), count / pipes + (pipe < count % pipes), pipe);
  }
  return pipe_of;
}

Instruction Compute(Op op, int pipe, int stage, int micro_batch) {
  Instruction instruction;
  instruction.op = op;
  instruction.pipe = pipe;
  instruction.stage = stage;
  instruction.micro_batch = micro_batch;
  return instruction;
}

}  // namespace lycia::schedule
