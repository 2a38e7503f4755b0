// Matrix products on CUDA through cuBLASLt. Limit: the tensor cores, 4 m n k bytes of nothing else; a stream keeps its handle and, for each
// product it has seen, descriptors and the algorithm that cuBLASLt's heuristic ranks first.
#include "kernels/gemm/gemm_cuda.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "kernels/gemm/blas_library_cuda.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/gemm_cuda_plan.h"
#include "kernels/gemm/gemm_pass_cuda.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

Status BlasStatus(const BlasLibrary& blas, cublasStatus_t status, const char* call, const BlasProduct& p) {
  if (status == CUBLAS_STATUS_SUCCESS) return OkStatus();
  const std::string text = StrCat(call, ": ", blas.cublasLtGetStatusString(status), "; ", p.rows, " x ", p.cols, " x ", p.depth,
                                  " (columns first) of ", Name(p.in), " to ", Name(p.out));
  return status == CUBLAS_STATUS_NOT_SUPPORTED ? absl::UnimplementedError(text) : absl::InternalError(text);
}

cudaDataType_t CudaType(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return CUDA_R_16BF;
    case DType::kF16:
      return CUDA_R_16F;
    case DType::kF64:
      return CUDA_R_64F;
    default:
      return CUDA_R_32F;
  }
}

cublasLtEpilogue_t CudaEpilogue(BlasEpilogue epilogue) {
  switch (epilogue) {
    case BlasEpilogue::kNone:
      return CUBLASLT_EPILOGUE_DEFAULT;
    case BlasEpilogue::kBias:
      return CUBLASLT_EPILOGUE_BIAS;
    case BlasEpilogue::kGelu:
      return CUBLASLT_EPILOGUE_GELU;
    case BlasEpilogue::kGeluBias:
      return CUBLASLT_EPILOGUE_GELU_BIAS;
    case BlasEpilogue::kGeluSaved:
      return CUBLASLT_EPILOGUE_GELU_AUX;
    case BlasEpilogue::kGeluSavedBias:
      return CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    case BlasEpilogue::kGeluSlope:
      return CUBLASLT_EPILOGUE_DGELU;
    case BlasEpilogue::kSumsOfA:
      return CUBLASLT_EPILOGUE_BGRADA;
  }
  return CUBLASLT_EPILOGUE_DEFAULT;
}

// Descriptors and algorithm of one product.
class Plan {
 public:
  explicit Plan(const BlasLibrary& blas) : blas_(blas) {}
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  ~Plan() {
    if (operation_ != nullptr) blas_.cublasLtMatmulDescDestroy(operation_);
    for (cublasLtMatrixLayout_t layout : {a_, b_, add_, d_}) {
      if (layout != nullptr) blas_.cublasLtMatrixLayoutDestroy(layout);
    }
  }

