#include "kernels/gemm/testing/fake_cuda_blas.h"

#include <cublasLt.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/activation/gelu_ref.h"
#include "kernels/gemm/blas_library_cuda.h"
#include "runtime/core/dtype.h"
#include "runtime/device/testing/fake_cuda.h"

namespace {

bool refuse_epilogues = false;
int num_products = 0, num_with_epilogue = 0;

struct Operation {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  cublasOperation_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  void* aux = nullptr;
  std::int64_t aux_ld = 0;
};
struct Layout {
  cudaDataType_t type;
  std::int64_t rows, cols, ld;
};
struct Preference {
  std::uint64_t workspace = 0;
  std::uint32_t align_a = 256, align_b = 256, align_c = 256, align_d = 256;
};
// What the heuristic's answer promises to fit.
struct Algorithm {
  std::uint32_t align_a, align_b, align_c, align_d;
  std::int64_t rows, cols, depth;
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

double Get(const void* data, cudaDataType_t type, std::int64_t i) {
  if (type == CUDA_R_64F) return static_cast<const double*>(data)[i];
  if (type == CUDA_R_32F) return static_cast<const float*>(data)[i];
  if (type == CUDA_R_16F) return static_cast<const lycia::Float16*>(data)[i];
  return static_cast<const lycia::BFloat16*>(data)[i];
}
void Put(void* data, cudaDataType_t type, std::int64_t i, double value) {
  if (type == CUDA_R_64F) {
    static_cast<double*>(data)[i] = value;
  } else if (type == CUDA_R_32F) {
    static_cast<float*>(data)[i] = static_cast<float>(value);
  } else if (type == CUDA_R_16F) {
    static_cast<lycia::Float16*>(data)[i] = lycia::Float16(static_cast<float>(value));
  } else {
    static_cast<lycia::BFloat16*>(data)[i] = lycia::BFloat16(static_cast<float>(value));
  }
}

// An operand's element as the tensor cores of `o` read it: of TF32 10 bits of fraction remain, rounded to the nearest.
double Read(const Operation& o, const void* data, cudaDataType_t type, std::int64_t i) {
  const double value = Get(data, type, i);
  if (o.compute != CUBLAS_COMPUTE_32F_FAST_TF32 || type != CUDA_R_32F || !std::isfinite(value)) return value;
  int exponent = 0;
  const double fraction = std::frexp(value, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(fraction, 11)), exponent - 11);
}

bool Has(cublasLtEpilogue_t epilogue, int bits) { return (static_cast<int>(epilogue) & bits) == bits; }
// The bits of cublasLtEpilogue_t.
constexpr int kBiasBit = 4, kGeluBit = 32, kSlopeBit = 64, kAuxBit = 128;
bool SumsA(const Operation& o) { return o.epilogue == CUBLASLT_EPILOGUE_BGRADA; }

bool Aligned(const void* p, std::uint32_t bytes) { return reinterpret_cast<std::uintptr_t>(p) % bytes == 0; }

// Everything that a call must keep, in the words of cublasLtMatmul's documentation.
bool Fits(const Operation& o, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
  const std::int64_t rows = o.transpose_a == CUBLAS_OP_N ? a.rows : a.cols, depth = o.transpose_a == CUBLAS_OP_N ? a.cols : a.rows;
  const std::int64_t depth_b = o.transpose_b == CUBLAS_OP_N ? b.rows : b.cols, cols = o.transpose_b == CUBLAS_OP_N ? b.cols : b.rows;
  if (rows != d.rows || cols != d.cols || depth != depth_b || c.rows != d.rows || c.cols != d.cols) return false;
  for (const Layout* l : {&a, &b, &c, &d}) {
    if (l->rows < 1 || l->cols < 1 || l->ld < l->rows) return false;
  }
  if (a.type != b.type || c.type != d.type) return false;
  const bool f64 = a.type == CUDA_R_64F;
  if (f64 != (o.compute == CUBLAS_COMPUTE_64F) || f64 != (o.scale == CUDA_R_64F) || f64 != (d.type == CUDA_R_64F)) return false;
  if (a.type == CUDA_R_32F && d.type != CUDA_R_32F) return false;
  if (f64 && o.epilogue != CUBLASLT_EPILOGUE_DEFAULT) return false;
  if ((Has(o.epilogue, kBiasBit) || SumsA(o)) != (o.bias != nullptr) || Has(o.epilogue, kAuxBit) != (o.aux != nullptr)) return false;
  if (o.aux != nullptr && (o.aux_ld < d.rows || o.aux_ld % 8 != 0 || !Aligned(o.aux, 16))) return false;
  return true;
}

void Multiply(const Operation& o, double alpha, const void* a, const Layout& la, const void* b, const Layout& lb, double beta,
              const void* c, const Layout& lc, void* d, const Layout& ld) {
  const std::int64_t depth = o.transpose_a == CUBLAS_OP_N ? la.cols : la.rows;
  for (std::int64_t i = 0; SumsA(o) && i < ld.rows; ++i) {  // stored, not added
    double sum = 0;
    for (std::int64_t k = 0; k < depth; ++k) sum += Get(a, la.type, o.transpose_a == CUBLAS_OP_N ? i + k * la.ld : k + i * la.ld);
    Put(const_cast<void*>(o.bias), ld.type, i, sum);
  }
  for (std::int64_t j = 0; j < ld.cols; ++j) {
    for (std::int64_t i = 0; i < ld.rows; ++i) {
      double sum = 0;
      for (std::int64_t k = 0; k < depth; ++k) {
        sum += Read(o, a, la.type, o.transpose_a == CUBLAS_OP_N ? i + k * la.ld : k + i * la.ld) *
               Read(o, b, lb.type, o.transpose_b == CUBLAS_OP_N ? k + j * lb.ld : j + k * lb.ld);
      }
      sum *= alpha;
      if (beta != 0) sum += beta * Get(c, lc.type, i + j * lc.ld);
      if (Has(o.epilogue, kBiasBit)) sum += Get(o.bias, ld.type, i);
      if (Has(o.epilogue, kGeluBit)) {
        if (Has(o.epilogue, kAuxBit)) Put(o.aux, ld.type, i + j * o.aux_ld, sum);
        sum = lycia::reference::Gelu(sum);
      } else if (Has(o.epilogue, kSlopeBit)) {
        sum *= lycia::reference::GeluSlope(Get(o.aux, ld.type, i + j * o.aux_ld));
      }
      Put(d, ld.type, i + j * ld.ld, sum);
    }
  }
}

Operation& Of(cublasLtMatmulDesc_t p) { return *reinterpret_cast<Operation*>(p); }
Layout& Of(cublasLtMatrixLayout_t p) { return *reinterpret_cast<Layout*>(p); }

template <typename T>
cublasStatus_t Take(T& to, const void* from, std::size_t bytes) {
  if (bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&to, from, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

namespace lycia::fake_cuda {

void RefuseEpilogues(bool refuse) { refuse_epilogues = refuse; }
int NumProducts() { return num_products; }
int NumProductsWithEpilogue() { return num_with_epilogue; }

}  // namespace lycia::fake_cuda

extern "C" {

const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED" : "CUBLAS_STATUS_FAKE";
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = reinterpret_cast<cublasLtHandle_t>(new int(0));
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete reinterpret_cast<int*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t compute, cudaDataType_t scale) {
  *operation = reinterpret_cast<cublasLtMatmulDesc_t>(new Operation{.compute = compute, .scale = scale});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  delete &Of(operation);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              std::size_t bytes) {
  Operation& o = Of(operation);
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return Take(o.transpose_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return Take(o.transpose_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return Take(o.epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return Take(o.bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      return Take(o.aux, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
      return Take(o.aux_ld, value, bytes);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, std::uint64_t rows, std::uint64_t cols,
                                          std::int64_t ld) {
  *layout =
      reinterpret_cast<cublasLtMatrixLayout_t>(new Layout{type, static_cast<std::int64_t>(rows), static_cast<std::int64_t>(cols), ld});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete &Of(layout);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete reinterpret_cast<Preference*>(preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, std::size_t bytes) {
  auto& p = *reinterpret_cast<Preference*>(preference);
  std::uint32_t mask = 0;
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return Take(p.workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return Take(mask, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return Take(p.align_a, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return Take(p.align_b, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return Take(p.align_c, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return Take(p.align_d, value, bytes);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int, cublasLtMatmulHeuristicResult_t results[],
                                              int* found) {
  *found = 0;
  const Operation& o = Of(operation);
  const auto& p = *reinterpret_cast<Preference*>(preference);
  if (!Fits(o, Of(a), Of(b), Of(c), Of(d))) return CUBLAS_STATUS_INVALID_VALUE;
  if (refuse_epilogues && o.epilogue != CUBLASLT_EPILOGUE_DEFAULT) return CUBLAS_STATUS_NOT_SUPPORTED;
  *found = 1;
  const Algorithm algorithm{
      p.align_a, p.align_b, p.align_c, p.align_d, Of(d).rows, Of(d).cols, o.transpose_a == CUBLAS_OP_N ? Of(a).cols : Of(a).rows};
  std::memcpy(&results[0].algo, &algorithm, sizeof(algorithm));
  results[0].workspaceSize = p.workspace / 2;
  results[0].state = CUBLAS_STATUS_SUCCESS;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void* alpha, const void* a, cublasLtMatrixLayout_t la,
                              const void* b, cublasLtMatrixLayout_t lb, const void* beta, const void* c, cublasLtMatrixLayout_t lc, void* d,
                              cublasLtMatrixLayout_t ld, const cublasLtMatmulAlgo_t* algo, void* workspace, std::size_t workspace_bytes,
                              cudaStream_t stream) {
  const Operation o = Of(operation);
  Algorithm algorithm;
  std::memcpy(&algorithm, algo, sizeof(algorithm));
  if (!Fits(o, Of(la), Of(lb), Of(lc), Of(ld)) || algorithm.rows != Of(ld).rows || algorithm.cols != Of(ld).cols)
    return CUBLAS_STATUS_INVALID_VALUE;
  if (!Aligned(a, algorithm.align_a) || !Aligned(b, algorithm.align_b) || !Aligned(c, algorithm.align_c) || !Aligned(d, algorithm.align_d))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (c == d && &Of(lc) != &Of(ld)) return CUBLAS_STATUS_INVALID_VALUE;  // in place: one layout
  if (workspace == nullptr || !Aligned(workspace, 256) || workspace_bytes == 0) return CUBLAS_STATUS_INVALID_VALUE;
  const bool f64 = o.scale == CUDA_R_64F;
  const double by = f64 ? *static_cast<const double*>(alpha) : *static_cast<const float*>(alpha);
  const double add = f64 ? *static_cast<const double*>(beta) : *static_cast<const float*>(beta);
  ++num_products;
  num_with_epilogue += o.epilogue != CUBLASLT_EPILOGUE_DEFAULT;
  const auto run = [=, la = Of(la), lb = Of(lb), lc = Of(lc), ld = Of(ld)] {
    std::memset(workspace, 0xff, workspace_bytes / 1024);
    Multiply(o, by, a, la, b, lb, add, c, lc, d, ld);
  };
  return lycia::fake_cuda::EnqueueHostWork(stream, run) == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // extern "C"

namespace lycia {

StatusOr<const cuda::BlasLibrary*> cuda::OpenBlasLibrary() {
  static const BlasLibrary library = {
#define LYCIA_BLAS_TAKE(name) .name = ::name,
      LYCIA_BLAS_FUNCTIONS(LYCIA_BLAS_TAKE)
#undef LYCIA_BLAS_TAKE
  };
  return &library;
}

}  // namespace lycia
