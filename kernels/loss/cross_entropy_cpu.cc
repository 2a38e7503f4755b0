// Softmax cross-entropy on the CPU, a row at a time: maximum, exponentials with their sum, gradient. The label's logit is read first, since
// the gradient may take the place of the logits.
#include <cmath>
#include <limits>

#include "kernels/cpu/vector_loop.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/loss/cross_entropy.h"

namespace lycia::cpu {
namespace {

template <typename V, typename T = Element<V>>
LYCIA_INLINE inline T RowMaximum(const T* row, std::int64_t size) {
  V maximum = Broadcast<V>(-std::numeric_limits<T>::infinity());
  ForEachVector<V>(size, [&](auto lanes) LYCIA_INLINE { maximum = Max(maximum, lanes.Get(row, -std::numeric_limits<T>::infinity())); });
  return LargestOf(maximum);
}

// The loss of one token; dlogits may be null, and may be logits.
template <typename V, typename T = Element<V>>
LYCIA_INLINE inline double TokenLoss(const T* logits, T* dlogits, std::int64_t size, std::int64_t label, double scale) {
  const T maximum = RowMaximum<V>(logits, size), at_label = logits[label];
  const T sum = SumVectors<V>(size, [&](auto lanes) LYCIA_INLINE {
    const V e = Exp(lanes.Get(logits) - maximum);
    if (dlogits != nullptr) lanes.Put(dlogits, e);
    return e;
  });
  if (dlogits != nullptr) {
    const T factor = static_cast<T>(scale / static_cast<double>(sum));
    ForEachVector<V>(size, [&](auto lanes) LYCIA_INLINE { lanes.Put(dlogits, lanes.Get(dlogits) * factor); });
    dlogits[label] -= static_cast<T>(scale);
  }
  return std::log(static_cast<double>(sum)) + static_cast<double>(maximum) - static_cast<double>(at_label);
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
  DispatchFloat(args.logits.dtype, [&]<typename N>() {
    const N* logits = args.logits.as<N>();
    N* dlogits = args.dlogits.data == nullptr ? nullptr : args.dlogits.as<N>();
    ForBestIsa([&](auto isa) LYCIA_INLINE {
      using Lane = Vector<N, decltype(isa)::value>;
      for (std::int64_t b = 0; b < B; ++b) {
        double loss = 0;
        for (std::int64_t i = b * T; i < (b + 1) * T; ++i) {
          N* gradient = dlogits == nullptr ? nullptr : dlogits + i * V;
          if (labels[i] >= 0) {
            loss += TokenLoss<Lane>(logits + i * V, gradient, V, labels[i], args.scale);
          } else if (gradient != nullptr) {
            for (std::int64_t v = 0; v < V; ++v) gradient[v] = N(0);
          }
        }
        if (args.sample_losses != nullptr) args.sample_losses[b] = loss;
      }
    });
  });
}

}  // namespace lycia::cpu
