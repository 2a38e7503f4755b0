#include "launch/step_bench_options.h"

#include <vector>

namespace lycia {
namespace {

constexpr std::int64_t kMaxThreadRanks = 256, kMost = 1 << 30;

// A flag that stands for a key of the configuration.
struct SizeFlag {
  const char* flag;
  const char* key;
  std::int64_t value;  // default
  std::int64_t least;
};
constexpr SizeFlag kSizes[] = {{"layers", "model.layers", 12, 1},     {"heads", "model.heads", 12, 1},
                               {"hidden", "model.hidden", 768, 1},    {"vocabulary", "model.vocab", 50257, 256},
                               {"sequence", "model.context", 256, 1}, {"threads", "parallel.threads", 0, 0}};

// Tokens of all steps are made, or read, before the first.
constexpr std::int64_t kMostTokens = std::int64_t{1} << 28;
Status CheckTokens(const StepBenchOptions& options, const Config& config) {
  const double tokens = static_cast<double>(options.steps + options.warmup) * static_cast<double>(config.train.batch) *
                        static_cast<double>(config.model.context + 1);
  if (tokens <= static_cast<double>(kMostTokens)) return OkStatus();
  return InvalidArgument(options.steps, " + ", options.warmup, " steps of ", config.train.batch, " sequences of ", config.model.context,
                         " tokens are more than ", kMostTokens, " tokens in all; use fewer --steps");
}

// A run's configuration without what a bench does not do: read texts, record a step.
StatusOr<std::string> BenchConfig(const std::string& path) {
  LYCIA_ASSIGN_OR_RETURN(Config config, LoadConfig(path, {}));
  config.data.files.clear();
  config.output.trace_step = 0;
  return ToToml(config);
}

// What a run does besides its steps, or what would make steps unlike each other.
Status CheckMeasurable(const Config& config) {
  if (config.parallel.device == "emulated") {
    return InvalidArgument("parallel.device = \"", config.parallel.device, "\" computes nothing to measure; use \"cpu\" or \"cuda\"");
  }
  if (config.checkpoint.resume)
    return InvalidArgument("checkpoint.resume: a bench has no checkpoints; give --weights=FILE to start from weights");
  if (!config.data.files.empty()) return InvalidArgument("data.files: a bench trains on random tokens, or on those of --tokens=FILE");
  return OkStatus();
}

}  // namespace

CommandSpec StepBenchSpec() {
  return {
      .name = "bench step",
      .summary = "measures whole training steps: forward, backward, gradient norm, AdamW",
      .flags = {{.name = "config", .value = "FILE", .doc = "model, batch and layout of this configuration; flags given besides change it"},
                {.name = "layers", .value = "N", .doc = "blocks of the model (default 12, as all of GPT-2 124M)"},
                {.name = "heads", .value = "N", .doc = "heads of attention (default 12)"},
                {.name = "hidden", .value = "N", .doc = "width (default 768)"},
                {.name = "vocabulary", .value = "N", .doc = "tokens that there are (default 50257)"},
                {.name = "sequence", .value = "N", .doc = "tokens of a sequence (default 256)"},
                {.name = "batch", .value = "N", .doc = "sequences of a step (default 4)"},
                {.name = "micro-batch", .value = "N", .doc = "sequences of a micro-batch (default: as --batch)"},
                {.name = "precision", .value = "TYPE", .doc = "f32, bf16 or, on GPUs, f16 (default f32)"},
                {.name = "threads", .value = "N", .doc = "threads of a rank (default: its share of the cores)"},
                {.name = "ranks", .value = "N", .doc = "ranks as threads of this process (default 1; not under mpirun or srun)"},
                {.name = "steps", .value = "N", .doc = "measured steps (default 8)"},
                {.name = "warmup", .value = "N", .doc = "steps before them (default 2)"},
                {.name = "weights", .value = "FILE", .doc = "safetensors with Hugging Face's names to start from (default random)"},
                {.name = "tokens", .value = "FILE", .doc = "u16 tokens, --sequence + 1 for each sequence (default random)"},
                {.name = "set", .value = "KEY=VALUE", .doc = "a key of `lycia train`, e.g. --set parallel.stages=2", .repeated = true},
                {.name = "format", .value = "FORMAT", .doc = "text or json (default text)"}},
      .details =
          "The learning rate stays at train.lr (here 1e-4). A step's work is counted as 6 operations for every weight of a matrix and "
          "token, and attention without its mask.\n"};
}

StatusOr<StepBenchFlags> ReadStepBenchFlags(const Arguments& arguments) {
  StepBenchFlags flags;
  const std::string format = arguments.Get("format", "text"), precision = arguments.Get("precision", "f32");
  if (format != "text" && format != "json") return InvalidArgument("--format=", format, " must be text or json");
  if (precision != "f32" && precision != "bf16" && precision != "f16")
    return InvalidArgument("--precision=", precision, " must be f32, bf16 or f16");
  flags.json = format == "json";
  const bool from_file = arguments.Has("config");
  const auto stands = [&](const char* flag) { return !from_file || arguments.Has(flag); };  // else the file's value does
  std::vector<std::string> keys = {"train.lr=1e-4", "train.min_lr=0"};
  if (stands("precision")) keys.push_back(StrCat("train.precision=", precision));
  for (const SizeFlag& size : kSizes) {
    LYCIA_ASSIGN_OR_RETURN(const std::int64_t value, arguments.GetInteger(size.flag, size.value, size.least, kMost));
    if (stands(size.flag)) keys.push_back(StrCat(size.key, "=", value));
  }
  LYCIA_ASSIGN_OR_RETURN(flags.options.steps, arguments.GetInteger("steps", flags.options.steps, 1, kMost));
  LYCIA_ASSIGN_OR_RETURN(flags.options.warmup, arguments.GetInteger("warmup", flags.options.warmup, 0, kMost));
  keys.push_back(StrCat("train.steps=", flags.options.steps + flags.options.warmup));
  keys.push_back("train.warmup_steps=0");
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t ranks, arguments.GetInteger("ranks", 0, 1, kMaxThreadRanks));
  flags.ranks = static_cast<int>(ranks);
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t batch, arguments.GetInteger("batch", 4, 1, kMost));
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t micro_batch, arguments.GetInteger("micro-batch", batch, 1, kMost));
  if (stands("batch")) keys.push_back(StrCat("train.batch=", batch));
  if (stands("batch") || stands("micro-batch")) keys.push_back(StrCat("train.micro_batch=", micro_batch));
  for (const std::string& key : arguments.All("set")) keys.push_back(key);
  LYCIA_ASSIGN_OR_RETURN(const std::string file, arguments.Has("config") ? BenchConfig(arguments.Get("config")) : std::string());
  LYCIA_ASSIGN_OR_RETURN(flags.config, ParseConfig(file, "lycia bench step", keys));
  if (arguments.Has("weights")) {
    if (arguments.Get("weights").empty()) return InvalidArgument("--weights= names no file");
    flags.config.init.from = arguments.Get("weights");
  }
  if (arguments.Has("tokens") && arguments.Get("tokens").empty()) return InvalidArgument("--tokens= names no file");
  flags.tokens = arguments.Get("tokens");
  LYCIA_RETURN_IF_ERROR(CheckMeasurable(flags.config));
  LYCIA_RETURN_IF_ERROR(CheckTokens(flags.options, flags.config));
  return flags;
}

}  // namespace lycia
