// Convolutions on the CPU: products on the micro kernels (f32, bf16), channels by themselves, or the definition (f64).
#include <cstring>

#include "kernels/conv/conv.h"
#include "kernels/conv/conv_blocked.h"
#include "kernels/conv/conv_check.h"
#include "kernels/conv/conv_depthwise.h"
#include "kernels/conv/conv_direct.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/gemm_kernels.h"

namespace lycia::cpu {
namespace {

void CheckCpuType(DType type) { LYCIA_CHECK(type != DType::kF16) << "convolutions of f16 are CUDA's; the CPU takes bf16, f32 and f64 "; }

void CopyWeight(const PackConvWeightArgs& args) {
  std::memcpy(args.to.data, args.weight.data, static_cast<std::size_t>(args.weight.bytes()));
}

}  // namespace

void PackConvWeight(Stream& stream, const PackConvWeightArgs& args) {
  CheckPackConvWeight(args);
  CheckCpuType(args.to.dtype);
  if (args.to.dtype == DType::kF64) return CopyWeight(args);
  if (IsDepthwise(args.to.shape)) return PackConvWeightDepthwise(args);
  PackConvWeightBlocked(SelectedKernel(args.to.dtype), args, *stream.pool());
}

void ConvForward(Stream& stream, const ConvForwardArgs& args) {
  CheckConvForward(args);
  const ConvShape& shape = args.shape;
  const DType type = args.in.dtype;
  CheckCpuType(type);
  if (shape.N == 0) return;
  if (type == DType::kF64) return ConvForwardDirect(stream, args);
  if (IsDepthwise(shape)) return ConvForwardDepthwise(stream, args);
  ConvForwardBlocked(SelectedKernel(type), args, *stream.pool());
}

void ConvBackwardInput(Stream& stream, const ConvBackwardInputArgs& args) {
  CheckConvBackwardInput(args);
  const ConvShape& shape = args.shape;
  const DType type = args.dout.dtype;
  CheckCpuType(type);
  if (shape.N == 0) return;
  if (type == DType::kF64) return ConvBackwardInputDirect(stream, args);
  if (IsDepthwise(shape)) return ConvBackwardInputDepthwise(stream, args);
  ConvBackwardInputBlocked(SelectedKernel(type), args, *stream.pool());
}

void ConvBackwardWeight(Stream& stream, const ConvBackwardWeightArgs& args) {
  CheckConvBackwardWeight(args);
  const ConvShape& shape = args.shape;
  const DType type = args.in.dtype;
  CheckCpuType(type);
  if (shape.N == 0) return;
  if (type == DType::kF64) return ConvBackwardWeightDirect(stream, args);
  if (args.dbias.data != nullptr) {
    cpu::BiasGradient(stream, {.dout = {args.dout.data, type, shape.N * shape.P() * shape.Q(), shape.K, shape.K}, .dbias = args.dbias});
  }
  if (IsDepthwise(shape)) return ConvBackwardWeightDepthwise(stream, args);
  ConvBackwardWeightBlocked(SelectedKernel(type), args, *stream.pool());
}

}  // namespace lycia::cpu

namespace lycia {

std::int64_t PackedConvBytes(DType dtype, ConvUse use, const ConvShape& shape) {
  CheckConvToPack(dtype, shape);
  if (dtype == DType::kF16) return 0;  // CUDA's, which packs nothing
  if (dtype != DType::kF64 && cpu::IsDepthwise(shape)) return cpu::PackedConvBytesDepthwise(shape);
  if (dtype != DType::kF64) return cpu::PackedConvBytesBlocked(cpu::SelectedKernel(dtype), use, shape);
  return shape.K * shape.R() * shape.S() * shape.group_C() * 8;
}

}  // namespace lycia
