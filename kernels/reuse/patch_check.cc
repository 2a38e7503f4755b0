#include "kernels/reuse/patch_check.h"

#include "kernels/reuse/build_index_map.h"
#include "runtime/core/check.h"

namespace lycia {
namespace {

std::int64_t Aligned(std::int64_t bytes) { return (bytes + 63) / 64 * 64; }

// What stands beside sums of operands of `type`.
bool Beside(DType type, DType dtype) { return dtype == type || dtype == ArithmeticDType(type); }

void CheckVector(const char* name, const ConstTensor& vector, const ConvShape& s, DType type) {
  LYCIA_CHECK(vector.data == nullptr || (vector.elements() == s.K && Beside(type, vector.dtype)))
      << name << " is " << vector.elements() << " numbers of " << Name(vector.dtype) << " for K = " << s.K << " of " << Name(type) << " ";
}

}  // namespace

bool ArePatches(Stream& stream, const char* kernel, const IndexMap& map, const ConvShape& shape, const ConstTensor& in) {
  if (!IsPartitionOfRows(stream, map, kernel)) return false;
  const Status status = CheckConvShape(shape);
  LYCIA_CHECK(status.ok()) << status.message() << " ";
  if (shape.groups != 1) {
    stream.Fail(absl::UnavailableError(StrCat(kernel, ": convolution ", shape.ToString(), " has ", shape.groups,
                                              " groups, whose patches differ; use the dense convolution")));
    return false;
  }
  LYCIA_CHECK_EQ(in.elements(), shape.N * shape.H() * shape.W() * shape.C);
  LYCIA_CHECK_EQ(map.extent, shape.N * shape.P() * shape.Q());
  const bool on_cuda = stream.kind() == DeviceKind::kCuda;
  LYCIA_CHECK(in.dtype == DType::kF32 || in.dtype == DType::kBF16 || in.dtype == DType::kF64 || (on_cuda && in.dtype == DType::kF16))
      << "in is " << Name(in.dtype) << " ";
  return true;
}

void CheckMappedConvForward(const MappedConvForwardArgs& args) {
  const ConvShape& s = args.shape;
  const DType type = args.in.dtype;
  LYCIA_CHECK(args.c.cols == s.K && args.c.ld >= s.K && Beside(type, args.c.dtype))
      << "c is " << Name(args.c.dtype) << " [" << args.c.rows << ", " << args.c.cols << "] ";
  CheckVector("scale", args.scale, s, type);
  CheckVector("bias", args.bias, s, type);
  ConvShape packed_for = args.packed.shape;
  packed_for.N = s.N;
  LYCIA_CHECK(args.packed.data != nullptr ? args.packed.use == ConvUse::kForward && args.packed.dtype == type && packed_for == s
                                          : args.weight.dtype == type && args.weight.elements() == s.K * s.R() * s.S() * s.C)
      << "the weight is not one of " << Name(type) << " " << s.ToString() << " ";
}

void CheckMappedConvBackwardWeight(const MappedConvBackwardWeightArgs& args) {
  const ConvShape& s = args.shape;
  const DType type = args.in.dtype;
  LYCIA_CHECK(args.sums.cols == s.K && args.sums.ld >= s.K && args.sums.dtype == type)
      << "sums are " << Name(args.sums.dtype) << " [" << args.sums.rows << ", " << args.sums.cols << "] ";
  LYCIA_CHECK(args.dweight.elements() == s.K * s.R() * s.S() * s.C && args.dweight.dtype == ArithmeticDType(type))
      << "dweight is " << args.dweight.spec().ToString() << " ";
}

std::int64_t PatchZerosBytes(DType dtype, const ConvShape& shape) { return Aligned(shape.C * SizeOf(dtype)); }

std::int64_t PatchPlaneBytes(DType dtype, const ConvShape& shape) {
  return PatchZerosBytes(dtype, shape) + Aligned((shape.N * shape.H() * shape.W() + 1) * 8);
}

}  // namespace lycia