  // Unimplemented: cuBLASLt has no algorithm.
  Status Make(cublasLtHandle_t handle, const BlasProduct& p, const BlasOperands& operands) {
    const cublasComputeType_t compute = p.in == DType::kF64 ? CUBLAS_COMPUTE_64F
                                        : p.tf32            ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                            : CUBLAS_COMPUTE_32F;
    LYCIA_RETURN_IF_ERROR(Checked(blas_.cublasLtMatmulDescCreate(&operation_, compute, p.in == DType::kF64 ? CUDA_R_64F : CUDA_R_32F),
                                  "cublasLtMatmulDescCreate", p));
    const cublasOperation_t op_a = p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, op_b = p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasLtEpilogue_t epilogue = CudaEpilogue(p.epilogue);
    LYCIA_RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_TRANSA, op_a, p));
    LYCIA_RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_TRANSB, op_b, p));
    LYCIA_RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue, p));
    if (operands.aux != nullptr) LYCIA_RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.ld_aux, p));
    LYCIA_RETURN_IF_ERROR(SetPointers(p, operands));  // the heuristic looks at their alignment
    LYCIA_RETURN_IF_ERROR(Layout(&a_, p, p.in, p.transpose_a ? p.depth : p.rows, p.transpose_a ? p.rows : p.depth, p.ld_a));
    LYCIA_RETURN_IF_ERROR(Layout(&b_, p, p.in, p.transpose_b ? p.cols : p.depth, p.transpose_b ? p.depth : p.cols, p.ld_b));
    LYCIA_RETURN_IF_ERROR(Layout(&d_, p, p.out, p.rows, p.cols, p.ld_d));
    // In place both layouts have to be one.
    if (p.add && !p.in_place) LYCIA_RETURN_IF_ERROR(Layout(&add_, p, p.out, p.rows, p.cols, p.ld_add));

    cublasLtMatmulPreference_t preference = nullptr;
    LYCIA_RETURN_IF_ERROR(Checked(blas_.cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate", p));
    const std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, cublasStatus_t (*)(cublasLtMatmulPreference_t)> owner(
        preference, blas_.cublasLtMatmulPreferenceDestroy);
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      return Checked(blas_.cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)), "cublasLtMatmulPreference",
                     p);
    };
    LYCIA_RETURN_IF_ERROR(prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(kBlasWorkspaceBytes)));
    // Sums that are split are added in f32 (f64), not in bf16 or f16.
    LYCIA_RETURN_IF_ERROR(
        prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)));
    LYCIA_RETURN_IF_ERROR(prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, std::uint32_t{p.align_a}));
    LYCIA_RETURN_IF_ERROR(prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, std::uint32_t{p.align_b}));
    LYCIA_RETURN_IF_ERROR(prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, std::uint32_t{p.add ? p.align_add : p.align_d}));
    LYCIA_RETURN_IF_ERROR(prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, std::uint32_t{p.align_d}));
    int found = 0;
    const cublasStatus_t status =
        blas_.cublasLtMatmulAlgoGetHeuristic(handle, operation_, a_, b_, addend_layout(), d_, preference, 1, &choice_, &found);
    // What it calls invalid is, of epilogues, what it does not know.
    const bool unknown = status == CUBLAS_STATUS_INVALID_VALUE && p.epilogue != BlasEpilogue::kNone;
    if (unknown || (status == CUBLAS_STATUS_SUCCESS && found == 0))
      return Checked(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic", p);
    return Checked(status, "cublasLtMatmulAlgoGetHeuristic", p);
  }

  Status Run(cublasLtHandle_t handle, const StreamTarget& target, const BlasProduct& p, const BlasOperands& o) {
    LYCIA_RETURN_IF_ERROR(SetPointers(p, o));
    const float one = 1, zero = 0;
    const double one64 = 1, zero64 = 0;
    const bool f64 = p.in == DType::kF64;
    const void* alpha = f64 ? static_cast<const void*>(&one64) : &one;
    const void* beta = p.add ? alpha : f64 ? static_cast<const void*>(&zero64) : &zero;
    return Checked(blas_.cublasLtMatmul(handle, operation_, alpha, o.a, a_, o.b, b_, beta, p.add ? o.add : o.d, addend_layout(), o.d, d_,
                                        &choice_.algo, target.blas_workspace, choice_.workspaceSize, target.stream),
                   "cublasLtMatmul", p);
  }

 private:
  cublasLtMatrixLayout_t addend_layout() const { return add_ == nullptr ? d_ : add_; }
  Status Checked(cublasStatus_t status, const char* call, const BlasProduct& p) const { return BlasStatus(blas_, status, call, p); }
  template <typename T>
  Status Set(cublasLtMatmulDescAttributes_t attribute, const T& value, const BlasProduct& p) {
    return Checked(blas_.cublasLtMatmulDescSetAttribute(operation_, attribute, &value, sizeof(value)), "cublasLtMatmulDescSetAttribute", p);
  }
  Status SetPointers(const BlasProduct& p, const BlasOperands& o) {
    if (o.bias != nullptr) LYCIA_RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, o.bias, p));
    if (o.aux != nullptr) LYCIA_RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, o.aux, p));
    return OkStatus();
  }
  Status Layout(cublasLtMatrixLayout_t* layout, const BlasProduct& p, DType dtype, std::int64_t rows, std::int64_t cols, std::int64_t ld) {
    return Checked(
        blas_.cublasLtMatrixLayoutCreate(layout, CudaType(dtype), static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(cols), ld),
        "cublasLtMatrixLayoutCreate", p);
  }

  const BlasLibrary& blas_;
  cublasLtMatmulDesc_t operation_ = nullptr;
  cublasLtMatrixLayout_t a_ = nullptr, b_ = nullptr, add_ = nullptr, d_ = nullptr;
  cublasLtMatmulHeuristicResult_t choice_{};
};

// What a stream keeps: a plan, or that there is none.
class BlasState {
 public:
  ~BlasState() {
    plans_.clear();
    if (handle_ != nullptr) blas_->cublasLtDestroy(handle_);
  }
  Status Create() {
    LYCIA_ASSIGN_OR_RETURN(blas_, OpenBlasLibrary());
    return BlasStatus(*blas_, blas_->cublasLtCreate(&handle_), "cublasLtCreate", {});
  }

  // nullptr: cuBLASLt has no algorithm.
  StatusOr<Plan*> Find(const BlasProduct& product, const BlasOperands& operands) {
    const auto found = plans_.find(product);
    if (found != plans_.end()) return found->second.get();
    auto plan = std::make_unique<Plan>(*blas_);
    const Status status = plan->Make(handle_, product, operands);
    if (status.code() == absl::StatusCode::kUnimplemented) {
      plan = nullptr;
    } else if (!status.ok()) {
      return status;
    }
    return plans_.emplace(product, std::move(plan)).first->second.get();
  }
  cublasLtHandle_t handle() const { return handle_; }
  std::int64_t size() const { return static_cast<std::int64_t>(plans_.size()); }

