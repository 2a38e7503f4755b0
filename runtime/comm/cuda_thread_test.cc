// The transport between ranks on GPUs over a CUDA runtime without a GPU, where everything happens as late as CUDA allows: the conformance
// suite in page-locked and in pageable memory, on one and on several devices, and what only this transport can get wrong.
#include <algorithm>
#include <optional>
#include <string>

#include "gtest/gtest.h"
#include "runtime/comm/communicator_conformance.h"
#include "runtime/comm/conformance_data.h"
#include "runtime/comm/fold_cuda.h"
#include "runtime/comm/testing/pinned_operands_cuda.h"
#include "runtime/comm/transports.h"
#include "runtime/core/check.h"
#include "runtime/device/device.h"
#include "runtime/device/testing/fake_cuda.h"

namespace lycia {

namespace {

using conformance::Values;

// Ranks over the devices in turn.
std::vector<int> Devices(int ranks, int devices) {
  std::vector<int> device_of_rank;
  for (int r = 0; r < ranks; ++r) device_of_rank.push_back(r % devices);
  return device_of_rank;
}

struct Run {
  ConformanceCase test;
  int size = 1, devices = 1;
  bool pinned = true;
};

std::vector<Run> AllRuns() {
  std::vector<Run> runs;
  for (const ConformanceCase& test : AllConformanceCases()) {
    for (const int size : {1, 2, 3, 5}) {
      if (size <= 3 || !test.large) runs.push_back({test, size, 1});
    }
    if (test.large) continue;
    runs.push_back({test, 4, 2});
    runs.push_back({test, 3, 1, /*pinned=*/false});
  }
  return runs;
}

class CudaThreadConformance : public testing::TestWithParam<Run> {
 protected:
  CudaThreadConformance() {
    fake_cuda::SetDevices(GetParam().devices, /*peer_access=*/true);
    if (GetParam().pinned) pinned_.emplace();
  }
  ~CudaThreadConformance() override { fake_cuda::Reset(); }

