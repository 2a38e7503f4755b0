// lycia plan grid --ranks=64 --model=gpt3-175b [--ranks-per-node=8] [--hidden= --ffn= --tokens= --heads= ...] [--format=text|json]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "launch/commands/commands.h"
#include "launch/config.h"
#include "launch/grid_count.h"
#include "launch/suggest.h"
#include "parallel/plan/grid_report.h"
#include "runtime/core/dtype.h"

namespace lycia {
namespace {

using plan::Transformer;

// What a micro-batch and its numbers are unless flags say otherwise.
struct Defaults {
  Transformer model;
  std::int64_t sequences = 0;
  std::string dtype = "bf16";
};

bool IsFile(const std::string& name) { return name.find('/') != std::string::npos || name.find(".toml") != std::string::npos; }

StatusOr<Defaults> FromConfig(const std::string& path) {
  LYCIA_ASSIGN_OR_RETURN(const Config config, LoadConfig(path, {}));
  constexpr std::int64_t kBytesVocab = 256;  // what the configuration's 0 stands for
  const ModelConfig& model = config.model;
  Defaults defaults;
  defaults.model = {.name = path,
                    .hidden = model.hidden,
                    .ffn = model.ffn_or_default(),
                    .heads = model.heads,
                    .kv_heads = model.kv_heads != 0 ? model.kv_heads : model.heads,
                    .layers = model.layers,
                    .vocab = model.vocab != 0 ? model.vocab : kBytesVocab,
                    .context = model.context,
                    .gated = model.kind == "llama",
                    .bias = model.kind != "llama",
                    .tied = model.tied};
  defaults.sequences = config.train.micro_batch;
  defaults.dtype = config.train.precision;
  return defaults;
}

StatusOr<Defaults> FindModel(const Arguments& arguments) {
  if (!arguments.Has("model")) {
    if (!arguments.Has("hidden"))
      return InvalidArgument("give --model=NAME (see `lycia plan --help`), or --hidden=H for a GPT of that size");
    Defaults gpt;
    gpt.model = *plan::FindPreset("gpt3-6.7b");  // heads of 128 features, ffn 4 * hidden
    gpt.model.name = "gpt";
    return gpt;
  }
  const std::string name = arguments.Get("model");
  if (const Transformer* preset = plan::FindPreset(name)) return Defaults{*preset};
  if (IsFile(name)) return FromConfig(name);
  std::vector<std::string> names;
  for (const Transformer& preset : plan::Presets()) names.push_back(preset.name);
  return InvalidArgument("--model=", name, " is neither a configuration file (*.toml) nor one of ", absl::StrJoin(names, ", "),
                         DidYouMean(name, names));
}

StatusOr<double> GetPositive(const Arguments& arguments, const std::string& flag, double otherwise) {
  if (!arguments.Has(flag)) return otherwise;
  double value = 0;
  if (!absl::SimpleAtod(arguments.Get(flag), &value) || !std::isfinite(value) || value <= 0) {
    return InvalidArgument("--", flag, "=", arguments.Get(flag), " must be a number above 0, as in 450e9");
  }
  return value;
}

StatusOr<bool> GetChoice(const Arguments& arguments, const std::string& flag, const std::string& no, const std::string& yes) {
  const std::string value = arguments.Get(flag, no);
  if (value != no && value != yes) return InvalidArgument("--", flag, "=", value, " must be ", no, " or ", yes);
  return value == yes;
}

StatusOr<std::int64_t> ElementBytes(const std::string& dtype) {
  for (const DType type : {DType::kBF16, DType::kF16, DType::kF32, DType::kF64}) {
    if (dtype == Name(type)) return SizeOf(type);
  }
  return InvalidArgument("--dtype=", dtype, " must be one of bf16, f16, f32, f64");
}

// The most that one figure takes without leaving int64: bytes of a product times ranks.
constexpr std::int64_t kMaxHidden = 1 << 18, kMaxFfn = 1 << 20, kMaxVocab = 1 << 22, kMaxTokens = 1 << 24, kMaxLayers = 10'000;
constexpr std::int64_t kMaxRanks = 1 << 16;

StatusOr<plan::GridProblem> ReadProblem(const Arguments& arguments) {
  LYCIA_ASSIGN_OR_RETURN(const Defaults defaults, FindModel(arguments));
  plan::SizeOverrides sizes;
  LYCIA_ASSIGN_OR_RETURN(sizes.hidden, arguments.GetInteger("hidden", 0, 1, kMaxHidden));
  LYCIA_ASSIGN_OR_RETURN(sizes.ffn, arguments.GetInteger("ffn", 0, 1, kMaxFfn));
  LYCIA_ASSIGN_OR_RETURN(sizes.heads, arguments.GetInteger("heads", 0, 1, kMaxHidden));
  LYCIA_ASSIGN_OR_RETURN(sizes.kv_heads, arguments.GetInteger("kv-heads", 0, 1, kMaxHidden));
  LYCIA_ASSIGN_OR_RETURN(sizes.layers, arguments.GetInteger("layers", 0, 1, kMaxLayers));
  LYCIA_ASSIGN_OR_RETURN(sizes.vocab, arguments.GetInteger("vocab", 0, 1, kMaxVocab));
  plan::GridProblem problem;
  LYCIA_ASSIGN_OR_RETURN(problem.model, plan::WithSizes(defaults.model, sizes));
  LYCIA_ASSIGN_OR_RETURN(problem.element_bytes, ElementBytes(arguments.Get("dtype", defaults.dtype)));
  LYCIA_ASSIGN_OR_RETURN(problem.batch.sequences, arguments.GetInteger("batch", 0, 1, kMaxTokens));
  LYCIA_ASSIGN_OR_RETURN(problem.batch.tokens, arguments.GetInteger("tokens", 0, 1, kMaxTokens));
  plan::MicroBatch& batch = problem.batch;
  if (batch.tokens == 0) {
    if (batch.sequences == 0) batch.sequences = defaults.sequences;
    batch.tokens = problem.model.context * std::max<std::int64_t>(1, batch.sequences);
    if (batch.tokens > kMaxTokens) {
      return InvalidArgument("a micro-batch of ", batch.sequences, " sequences of ", problem.model.context, " tokens is more than ",
                             kMaxTokens, " tokens; use a smaller --batch or say --tokens");
    }
  } else if (batch.sequences != 0 && batch.tokens % batch.sequences != 0) {
    return InvalidArgument("--tokens=", batch.tokens, " of a micro-batch are not a multiple of its --batch=", batch.sequences,
                           " sequences; use ", plan::NearestMultiples(batch.tokens, batch.sequences));
  }
  LYCIA_ASSIGN_OR_RETURN(const bool again, GetChoice(arguments, "gathers", "cached", "again"));
  problem.gather.cache_x = problem.gather.cache_w = !again;
  LYCIA_ASSIGN_OR_RETURN(problem.gather.split_backward, GetChoice(arguments, "backward", "whole", "split"));
  return problem;
}

StatusOr<plan::DeviceModel> ReadDevice(const Arguments& arguments) {
  plan::DeviceModel device;
  LYCIA_ASSIGN_OR_RETURN(device.flops, GetPositive(arguments, "flops", device.flops));
  LYCIA_ASSIGN_OR_RETURN(device.intra_bandwidth, GetPositive(arguments, "intra-bandwidth", device.intra_bandwidth));
  LYCIA_ASSIGN_OR_RETURN(device.inter_bandwidth, GetPositive(arguments, "inter-bandwidth", device.inter_bandwidth));
  LYCIA_ASSIGN_OR_RETURN(device.intra_latency, GetPositive(arguments, "intra-latency", device.intra_latency));
  LYCIA_ASSIGN_OR_RETURN(device.inter_latency, GetPositive(arguments, "inter-latency", device.inter_latency));
  return device;
}

Status PlanGrid(const Arguments& arguments) {
  LYCIA_ASSIGN_OR_RETURN(const bool json, GetChoice(arguments, "format", "text", "json"));
  plan::PlanGridsArgs args;
  if (!arguments.Has("ranks")) return InvalidArgument("--ranks=P is required: the ranks that the grid is made of");
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t ranks, arguments.GetInteger("ranks", 1, 1, kMaxRanks));
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t ranks_per_node, arguments.GetInteger("ranks-per-node", args.ranks_per_node, 1, kMaxRanks));
  args.ranks = static_cast<int>(ranks);
  args.ranks_per_node = static_cast<int>(ranks_per_node);
  LYCIA_ASSIGN_OR_RETURN(args.problem, ReadProblem(arguments));
  LYCIA_ASSIGN_OR_RETURN(args.device, ReadDevice(arguments));
  if (const std::string order = arguments.Get("order", "best"); order != "best") {
    const StatusOr<plan::AxisOrder> parsed = plan::ParseAxisOrder(order);
    if (!parsed.ok()) return Annotate(parsed.status(), "--order");
    args.order = *parsed;
  }
  if (CanCount(args.problem)) {
    args.count = [&](const plan::GridShape& grid) { return CountBlock(args.problem, grid); };
  }
  const std::vector<plan::GridPlan> plans = plan::PlanGrids(args);
  const std::string text = json ? plan::GridsJson(args, plans) : plan::GridsText(args, plans);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return OkStatus();
}

