#include "launch/kernel_bench.h"

#include <map>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/gemm/gemm_kernels.h"
#include "nlohmann/json.hpp"

namespace lycia {
namespace {

// Sizes that take no time.
KernelBenchOptions Small() {
  return {.shapes = {{20, 30, 40}},
          .dtypes = {DType::kF32, DType::kBF16},
          .name = "gemm",
          .tokens = 8,
          .parameters = 5000,
          .sequences = {20},
          .seconds = 0.001};
}

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

TEST(KernelBench, TheOtherKernelsStandBesideWhatLimitsThem) {
  KernelBenchOptions options = Small();
  options.name = "";
  const auto rows = MeasureKernels(options);
  ASSERT_TRUE(rows.ok()) << rows.status();
  std::map<std::string, std::set<DType>> types;
  for (const KernelSpeed& row : *rows) {
    types[row.name].insert(row.dtype);
    EXPECT_GT(row.limited_by_memory() ? row.gbps : row.gflops, 0) << row.name;
    EXPECT_EQ(row.limited_by_memory(), row.peak_gflops == 0) << row.name;
    EXPECT_EQ(row.limited_by_memory(), row.name.rfind("gemm", 0) != 0 && row.name.rfind("attention", 0) != 0) << row.name;
    EXPECT_GT(row.share_of_peak(), 0) << row.name;
  }
  for (const char* name : {"attention_causal",
                           "attention_causal_backward",
                           "attention_full",
                           "attention_full_backward",
                           "layer_norm",
                           "add_layer_norm",
                           "layer_norm_dinput",
                           "layer_norm_dweight",
                           "rms_norm",
                           "add_rms_norm",
                           "rms_norm_dinput",
                           "rms_norm_dweight",
                           "gelu",
                           "gelu_dinput",
                           "swiglu",
                           "swiglu_dinput",
                           "dropout_add",
                           "dropout_dinput",
                           "embedding",
                           "embedding_dweight",
                           "rotary",
                           "cross_entropy_in_place"}) {
    EXPECT_EQ(types[name].size(), 2u) << name;
  }
  for (const char* name : {"squared_norm", "adamw", "adamw_bf16_copy", "add_and_clear"})
    EXPECT_THAT(types, ::testing::Contains(::testing::Key(name)));
}

TEST(KernelBench, AFamilyOrAKernelMayBeAskedForAlone) {
  KernelBenchOptions options = Small();
  options.name = "norms";
  options.dtypes = {DType::kF32};
  const auto family = MeasureKernels(options);
  ASSERT_TRUE(family.ok()) << family.status();
  EXPECT_EQ(family->size(), 8u);
  options.name = "add_rms_norm";
  const auto one = MeasureKernels(options);
  ASSERT_TRUE(one.ok()) << one.status();
  ASSERT_EQ(one->size(), 1u);
  EXPECT_EQ((*one)[0].m, 8);
  EXPECT_EQ((*one)[0].n, 768);
  EXPECT_THAT(KernelFamilyNames(), ::testing::Contains("norms"));
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
  const std::vector<KernelSpeed> memory = {
      {.name = "gelu", .m = 2, .n = 3, .dtype = DType::kF32, .isa = "AVX2", .gbps = 15, .peak_gbps = 20}};
  EXPECT_EQ(
      nlohmann::json::parse(KernelSpeedJson(memory))[0],
      nlohmann::json::parse(R"({"name": "gelu", "m": 2, "n": 3, "k": 0, "dtype": "f32", "isa": "AVX2", "gbps": 15.0, "peak_gbps": 20.0,
                                      "share_of_peak": 0.75})"));
  EXPECT_THAT(KernelSpeedTable(memory), ::testing::AllOf(::testing::HasSubstr("75.0%"), ::testing::HasSubstr("GB/s")));
}

TEST(KernelBench, RefusesThreadsThatCannotBe) {
  KernelBenchOptions options = Small();
  options.cpu.threads = 0;
  EXPECT_EQ(MeasureKernels(options).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(KernelBench, RefusesSizesAndClocksThatMakeNoSense) {
  KernelBenchOptions options = Small();
  options.tokens = 10;
  EXPECT_THAT(std::string(MeasureKernels(options).status().message()), ::testing::HasSubstr("multiple of 4"));
  options = Small();
  options.cpu_clock = true;
  options.cpu.threads = 2;
  EXPECT_THAT(std::string(MeasureKernels(options).status().message()), ::testing::HasSubstr("one thread"));
}

}  // namespace
}  // namespace lycia