 private:
  std::optional<PinnedOperands> pinned_;
};

TEST_P(CudaThreadConformance, Holds) {
  const int before = fake_cuda::LiveObjects();
  const Status status = RunCudaThreadRanks(Devices(GetParam().size, GetParam().devices), GetParam().test.run);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(fake_cuda::LiveObjects(), before);
}

INSTANTIATE_TEST_SUITE_P(Fake, CudaThreadConformance, testing::ValuesIn(AllRuns()), [](const testing::TestParamInfo<Run>& info) {
  return StrCat(info.param.test.name, "_", info.param.size, "_on_", info.param.devices, info.param.pinned ? "" : "_pageable");
});

class CudaThreadWorld : public testing::Test {
 protected:
  ~CudaThreadWorld() override { fake_cuda::Reset(); }
  static std::unique_ptr<Device> Open(int ordinal) {
    StatusOr<std::unique_ptr<Device>> device = NewCudaDevice(ordinal);
    LYCIA_CHECK_OK(device.status());
    return *std::move(device);
  }
};

// What a rank computes, sums, and computes with the sum: device memory, the stream's events before and after, nothing waited for between.
TEST_F(CudaThreadWorld, SumsOfDeviceMemoryFollowTheStreamsOfTheirRanks) {
  constexpr int kRanks = 4, kDevices = 2;
  constexpr std::int64_t kElements = 5001, kBytes = kElements * 4;
  fake_cuda::SetDevices(kDevices, true);
  const Status ran = RunCudaThreadRanks(Devices(kRanks, kDevices), [&](Communicator& world) -> Status {
    const std::unique_ptr<Device> device = Open(world.rank() % kDevices);
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream, device->NewStream());
    LYCIA_ASSIGN_OR_RETURN(const Buffer memory, device->Allocate(kBytes, MemoryKind::kDevice));
    LYCIA_ASSIGN_OR_RETURN(const Buffer host, device->Allocate(kBytes, MemoryKind::kPinned));
    const Tensor tensor{memory.data(), DType::kF32, {kElements}};
    const Values<float> mine = conformance::Data<float>(world.rank(), kElements, 3);
    std::copy(mine.begin(), mine.end(), static_cast<float*>(host.data()));
    stream->Elapse(3'000'000);  // the operand is late
    stream->Copy(memory.data(), host.data(), kBytes);
    const Event sum = world.AllReduce({.in = tensor, .out = tensor}, stream->Record());
    EXPECT_FALSE(sum.Done());
    stream->Wait(sum);
    stream->Copy(host.data(), memory.data(), kBytes);
    LYCIA_RETURN_IF_ERROR(stream->Synchronize());
    return conformance::Same<float>({static_cast<const float*>(host.data()), kElements},
                                    conformance::SerialSum<float>(kRanks, kElements, 3), StrCat("sum on rank ", world.rank()));
  });
  EXPECT_TRUE(ran.ok()) << ran;
}

// place: the last one of 1. Three quarters of its half, twice, are more than half of it; once they are less and would round away.
template <typename T>
Status AddsInF32AndRoundsOnce(Communicator& world, Device& device, float place) {
  LYCIA_ASSIGN_OR_RETURN(const Buffer memory, device.Allocate(2, MemoryKind::kPinned));
  *static_cast<T*>(memory.data()) = T(world.rank() == 0 ? 1.0f : 0.375f * place);
  const Tensor tensor{memory.data(), DTypeOf<T>::value, {1}};
  LYCIA_RETURN_IF_ERROR(world.AllReduce({.in = tensor, .out = tensor}, {}).Wait());
  return conformance::Expect(static_cast<float>(*static_cast<T*>(memory.data())) == 1.0f + place, "rounded between additions");
}

TEST_F(CudaThreadWorld, NarrowNumbersAreAddedInF32AndRoundedOnce) {
  const Status ran = RunCudaThreadRanks({0, 0, 0}, [&](Communicator& world) -> Status {
    const std::unique_ptr<Device> device = Open(0);
    LYCIA_RETURN_IF_ERROR(AddsInF32AndRoundsOnce<BFloat16>(world, *device, 0x1p-7f));
    return AddsInF32AndRoundsOnce<Float16>(world, *device, 0x1p-10f);
  });
  EXPECT_TRUE(ran.ok()) << ran;
}

TEST_F(CudaThreadWorld, AFailureOnTheDeviceEndsEveryRankWithItsWords) {
  const Status ran = RunCudaThreadRanks({0, 0}, [&](Communicator& world) -> Status {
    LYCIA_RETURN_IF_ERROR(world.Barrier());
    const std::unique_ptr<Device> device = Open(0);
    LYCIA_ASSIGN_OR_RETURN(const Buffer memory, device->Allocate(64, MemoryKind::kDevice));
    const Tensor tensor{memory.data(), DType::kF32, {16}};
    LYCIA_RETURN_IF_ERROR(world.Barrier());
    if (world.rank() == 0) fake_cuda::FailNextWork(cudaErrorIllegalAddress);
    const Status failed = world.AllReduce({.in = tensor, .out = tensor}, {}).Wait();
    EXPECT_NE(failed.message().find("illegal memory access"), std::string::npos) << failed;
    return failed;
  });
  EXPECT_EQ(ran.code(), absl::StatusCode::kInternal);
}

TEST_F(CudaThreadWorld, OperandsOfOneSumMustLieAlike) {
  const Status ran = RunCudaThreadRanks({0, 0}, [&](Communicator& world) -> Status {
    const std::unique_ptr<Device> device = Open(0);
    std::vector<float> pageable(100'000);
    LYCIA_ASSIGN_OR_RETURN(const Buffer memory, device->Allocate(400'000, MemoryKind::kDevice));
    const Tensor tensor{world.rank() == 0 ? memory.data() : pageable.data(), DType::kF32, {100'000}};
    return world.AllReduce({.in = tensor, .out = tensor}, {}).Wait();
  });
  EXPECT_NE(ran.message().find("the ranks of a group must agree"), std::string::npos) << ran;
}

TEST_F(CudaThreadWorld, DevicesThatCannotMeetAreRefused) {
  fake_cuda::SetDevices(2, /*peer_access=*/false);
  EXPECT_TRUE(OpenCudaThreadWorld({1, 1, 1}).ok());
  const Status apart = OpenCudaThreadWorld({0, 1}).status();
  EXPECT_EQ(apart.code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(apart.message().find("device 0 cannot read the memory of device 1"), std::string::npos) << apart;
  EXPECT_EQ(OpenCudaThreadWorld({0, 2}).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(OpenCudaThreadWorld(std::vector<int>(257, 0)).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(FoldLaunch, FillsTheDeviceAndReadsWideOnlyWhereAligned) {
  alignas(16) char memory[64];
  cuda::FoldArgs args{.count = 2, .dtype = DType::kBF16, .elements = 1, .out = memory};
  args.sources[0] = memory + 16;
  args.sources[1] = memory + 32;
  EXPECT_EQ(cuda::FoldWidth(args), 8);
  args.dtype = DType::kF64;
  EXPECT_EQ(cuda::FoldWidth(args), 2);
  args.sources[1] = memory + 40;
  EXPECT_EQ(cuda::FoldWidth(args), 1);
  EXPECT_EQ(cuda::FoldBlocks(1, 8, 132), 1);
  EXPECT_EQ(cuda::FoldBlocks(256 * 8 + 1, 8, 132), 2);
  EXPECT_EQ(cuda::FoldBlocks(std::int64_t{1} << 40, 8, 132), 8 * 132);
}

}  // namespace
}  // namespace lycia
