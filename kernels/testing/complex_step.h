// Gradients by the complex step: d f / d x_i = Im f(x + i h e_i) / h. No difference is taken, so h may be 1e-30 and the result is exact to
// rounding (Squire & Trapp 1998). f must be analytic: templated on the number type, with no abs, max or comparison of values.
#ifndef LYCIA_KERNELS_TESTING_COMPLEX_STEP_H_
#define LYCIA_KERNELS_TESTING_COMPLEX_STEP_H_

#include <complex>
#include <vector>

namespace lycia::testing {

using Complex = std::complex<double>;

inline std::vector<Complex> ToComplex(const std::vector<double>& x) { return {x.begin(), x.end()}; }

// f: const std::vector<Complex>& -> Complex.
template <typename F>
std::vector<double> ComplexStepGradient(const std::vector<double>& x, const F& f) {
  constexpr double kStep = 1e-30;
  std::vector<Complex> moved = ToComplex(x);
  std::vector<double> gradient(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    moved[i] = Complex(x[i], kStep);
    gradient[i] = f(moved).imag() / kStep;
    moved[i] = x[i];
  }
  return gradient;
}

// The sum of weight[i] * value[i]: makes a scalar of a tensor, so that the gradient's `dout` is `weight`.
template <typename N>
N Weighted(const std::vector<N>& values, const std::vector<double>& weights) {
  N sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i) sum += values[i] * weights[i];
  return sum;
}

}  // namespace lycia::testing

#endif  // LYCIA_KERNELS_TESTING_COMPLEX_STEP_H_
