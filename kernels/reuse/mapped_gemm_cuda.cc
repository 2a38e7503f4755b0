#include "kernels/reuse/mapped_gemm_cuda.h"

#include <cstdint>
#include <limits>

#include "kernels/conv/conv_plain.h"
#include "kernels/reuse/scatter.h"
#include "runtime/core/check.h"

namespace lycia::cuda {
namespace {

// Sizes and types; a failed stream where 32 bits do not count them.
bool CheckMappedGemm(Stream& stream, const MappedGemmArgs& args) {
  const GemmArgs& g = args.gemm;
  const std::int64_t M = args.map.extent;
  LYCIA_CHECK(g.a.dtype == g.b.dtype && (g.c.dtype == g.a.dtype || g.c.dtype == ArithmeticDType(g.a.dtype)))
      << "a product of " << Name(g.a.dtype) << " and " << Name(g.b.dtype) << " as " << Name(g.c.dtype) << " ";
  const auto beside = [&](const char* name, const void* data, DType dtype) {
    LYCIA_CHECK(data == nullptr || dtype == g.c.dtype || (SizeOf(g.a.dtype) == 2 && dtype == g.a.dtype))
        << name << " is " << Name(dtype) << " beside " << Name(g.c.dtype) << " ";
  };
  beside("bias", g.bias.data, g.bias.dtype);
  beside("residual", g.residual.data, g.residual.dtype);
  beside("pre_activation", g.pre_activation.data, g.pre_activation.dtype);
  beside("gelu_input", g.gelu_input.data, g.gelu_input.dtype);
  if (args.over == MappedOver::kRows) {
    LYCIA_CHECK(!g.transpose_a) << "rows of c that are a partition's are rows of a ";
    LYCIA_CHECK(!args.gather_a || g.a.rows == M) << "a has " << g.a.rows << " rows for " << args.map.ToString() << " ";
    LYCIA_CHECK((g.transpose_b ? g.b.cols : g.b.rows) == g.a.cols && (g.transpose_b ? g.b.rows : g.b.cols) == g.c.cols)
        << "b is [" << g.b.rows << ", " << g.b.cols << "] for a of " << g.a.cols << " and c of " << g.c.cols << " columns ";
    LYCIA_CHECK(g.bias.data == nullptr || g.bias.elements() == g.c.cols) << g.bias.elements() << " numbers of bias ";
    LYCIA_CHECK(args.scattered.data == nullptr ||
                (args.scattered.dtype == g.c.dtype && args.scattered.rows == M && args.scattered.cols == g.c.cols))
        << "scattered rows are " << Name(args.scattered.dtype) << " [" << args.scattered.rows << ", " << args.scattered.cols << "] ";
  } else {
    LYCIA_CHECK(g.transpose_a && !g.transpose_b) << "a depth that is a partition's is the rows of a [U, m] and of b [U, n] ";
    LYCIA_CHECK(g.bias.data == nullptr && g.residual.data == nullptr && !g.gelu && g.pre_activation.data == nullptr &&
                g.gelu_input.data == nullptr && args.scattered.data == nullptr)
        << "a product over a partition has no epilogue but accumulate ";
    LYCIA_CHECK(g.a.cols == g.c.rows && g.b.cols == g.c.cols && (!args.gather_a || g.a.rows == M))
        << "a has " << g.a.cols << " and b " << g.b.cols << " columns for c [" << g.c.rows << ", " << g.c.cols << "] ";
  }
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max() / 2;
  if (ConvTiles(g.c.cols) > kMostGridY || g.c.rows > kMost || g.a.cols > kMost) {
    stream.Fail(InvalidArgument("MappedGemm on CUDA: c [", g.c.rows, ", ", g.c.cols, "] of a depth of ", g.a.cols,
                                " has more than 2^22 columns, or 2^30 rows or depth; split the product"));
  }
  return stream.ok();
}

}  // namespace

void MappedGemm(Stream& stream, const MappedGemmArgs& args) {
  if (!IsPartitionOfRows(stream, args.map, "MappedGemm") || !CheckMappedGemm(stream, args)) return;
  if (MappedGemmHopper(stream, args)) return;
  MappedGemmPlain(stream, args);
  if (args.scattered.data != nullptr) cuda::ScatterRows(stream, {.map = args.map, .c = args.gemm.c, .y = args.scattered});
}

}  // namespace lycia::cuda
