// Convolutions on the CPU: checks, then products on the micro kernels (f32, bf16), channels by themselves, or the definition (f64).
#include <cstring>

#include "kernels/conv/conv.h"
#include "kernels/conv/conv_blocked.h"
#include "kernels/conv/conv_depthwise.h"
#include "kernels/conv/conv_direct.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/gemm_kernels.h"

namespace lycia::cpu {
namespace {

void CheckTensor(const char* name, const ConstTensor& tensor, std::int64_t elements, const ConvShape& shape) {
  LYCIA_CHECK(tensor.elements() == elements) << "convolution " << shape.ToString() << ": " << name << " has " << tensor.elements()
                                             << " elements, not " << elements << " ";
}
void CheckImageType(const char* name, DType type) {
  LYCIA_CHECK(type == DType::kF32 || type == DType::kBF16 || type == DType::kF64)
      << "convolution: " << name << " is " << Name(type) << ", which is none of bf16, f32 and f64 ";
}
// Beside operands of `type`; f32 may stand beside bf16.
void CheckType(const char* name, DType dtype, DType type) {
  LYCIA_CHECK(dtype == type || (type == DType::kBF16 && dtype == DType::kF32))
      << "convolution of " << Name(type) << ": " << name << " is " << Name(dtype) << " ";
}
void CheckVector(const char* name, const ConstTensor& tensor, DType type, const ConvShape& shape, std::int64_t elements) {
  if (tensor.data == nullptr) return;
  CheckTensor(name, tensor, elements, shape);
  CheckType(name, tensor.dtype, type);
}
void CheckShape(const ConvShape& shape) {
  const Status status = CheckConvShape(shape);
  LYCIA_CHECK(status.ok()) << status.message() << " ";
}
std::int64_t InElements(const ConvShape& s) { return s.N * s.H() * s.W() * s.C; }
std::int64_t OutElements(const ConvShape& s) { return s.N * s.P() * s.Q() * s.K; }
std::int64_t WeightElements(const ConvShape& s) { return s.K * s.R() * s.S() * s.group_C(); }

void CheckWeight(const ConstTensor& weight, const PackedConvWeight& packed, ConvUse use, DType type, const ConvShape& shape) {
  if (packed.data == nullptr) {
    CheckTensor("weight", weight, WeightElements(shape), shape);
    LYCIA_CHECK(weight.dtype == type) << "convolution of " << Name(type) << ": weight is " << Name(weight.dtype) << " ";
    return;
  }
  ConvShape packed_for = packed.shape;
  packed_for.N = shape.N;
  LYCIA_CHECK(packed.dtype == type && packed.use == use && packed_for == shape)
      << "convolution of " << Name(type) << " " << shape.ToString() << ": the weight is packed for " << Name(packed.dtype) << " "
      << packed.shape.ToString() << (packed.use == use ? " " : ", the other direction ");
}

void CopyWeight(const PackConvWeightArgs& args) {
  std::memcpy(args.to.data, args.weight.data, static_cast<std::size_t>(args.weight.bytes()));
}

}  // namespace

void PackConvWeight(Stream& stream, const PackConvWeightArgs& args) {
  CheckImageType("packed weight", args.to.dtype);
  CheckShape(args.to.shape);
  CheckTensor("weight", args.weight, WeightElements(args.to.shape), args.to.shape);
  LYCIA_CHECK(args.weight.dtype == args.to.dtype) << "weight is " << Name(args.weight.dtype) << ", packed " << Name(args.to.dtype) << " ";
  if (args.to.dtype == DType::kF64) return CopyWeight(args);
  if (IsDepthwise(args.to.shape)) return PackConvWeightDepthwise(args);
  PackConvWeightBlocked(SelectedKernel(args.to.dtype), args, *stream.pool());
}

void ConvForward(Stream& stream, const ConvForwardArgs& args) {
  const ConvShape& shape = args.shape;
  const DType type = args.in.dtype;
  CheckImageType("in", type);
  CheckShape(shape);
  CheckTensor("in", args.in, InElements(shape), shape);
  CheckTensor("out", args.out, OutElements(shape), shape);
  CheckType("out", args.out.dtype, type);
  CheckWeight(args.weight, args.packed, ConvUse::kForward, type, shape);
  CheckVector("scale", args.scale, type, shape, shape.K);
  CheckVector("bias", args.bias, type, shape, shape.K);
  CheckVector("residual", args.residual, type, shape, OutElements(shape));
  if (shape.N == 0) return;
  if (type == DType::kF64) return ConvForwardDirect(stream, args);
  if (IsDepthwise(shape)) return ConvForwardDepthwise(stream, args);
  ConvForwardBlocked(SelectedKernel(type), args, *stream.pool());
}

void ConvBackwardInput(Stream& stream, const ConvBackwardInputArgs& args) {
  const ConvShape& shape = args.shape;
  const DType type = args.dout.dtype;
  CheckImageType("dout", type);
  CheckShape(shape);
  CheckTensor("dout", args.dout, OutElements(shape), shape);
  CheckTensor("din", args.din, InElements(shape), shape);
  LYCIA_CHECK(args.din.dtype == type) << "convolution of " << Name(type) << ": din is " << Name(args.din.dtype) << " ";
  CheckWeight(args.weight, args.packed, ConvUse::kBackwardInput, type, shape);
  if (shape.N == 0) return;
  if (type == DType::kF64) return ConvBackwardInputDirect(stream, args);
  if (IsDepthwise(shape)) return ConvBackwardInputDepthwise(stream, args);
  ConvBackwardInputBlocked(SelectedKernel(type), args, *stream.pool());
}

void ConvBackwardWeight(Stream& stream, const ConvBackwardWeightArgs& args) {
  const ConvShape& shape = args.shape;
  const DType type = args.in.dtype;
  CheckImageType("in", type);
  CheckShape(shape);
  CheckTensor("in", args.in, InElements(shape), shape);
  CheckTensor("dout", args.dout, OutElements(shape), shape);
  LYCIA_CHECK(args.dout.dtype == type) << "convolution of " << Name(type) << ": dout is " << Name(args.dout.dtype) << " ";
  CheckTensor("dweight", args.dweight, WeightElements(shape), shape);
  LYCIA_CHECK(args.dweight.dtype == ArithmeticDType(type))
      << "convolution of " << Name(type) << ": dweight is " << Name(args.dweight.dtype) << " ";
  if (args.dbias.data != nullptr) {
    CheckTensor("dbias", args.dbias, shape.K, shape);
    LYCIA_CHECK(args.dbias.dtype == ArithmeticDType(type))
        << "convolution of " << Name(type) << ": dbias is " << Name(args.dbias.dtype) << " ";
  }
  if (shape.N == 0) return;
  if (type == DType::kF64) return ConvBackwardWeightDirect(stream, args);
  if (args.dbias.data != nullptr) {
    cpu::BiasGradient(stream, {.dout = {args.dout.data, type, OutElements(shape) / shape.K, shape.K, shape.K}, .dbias = args.dbias});
  }
  if (IsDepthwise(shape)) return ConvBackwardWeightDepthwise(stream, args);
  ConvBackwardWeightBlocked(SelectedKernel(type), args, *stream.pool());
}

}  // namespace lycia::cpu

namespace lycia {

std::int64_t PackedConvBytes(DType dtype, ConvUse use, const ConvShape& shape) {
  cpu::CheckImageType("packed weight", dtype);
  cpu::CheckShape(shape);
  if (dtype != DType::kF64 && cpu::IsDepthwise(shape)) return cpu::PackedConvBytesDepthwise(shape);
  if (dtype != DType::kF64) return cpu::PackedConvBytesBlocked(cpu::SelectedKernel(dtype), use, shape);
  return shape.K * shape.R() * shape.S() * shape.group_C() * 8;
}

}  // namespace lycia