 private:
  const BlasLibrary* blas_ = nullptr;
  cublasLtHandle_t handle_ = nullptr;
  absl::flat_hash_map<BlasProduct, std::unique_ptr<Plan>> plans_;
};

StatusOr<BlasState*> StateOf(Stream& stream) {
  std::shared_ptr<void>& kept = GemmStateOf(stream);
  if (kept == nullptr) {
    auto state = std::make_shared<BlasState>();
    LYCIA_RETURN_IF_ERROR(state->Create());
    kept = std::move(state);
  }
  return static_cast<BlasState*>(kept.get());
}

Status RunProduct(BlasState& state, const StreamTarget& target, const GemmPlan& plan) {
  LYCIA_ASSIGN_OR_RETURN(Plan * found, state.Find(plan.product, plan.operands));
  if (found == nullptr) {
    const BlasProduct& p = plan.product;
    return absl::UnimplementedError(StrCat("cuBLASLt has no algorithm for ", p.rows, " x ", p.cols, " x ", p.depth, " of ", Name(p.in),
                                           " to ", Name(p.out), " with leading dimensions ", p.ld_a, ", ", p.ld_b, ", ", p.ld_d,
                                           "; make the sizes multiples of 8"));
  }
  return found->Run(state.handle(), target, plan.product, plan.operands);
}

// The sums of b's columns, which a product has left in scratch, or of b itself.
void AddSums(Stream& stream, const StreamTarget& target, const GemmArgs& args, bool in_scratch) {
  const std::int64_t n = args.c.cols;
  cuda::BiasGradient(stream,
                     {.dout = in_scratch ? ConstMatrix(target.kernel_workspace, DType::kF32, 1, n, n) : args.b, .dbias = args.b_sums});
}

Status RunGemm(Stream& stream, const StreamTarget& target, const GemmArgs& args) {
  LYCIA_ASSIGN_OR_RETURN(BlasState * state, StateOf(stream));
  GemmPlan plan = PlanGemm(args, true);
  if (plan.sums_b) {
    plan.operands.bias = target.kernel_workspace;
    LYCIA_ASSIGN_OR_RETURN(Plan * summing, state->Find(plan.product, plan.operands));
    if (summing != nullptr) {
      LYCIA_RETURN_IF_ERROR(summing->Run(state->handle(), target, plan.product, plan.operands));
      AddSums(stream, target, args, /*in_scratch=*/true);
      return OkStatus();
    }
    GemmArgs without = args;
    without.b_sums = {};
    plan = PlanGemm(without, true);
  }
  if (args.b_sums.data != nullptr) AddSums(stream, target, args, /*in_scratch=*/false);
  if (!plan.pass) {
    LYCIA_ASSIGN_OR_RETURN(Plan * fused, state->Find(plan.product, plan.operands));
    if (fused != nullptr) return fused->Run(state->handle(), target, plan.product, plan.operands);
    if (plan.product.epilogue == BlasEpilogue::kNone && plan.operands.add == nullptr) return RunProduct(*state, target, plan);
    plan = PlanGemm(args, false);
  }
  const bool empty = plan.product.depth == 0;
  if (!plan.in_strips) {
    if (!empty) LYCIA_RETURN_IF_ERROR(RunProduct(*state, target, plan));
    GemmPass(stream, {.product = empty && !args.accumulate ? ConstMatrix() : ConstMatrix(args.c), .args = args, .count = args.c.rows});
    return OkStatus();
  }
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t rows, RowsOfStrip(args.c.rows, args.c.cols, kKernelWorkspaceBytes));
  for (std::int64_t first = 0; first < args.c.rows; first += rows) {
    const std::int64_t count = std::min(rows, args.c.rows - first);
    if (!empty) LYCIA_RETURN_IF_ERROR(RunProduct(*state, target, plan.Strip(args, first, count, target.kernel_workspace)));
    GemmPass(stream, {.product = {empty ? nullptr : target.kernel_workspace, DType::kF32, count, args.c.cols, args.c.cols},
                      .args = args,
                      .first = first,
                      .count = count,
                      .add_c = args.accumulate});
  }
  return OkStatus();
}

}  // namespace

void Gemm(Stream& stream, const GemmArgs& args) {
  const StreamTarget target = TargetOf(stream);
  if (!stream.ok() || args.c.cols == 0) return;
  if (args.c.rows == 0) {
    if (args.b_sums.data != nullptr) AddSums(stream, target, args, /*in_scratch=*/false);
    return;
  }
  GemmArgs chosen = args;
  chosen.tf32 |= target.tf32;
  stream.Fail(RunGemm(stream, target, chosen));
}

std::int64_t NumGemmPlans(Stream& stream) {
  const std::shared_ptr<void>& kept = GemmStateOf(stream);
  return kept == nullptr ? 0 : static_cast<BlasState*>(kept.get())->size();
}

}  // namespace lycia::cuda
