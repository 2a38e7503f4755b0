#include "kernels/reuse/mapped_conv_cuda.h"

#include "kernels/conv/conv_plain.h"
#include "kernels/reuse/mapped_conv_strips.h"
#include "kernels/reuse/patch_check.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

bool Taken(Stream& stream, const char* kernel, const ConvShape& shape) {
  const char* reason = RejectConvPlain(shape);
  if (reason == nullptr) return true;
  stream.Fail(InvalidArgument(kernel, " of ", shape.ToString(), " on CUDA: ", reason));
  return false;
}

}  // namespace

void MappedConvForward(Stream& stream, const MappedConvForwardArgs& args) {
  constexpr const char* kKernel = "MappedConvForward";
  MappedConvForwardArgs read = args;
  read.packed = {};
  if (!ArePatches(stream, kKernel, args.map, args.shape, args.in)) return;
  CheckMappedConvForward(read);
  if (args.map.extent == 0 || !Taken(stream, kKernel, args.shape)) return;
  const StreamTarget target = TargetOf(stream);
  if (target.capability == kHopperCapability && RejectForwardStrips(read, target.kernel_workspace, kKernelWorkspaceBytes) == nullptr) {
    return MappedConvForwardByStrips(stream, read, PatchesOfStrip(args.shape, SizeOf(args.in.dtype), kKernelWorkspaceBytes));
  }
  MappedConvForwardPlain(stream, read);
}

void MappedConvBackwardWeight(Stream& stream, const MappedConvBackwardWeightArgs& args) {
  constexpr const char* kKernel = "MappedConvBackwardWeight";
  if (!ArePatches(stream, kKernel, args.map, args.shape, args.in)) return;
  CheckMappedConvBackwardWeight(args);
  if (args.map.extent == 0 || !Taken(stream, kKernel, args.shape)) return;
  const StreamTarget target = TargetOf(stream);
  if (target.capability == kHopperCapability &&
      RejectBackwardWeightStrips(args, target.kernel_workspace, kKernelWorkspaceBytes) == nullptr) {
    return MappedConvBackwardWeightByStrips(stream, args, PatchesOfStrip(args.shape, SizeOf(args.in.dtype), kKernelWorkspaceBytes));
  }
  MappedConvBackwardWeightPlain(stream, args);
}

}  // namespace lycia::cuda
