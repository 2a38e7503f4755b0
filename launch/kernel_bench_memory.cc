// Kernels that memory limits, against a copy. Bytes are those that must move: each operand once, in GPT-2 124M's widths.
#include "kernels/activation/gelu.h"
#include "kernels/activation/swiglu.h"
#include "kernels/elementwise/dropout.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/embedding/embedding.h"
#include "kernels/loss/cross_entropy.h"
#include "kernels/norm/layer_norm.h"
#include "kernels/norm/rms_norm.h"
#include "kernels/optimizer/adamw.h"
#include "kernels/optimizer/squared_norm.h"
#include "kernels/rotary/rotary.h"
#include "launch/kernel_bench_family.h"

namespace lycia::internal {
namespace {

constexpr std::int64_t kHidden = 768, kFfn = 3072, kVocabulary = 50257, kSamples = 4, kHeadDim = 64;

double Bytes(std::int64_t elements, DType dtype) { return static_cast<double>(elements * SizeOf(dtype)); }

void LayerNorms(KernelBench& b, DType dtype) {
  if (!b.WantsAny({"layer_norm", "add_layer_norm", "layer_norm_dinput", "layer_norm_dweight"})) return;
  const std::int64_t R = b.options().tokens, C = kHidden;
  const DType sums = ArithmeticDType(dtype);
  Stream& s = b.stream();
  const Tensor in = b.Make(dtype, {R, C}), residual = b.Make(dtype, {R, C}), out = b.Make(dtype, {R, C}), sum = b.Make(dtype, {R, C});
  const Tensor gamma = b.Make(dtype, {C}), beta = b.Make(dtype, {C}), mean = b.Make(sums, {R}), rstd = b.Make(sums, {R});
  const Tensor dgamma = b.Make(sums, {C}), dbeta = b.Make(sums, {C});
  const double pass = Bytes(R * C, dtype);
  b.MeasureBytes({"layer_norm", dtype, R, C}, 2 * pass,
                 [&] { LayerNormForward(s, {.in = in, .gamma = gamma, .beta = beta, .out = out, .mean = mean, .rstd = rstd}); });
  b.MeasureBytes({"add_layer_norm", dtype, R, C}, 4 * pass, [&] {
    AddLayerNormForward(s,
                        {.in = in, .residual = residual, .sum = sum, .gamma = gamma, .beta = beta, .out = out, .mean = mean, .rstd = rstd});
  });
  b.MeasureBytes({"layer_norm_dinput", dtype, R, C}, 3 * pass,
                 [&] { LayerNormBackwardInput(s, {.dout = residual, .in = in, .gamma = gamma, .mean = mean, .rstd = rstd, .din = out}); });
  b.MeasureBytes({"layer_norm_dweight", dtype, R, C}, 2 * pass, [&] {
    LayerNormBackwardWeight(s, {.dout = residual, .in = in, .mean = mean, .rstd = rstd, .dgamma = dgamma, .dbeta = dbeta});
  });
  b.Release();
}

void RmsNorms(KernelBench& b, DType dtype) {
  if (!b.WantsAny({"rms_norm", "add_rms_norm", "rms_norm_dinput", "rms_norm_dweight"})) return;
  const std::int64_t R = b.options().tokens, C = kHidden;
  const DType sums = ArithmeticDType(dtype);
  Stream& s = b.stream();
  const Tensor in = b.Make(dtype, {R, C}), residual = b.Make(dtype, {R, C}), out = b.Make(dtype, {R, C}), sum = b.Make(dtype, {R, C});
  const Tensor gamma = b.Make(dtype, {C}), rstd = b.Make(sums, {R}), dgamma = b.Make(sums, {C});
  const double pass = Bytes(R * C, dtype);
  b.MeasureBytes({"rms_norm", dtype, R, C}, 2 * pass, [&] { RmsNormForward(s, {.in = in, .gamma = gamma, .out = out, .rstd = rstd}); });
  b.MeasureBytes({"add_rms_norm", dtype, R, C}, 4 * pass,
                 [&] { AddRmsNormForward(s, {.in = in, .residual = residual, .sum = sum, .gamma = gamma, .out = out, .rstd = rstd}); });
  b.MeasureBytes({"rms_norm_dinput", dtype, R, C}, 3 * pass,
                 [&] { RmsNormBackwardInput(s, {.dout = residual, .in = in, .gamma = gamma, .rstd = rstd, .din = out}); });
  b.MeasureBytes({"rms_norm_dweight", dtype, R, C}, 2 * pass,
                 [&] { RmsNormBackwardWeight(s, {.dout = residual, .in = in, .rstd = rstd, .dgamma = dgamma}); });
  b.Release();
}

void Activations(KernelBench& b, DType dtype) {
  if (!b.WantsAny({"gelu", "gelu_dinput", "swiglu", "swiglu_dinput", "add", "dropout_add", "dropout_dinput"})) return;
  const std::int64_t R = b.options().tokens, F = kFfn, C = kHidden;
  Stream& s = b.stream();
  const Tensor in = b.Make(dtype, {R, F}), dout = b.Make(dtype, {R, F}), out = b.Make(dtype, {R, F});
  const Tensor wide = b.Make(dtype, {R, 2 * F}), dwide = b.Make(dtype, {R, 2 * F});
  const double pass = Bytes(R * F, dtype), row_pass = Bytes(R * C, dtype);
  b.MeasureBytes({"gelu", dtype, R, F}, 2 * pass, [&] { GeluForward(s, {.in = in, .out = out}); });
  b.MeasureBytes({"gelu_dinput", dtype, R, F}, 3 * pass, [&] { GeluBackward(s, {.in = in, .dout = dout, .din = out}); });
  b.MeasureBytes({"swiglu", dtype, R, 2 * F}, 3 * pass, [&] { SwiGluForward(s, {.in = wide, .out = out}); });
  b.MeasureBytes({"swiglu_dinput", dtype, R, 2 * F}, 5 * pass, [&] { SwiGluBackward(s, {.in = wide, .dout = dout, .din = dwide}); });
  const Tensor x = b.Make(dtype, {R, C}), y = b.Make(dtype, {R, C}), z = b.Make(dtype, {R, C});
  b.MeasureBytes({"add", dtype, R, C}, 3 * row_pass, [&] { Add(s, {.a = x, .b = y, .out = z}); });
  const DropoutMask mask{.rate = 0.1, .random = RandomStream(1, "dropout", 0)};
  b.MeasureBytes({"dropout_add", dtype, R, C}, 3 * row_pass, [&] { DropoutForward(s, {.in = x, .residual = y, .out = z, .mask = mask}); });
  b.MeasureBytes({"dropout_dinput", dtype, R, C}, 2 * row_pass, [&] { DropoutBackward(s, {.dout = x, .din = z, .mask = mask}); });
  b.Release();
}

void Embeddings(KernelBench& b, DType dtype) {
  if (!b.WantsAny({"embedding", "embedding_dweight", "rotary"})) return;
  const std::int64_t R = b.options().tokens, T = R / kSamples, C = kHidden;
  Stream& s = b.stream();
  const DType sums = ArithmeticDType(dtype);
  const Tensor tokens = b.Make(DType::kI32, {kSamples, T}), wte = b.Make(dtype, {kVocabulary, C}), wpe = b.Make(dtype, {T, C});
  const Tensor rows = b.Make(dtype, {kSamples, T, C}), dwte = b.Make(sums, {kVocabulary, C});
  const double pass = Bytes(R * C, dtype);
  b.MeasureBytes({"embedding", dtype, R, C}, 2 * pass,
                 [&] { EmbeddingForward(s, {.tokens = tokens, .wte = wte, .wpe = wpe, .out = rows}); });
  b.MeasureBytes({"embedding_dweight", dtype, R, C}, pass + 2 * Bytes(R * C, sums),
                 [&] { EmbeddingBackward(s, {.tokens = tokens, .dout = rows, .dwte = dwte}); });
  const Tensor qkv = b.Make(dtype, {kSamples, T, 3 * C}), cosines = b.Make(sums, {T, kHeadDim / 2}),
               sines = b.Make(sums, {T, kHeadDim / 2});
  if (b.status().ok()) RotaryTable(s, {.cosines = cosines, .sines = sines});
  b.MeasureBytes({"rotary", dtype, R, 2 * C}, 4 * pass,
                 [&] { Rotary(s, {.rows = qkv, .cosines = cosines, .sines = sines, .heads = 2 * C / kHeadDim}); });
  b.Release();
}

// The embedding's part of the gradient of a table that the head uses too: nearly all of it is zero.
void TiedTable(KernelBench& b) {
  if (!b.Wants("add_and_clear")) return;
  const Tensor x = b.Make(DType::kF32, {kVocabulary, kHidden}, 0), y = b.Make(DType::kF32, {kVocabulary, kHidden}, 0);
  b.MeasureBytes({"add_and_clear", DType::kF32, kVocabulary, kHidden}, Bytes(kVocabulary * kHidden, DType::kF32),
                 [&] { cpu::AddAndClear(b.stream(), {.x = x, .y = y}); });
  b.Release();
}

}  // namespace

void MeasureNorms(KernelBench& bench) {
  for (const DType dtype : bench.options().dtypes) {
    LayerNorms(bench, dtype);
    RmsNorms(bench, dtype);
  }
}

void MeasureActivations(KernelBench& bench) {
  for (const DType dtype : bench.options().dtypes) Activations(bench, dtype);
}

void MeasureEmbedding(KernelBench& bench) {
  for (const DType dtype : bench.options().dtypes) Embeddings(bench, dtype);
  TiedTable(bench);
}

void MeasureLoss(KernelBench& b) {
  if (!b.Wants("cross_entropy_in_place")) return;
  const std::int64_t R = b.options().tokens, V = kVocabulary;
  for (const DType dtype : b.options().dtypes) {
    const Tensor logits = b.Make(dtype, {1, R, V}), labels = b.Make(DType::kI32, {1, R}), loss = b.Make(DType::kF64, {1});
    b.MeasureBytes({"cross_entropy_in_place", dtype, R, V}, 2 * Bytes(R * V, dtype), [&] {
      CrossEntropy(b.stream(), {.logits = logits, .labels = labels, .sample_losses = loss.as<double>(), .dlogits = logits, .scale = 1.0});
    });
    b.Release();
  }
}

// f32 whatever the model's type; of a bf16 model with the copy of the weights that it computes with.
void MeasureOptimizer(KernelBench& b) {
  if (!b.WantsAny({"squared_norm", "adamw", "adamw_bf16_copy"})) return;
  const std::int64_t n = b.options().parameters;
  const Tensor w = b.Make(DType::kF32, {n}), g = b.Make(DType::kF32, {n}, 1e-3), m = b.Make(DType::kF32, {n}, 1e-3);
  const Tensor v = b.Make(DType::kF32, {n}), model = b.Make(DType::kBF16, {n}), sums = b.Make(DType::kF64, {NumSquaredNormBlocks(n)});
  if (!b.status().ok()) return;
  Fill(b.stream(), {.out = v, .value = 1e-6});
  const StepScalars scalars = MakeStepScalars(10, 1e-4, 0.5, 0.9, 0.95);
  AdamWArgs args{.weight = w, .gradient = g, .m = m, .v = v, .weight_decay = 0.1, .scalars = &scalars};
  const auto elements = static_cast<double>(n);
  b.MeasureBytes({"squared_norm", DType::kF32, 1, n}, 4 * elements,
                 [&] { SquaredNormBlocks(b.stream(), {.x = g, .block_sums = sums.as<double>()}); });
  b.MeasureBytes({"adamw", DType::kF32, 1, n}, 28 * elements, [&] { AdamW(b.stream(), args); });
  args.model_weight = model;
  b.MeasureBytes({"adamw_bf16_copy", DType::kF32, 1, n}, 30 * elements, [&] { AdamW(b.stream(), args); });
}

}  // namespace lycia::internal
