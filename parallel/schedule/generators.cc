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
constexpr int kMaxStages = 2 * kMaxWorkers;
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
      {"interleaved", "1F1B on v stages per worker (Megatron): 1/v of the bubble, v times the messages",
       "any D; N a multiple of D (any N if v = 1); chunks = v (default 2)", Interleaved, 2},
      {"gems", "two copies of the model, two micro-batches at work (Jain et al. 2020): one activation per worker, most of the time idle",
       "any D, N", Gems},
      {"chimera", "bidirectional pipelines, two copies of the model: half the bubble (Li & Hoefler 2021)",
       "D even, any N; pipes = 2f with f a divisor of D/2 (default 2)", Chimera},
      {"chimera-continuous", "chimera without the bubbles between its units: 3N + 2D - 4 instead of 3N + (K + 1)(D - 2)", "D even, any N",
       ChimeraContinuous},
      {"chimera-doubling", "chimera with forwards in pairs: no bubbles between its units, up to 2D activations", "D even, any N",
       ChimeraDoubling},
      {"chimera-halving", "chimera with backwards in halves: no bubbles between its units, at most D activations", "D even, any N",
       ChimeraHalving, 1, 4},
      {"chimera-zb", "chimera with the backward split in two: the least bubble that two copies of the model allow",
       "D even, any N; pipes = 2f with f a divisor of D/2 (default 2)", ChimeraZb, 1, 3},
      {"zb-h1", "zero bubble with 1F1B's memory (Qi et al. 2023): weight gradients fill two thirds of the bubble", "any D, N", ZbH1, 1, 3},
      {"zb-h2", "zero bubble with twice the memory: no worker waits once it has begun", "any D, N", ZbH2, 1, 3},
      {"zb-v", "zero bubble on a V of 2D half stages (Qi et al. 2024, order of PyTorch): memory of 1F1B, balanced", "any D, N", ZbV, 2, 3},
      {"v-half", "half of 1f1b's bubble with half of its memory (Qi et al. 2024), on zb-v's placement", "any D, N", VHalf, 2, 3},
      {"dualpipe", "bidirectional, forwards paired with backwards (DeepSeek-V3): two copies of the model, D + 1 activations",
       "D even; N even, at least 2D", DualPipe, 1, 3},
      {"dualpipev", "DualPipe folded to a V of 2D half stages: one copy of the model", "any D; N at least 2D", DualPipeV, 2, 3},
      {"auto", "the fastest of all of these and of re-planned orders, at the given costs and memory limit", "any D, N", Auto, 2, 4},
  };
  return table;
}

StatusOr<Schedule> Generate(std::string_view name, const GenerateOptions& options) {
  for (const Generator& generator : Generators()) {
    if (generator.name != name) continue;
    LYCIA_RETURN_IF_ERROR(CheckSizes(name, options, {.chunks = generator.chunks, .instructions = generator.instructions}));
    return generator.generate(options);
  }
  return UnknownName(name);
}

Status CheckSizes(std::string_view name, const GenerateOptions& options, const SchemeSizes& scheme) {
  const absl::string_view of(name.data(), name.size());
  if (options.workers < 1 || options.workers > kMaxWorkers) {
    return InvalidArgument(of, ": stages must be 1 to ", kMaxWorkers, ", got ", options.workers);
  }
  if (options.micro_batches < 1) return InvalidArgument(of, ": micro-batches must be at least 1, got ", options.micro_batches);
  const int chunks = options.chunks == 0 ? scheme.chunks : options.chunks;
  if (chunks < 1 || std::int64_t{chunks} * options.workers > kMaxStages) {
    return InvalidArgument(of, ": ", options.workers, " workers take 1 to ", kMaxStages / options.workers, " stages each, got chunks ",
                           chunks);
  }
  if (std::int64_t{scheme.instructions} * chunks * options.workers * options.micro_batches > kMaxInstructions) {
    return InvalidArgument(of, ": ", options.workers * chunks, " stages x ", options.micro_batches, " micro-batches make more than ",
                           kMaxInstructions, " instructions; use fewer micro-batches");
  }
  return OkStatus();
}

Status CheckFixed(std::string_view name, const GenerateOptions& options, const FixedPlacement& fixed) {
  const absl::string_view scheme(name.data(), name.size());
  if (options.pipes != 0 && fixed.pipes != 0 && options.pipes != fixed.pipes) {
    if (fixed.pipes == 1) return InvalidArgument(scheme, " has one pipe, not ", options.pipes, "; leave out --pipes or use chimera");
    return InvalidArgument(scheme, " has ", fixed.pipes, " pipes, not ", options.pipes, "; leave out --pipes or use chimera");
  }
  if (options.chunks == 0 || options.chunks == fixed.chunks) return OkStatus();
  return InvalidArgument(scheme, " has ", fixed.chunks, fixed.chunks == 1 ? " stage" : " stages", " per worker and pipe, not ",
                         options.chunks, "; leave out --chunks or use interleaved");
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
