// The report on the GPUs of a fake machine.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launch/gpu_report.h"
#include "runtime/device/cuda_machine.h"
#include "runtime/device/testing/fake_cuda.h"

namespace lycia {
namespace {

using ::testing::HasSubstr;

class GpuReportTest : public testing::Test {
 protected:
  ~GpuReportTest() override { fake_cuda::Reset(); }
  // The line of that name; one that says so where there is none.
  static GpuLine Line(const std::string& name) {
    for (const GpuLine& line : GpuReport(/*copy_bytes=*/1 << 16)) {
      if (line.name == name) return line;
    }
    return {name, "no such line", "no such line"};
  }
};

TEST_F(GpuReportTest, OneGpu) {
  EXPECT_EQ(Line("driver").value, "CUDA 13.1; this build's runtime 13.0");
  EXPECT_EQ(Line("driver").advice, "");
  EXPECT_EQ(Line("cuda:0").value, "Fake, compute capability 9.0, 132 multiprocessors, 1024.0 of 1024.0 GiB free");
  EXPECT_EQ(Line("cuda:0 reads").value, "no such line");
  EXPECT_THAT(Line("GB/s from cuda:0").value, ::testing::MatchesRegex("to cuda:0 [0-9.]+, to host [0-9.]+"));
  EXPECT_THAT(Line("GB/s from host").value, ::testing::MatchesRegex("to cuda:0 [0-9.]+"));
}

TEST_F(GpuReportTest, GpusThatReadOneAnother) {
  fake_cuda::SetDevices(3, /*peer_access=*/true);
  EXPECT_EQ(Line("cuda:1 reads").value, "0 yes, 2 yes");
  EXPECT_EQ(Line("cuda:1 reads").advice, "");
}

TEST_F(GpuReportTest, GpusThatDoNot) {
  fake_cuda::SetDevices(2, /*peer_access=*/false);
  EXPECT_EQ(Line("cuda:0 reads").value, "1 no");
  EXPECT_THAT(Line("cuda:0 reads").advice, HasSubstr("start a process for each"));
}

TEST_F(GpuReportTest, CopiesAreMeasuredBetweenAllMemories) {
  fake_cuda::SetDevices(2, /*peer_access=*/true);
  const auto machine = cuda::DescribeMachine();
  ASSERT_TRUE(machine.ok());
  const auto copies = cuda::MeasureCopies(*machine, 1 << 16);
  ASSERT_TRUE(copies.ok()) << copies.status();
  for (std::size_t from = 0; from < 3; ++from) {
    for (std::size_t to = 0; to < 3; ++to) EXPECT_EQ((*copies)[from][to] > 0, from != 2 || to != 2) << from << " to " << to;
  }
  // More than the fake's memory: nothing is measured, and nothing fails.
  const auto none = cuda::MeasureCopies(*machine, std::int64_t{1} << 39);
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_EQ((*none)[0][1], 0);
}

TEST_F(GpuReportTest, NoGpu) {
  fake_cuda::SetDevices(0, true);
  EXPECT_EQ(Line("gpus").value, "none");
}

}  // namespace
}  // namespace lycia
