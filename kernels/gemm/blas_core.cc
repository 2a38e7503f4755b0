#include "kernels/gemm/blas_core.h"

#include <cblas.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace lycia {
namespace {

constexpr std::string_view kCoreVariable = "OPENBLAS_CORETYPE=";
constexpr std::string_view kThreadsVariable = "OPENBLAS_NUM_THREADS=";
constexpr std::string_view kGuard = "LYCIA_BLAS_ENVIRONMENT=";

bool Has(const std::vector<std::string>& environment, std::string_view variable) {
  for (const std::string& entry : environment) {
    if (std::string_view(entry).substr(0, variable.size()) == variable) return true;
  }
  return false;
}

}  // namespace

CpuFeatures ThisCpu() {
  __builtin_cpu_init();
  return {.avx2 = __builtin_cpu_supports("avx2") != 0,
          .fma = __builtin_cpu_supports("fma") != 0,
          .avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")};
}

std::string_view BlasCoreFor(const CpuFeatures& features) {
  if (features.avx512) return "SkylakeX";
  return features.avx2 && features.fma ? "Haswell" : "";
}

std::vector<std::string> BlasEnvironment(const std::vector<std::string>& environment, const CpuFeatures& features) {
  if (Has(environment, kGuard)) return {};
  const std::string_view core = BlasCoreFor(features);
  std::vector<std::string> wanted = environment;
  if (!core.empty() && !Has(environment, kCoreVariable)) wanted.push_back(StrCat(kCoreVariable, core));
  if (!Has(environment, kThreadsVariable)) wanted.push_back(StrCat(kThreadsVariable, 1));
  if (wanted.size() == environment.size()) return {};
  wanted.push_back(StrCat(kGuard, 1));
  return wanted;
}

Status EnsureBlasEnvironment(char** argv, char** environment) {
  std::vector<std::string> now;
  for (char** entry = environment; *entry != nullptr; ++entry) now.emplace_back(*entry);
  std::vector<std::string> wanted = BlasEnvironment(now, ThisCpu());
  if (wanted.empty()) return OkStatus();
  std::vector<char*> pointers;
  for (std::string& entry : wanted) pointers.push_back(entry.data());
  pointers.push_back(nullptr);
  execve("/proc/self/exe", argv, pointers.data());
  return absl::InternalError(StrCat("cannot start the program anew with ", wanted[wanted.size() - 2], ": ", std::strerror(errno),
                                    "; set OPENBLAS_CORETYPE=", BlasCoreFor(ThisCpu()), " and OPENBLAS_NUM_THREADS=1 yourself"));
}

BlasDescription DescribeBlas() {
  return {.core = openblas_get_corename(),
          .config = openblas_get_config(),
          .advised = std::string(BlasCoreFor(ThisCpu())),
          .threads = openblas_get_num_threads()};
}

}  // namespace lycia
