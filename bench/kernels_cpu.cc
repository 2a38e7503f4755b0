// Times the CPU kernels that memory limits, against a copy of as many bytes in the same process: `kernels_cpu --threads=2
// [--only=optimizer]`.
//
// A line: kernel, type, size, best time, bytes that must move over that time, the same for the copy measured between the kernel's runs, and
// their ratio. Attention, which arithmetic limits, is given in GFLOP/s (visible pairs, two operations a multiply-add). Shapes are GPT-2
// 124M's.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "kernels/activation/gelu.h"
#include "kernels/activation/swiglu.h"
#include "kernels/attention/attention.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/parallel.h"
#include "kernels/elementwise/dropout.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/embedding/embedding.h"
#include "kernels/loss/cross_entropy.h"
#include "kernels/norm/layer_norm.h"
#include "kernels/norm/rms_norm.h"
#include "kernels/optimizer/adamw.h"
#include "kernels/optimizer/squared_norm.h"
#include "kernels/rotary/rotary.h"

namespace lycia {
namespace {

struct Options {
  std::int64_t threads = 1, tokens = 1024, parameters = 124'439'808, repeats = 7;
  std::string only;        // a group of kernels; empty: all
  bool cpu_clock = false;  // processor time instead of wall time; one thread
};

// Wall clock, or processor time: on a shared machine the wall clock measures the others too.
double Now(const Options& options) {
  timespec now;
  ::clock_gettime(options.cpu_clock ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

class Bench {
 public:
  explicit Bench(const Options& options)
      : options_(options), device_(NewCpuDevice({.threads = static_cast<int>(options.threads)})), stream_(device_->NewStream().value()) {}

  Stream& stream() { return *stream_; }
  bool Wants(const std::string& group) const { return options_.only.empty() || options_.only == group; }

  // Normal numbers times std; i32: 0 .. 49999, again and again.
  Tensor Make(DType dtype, const Shape& shape, double std = 1) {
    const TensorSpec spec{dtype, shape};
    buffers_.push_back(device_->Allocate(spec.bytes(), MemoryKind::kDevice).value());
    const Tensor tensor{buffers_.back().data(), dtype, shape};
    if (dtype == DType::kU8) return tensor;
    if (dtype == DType::kI32) {
      for (std::int64_t i = 0; i < tensor.elements(); ++i) tensor.as<std::int32_t>()[i] = static_cast<std::int32_t>(i * 7919 % 50000);
      return tensor;
    }
    // A short run of random numbers, repeated: values do not matter to the time, but none may be subnormal.
    const std::int64_t some = std::min<std::int64_t>(tensor.elements(), 1 << 16), bytes = some * SizeOf(dtype);
    FillNormal(*stream_, {.out = {tensor.data, dtype, {some}}, .random = RandomStream(1, "bench", 0), .std = std});
    for (std::int64_t done = bytes; done < tensor.bytes(); done += bytes) {
      std::memcpy(static_cast<char*>(tensor.data) + done, tensor.data, static_cast<std::size_t>(std::min(bytes, tensor.bytes() - done)));
    }
    return tensor;
  }

  // `bytes` that a run must move; flops: 0, or what it is measured by instead.
  void Measure(const char* name, DType dtype, const std::string& size, double bytes, double flops, const std::function<void()>& run) {
    const auto half = static_cast<std::int64_t>(bytes / 2);
    if (copy_.bytes() < 2 * half) copy_ = device_->Allocate(2 * half, MemoryKind::kDevice).value();
    double best = 1e9, best_copy = 1e9;
    for (std::int64_t i = 0; i <= options_.repeats; ++i) {
      const double begin = Now(options_);
      run();
      const double middle = Now(options_);
      if (flops == 0) Copy(half);
      const double end = Now(options_);
      if (i == 0) continue;  // pages are touched
      best = std::min(best, middle - begin);
      best_copy = std::min(best_copy, end - middle);
    }
    if (flops > 0) {
      std::printf("%-24s %-5s %-22s %10.1f us %8.1f GFLOP/s\n", name, std::string(Name(dtype)).c_str(), size.c_str(), best * 1e6,
                  flops / best * 1e-9);
    } else {
      std::printf("%-24s %-5s %-22s %10.1f us %8.1f GB/s   copy %6.1f GB/s   %3.0f %%\n", name, std::string(Name(dtype)).c_str(),
                  size.c_str(), best * 1e6, bytes / best * 1e-9, bytes / best_copy * 1e-9, 100 * best_copy / best);
    }
    std::fflush(stdout);
  }
  // What a case took is given back.
  void Release() { buffers_.clear(); }

 private:
  void Copy(std::int64_t bytes) {
    cpu::ForEachPart(*stream_, {.count = bytes, .unit = 4096, .bytes_each = 2}, [&](std::int64_t begin, std::int64_t end, int) {
      char* from = static_cast<char*>(copy_.data()) + begin;
      std::memcpy(from + bytes, from, static_cast<std::size_t>(end - begin));
    });
  }

  Options options_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::vector<Buffer> buffers_;
  Buffer copy_;
};

std::string Text(std::int64_t rows, std::int64_t cols) { return std::to_string(rows) + " x " + std::to_string(cols); }

void Norms(Bench& b, DType dtype, std::int64_t R) {
  const std::int64_t C = 768, e = SizeOf(dtype);
  const DType sums = ArithmeticDType(dtype);
  Stream& s = b.stream();
  const Tensor in = b.Make(dtype, {R, C}), residual = b.Make(dtype, {R, C}), out = b.Make(dtype, {R, C}), sum = b.Make(dtype, {R, C});
  const Tensor gamma = b.Make(dtype, {C}), beta = b.Make(dtype, {C}), mean = b.Make(sums, {R}), rstd = b.Make(sums, {R});
  const Tensor dgamma = b.Make(sums, {C}), dbeta = b.Make(sums, {C});
  const double pass = static_cast<double>(R * C * e);
  const std::string size = Text(R, C);
  b.Measure("layer_norm", dtype, size, 2 * pass, 0,
            [&] { LayerNormForward(s, {.in = in, .gamma = gamma, .beta = beta, .out = out, .mean = mean, .rstd = rstd}); });
  b.Measure("add_layer_norm", dtype, size, 4 * pass, 0, [&] {
    AddLayerNormForward(s,
                        {.in = in, .residual = residual, .sum = sum, .gamma = gamma, .beta = beta, .out = out, .mean = mean, .rstd = rstd});
  });
  b.Measure("layer_norm_dinput", dtype, size, 3 * pass, 0,
            [&] { LayerNormBackwardInput(s, {.dout = residual, .in = in, .gamma = gamma, .mean = mean, .rstd = rstd, .din = out}); });
  b.Measure("layer_norm_dweight", dtype, size, 2 * pass, 0, [&] {
    LayerNormBackwardWeight(s, {.dout = residual, .in = in, .mean = mean, .rstd = rstd, .dgamma = dgamma, .dbeta = dbeta});
  });
  b.Measure("rms_norm", dtype, size, 2 * pass, 0, [&] { RmsNormForward(s, {.in = in, .gamma = gamma, .out = out, .rstd = rstd}); });
  b.Measure("rms_norm_dinput", dtype, size, 3 * pass, 0,
            [&] { RmsNormBackwardInput(s, {.dout = residual, .in = in, .gamma = gamma, .rstd = rstd, .din = out}); });
  b.Release();
}

void Activations(Bench& b, DType dtype, std::int64_t R) {
  const std::int64_t F = 3072, C = 768, e = SizeOf(dtype);
  Stream& s = b.stream();
  const Tensor in = b.Make(dtype, {R, F}), dout = b.Make(dtype, {R, F}), out = b.Make(dtype, {R, F});
  const Tensor wide = b.Make(dtype, {R, 2 * F}), dwide = b.Make(dtype, {R, 2 * F});
  const double pass = static_cast<double>(R * F * e);
  b.Measure("gelu", dtype, Text(R, F), 2 * pass, 0, [&] { GeluForward(s, {.in = in, .out = out}); });
  b.Measure("gelu_dinput", dtype, Text(R, F), 3 * pass, 0, [&] { GeluBackward(s, {.in = in, .dout = dout, .din = out}); });
  b.Measure("swiglu", dtype, Text(R, 2 * F), 3 * pass, 0, [&] { SwiGluForward(s, {.in = wide, .out = out}); });
  b.Measure("swiglu_dinput", dtype, Text(R, 2 * F), 5 * pass, 0, [&] { SwiGluBackward(s, {.in = wide, .dout = dout, .din = dwide}); });
  const Tensor x = b.Make(dtype, {R, C}), y = b.Make(dtype, {R, C}), z = b.Make(dtype, {R, C});
  const double row_pass = static_cast<double>(R * C * e);
  b.Measure("add", dtype, Text(R, C), 3 * row_pass, 0, [&] { Add(s, {.a = x, .b = y, .out = z}); });
  DropoutMask mask{.rate = 0.1, .random = RandomStream(1, "dropout", 0)};
  b.Measure("dropout_add", dtype, Text(R, C), 3 * row_pass, 0,
            [&] { DropoutForward(s, {.in = x, .residual = y, .out = z, .mask = mask}); });
  const Tensor tokens = b.Make(DType::kI32, {4, R / 4}), wte = b.Make(dtype, {50257, C}), wpe = b.Make(dtype, {R / 4, C});
  const Tensor rows = b.Make(dtype, {4, R / 4, C}), dwte = b.Make(ArithmeticDType(dtype), {50257, C});
  b.Measure("embedding", dtype, Text(R, C), 2 * row_pass, 0,
            [&] { EmbeddingForward(s, {.tokens = tokens, .wte = wte, .wpe = wpe, .out = rows}); });
  b.Measure("embedding_dweight", dtype, Text(R, C), row_pass + 2 * static_cast<double>(R * C * SizeOf(dwte.dtype)), 0,
            [&] { EmbeddingBackward(s, {.tokens = tokens, .dout = rows, .dwte = dwte}); });
  const Tensor qkv = b.Make(dtype, {4, R / 4, 3 * C}), cosines = b.Make(ArithmeticDType(dtype), {R / 4, 32}),
               sines = b.Make(cosines.dtype, {R / 4, 32});
  RotaryTable(s, {.cosines = cosines, .sines = sines});
  b.Measure("rotary", dtype, Text(R, 2 * C), 4 * row_pass, 0,
            [&] { Rotary(s, {.rows = qkv, .cosines = cosines, .sines = sines, .heads = 24}); });
  b.Release();
}

void Loss(Bench& b, DType dtype, std::int64_t R) {
  const std::int64_t V = 50257;
  const Tensor logits = b.Make(dtype, {1, R, V}), labels = b.Make(DType::kI32, {1, R}), loss = b.Make(DType::kF64, {1});
  b.Measure("cross_entropy_in_place", dtype, Text(R, V), 2 * static_cast<double>(R * V * SizeOf(dtype)), 0, [&] {
    CrossEntropy(b.stream(), {.logits = logits, .labels = labels, .sample_losses = loss.as<double>(), .dlogits = logits, .scale = 1.0});
  });
  b.Release();
}

void Optimizer(Bench& b, std::int64_t n) {
  const Tensor w = b.Make(DType::kF32, {n}), g = b.Make(DType::kF32, {n}, 1e-3), m = b.Make(DType::kF32, {n}, 1e-3);
  const Tensor v = b.Make(DType::kF32, {n}), model = b.Make(DType::kBF16, {n}), sums = b.Make(DType::kF64, {NumSquaredNormBlocks(n)});
  Fill(b.stream(), {.out = v, .value = 1e-6});
  const StepScalars scalars = MakeStepScalars(10, 1e-4, 0.5, 0.9, 0.95);
  AdamWArgs args{.weight = w, .gradient = g, .m = m, .v = v, .weight_decay = 0.1, .scalars = &scalars};
  b.Measure("squared_norm", DType::kF32, std::to_string(n), 4.0 * static_cast<double>(n), 0,
            [&] { SquaredNormBlocks(b.stream(), {.x = g, .block_sums = sums.as<double>()}); });
  b.Measure("adamw", DType::kF32, std::to_string(n), 28.0 * static_cast<double>(n), 0, [&] { AdamW(b.stream(), args); });
  args.model_weight = model;
  b.Measure("adamw_bf16_copy", DType::kF32, std::to_string(n), 30.0 * static_cast<double>(n), 0, [&] { AdamW(b.stream(), args); });
  b.Release();
}

void Attention(Bench& b, DType dtype, std::int64_t T) {
  const std::int64_t B = 4, H = 12, D = 64;
  const AttentionProblem p{.dtype = dtype, .samples = B, .queries = T, .keys = T, .heads = H, .kv_heads = H, .head_dim = D, .scale = 0.125};
  const Tensor qkv = b.Make(dtype, {B, T, 3 * H * D}), out = b.Make(dtype, {B, T, H * D}), dout = b.Make(dtype, {B, T, H * D});
  const Tensor dqkv = b.Make(dtype, {B, T, 3 * H * D}), lse = b.Make(ArithmeticDType(dtype), {B, H, T});
  const Tensor scratch = b.Make(DType::kU8, {std::max(AttentionForwardScratchBytes(p), AttentionBackwardScratchBytes(p))});
  const auto in = SplitQkv(ConstTensor(qkv), H, H);
  const auto gradient = SplitQkv(dqkv, H, H);
  const std::string size = "4 x " + std::to_string(T) + ", 12 x 64";
  const double flops = AttentionForwardFlops(p);
  b.Measure("attention", dtype, size, 0, flops, [&] {
    AttentionForward(b.stream(),
                     {.problem = p, .q = in.q, .k = in.k, .v = in.v, .out = AsHeads(out, H), .log_sum_exp = lse, .scratch = scratch});
  });
  b.Measure("attention_backward", dtype, size, 0, 2.5 * flops, [&] {
    AttentionBackward(b.stream(), {.problem = p,
                                   .q = in.q,
                                   .k = in.k,
                                   .v = in.v,
                                   .out = AsHeads(ConstTensor(out), H),
                                   .dout = AsHeads(ConstTensor(dout), H),
                                   .log_sum_exp = lse,
                                   .dq = gradient.q,
                                   .dk = gradient.k,
                                   .dv = gradient.v,
                                   .scratch = scratch});
  });
  b.Release();
}

bool Take(const char* argument, const char* name, std::int64_t* value) {
  const std::size_t length = std::strlen(name);
  if (std::strncmp(argument, name, length) != 0 || argument[length] != '=') return false;
  *value = std::strtoll(argument + length + 1, nullptr, 10);
  return *value > 0;
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "--only=", 7) == 0) {
      options.only = argv[i] + 7;
    } else if (std::strcmp(argv[i], "--clock=cpu") == 0) {
      options.cpu_clock = true;
    } else if (!Take(argv[i], "--threads", &options.threads) && !Take(argv[i], "--tokens", &options.tokens) &&
               !Take(argv[i], "--parameters", &options.parameters) && !Take(argv[i], "--repeats", &options.repeats)) {
      std::fprintf(stderr,
                   "unknown argument %s; use --threads=N --tokens=N --parameters=N --repeats=N --clock=cpu "
                   "--only=norms|activations|loss|optimizer|attention\n",
                   argv[i]);
      return 2;
    }
  }
  if (options.cpu_clock && options.threads > 1) {
    std::fprintf(stderr, "--clock=cpu with %ld threads: the kernel counts the others' time late; use --threads=1\n",
                 static_cast<long>(options.threads));
    return 2;
  }
  double load[3] = {};
  if (::getloadavg(load, 3) < 0) load[0] = -1;
  const char* const kIsaNames[] = {"x86-64", "AVX2", "AVX-512"};
  std::printf("# threads %ld, vectors %s, load average %.2f, %s\n", static_cast<long>(options.threads),
              kIsaNames[static_cast<int>(cpu::BestIsa())], load[0], options.cpu_clock ? "processor time" : "wall time");
  Bench bench(options);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    if (bench.Wants("norms")) Norms(bench, dtype, options.tokens);
    if (bench.Wants("activations")) Activations(bench, dtype, options.tokens);
    if (bench.Wants("loss")) Loss(bench, dtype, options.tokens);
    if (bench.Wants("attention")) {
      for (const std::int64_t T : {64, 256, 1024}) Attention(bench, dtype, T);
    }
  }
  if (bench.Wants("optimizer")) Optimizer(bench, options.parameters);
  return bench.stream().ok() ? 0 : 1;
}

}  // namespace
}  // namespace lycia

int main(int argc, char** argv) { return lycia::Main(argc, argv); }
