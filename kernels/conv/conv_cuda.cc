// Convolutions on CUDA: checks, then the kernels that take the shape: Hopper's, else the plain ones.
#include "kernels/conv/conv.h"
#include "kernels/conv/conv_check.h"
#include "kernels/conv/conv_hopper_cuda.h"
#include "kernels/conv/conv_plain.h"
#include "kernels/conv/conv_plain_cuda.h"
#include "kernels/gemm/gemm.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

// Fails the stream and returns false where no kernel takes the shape.
bool Taken(Stream& stream, const char* call, const ConvShape& shape) {
  const char* reason = RejectConvPlain(shape);
  if (reason == nullptr) return true;
  stream.Fail(InvalidArgument(call, " of ", shape.ToString(), " on CUDA: ", reason));
  return false;
}

bool OnHopper(Stream& stream) { return TargetOf(stream).capability == kHopperCapability; }

}  // namespace

void PackConvWeight(Stream&, const PackConvWeightArgs& args) { CheckConvToPack(args.to.dtype, args.to.shape); }

void ConvForward(Stream& stream, const ConvForwardArgs& args) {
  ConvForwardArgs read = args;
  read.packed = {};
  CheckConvForward(read);
  if (args.shape.N == 0 || !Taken(stream, "ConvForward", args.shape)) return;
  if (!OnHopper(stream) || !ConvForwardHopper(stream, read)) ConvForwardPlain(stream, read);
}

void ConvBackwardInput(Stream& stream, const ConvBackwardInputArgs& args) {
  ConvBackwardInputArgs read = args;
  read.packed = {};
  CheckConvBackwardInput(read);
  if (args.shape.N == 0 || !Taken(stream, "ConvBackwardInput", args.shape)) return;
  if (!OnHopper(stream) || !ConvBackwardInputHopper(stream, read)) ConvBackwardInputPlain(stream, read);
}

void ConvBackwardWeight(Stream& stream, const ConvBackwardWeightArgs& args) {
  CheckConvBackwardWeight(args);
  const ConvShape& s = args.shape;
  if (s.N == 0 || !Taken(stream, "ConvBackwardWeight", s)) return;
  if (args.dbias.data != nullptr) {
    cuda::BiasGradient(stream, {.dout = {args.dout.data, args.dout.dtype, s.N * s.P() * s.Q(), s.K, s.K}, .dbias = args.dbias});
  }
  if (!OnHopper(stream) || !ConvBackwardWeightHopper(stream, args)) ConvBackwardWeightPlain(stream, args);
}

}  // namespace lycia::cuda