Status Plan(const Arguments& arguments) {
  const std::vector<std::string>& words = arguments.positional();
  if (words.size() != 1 || words[0] != "grid") {
    return InvalidArgument("say what to plan, as in `lycia plan grid --ranks=64`", words.empty() ? "" : ", not ",
                           absl::StrJoin(words, " "));
  }
  return PlanGrid(arguments);
}

std::string ModelNames() {
  std::string text = "`lycia plan grid` lists every tensor grid x*y*z of the ranks (docs/plan_grid.md). Models:\n";
  for (const Transformer& model : plan::Presets()) {
    text += StrCat("  ", model.name, ": hidden ", model.hidden, ", ffn ", model.ffn, ", heads ", model.heads, ", kv-heads ", model.kv_heads,
                   ", layers ", model.layers, ", vocab ", model.vocab, ", context ", model.context, "\n");
  }
  return text;
}

}  // namespace

Command PlanCommand() {
  return {
      .spec = {.name = "plan",
               .summary = "compares ways to spread a model over ranks: what moves, what is kept, how long it takes",
               .flags = {{.name = "ranks", .value = "P", .doc = "ranks of a grid (plan grid needs it)"},
                         {.name = "ranks-per-node", .value = "N", .doc = "consecutive ranks share a node (default 8)"},
                         {.name = "model", .value = "NAME|FILE", .doc = "one of the models below, or a configuration (*.toml)"},
                         {.name = "hidden", .value = "H", .doc = "features of a token; heads keep their size, ffn its ratio"},
                         {.name = "ffn", .value = "F", .doc = "features inside the feed-forward layer"},
                         {.name = "heads", .value = "N", .doc = "query heads"},
                         {.name = "kv-heads", .value = "N", .doc = "key and value heads"},
                         {.name = "layers", .value = "L", .doc = "transformer blocks"},
                         {.name = "vocab", .value = "V", .doc = "size of the vocabulary"},
                         {.name = "tokens", .value = "M", .doc = "tokens of a micro-batch (default: the model's context, times batch)"},
                         {.name = "batch", .value = "B", .doc = "sequences of a micro-batch (default: any number that z divides)"},
                         {.name = "dtype", .value = "TYPE", .doc = "bf16, f16, f32 or f64 (default bf16, or the configuration's)"},
                         {.name = "gathers", .value = "WHAT", .doc = "cached: backward keeps what forward gathered; again: it does not"},
                         {.name = "backward", .value = "HOW", .doc = "whole, or split into input and weight gradient (default whole)"},
                         {.name = "order", .value = "AXES", .doc = "of ranks, slowest first, as z,x,y (default: best for each figure)"},
                         {.name = "flops", .value = "RATE", .doc = "of one device, per second (default 600e12)"},
                         {.name = "intra-bandwidth", .value = "RATE", .doc = "bytes/s of a device inside its node (default 450e9)"},
                         {.name = "inter-bandwidth", .value = "RATE", .doc = "bytes/s of the network for each device (default 50e9)"},
                         {.name = "intra-latency", .value = "S", .doc = "seconds of a ring step inside a node (default 2e-6)"},
                         {.name = "inter-latency", .value = "S", .doc = "seconds of a ring step between nodes (default 5e-6)"},
                         {.name = "format", .value = "FORMAT", .doc = "text or json (default text)"}},
               .positional = "grid",
               .details = ModelNames()},
      .run = Plan};
}

}  // namespace lycia
