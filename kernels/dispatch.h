// Where a kernel call meets its device. A kernel is a free function on a stream:
//
//   inline void Gelu(Stream& stream, const GeluArgs& args) {
//     DispatchCpuOnly(stream, "Gelu", [&] { cpu::Gelu(stream, args); });
//   }
//
// On a stream that has failed, and on kShape, nothing happens. Where a header says bf16, CUDA's version takes f16 by the same rules; the
// CPU's does not.
#ifndef LYCIA_KERNELS_DISPATCH_H_
#define LYCIA_KERNELS_DISPATCH_H_

#include <string_view>

#include "bazel/build_config.h"
#include "runtime/device/device.h"

namespace lycia {

// `cuda` is compiled always, but needed by the linker only in builds with CUDA.
template <typename Cpu, typename Cuda>
void Dispatch(Stream& stream, const Cpu& cpu, const Cuda& cuda) {
  if (!stream.ok()) return;
  if (stream.kind() == DeviceKind::kCpu) cpu();
  if constexpr (kCudaEnabled) {
    if (stream.kind() == DeviceKind::kCuda) cuda();
  }
}

// For a kernel without a CUDA version: Unimplemented on kCuda.
template <typename Cpu>
void DispatchCpuOnly(Stream& stream, std::string_view kernel, const Cpu& cpu) {
  Dispatch(stream, cpu,
           [&] { stream.Fail(absl::UnimplementedError(StrCat("kernel ", kernel, " has no CUDA version; train with device = \"cpu\""))); });
}

}  // namespace lycia

#endif  // LYCIA_KERNELS_DISPATCH_H_
