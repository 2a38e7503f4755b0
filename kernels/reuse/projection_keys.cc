#include "kernels/reuse/projection_keys.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_stored.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/reuse/row_signature.h"

namespace lycia::cpu {
namespace {

// One vector of the depth, `left` elements of it.
template <typename V, bool kWhole, typename S>
LYCIA_INLINE inline V LoadDepth(const S* from, std::int64_t left) {
  if constexpr (kWhole) return LoadAs<V>(from);
  return LoadPartAs<V>(from, left);
}
template <bool kWhole, typename V, int R, int P, typename S>
LYCIA_INLINE inline void AddProducts(const S* x, std::int64_t x_ld, const S* a, std::int64_t a_ld, std::int64_t left, V (&sums)[R][P]) {
  V of_x[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) of_x[r] = LoadDepth<V, kWhole>(x + r * x_ld, left);
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    const V of_a = LoadDepth<V, kWhole>(a + p * a_ld, left);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sums[r][p] += of_x[r] * of_a;
  }
}

// R rows and P projections at once: to[r * count + p] = the dot product of row r and projection p. Each is one chain of vectors.
template <Isa isa, int R, int P, typename S>
LYCIA_INLINE inline void DotProducts(const S* x, std::int64_t x_ld, const S* a, std::int64_t a_ld, std::int64_t depth, Arithmetic<S>* to,
                                     std::int64_t count) {
  using V = Vector<Arithmetic<S>, isa>;
  constexpr int L = kLanes<V>;
  V sums[R][P] = {};
  std::int64_t k = 0;
  for (; k + L <= depth; k += L) AddProducts<true>(x + k, x_ld, a + k, a_ld, L, sums);
  if (k < depth) AddProducts<false>(x + k, x_ld, a + k, a_ld, depth - k, sums);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) to[r * count + p] = SumOf<V>(sums[r][p]);
  }
}

template <Isa isa, int R, typename S>
LYCIA_INLINE inline void ProjectRows(const S* x, std::int64_t x_ld, const ConstMatrix& a, Arithmetic<S>* to) {
  const auto* from = static_cast<const S*>(a.data);
  std::int64_t p = 0;
  for (; p + kProjections <= a.rows; p += kProjections) {
    DotProducts<isa, R, kProjections>(x, x_ld, from + p * a.ld, a.ld, a.cols, to + p, a.rows);
  }
  for (; p < a.rows; ++p) DotProducts<isa, R, 1>(x, x_ld, from + p * a.ld, a.ld, a.cols, to + p, a.rows);
}

}  // namespace

void ProjectionKeys::Project(Stream& stream, const ConstMatrix& x, const ConstMatrix& a) const {
  DispatchStored(x.dtype, [&]<typename S>() {
    const auto* from = static_cast<const S*>(x.data);
    auto* to = static_cast<Arithmetic<S>*>(data);
    const std::int64_t ld = x.ld, per_row = count;
    const ConstMatrix* projections = &a;
    ForEachPart(stream, {.count = rows, .bytes_each = 8 * x.cols * SizeOf(x.dtype)}, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        constexpr Isa kIsa = decltype(isa)::value;
        constexpr int kTogether = kIsa == Isa::kAvx512 ? 3 : 1;  // as many as there are registers for
        std::int64_t m = begin;
        for (; m + kTogether <= end; m += kTogether) ProjectRows<kIsa, kTogether>(from + m * ld, ld, *projections, to + m * per_row);
        for (; m < end; ++m) ProjectRows<kIsa, 1>(from + m * ld, ld, *projections, to + m * per_row);
      });
    });
  });
}

void ProjectionKeys::ToCells(Stream& stream, const ReuseRule& rule) const {
  DispatchFloat(dtype, [&]<typename T>() {
    auto* all = static_cast<T*>(data);
    const auto scale = static_cast<T>(1 / rule.width);
    const double* shifts = rule.shifts.as<double>();
    ForEachPart(stream, {.count = rows, .bytes_each = 16 * count}, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t m = begin; m < end; ++m) {
        T* cells = all + m * count;
        for (std::int64_t h = 0; h < count; ++h) {
          const T cell = std::floor(cells[h] * scale + static_cast<T>(shifts[h]));
          cells[h] = std::isfinite(cell) ? cell + static_cast<T>(0) : std::numeric_limits<T>::quiet_NaN();
        }
      }
    });
  });
}

std::uint64_t ProjectionKeys::Signature(std::int64_t row) const {
  const std::int64_t bytes = count * SizeOf(dtype);
  return SignatureOfBits<Isa::kBaseline>(static_cast<const char*>(data) + row * bytes, bytes);
}

bool ProjectionKeys::Equal(std::int64_t row, std::int64_t other) const {
  return DispatchFloat(dtype, [&]<typename T>() {
    const T *a = static_cast<const T*>(data) + row * count, *b = static_cast<const T*>(data) + other * count;
    bool equal = true;
    for (std::int64_t h = 0; h < count; ++h) equal = equal && a[h] == b[h];
    return equal;
  });
}

void MakeProjections(Stream& stream, const MakeProjectionsArgs& args) {
  LYCIA_CHECK_EQ(args.projections.shape.dim(0), args.shifts.elements());
  const RandomStream normal(args.seed, "reuse.projections", 0);
  if (args.projections.dtype == DType::kF16) {  // which no other kernel of the CPU writes
    auto* to = args.projections.as<Float16>();
    for (std::int64_t i = 0; i < args.projections.elements(); ++i) {
      to[i] = Float16(static_cast<float>(normal.Normal(static_cast<std::uint64_t>(i))));
    }
  } else {
    cpu::FillNormal(stream, {.out = args.projections, .random = normal});
  }
  const RandomStream random(args.seed, "reuse.shifts", 0);
  for (std::int64_t h = 0; h < args.shifts.elements(); ++h) args.shifts.as<double>()[h] = random.Uniform(static_cast<std::uint64_t>(h));
}

}  // namespace lycia::cpu
