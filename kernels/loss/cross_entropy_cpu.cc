// Softmax cross-entropy on the CPU, a row at a time, in three passes over a row that stays in the second-level cache: maximum, sum of the
// exponentials, gradient. From and to memory a logit moves once. The exponentials are made twice: cheaper than to store and load them, and
// in bf16 the gradient is rounded once only. The label's logit is read first, since the gradient may take the place of the logits.
#include <algorithm>
#include <cmath>
#include <span>

#include "kernels/cpu/parallel.h"
#include "kernels/loss/cross_entropy.h"
#include "kernels/loss/loss_row.h"

namespace lycia::cpu {
namespace {

// The loss of one token; dlogits may be null, and may be logits.
template <typename V, typename T, typename G>
LYCIA_INLINE inline double TokenLoss(const T* logits, G* dlogits, std::int64_t size, std::int64_t label, double scale) {
  using A = Element<V>;
  const A largest = LargestLogit<V>(logits, size), at_label = static_cast<A>(logits[label]);
  const double sum = static_cast<double>(ExpSum<V>(logits, size, largest));
  if (dlogits != nullptr) WriteLossGradient<V>(logits, size, largest, sum, label, scale, dlogits);
  return std::log(sum) + static_cast<double>(largest) - static_cast<double>(at_label);
}

// Rows [begin, end); losses[0] is that of row `begin`, 0 where it is no loss token.
template <typename N, typename G>
void RunRows(const CrossEntropyArgs& args, std::int64_t begin, std::int64_t end, double* losses) {
  const std::int64_t V = args.logits.shape[2];
  const std::int32_t* labels = args.labels.as<std::int32_t>();
  const N* logits = args.logits.as<N>();
  G* dlogits = args.dlogits.data == nullptr ? nullptr : args.dlogits.as<G>();
  ForBestIsa([=](auto isa) LYCIA_INLINE {
    using Lane = Vector<Arithmetic<N>, decltype(isa)::value>;
    for (std::int64_t i = begin; i < end; ++i) {
      G* gradient = dlogits == nullptr ? nullptr : dlogits + i * V;
      losses[i - begin] = 0;
      if (labels[i] >= 0) {
        losses[i - begin] = TokenLoss<Lane>(logits + i * V, gradient, V, labels[i], args.scale);
      } else if (gradient != nullptr) {
        std::fill_n(gradient, V, static_cast<G>(Arithmetic<G>(0)));
      }
    }
  });
}

// Threads leave the losses of rows in scratch; one adds them, in the order of tokens.
template <typename N, typename G>
void Run(Stream& stream, const CrossEntropyArgs& args) {
  const std::int64_t B = args.logits.shape[0], T = args.logits.shape[1], V = args.logits.shape[2];
  const std::span<char> scratch = stream.pool()->workspace(0);
  auto* losses = reinterpret_cast<double*>(scratch.data());
  const auto at_once = static_cast<std::int64_t>(scratch.size() / sizeof(double));
  LYCIA_CHECK_GT(at_once, 0);
  if (args.sample_losses != nullptr) std::fill_n(args.sample_losses, B, 0.0);
  for (std::int64_t first = 0; first < B * T; first += at_once) {
    const std::int64_t rows = std::min(at_once, B * T - first);
    const Work work{.count = rows, .bytes_each = V * static_cast<std::int64_t>(sizeof(N) + sizeof(G))};
    ForEachPart(stream, work,
                [&](std::int64_t begin, std::int64_t end, int) { RunRows<N, G>(args, first + begin, first + end, losses + begin); });
    if (args.sample_losses == nullptr) continue;
    for (std::int64_t r = 0; r < rows; ++r) args.sample_losses[(first + r) / T] += losses[r];
  }
}

}  // namespace

void CrossEntropy(Stream& stream, const CrossEntropyArgs& args) {
  LYCIA_CHECK_EQ(args.logits.shape.rank(), 3);
  const std::int64_t B = args.logits.shape[0], T = args.logits.shape[1], V = args.logits.shape[2];
  LYCIA_CHECK_EQ(args.labels.elements(), B * T);
  if (args.dlogits.data != nullptr) LYCIA_CHECK_EQ(args.dlogits.elements(), B * T * V);
  const std::int32_t* labels = args.labels.as<std::int32_t>();
  for (std::int64_t i = 0; i < B * T; ++i) {
    if (labels[i] >= -1 && labels[i] < V) continue;
    return stream.Fail(InvalidArgument("label ", labels[i], " at sample ", i / T, ", position ", i % T,
                                       " of the micro-batch is outside [-1, ", V,
                                       "); tokenize the data with the model's tokenizer, or raise the model's vocabulary"));
  }
  if (args.logits.dtype == DType::kF32 && args.dlogits.data != nullptr && args.dlogits.dtype == DType::kBF16) {
    LYCIA_CHECK(args.dlogits.data != args.logits.data) << "dlogits of another type takes the place of the logits ";
    return Run<float, BFloat16>(stream, args);
  }
  DispatchStored(args.logits.dtype, [&]<typename N>() { Run<N, N>(stream, args); });
}

}  // namespace lycia::cpu
