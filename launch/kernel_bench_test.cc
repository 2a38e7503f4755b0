#include "launch/kernel_bench.h"

#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/gemm/gemm_kernels.h"
#include "nlohmann/json.hpp"

namespace lycia {
namespace {

KernelBenchOptions Small() { return {.shapes = {{20, 30, 40}}, .dtypes = {DType::kF32, DType::kBF16}, .seconds = 0.001}; }

TEST(KernelBench, MeasuresEveryUseOfEveryTypeWithTheKernelThatRunsUse) {
  const auto rows = MeasureKernels(Small());
  ASSERT_TRUE(rows.ok()) << rows.status();
  std::set<std::string> names;
  for (const KernelSpeed& row : *rows) {
    names.insert(row.name);
    EXPECT_EQ(row.isa, cpu::SelectedKernel(row.dtype).name);
    EXPECT_GT(row.gflops, 0);
    EXPECT_GT(row.peak_gflops, 0);
  }
  EXPECT_EQ(rows->size(), 2 * names.size());
  EXPECT_THAT(names, ::testing::IsSupersetOf({"gemm_forward", "gemm_forward_packed", "gemm_input_gradient", "gemm_weight_gradient"}));
}

TEST(KernelBench, EveryIsaMeasuresAllKernelsAndLeavesTheBestSelected) {
  KernelBenchOptions options = Small();
  options.every_isa = true;
  options.name = "gemm_forward";
  const auto rows = MeasureKernels(options);
  ASSERT_TRUE(rows.ok()) << rows.status();
  const cpu::GemmFeatures features = cpu::DetectGemmFeatures();
  EXPECT_EQ(rows->size(), cpu::UsableKernels(DType::kF32, features).size() + cpu::UsableKernels(DType::kBF16, features).size());
  EXPECT_EQ(&cpu::SelectedKernel(DType::kF32), &cpu::BestKernel(DType::kF32, features));
  EXPECT_EQ(&cpu::SelectedKernel(DType::kBF16), &cpu::BestKernel(DType::kBF16, features));
}

TEST(KernelBench, JsonAndTableSayTheSame) {
  const std::vector<KernelSpeed> rows = {
      {.name = "gemm_forward", .m = 2, .n = 3, .k = 4, .dtype = DType::kBF16, .isa = "avx2 f32", .gflops = 25, .peak_gflops = 100}};
  const auto json = nlohmann::json::parse(KernelSpeedJson(rows));
  ASSERT_EQ(json.size(), 1u);
  EXPECT_EQ(json[0], nlohmann::json::parse(R"({"name": "gemm_forward", "m": 2, "n": 3, "k": 4, "dtype": "bf16", "isa": "avx2 f32",
                                               "gflops": 25.0, "peak_gflops": 100.0, "share_of_peak": 0.25})"));
  EXPECT_THAT(KernelSpeedTable(rows), ::testing::HasSubstr("25.0%"));
  EXPECT_EQ(nlohmann::json::parse(KernelSpeedJson({})).size(), 0u);
}

TEST(KernelBench, RefusesThreadsThatCannotBe) {
  KernelBenchOptions options = Small();
  options.cpu.threads = 0;
  EXPECT_EQ(MeasureKernels(options).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace lycia
