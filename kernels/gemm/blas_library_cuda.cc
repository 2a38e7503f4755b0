#include "kernels/gemm/blas_library_cuda.h"

#include <dlfcn.h>

#include <string>

namespace lycia::cuda {
namespace {

#define LYCIA_TEXT_(x) #x
#define LYCIA_TEXT(x) LYCIA_TEXT_(x)
constexpr char kName[] = "libcublasLt.so." LYCIA_TEXT(CUBLAS_VER_MAJOR);
constexpr char kToolkit[] = "/usr/local/cuda/lib64/libcublasLt.so." LYCIA_TEXT(CUBLAS_VER_MAJOR);

StatusOr<const BlasLibrary*> Open() {
  void* handle = dlopen(kName, RTLD_NOW | RTLD_LOCAL);
  std::string words = handle == nullptr ? dlerror() : "";
  if (handle == nullptr) handle = dlopen(kToolkit, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr)
    return absl::UnavailableError(StrCat("no cuBLASLt: ", words, "; install CUDA's libraries, or name their folder in LD_LIBRARY_PATH"));
  static BlasLibrary library;
#define LYCIA_BLAS_LOAD(name)                                               \
  library.name = reinterpret_cast<decltype(&::name)>(dlsym(handle, #name)); \
  if (library.name == nullptr) return absl::UnavailableError(StrCat(kName, " has no " #name, "; use CUDA 12 or newer"));
  LYCIA_BLAS_FUNCTIONS(LYCIA_BLAS_LOAD)
#undef LYCIA_BLAS_LOAD
  return &library;
}

}  // namespace

StatusOr<const BlasLibrary*> OpenBlasLibrary() {
  static const StatusOr<const BlasLibrary*> library = Open();
  return library;
}

}  // namespace lycia::cuda
