#include "launch/run_report.h"

#include <cmath>
#include <cstdio>
#include <thread>

#include "absl/strings/str_format.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/generator.h"
#include "launch/kernel_names.h"
#include "launch/llama_files.h"
#include "launch/measured_costs.h"
#include "launch/model_weights.h"
#include "launch/reuse_run.h"
#include "launch/step_picture.h"
#include "runtime/io/directory.h"
#include "runtime/io/file.h"

namespace lycia {
namespace {

bool HasGroups(const ModelConfig& model) { return model.kv_heads != 0 && model.kv_heads != model.heads; }

// Its GPT-2 has as many key/value heads as heads, and learned positions.
bool IsHuggingFaceModel(const ModelConfig& model) { return model.kind == "llama" || (!HasGroups(model) && !model.rotary()); }

// What Hugging Face's GPT2LMHeadModel, or LlamaForCausalLM, needs beside the weights.
std::string HuggingFaceConfig(const ModelConfig& model) {
  if (model.kind == "llama") return LlamaConfigJson(GptConfigOf(model));
  return absl::StrFormat(
      "{\n  \"architectures\": [\"GPT2LMHeadModel\"],\n  \"model_type\": \"gpt2\",\n  \"activation_function\": \"gelu_new\",\n"
      "  \"n_embd\": %d,\n  \"n_layer\": %d,\n  \"n_head\": %d,\n  \"n_inner\": %d,\n  \"n_positions\": %d,\n  \"n_ctx\": %d,\n"
      "  \"vocab_size\": %d,\n  \"layer_norm_epsilon\": %.17g,\n  \"tie_word_embeddings\": %s\n}\n",
      model.hidden, model.layers, model.heads, model.ffn, model.context, model.context, model.vocab, model.norm_eps,
      model.tied ? "true" : "false");
}

// Bytes a terminal can show; others as '?'.
std::string Printable(const std::string& text) {
  std::string shown;
  for (const char c : text) shown.push_back(c == '\n' || c == '\t' || (c >= ' ' && c <= '~') ? c : '?');
  return shown;
}

// What a model is, in a few words.
std::string ModelText(const ModelConfig& model) {
  if (!model.reads_text()) {
    return absl::StrFormat("images of %d x %d x %d, %d classes, batch norms over %d samples", model.height, model.width, model.channels,
                           model.classes, model.norm_samples);
  }
  const std::string groups = HasGroups(model) ? StrCat(" on ", model.kv_heads, " key/value heads") : "";
  return absl::StrFormat("%d layers, %d heads%s, hidden %d, context %d, vocabulary %d%s%s", model.layers, model.heads, groups, model.hidden,
                         model.context, model.vocab, model.tied ? ", tied" : "", model.rotary() ? ", rotary positions" : "");
}

Status PrintSample(const ReportArgs& args, const std::string& model_path) {
  const GenerateConfig& generate = args.config.generate;
  LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<Generator> generator, Generator::Load(model_path, GptConfigOf(args.config.model)));
  LYCIA_ASSIGN_OR_RETURN(const std::vector<std::int32_t> sample,
                         generator->Generate(BytesToTokens(generate.prompt), {.tokens = generate.tokens,
                                                                              .temperature = generate.temperature,
                                                                              .top_k = generate.top_k,
                                                                              .seed = static_cast<std::uint64_t>(args.config.train.seed)}));
  std::printf("\n--- a sample ---\n%s%s\n--- end of sample ---\n\n", Printable(generate.prompt).c_str(),
              Printable(TokensToBytes(sample)).c_str());
  return OkStatus();
}

Status ReportText(const ReportArgs& args, const std::string& model_path) {
  const bool hugging_face = IsHuggingFaceModel(args.config.model);
  if (hugging_face) {
    LYCIA_RETURN_IF_ERROR(WriteFileAtomically(JoinPath(args.config.output.dir, "config.json"), HuggingFaceConfig(args.config.model)));
  } else {  // one of an earlier run would say what is not true
    LYCIA_RETURN_IF_ERROR(RemoveTree(args.config.output.dir, "config.json"));
  }
  if (args.held_out) {
    const Baselines baselines = MeasureBaselines(args.data.text()->training(), args.data.text()->held_out());
    std::printf("held-out loss, nats/byte:  unigram %.4f   bigram %.4f   this model %.4f  (%s the bigram model)\n", baselines.unigram,
                baselines.bigram, args.held_out->loss, args.held_out->loss < baselines.bigram ? "beats" : "does not beat");
  }
  if (args.config.generate.tokens > 0) LYCIA_RETURN_IF_ERROR(PrintSample(args, model_path));
  std::printf("weights (Hugging Face %s names): %s\n", args.config.model.kind == "llama" ? "Llama" : "GPT-2", model_path.c_str());
  if (hugging_face) return OkStatus();
  if (HasGroups(args.config.model)) {
    std::printf("no config.json: Hugging Face's GPT-2 cannot have %d key/value heads for %d heads (docs/numerics.md)\n",
                static_cast<int>(args.config.model.kv_heads), static_cast<int>(args.config.model.heads));
  } else {
    std::printf("no config.json: Hugging Face's GPT-2 cannot have rotary positions (docs/numerics.md)\n");
  }
  return OkStatus();
}

Status ReportImages(const ReportArgs& args, const std::string& model_path) {
  if (args.held_out) {
    std::printf("held-out accuracy %.2f %% of %d images, loss %.4f nats/image  (the commonest class alone: %.2f %%)\n",
                100 * args.held_out->accuracy, static_cast<int>(args.held_out->count), args.held_out->loss,
                100 * CommonestClassShare(*args.data.images()));
  }
  LYCIA_RETURN_IF_ERROR(RemoveTree(args.config.output.dir, "config.json"));  // of a text run, if any: not ours
  std::printf("weights (torchvision's names, filters [K, R, S, C]): %s\n", model_path.c_str());
  return OkStatus();
}

Status DrawTracedStep(const ReportArgs& args) {
  const std::string trace = JoinPath(args.config.output.dir, "trace.json"), picture_path = JoinPath(args.config.output.dir, "step.svg");
  LYCIA_RETURN_IF_ERROR(WriteFileAtomically(trace, ChromeTrace(args.spans)));
  // One replica, worker by worker; of a tensor grid, one rank of each.
  std::vector<RankSpans> workers(static_cast<std::size_t>(args.trainer.schedule().shape.workers));
  const Mesh& mesh = args.trainer.mesh();
  for (const RankSpans& spans : args.spans) {
    if (mesh.Neighbour(spans.rank, Axis::kPipeline, 0) == 0)
      workers[static_cast<std::size_t>(mesh.coordinate(spans.rank, Axis::kPipeline))] = spans;
  }
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  LYCIA_ASSIGN_OR_RETURN(const StepPicture picture, DrawStep(args.trainer.schedule(), workers, cores));
  LYCIA_RETURN_IF_ERROR(WriteFileAtomically(picture_path, picture.svg));
  std::printf("step %d: promised %.1f ms (%.0f %% idle), replayed on a core a worker %.1f ms (%.0f %% idle), wall %.1f ms on %d core%s\n",
              static_cast<int>(args.config.output.trace_step), picture.promised_ns / 1e6, 100 * picture.promised_bubble,
              picture.replayed_ns / 1e6, 100 * picture.replayed_bubble, picture.wall_ns / 1e6, cores, cores == 1 ? "" : "s");
  LYCIA_ASSIGN_OR_RETURN(const std::string costs, MeasuredCosts(args.trainer.schedule(), workers));
  std::printf("measured costs of a micro-batch, ms of each stage (to plan by: parallel.cost, lycia schedule --cost):\n  \"%s\"\n",
              costs.c_str());
  std::printf("picture of the step: %s\ntrace (Perfetto, chrome://tracing): %s\n", picture_path.c_str(), trace.c_str());
  return OkStatus();
}

void PrintGridTraffic(const Trainer& trainer) {
  std::string text;
  for (std::size_t g = 0; g < trainer.grid_bytes().size(); ++g) {
    const std::int64_t bytes = trainer.grid_bytes()[g];
    if (bytes > 0)
      text += absl::StrFormat("%s %.3f MB along %s", text.empty() ? "" : ",", static_cast<double>(bytes) / 1e6,
                              Name(static_cast<GridGroup>(g)));
  }
  if (!text.empty()) std::printf("a rank of the tensor grid moved in a step:%s\n", text.c_str());
}

}  // namespace

