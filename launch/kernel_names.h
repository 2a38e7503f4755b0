#ifndef LYCIA_LAUNCH_KERNEL_NAMES_H_
#define LYCIA_LAUNCH_KERNEL_NAMES_H_

#include <string>

#include "runtime/core/dtype.h"

namespace lycia {

// Which kernels this processor runs a model of a type with.
struct KernelNames {
  std::string products;  // matrix products: "avx512_bf16"; of f64 "BLAS"
  std::string others;    // "AVX-512": the widest instructions of the other kernels
};
KernelNames KernelsFor(DType dtype);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_KERNEL_NAMES_H_
