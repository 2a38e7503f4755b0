// Compute capabilities of CUDA devices, as 10 major + minor.
#ifndef LYCIA_RUNTIME_DEVICE_COMPUTE_CAPABILITY_H_
#define LYCIA_RUNTIME_DEVICE_COMPUTE_CAPABILITY_H_

namespace lycia::cuda {

// Every kernel has a path that runs from here on (A100).
inline constexpr int kOldestCapability = 80;
// Kernels named after Hopper use instructions that no other chip has, before or after it: they are compiled for it alone (hopper_srcs of
// bazel/lycia.bzl) and launched on it alone.
inline constexpr int kHopperCapability = 90;

}  // namespace lycia::cuda

#endif  // LYCIA_RUNTIME_DEVICE_COMPUTE_CAPABILITY_H_
