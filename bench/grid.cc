// Trains the same model on several tensor grids in turn and compares them: time, bytes, memory.
//
//   bazel-bin/bench/grid --ranks=8 launch/configs/grid_*.toml             (ranks as threads)
//   launch/mpirun.sh -n 8 bazel-bin/bench/grid launch/configs/grid_*.toml
//
// Every configuration runs once a round, in the order given, so that a noisy machine disturbs all alike; time is the median step of all
// rounds after each one's first step, of the slowest rank. Bytes are what a rank moved in one step along each axis (vectors: once a step,
// along several), memory is the largest rank's arena. Tokens are random but the same for all, and so must the losses be: they are compared.
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "kernels/gemm/blas_core.h"
#include "launch/cli.h"
#include "launch/config.h"
#include "launch/core_share.h"
#include "launch/launcher.h"
#include "launch/session.h"
#include "launch/trainer.h"
#include "launch/trainer_options.h"
#include "runtime/comm/transports.h"
#include "runtime/core/philox.h"

namespace lycia {
namespace {

// What rounding makes of a loss on different grids, at most.
double LossTolerance(const Config& config) { return config.train.precision == "bf16" ? 0x1p-7 : 1e-4; }
constexpr std::int64_t kMaxThreadRanks = 256;

class RandomTokens final : public BatchSource {
 public:
  explicit RandomTokens(const ModelConfig& model) : context_(model.context), vocab_(static_cast<std::uint32_t>(model.vocab)) {}
  void Load(std::int64_t step, std::int64_t first, std::int64_t count, void* inputs, std::int32_t* labels) const override {
    auto* tokens = static_cast<std::int32_t*>(inputs);
    const RandomStream random(1, "bench/grid", static_cast<std::uint64_t>(step));
    for (std::int64_t i = 0; i < count * context_; ++i) {
      const std::int64_t at = (first + i / context_) * (context_ + 1) + i % context_;
      if (tokens != nullptr) tokens[i] = static_cast<std::int32_t>(random.Bits(static_cast<std::uint64_t>(at)) % vocab_);
      if (labels != nullptr) labels[i] = static_cast<std::int32_t>(random.Bits(static_cast<std::uint64_t>(at + 1)) % vocab_);
    }
  }
  std::int64_t LossTokens(std::int64_t, std::int64_t, std::int64_t count) const override { return count * context_; }

