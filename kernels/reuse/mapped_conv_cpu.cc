#include "kernels/conv/patches.h"
#include "kernels/cpu/parallel.h"
#include "kernels/gemm/driver.h"
#include "kernels/gemm/gemm_kernels.h"
#include "kernels/gemm/matrix_source.h"
#include "kernels/reuse/mapped_conv.h"
#include "kernels/reuse/patch_check.h"

namespace lycia::cpu {
namespace {

Patches PatchesOf(const IndexMap& map, const ConvShape& shape, const ConstTensor& in) {
  Patches patches = PatchesOfInput(shape, in.data, in.dtype == DType::kBF16, 0);
  patches.listed = map.representatives;
  patches.num_listed = *map.size;
  return patches;
}

// f(channel of the weight, tap's first element, pixel's first element) for the taps of a position that see the image.
template <typename F>
void ForEachTap(const ConvShape& s, std::int64_t position, const F& f) {
  const std::int64_t q = position % s.Q(), p = position / s.Q() % s.P(), n = position / s.Q() / s.P();
  for (std::int64_t r = 0; r < s.R(); ++r) {
    for (std::int64_t t = 0; t < s.S(); ++t) {
      const std::int64_t h = s.height.InputOf(p, r), w = s.width.InputOf(q, t);
      if (s.height.Inside(h) && s.width.Inside(w)) f((r * s.S() + t) * s.C, ((n * s.H() + h) * s.W() + w) * s.C);
    }
  }
}

// The sums of conv_direct.cc, in their order.
void ForwardF64(Stream& stream, const MappedConvForwardArgs& args) {
  const ConvShape& s = args.shape;
  const double *in = args.in.as<double>(),
               *weight = args.packed.data != nullptr ? static_cast<const double*>(args.packed.data) : args.weight.as<double>();
  const double *scale = args.scale.data == nullptr ? nullptr : args.scale.as<double>(),
               *bias = args.bias.data == nullptr ? nullptr : args.bias.as<double>();
  auto* c = static_cast<double*>(args.c.data);
  const std::int64_t depth = s.R() * s.S() * s.C;
  ForEachPart(stream, {.count = *args.map.size, .bytes_each = depth * 8 * s.K}, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t j = begin; j < end; ++j) {
      for (std::int64_t k = 0; k < s.K; ++k) {
        double sum = 0;
        ForEachTap(s, args.map.representatives[j], [&](std::int64_t tap, std::int64_t pixel) {
          const double *x = in + pixel, *f = weight + k * depth + tap;
          for (std::int64_t e = 0; e < s.C; ++e) sum += x[e] * f[e];
        });
        if (scale != nullptr) sum *= scale[k];
        if (bias != nullptr) sum += bias[k];
        c[j * args.c.ld + k] = args.relu && sum < 0 ? 0 : sum;
      }
    }
  });
}

void BackwardWeightF64(Stream& stream, const MappedConvBackwardWeightArgs& args) {
  const ConvShape& s = args.shape;
  const double *in = args.in.as<double>(), *sums = static_cast<const double*>(args.sums.data);
  double* dweight = args.dweight.as<double>();
  const std::int64_t depth = s.R() * s.S() * s.C, clusters = *args.map.size;
  ForEachPart(stream, {.count = s.K, .bytes_each = clusters * depth * 8}, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t k = begin; k < end; ++k) {
      for (std::int64_t j = 0; j < clusters; ++j) {
        ForEachTap(s, args.map.representatives[j], [&](std::int64_t tap, std::int64_t pixel) {
          double* f = dweight + k * depth + tap;
          for (std::int64_t e = 0; e < s.C; ++e) f[e] += sums[j * args.sums.ld + k] * in[pixel + e];
        });
      }
    }
  });
}

}  // namespace

void MappedConvForward(Stream& stream, const MappedConvForwardArgs& args) {
  const ConvShape& s = args.shape;
  if (!ArePatches(stream, "MappedConvForward", args.map, s, args.in)) return;
  CheckMappedConvForward(args);
  const DType type = args.in.dtype;
  LYCIA_CHECK(args.c.rows >= *args.map.size) << "c of " << args.c.rows << " rows for " << *args.map.size << " clusters ";
  if (*args.map.size == 0) return;
  if (type == DType::kF64) return ForwardF64(stream, args);
  const MicroKernel& kernel = SelectedKernel(type);
  const PatchesByPosition patches = {PatchesOf(args.map, s, args.in)};
  const Runs depth = patches.patches.runs();
  const FilterRuns filters = {.data = static_cast<const char*>(args.weight.data),
                              .bf16 = type == DType::kBF16,
                              .depth = depth,
                              .taps_w = 1,
                              .down = depth.length,
                              .ld = s.R() * s.S() * s.C};
  MultiplyBlocked(kernel,
                  {.rows = *args.map.size,
                   .cols = {.length = s.K},
                   .depth = depth,
                   .a = PackerOf(patches, false, patches.InPlace(kernel)),
                   .b = PackerOf(filters, false),
                   .packed_b = args.packed.data,
                   .to = {.c = AsOperand(args.c), .scale = AsOperand(args.scale), .bias = AsOperand(args.bias), .relu = args.relu}},
                  *stream.pool());
}

void MappedConvBackwardWeight(Stream& stream, const MappedConvBackwardWeightArgs& args) {
  const ConvShape& s = args.shape;
  if (!ArePatches(stream, "MappedConvBackwardWeight", args.map, s, args.in)) return;
  CheckMappedConvBackwardWeight(args);
  const DType type = args.in.dtype;
  const std::int64_t depth = s.R() * s.S() * s.C;
  LYCIA_CHECK(args.sums.rows >= *args.map.size) << "sums of " << args.sums.rows << " rows for " << *args.map.size << " clusters ";
  if (*args.map.size == 0) return;
  if (type == DType::kF64) return BackwardWeightF64(stream, args);
  const MicroKernel& kernel = SelectedKernel(type);
  const PatchesByChannel patches = {PatchesOf(args.map, s, args.in)};
  const MatrixSource sums = MatrixAsA({args.sums.data, type, *args.map.size, s.K, args.sums.ld}, true);
  MultiplyBlocked(kernel,
                  {.rows = s.K,
                   .cols = patches.patches.runs(),
                   .depth = {.length = *args.map.size},
                   .a = PackerOf(sums, true),
                   .b = PackerOf(patches, true, patches.InPlace(kernel)),
                   .to = {.c = {args.dweight.data, depth, false}, .add_c = true}},
                  *stream.pool());
}

}  // namespace lycia::cpu
