// Sizes of a micro-batch of 16,384 tokens of a model of 4,096 features, in bf16: 128 MiB a matrix and more, several times the last-level
// cache; GPT-2's vocabulary; a ResNet's images.
#include "tests/gpu/bench_kernels_cuda.h"

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/activation/gelu.h"
#include "kernels/activation/relu.h"
#include "kernels/activation/swiglu.h"
#include "kernels/elementwise/dropout.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/embedding/embedding.h"
#include "kernels/gemm/gemm.h"
#include "kernels/loss/cross_entropy.h"
#include "kernels/norm/batch_norm.h"
#include "kernels/norm/layer_norm.h"
#include "kernels/norm/rms_norm.h"
#include "kernels/pool/pool.h"
#include "kernels/rotary/rotary.h"

namespace lycia {
namespace {

constexpr std::int64_t kTokens = 16384, kFeatures = 4096, kVocabulary = 50257;

double Bytes(std::initializer_list<Tensor> moved) {
  double bytes = 0;
  for (const Tensor& tensor : moved) bytes += static_cast<double>(tensor.bytes());
  return bytes;
}

void BenchRows(RateBench& bench) {
  const Tensor x = bench.Make(DType::kBF16, {kTokens, kFeatures}), y = bench.Make(DType::kBF16, {kTokens, kFeatures}),
               z = bench.Make(DType::kBF16, {kTokens, kFeatures}), wide = bench.Make(DType::kBF16, {kTokens, 2 * kFeatures}),
               sum = bench.Make(DType::kBF16, {kTokens, kFeatures});
  const Tensor gamma = bench.Make(DType::kBF16, {kFeatures}), dgamma = bench.Make(DType::kF32, {kFeatures}),
               rstd = bench.Make(DType::kF32, {kTokens}), mean = bench.Make(DType::kF32, {kTokens});
  bench.Run("add bf16", Bytes({x, y, z}), [&](Stream& s) { Add(s, {.a = x, .b = y, .out = z}); });
  bench.Run("gelu forward bf16", Bytes({x, y}), [&](Stream& s) { GeluForward(s, {.in = x, .out = y}); });
  bench.Run("gelu backward bf16", Bytes({x, y, z}), [&](Stream& s) { GeluBackward(s, {.in = x, .dout = y, .din = z}); });
  bench.Run("swiglu forward bf16", Bytes({wide, y}), [&](Stream& s) { SwiGluForward(s, {.in = wide, .out = y}); });
  bench.Run("swiglu backward bf16", Bytes({wide, wide, y}), [&](Stream& s) { SwiGluBackward(s, {.in = wide, .dout = y, .din = wide}); });
  const DropoutMask mask{.rate = 0.1, .random = RandomStream(1, "bench", 0)};
  bench.Run("dropout with residual bf16", Bytes({x, y, z}),
            [&](Stream& s) { DropoutForward(s, {.in = x, .residual = y, .out = z, .mask = mask}); });
  bench.Run("rms_norm forward bf16", Bytes({x, y}),
            [&](Stream& s) { RmsNormForward(s, {.in = x, .gamma = gamma, .out = y, .rstd = rstd}); });
  bench.Run("rms_norm din bf16", Bytes({x, y, z}),
            [&](Stream& s) { RmsNormBackwardInput(s, {.dout = x, .in = y, .gamma = gamma, .rstd = rstd, .din = z}); });
  bench.Run("rms_norm dgamma bf16", Bytes({x, y}),
            [&](Stream& s) { RmsNormBackwardWeight(s, {.dout = x, .in = y, .rstd = rstd, .dgamma = dgamma}); });
  bench.Run("layer_norm of a sum bf16", Bytes({x, y, z, sum}), [&](Stream& s) {
    AddLayerNormForward(s, {.in = x, .residual = y, .sum = sum, .gamma = gamma, .beta = gamma, .out = z, .mean = mean, .rstd = rstd});
  });
  bench.Run("bias gradient bf16", Bytes({x}), [&](Stream& s) { BiasGradient(s, {.dout = AsMatrix(ConstTensor(x)), .dbias = dgamma}); });
  const Tensor cosines = bench.Make(DType::kF32, {kTokens, 64}), sines = bench.Make(DType::kF32, {kTokens, 64});
  const Tensor rows{x.data, DType::kBF16, {1, kTokens, kFeatures}};
  bench.Run("rotary bf16, 32 heads of 128", Bytes({x, x}),
            [&](Stream& s) { Rotary(s, {.rows = rows, .cosines = cosines, .sines = sines, .heads = kFeatures / 128}); });
  bench.Drop();
}

void BenchTokens(RateBench& bench) {
  const std::int64_t rows = kTokens / 2;
  std::vector<std::int32_t> host(static_cast<std::size_t>(kTokens));
  const RandomStream random(2, "tokens", 0);
  for (std::size_t i = 0; i < host.size(); ++i) {
    const double u = random.Uniform(i);
    host[i] = static_cast<std::int32_t>(u * u * u * static_cast<double>(kVocabulary));  // some far more often than others
  }
  const Tensor tokens = bench.Make(DType::kI32, {8, kTokens / 8}), wte = bench.Make(DType::kBF16, {kVocabulary, kFeatures}),
               x = bench.Make(DType::kBF16, {8, kTokens / 8, kFeatures}), dwte = bench.Make(DType::kF32, {kVocabulary, kFeatures});
  bench.stream().Copy(tokens.data, host.data(), tokens.bytes());
  LYCIA_CHECK_OK(bench.stream().Synchronize());
  bench.Run("embedding forward bf16", Bytes({x, x}), [&](Stream& s) { EmbeddingForward(s, {.tokens = tokens, .wte = wte, .out = x}); });
  // dout is read, and the gradient's rows that occur are read and written: at most as many as tokens.
  bench.Run("embedding backward bf16 (bytes of dout alone)", Bytes({x}),
            [&](Stream& s) { EmbeddingBackward(s, {.tokens = tokens, .dout = x, .dwte = dwte}); });
  bench.Drop();
  const Tensor logits = bench.Make(DType::kBF16, {8, rows / 8, kVocabulary}), labels = bench.Make(DType::kI32, {8, rows / 8}),
               losses = bench.Make(DType::kF64, {8});
  bench.stream().Copy(labels.data, host.data(), labels.bytes());
  LYCIA_CHECK_OK(bench.stream().Synchronize());
  bench.Run("cross_entropy in place bf16 8,192 x 50,257", Bytes({logits, logits}), [&](Stream& s) {
    CrossEntropy(s, {.logits = logits, .labels = labels, .sample_losses = losses.as<double>(), .dlogits = logits, .scale = 1});
  });
  bench.Drop();
}

void BenchImages(RateBench& bench) {
  const Shape shape{128, 56, 56, 256};
  const Tensor x = bench.Make(DType::kBF16, shape), y = bench.Make(DType::kBF16, shape), z = bench.Make(DType::kBF16, shape),
               gamma = bench.Make(DType::kBF16, {256}), mean = bench.Make(DType::kF32, {1, 256}), rstd = bench.Make(DType::kF32, {1, 256}),
               sum_d = bench.Make(DType::kF32, {1, 256}), sum_dn = bench.Make(DType::kF32, {1, 256});
  bench.Run("batch_norm forward bf16 128 x 56 x 56 x 256", Bytes({x, x, y}), [&](Stream& s) {
    BatchNormForward(s, {.in = x, .gamma = gamma, .beta = gamma, .samples = 128, .out = y, .mean = mean, .rstd = rstd});
  });
  bench.Run("batch_norm backward sums bf16", Bytes({x, y}), [&](Stream& s) {
    BatchNormBackwardSums(s, {.dout = x, .in = y, .mean = mean, .rstd = rstd, .sum_d = sum_d, .sum_dn = sum_dn});
  });
  bench.Run("batch_norm din bf16", Bytes({x, y, z}), [&](Stream& s) {
    BatchNormBackwardInput(s, {.dout = x, .in = y, .gamma = gamma, .mean = mean, .rstd = rstd, .sum_d = sum_d, .sum_dn = sum_dn, .din = z});
  });
  bench.Run("relu with residual bf16", Bytes({x, y, z}), [&](Stream& s) { ReluForward(s, {.in = x, .residual = y, .out = z}); });
  const ConvAxis axis{.in = 56, .filter = 3, .stride = 2, .pad_before = 1, .pad_after = 1};
  const PoolShape pool{128, 256, axis, axis};
  const Tensor out = bench.Make(DType::kBF16, {128, 28, 28, 256}), winner = bench.Make(DType::kU8, {128, 28, 28, 256});
  bench.Run("max pool 3x3/2 forward bf16", Bytes({x, out, winner}),
            [&](Stream& s) { MaxPoolForward(s, {.shape = pool, .in = x, .out = out, .winner = winner}); });
  bench.Run("max pool 3x3/2 backward bf16", Bytes({x, out, winner}),
            [&](Stream& s) { MaxPoolBackward(s, {.shape = pool, .dout = out, .winner = winner, .din = x}); });
  bench.Drop();
}

}  // namespace

void BenchCudaMemoryKernels(RateBench& bench) {
  BenchRows(bench);
  BenchTokens(bench);
  BenchImages(bench);
}

}  // namespace lycia