 private:
  std::int64_t context_;
  std::uint32_t vocab_;
};

struct Contender {
  std::string name;
  Config config;
  // Of rank 0.
  std::vector<double> seconds;
  Trainer::GridBytes bytes{};
  std::int64_t memory_bytes = 0;
  double loss = 0;
  std::string mesh;
};

double Seconds() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// One round of one configuration; collective. Rank 0 writes what it saw.
Status RunOnce(Session& session, const CpuOptions& cpu, std::int64_t steps, Contender& contender) {
  Communicator& world = *session.world;
  SessionObserver observer(session, 0);
  TrainerOptions options = TrainerOptionsOf(contender.config, session, observer);
  options.cpu = cpu;
  StatusOr<std::unique_ptr<Trainer>> made = Trainer::Create(options, world);
  LYCIA_RETURN_IF_ERROR(AgreeOnInput(world, made.ok() ? OkStatus() : Annotate(made.status(), contender.name)));
  Trainer& trainer = **made;
  const RandomTokens tokens(contender.config.model);
  std::vector<double> seconds;
  for (std::int64_t step = 0; step <= steps; ++step) {
    LYCIA_RETURN_IF_ERROR(world.Barrier());
    const double start = Seconds();
    LYCIA_RETURN_IF_ERROR(trainer.TrainStep(step, tokens, contender.config.train.lr, false));
    LYCIA_RETURN_IF_ERROR(world.Barrier());
    if (step > 0) seconds.push_back(Seconds() - start);
  }
  std::int64_t memory = trainer.memory_bytes();
  std::vector<std::int64_t> all(static_cast<std::size_t>(world.size()));
  LYCIA_RETURN_IF_ERROR(
      world.AllGather({.in = ConstTensor(&memory, DType::kI64, {1}), .out = {all.data(), DType::kI64, {world.size()}}}, {}).Wait());
  if (session.rank() != 0) return OkStatus();
  contender.seconds.insert(contender.seconds.end(), seconds.begin(), seconds.end());
  contender.bytes = trainer.grid_bytes();
  contender.memory_bytes = *std::max_element(all.begin(), all.end());
  contender.loss = trainer.loss();
  contender.mesh = trainer.mesh().ToString();
  return OkStatus();
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

Status Print(const std::vector<Contender>& contenders, const Session& session) {
  double load[1] = {NAN};
  ::getloadavg(load, 1);
  const Config& config = contenders[0].config;
  std::printf("model: %d layers, hidden %d, %d heads, FFN %d, vocabulary %d; %d x %d tokens a micro-batch, %s, %s\n",
              static_cast<int>(config.model.layers), static_cast<int>(config.model.hidden), static_cast<int>(config.model.heads),
              static_cast<int>(config.model.ffn), static_cast<int>(config.model.vocab), static_cast<int>(config.train.micro_batch),
              static_cast<int>(config.model.context), config.train.precision.c_str(),
              session.threads ? "ranks as threads" : "ranks as processes");
  std::printf("cores %ld, load %.1f\n\n", ::sysconf(_SC_NPROCESSORS_ONLN), load[0]);
  std::printf("%-14s %-44s %10s %7s %9s %9s %9s %9s %9s %9s\n", "configuration", "mesh", "step ms", "ratio", "x MB", "y MB", "z MB",
              "vectors", "all MB", "memory MB");
  const double first = Median(contenders[0].seconds);
  for (const Contender& contender : contenders) {
    const auto mb = [&](GridGroup group) { return static_cast<double>(contender.bytes[static_cast<std::size_t>(group)]) / 1e6; };
    const double vectors = mb(GridGroup::kZY) + mb(GridGroup::kZX) + mb(GridGroup::kXYZ);
    const double x = mb(GridGroup::kX), y = mb(GridGroup::kY), z = mb(GridGroup::kZ), seconds = Median(contender.seconds);
    std::printf("%-14s %-44s %10.1f %7.3f %9.3f %9.3f %9.3f %9.3f %9.3f %9.2f\n", contender.name.c_str(), contender.mesh.c_str(),
                seconds * 1e3, seconds / first, x, y, z, vectors, x + y + z + vectors, static_cast<double>(contender.memory_bytes) / 1e6);
    if (!(std::abs(contender.loss - contenders[0].loss) <= LossTolerance(config) * contenders[0].loss)) {
      return absl::InternalError(
          StrCat(contender.name, " has loss ", contender.loss, ", ", contenders[0].name, " ", contenders[0].loss, " on the same tokens"));
    }
  }
  std::printf("\nloss after the same steps: %.6f on all\n", contenders[0].loss);
  return OkStatus();
}

Status Compare(const Arguments& arguments, Session& session) {
  std::vector<Contender> contenders;
  Status read = OkStatus();
  for (const std::string& path : arguments.positional()) {
    const std::size_t slash = path.rfind('/') + 1, dot = path.rfind('.');
    StatusOr<Config> config = LoadConfig(path, arguments.All("set"));
    if (read.ok()) read = config.status();
    if (!config.ok()) continue;
    if (read.ok()) read = Annotate(ResolveConfig(session.ranks(), *config), path);
    contenders.push_back({path.substr(slash, dot == std::string::npos || dot < slash ? std::string::npos : dot - slash), *config});
  }
  if (read.ok() && contenders.empty()) read = InvalidArgument("name the configurations to compare, as in launch/configs/grid_*.toml");
  LYCIA_RETURN_IF_ERROR(AgreeOnInput(*session.world, read));
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t steps, arguments.GetInteger("steps", 3, 1, 1000));
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t rounds, arguments.GetInteger("rounds", 3, 1, 1000));
  LYCIA_ASSIGN_OR_RETURN(const CpuOptions cpu, ShareCores(*session.world, static_cast<int>(contenders[0].config.parallel.threads)));
  LYCIA_RETURN_IF_ERROR(PinRankThread(cpu));
  for (std::int64_t round = 0; round < rounds; ++round) {
    for (Contender& contender : contenders) LYCIA_RETURN_IF_ERROR(RunOnce(session, cpu, steps, contender));
  }
  return session.rank() == 0 ? Print(contenders, session) : OkStatus();
}

Status Run(const Arguments& arguments) {
  SessionOptions options{.command = "grid"};
  LYCIA_ASSIGN_OR_RETURN(options.launcher, LauncherOf(arguments, ProcessEnvironment(), FindMpi()));
  if (!options.launcher.one_of_many()) {
    LYCIA_ASSIGN_OR_RETURN(const std::int64_t ranks, arguments.GetInteger("ranks", 8, 1, kMaxThreadRanks));
    options.thread_ranks = static_cast<int>(ranks);
  }
  return RunRanks(options, [&](Session& session) { return Compare(arguments, session); });
}

}  // namespace
}  // namespace lycia

int main(int argc, char** argv) {
  if (const lycia::Status status = lycia::EnsureBlasEnvironment(argv, environ); !status.ok()) {
    std::fprintf(stderr, "grid: %s\n", std::string(status.message()).c_str());
  }
  lycia::Command command = {
      .spec = {.name = "grid",
               .summary = "trains the same model on several tensor grids in turn: time, bytes, memory",
               .flags = {{.name = "ranks", .value = "N", .doc = "ranks as threads (default 8; with --rank: processes)"},
                         {.name = "steps", .value = "N", .doc = "measured steps of a round (default 3)"},
                         {.name = "rounds", .value = "N", .doc = "rounds over all configurations (default 3)"},
                         {.name = "set", .value = "KEY=VALUE", .doc = "overrides a key in all of them", .repeated = true}},
               .positional = "CONFIG..."},
      .run = lycia::Run};
  for (const lycia::FlagSpec& flag : lycia::LauncherFlags()) command.spec.flags.push_back(flag);
  std::vector<std::string> words = {"grid"};
  words.insert(words.end(), argv + 1, argv + argc);
  return lycia::RunCommand({&command, 1}, words, lycia::ToldRank(words, lycia::ProcessEnvironment()));
}
