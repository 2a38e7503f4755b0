// lycia generate --run=DIR [--prompt=TEXT] [--tokens=N] [--temperature=X] [--top-k=K] [--seed=N]
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "launch/commands/commands.h"
#include "launch/config.h"
#include "launch/generator.h"
#include "runtime/io/directory.h"

namespace lycia {
namespace {

StatusOr<double> Number(const Arguments& arguments, const std::string& flag, double otherwise) {
  if (!arguments.Has(flag)) return otherwise;
  const std::string text = arguments.Get(flag);
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(value >= 0)) return InvalidArgument("--", flag, " needs a number from 0, not '", text, "'");
  return value;
}

Status Generate(const Arguments& arguments) {
  const std::string run = arguments.Get("run");
  const std::string config_path = JoinPath(run, "config.toml");
  if (::access(config_path.c_str(), R_OK) != 0) {
    return InvalidArgument("--run=", run, " is no run: there is no ", config_path, " to read; name the output.dir of a finished run");
  }
  LYCIA_ASSIGN_OR_RETURN(Config config, LoadConfig(config_path, {}));
  const std::string weights = arguments.Get("weights", JoinPath(run, "model.safetensors"));
  StatusOr<std::unique_ptr<Generator>> generator = Generator::Load(weights, GptConfigOf(config.model));
  if (!generator.ok())
    return InvalidArgument(std::string(generator.status().message()), "; is the run finished? Its last step writes model.safetensors");
  SamplingOptions options;
  LYCIA_ASSIGN_OR_RETURN(options.tokens, arguments.GetInteger("tokens", config.generate.tokens, 1, 1'000'000));
  LYCIA_ASSIGN_OR_RETURN(options.top_k, arguments.GetInteger("top-k", config.generate.top_k, 0, 1'000'000));
  LYCIA_ASSIGN_OR_RETURN(options.temperature, Number(arguments, "temperature", config.generate.temperature));
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t seed, arguments.GetInteger("seed", 1, 0, INT64_MAX));
  options.seed = static_cast<std::uint64_t>(seed);
  const std::string prompt = arguments.Get("prompt", config.generate.prompt);
  LYCIA_ASSIGN_OR_RETURN(const std::vector<std::int32_t> tokens, (*generator)->Generate(BytesToTokens(prompt), options));
  const std::string text = prompt + TokensToBytes(tokens);
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fputc('\n', stdout);
  return OkStatus();
}

}  // namespace

Command GenerateCommand() {
  return {
      .spec =
          {.name = "generate",
           .summary = "writes text with the model of a finished run",
           .flags = {{.name = "run", .value = "DIR", .doc = "output.dir of the run: config.toml and model.safetensors", .required = true},
                     {.name = "weights", .value = "FILE", .doc = "another safetensors file or folder with Hugging Face's names"},
                     {.name = "prompt", .value = "TEXT", .doc = "text to continue (default: the run's generate.prompt)"},
                     {.name = "tokens", .value = "N", .doc = "tokens to write"},
                     {.name = "temperature", .value = "X", .doc = "0: always the most likely token"},
                     {.name = "top-k", .value = "K", .doc = "draw among the K most likely tokens; 0: among all"},
                     {.name = "seed", .value = "N", .doc = "of the draw; the same seed gives the same text (default 1)"}}},
      .run = Generate};
}

}  // namespace lycia