void PrintRunHeader(const Config& config, const Trainer& trainer, int ranks, std::int64_t staging_bytes, std::int64_t step) {
  std::fprintf(stderr, "model: %s, %.2f M parameters (%s), %s\n", config.model.kind.c_str(),
               static_cast<double>(trainer.num_parameters()) / 1e6, ModelText(config.model).c_str(), config.train.precision.c_str());
  std::fprintf(stderr, "layout: %s over %s; %d micro-batches of %d samples a replica and step; stages of", trainer.schedule().name.c_str(),
               trainer.mesh().ToString().c_str(), static_cast<int>(MicroBatchesPerReplica(config)),
               static_cast<int>(config.train.micro_batch));
  for (std::size_t s = 0; s + 1 < trainer.cuts().size(); ++s) std::fprintf(stderr, " %d", trainer.cuts()[s + 1] - trainer.cuts()[s]);
  const KernelNames kernels = KernelsFor(trainer.precision());
  const int threads = trainer.threads();
  std::fprintf(stderr, " layers\nkernels: matrix products %s, others %s; %d thread%s a rank", kernels.products.c_str(),
               kernels.others.c_str(), threads, threads == 1 ? "" : "s");
  std::fprintf(stderr, "\nmemory of rank 0 of %d, allocated once:\n%s  %-22s %10.2f MiB\n", ranks, trainer.memory_plan().ToString().c_str(),
               "checkpoint staging", static_cast<double>(staging_bytes) / 1048576.0);
  if (!trainer.why().empty()) std::fprintf(stderr, "%s", trainer.why().c_str());
  if (step > 0) std::fprintf(stderr, "continuing after step %d\n", static_cast<int>(step));
}

Status WriteReport(const ReportArgs& args) {
  const std::string model_path = JoinPath(args.config.output.dir, "model.safetensors");
  LYCIA_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(CheckpointPath(args.checkpoints, args.step), Verify::kSizes));
  LYCIA_RETURN_IF_ERROR(ExportModel(checkpoint, args.trainer.model(), model_path));
  std::printf("\n");
  if (!std::isnan(args.training_loss)) {  // a resumed run that had no step left has none
    std::printf("training loss %.4f %s at step %d\n", args.training_loss, args.data.loss_unit(), static_cast<int>(args.step));
  }
  PrintGridTraffic(args.trainer);
  if (args.trainer.reuse() != nullptr) std::printf("%s", ReuseTable(*args.trainer.reuse()).c_str());
  LYCIA_RETURN_IF_ERROR(args.data.text() != nullptr ? ReportText(args, model_path) : ReportImages(args, model_path));
  std::printf("checkpoints: %s\n", args.checkpoints.c_str());
  bool traced = !args.spans.empty();
  for (const RankSpans& spans : args.spans) traced = traced && !spans.spans.empty();
  return traced ? DrawTracedStep(args) : OkStatus();
}

}  // namespace lycia
