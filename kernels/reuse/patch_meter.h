// What a convolution loses by computing the first patch of each cluster for all of its patches.
#ifndef LYCIA_KERNELS_REUSE_PATCH_METER_H_
#define LYCIA_KERNELS_REUSE_PATCH_METER_H_

#include "kernels/conv/conv_shape.h"
#include "kernels/dispatch.h"
#include "kernels/reuse/gather.h"
#include "kernels/reuse/index_map.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

// squares = sum over patches of |x|^2, error_squares = that of |x - representative|^2, in f64, in an order of their own: the same bits for
// any number of threads.
struct MeasurePatchesArgs {
  IndexMap map;  // a partition of N P Q patches
  ConvShape shape;
  ConstTensor in;               // [N, H, W, C] f32, bf16 or f64
  ReuseMeter* meter = nullptr;  // on the device, =
  void* workspace = nullptr;    // MeasurePatchesBytes
};
std::int64_t MeasurePatchesBytes(const ConvShape& shape);

namespace cpu {
void MeasurePatches(Stream& stream, const MeasurePatchesArgs& args);
}  // namespace cpu

inline void MeasurePatches(Stream& stream, const MeasurePatchesArgs& args) {
  DispatchCpuOnly(stream, "MeasurePatches", [&] { cpu::MeasurePatches(stream, args); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_REUSE_PATCH_METER_H_
