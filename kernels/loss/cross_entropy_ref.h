// The specification of cross_entropy.h. N is float, double or std::complex<double>.
#ifndef LYCIA_KERNELS_LOSS_CROSS_ENTROPY_REF_H_
#define LYCIA_KERNELS_LOSS_CROSS_ENTROPY_REF_H_

#include <cmath>
#include <complex>
#include <cstdint>

namespace lycia::reference {

// log sum over v of exp(row[v]), shifted by the largest real part so that no exp overflows.
template <typename N>
N LogSumExp(std::int64_t V, const N* row) {
  using std::exp, std::log, std::real;
  double shift = real(row[0]);
  for (std::int64_t v = 1; v < V; ++v) shift = std::max(shift, static_cast<double>(real(row[v])));
  N sum = 0;
  for (std::int64_t v = 0; v < V; ++v) sum += exp(row[v] - N(shift));
  return log(sum) + N(shift);
}

// sample_losses[b] = sum over t of -log softmax(logits[b][t])[labels[b][t]]; a label of -1 adds nothing.
template <typename N>
void CrossEntropyForward(std::int64_t B, std::int64_t T, std::int64_t V, const N* logits, const std::int32_t* labels, N* sample_losses) {
  for (std::int64_t b = 0; b < B; ++b) {
    sample_losses[b] = 0;
    for (std::int64_t i = b * T; i < (b + 1) * T; ++i) {
      if (labels[i] >= 0) sample_losses[b] += LogSumExp(V, logits + i * V) - logits[i * V + labels[i]];
    }
  }
}

// dlogits = scale (softmax(logits) - onehot(label)); 0 in rows without a label.
template <typename N>
void CrossEntropyBackward(std::int64_t rows, std::int64_t V, const N* logits, const std::int32_t* labels, double scale, N* dlogits) {
  using std::exp;
  for (std::int64_t i = 0; i < rows; ++i) {
    const N log_sum_exp = LogSumExp(V, logits + i * V);
    for (std::int64_t v = 0; v < V; ++v) {
      const N gradient = exp(logits[i * V + v] - log_sum_exp) - N(v == labels[i] ? 1.0 : 0.0);
      dlogits[i * V + v] = labels[i] < 0 ? N(0) : N(scale) * gradient;
    }
  }
}

}  // namespace lycia::reference

#endif  // LYCIA_KERNELS_LOSS_CROSS_ENTROPY_REF_H_
