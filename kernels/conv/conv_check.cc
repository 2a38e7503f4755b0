#include "kernels/conv/conv_check.h"

namespace lycia {
namespace {

void CheckTensor(const char* name, const ConstTensor& tensor, std::int64_t elements, const ConvShape& shape) {
  LYCIA_CHECK(tensor.elements() == elements) << "convolution " << shape.ToString() << ": " << name << " has " << tensor.elements()
                                             << " elements, not " << elements << " ";
}
void CheckImageType(const char* name, DType type) {
  LYCIA_CHECK(type == DType::kF32 || type == DType::kBF16 || type == DType::kF16 || type == DType::kF64)
      << "convolution: " << name << " is " << Name(type) << ", which is none of bf16, f16, f32 and f64 ";
}
// Beside operands of `type`; f32 may stand beside bf16 and f16.
void CheckType(const char* name, DType dtype, DType type) {
  LYCIA_CHECK(dtype == type || dtype == ArithmeticDType(type))
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

}  // namespace

void CheckConvToPack(DType dtype, const ConvShape& shape) {
  CheckImageType("packed weight", dtype);
  CheckShape(shape);
}

void CheckPackConvWeight(const PackConvWeightArgs& args) {
  CheckConvToPack(args.to.dtype, args.to.shape);
  CheckTensor("weight", args.weight, WeightElements(args.to.shape), args.to.shape);
  LYCIA_CHECK(args.weight.dtype == args.to.dtype) << "weight is " << Name(args.weight.dtype) << ", packed " << Name(args.to.dtype) << " ";
}

void CheckConvForward(const ConvForwardArgs& args) {
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
}

void CheckConvBackwardInput(const ConvBackwardInputArgs& args) {
  const ConvShape& shape = args.shape;
  const DType type = args.dout.dtype;
  CheckImageType("dout", type);
  CheckShape(shape);
  CheckTensor("dout", args.dout, OutElements(shape), shape);
  CheckTensor("din", args.din, InElements(shape), shape);
  LYCIA_CHECK(args.din.dtype == type) << "convolution of " << Name(type) << ": din is " << Name(args.din.dtype) << " ";
  CheckWeight(args.weight, args.packed, ConvUse::kBackwardInput, type, shape);
}

void CheckConvBackwardWeight(const ConvBackwardWeightArgs& args) {
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
}

}  // namespace lycia
