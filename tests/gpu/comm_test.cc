// Ranks as threads on one GPU: the conformance suite in page-locked memory, and sums in device memory against the host's fold, to the bit,
// for every type, odd sizes and addresses, infinities and the smallest numbers. Skips itself where there is no GPU.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/comm/communicator_conformance.h"
#include "runtime/comm/conformance_data.h"
#include "runtime/comm/transports.h"
#include "runtime/core/check.h"
#include "runtime/device/device.h"
#include "tests/gpu/pinned_pool.h"

namespace lycia {
namespace {

std::unique_ptr<Device> OpenGpu(std::string* why_not = nullptr) {
  StatusOr<std::unique_ptr<Device>> device = NewCudaDevice(0);
  if (!device.ok() && why_not != nullptr) *why_not = std::string(device.status().message());
  return device.ok() ? *std::move(device) : nullptr;
}

struct Run {
  ConformanceCase test;
  int size;
};

std::vector<Run> AllRuns() {
  std::vector<Run> runs;
  for (const int size : {1, 2, 3, 8}) {
    for (const ConformanceCase& test : AllConformanceCases()) {
      if (size <= 3 || !test.large) runs.push_back({test, size});
    }
  }
  return runs;
}

class GpuThreadConformance : public testing::TestWithParam<Run> {
 protected:
  void SetUp() override {
    std::string why_not;
    if (OpenGpu(&why_not) == nullptr) GTEST_SKIP() << why_not;
    pinned_.emplace();
  }

 private:
  std::optional<PinnedOperandsOfSuite> pinned_;
};

TEST_P(GpuThreadConformance, Holds) {
  const Status status = RunCudaThreadRanks(std::vector<int>(static_cast<std::size_t>(GetParam().size), 0), GetParam().test.run);
  EXPECT_TRUE(status.ok()) << status;
}

INSTANTIATE_TEST_SUITE_P(OneGpu, GpuThreadConformance, testing::ValuesIn(AllRuns()), [](const testing::TestParamInfo<Run>& info) {
  return std::string(info.param.test.name) + "_" + std::to_string(info.param.size);
});

// An operand of `rank`: numbers whose sum depends on the order, then what arithmetic treats apart.
template <typename T>
std::vector<T> Operand(int rank, std::int64_t elements) {
  const auto wide = conformance::Data<double>(rank, elements, 9);
  std::vector<T> values;
  for (double value : wide) {
    if constexpr (std::is_same_v<T, std::int64_t>) {
      values.push_back(std::bit_cast<std::int64_t>(value));  // sums wrap
    } else {
      values.push_back(static_cast<T>(static_cast<std::conditional_t<std::is_same_v<T, double>, double, float>>(value)));
    }
  }
  if constexpr (!std::is_same_v<T, std::int64_t>) {
    const double special[] = {0.0, -0.0, std::numeric_limits<double>::infinity(), 1e-40, -1e-44, 3e38, 5e-324};
    for (std::size_t i = 0; i < std::size(special) && i < values.size(); ++i) {
      values[values.size() - 1 - i] = static_cast<T>(
          static_cast<std::conditional_t<std::is_same_v<T, double>, double, float>>(special[(i + static_cast<std::size_t>(rank)) % 7]));
    }
  }
  return values;
}

// Rank r's operand begins `skip` elements behind an aligned address; the sum is compared with the host's fold, twice.
template <typename T>
Status SumsAreTheHosts(Communicator& world, Device& device, std::int64_t elements, std::int64_t skip, Fold fold) {
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream, device.NewStream());
  const std::int64_t bytes = elements * static_cast<std::int64_t>(sizeof(T));
  LYCIA_ASSIGN_OR_RETURN(const Buffer memory, device.Allocate(bytes + 64, MemoryKind::kDevice));
  const Tensor tensor{static_cast<T*>(memory.data()) + skip, DTypeOf<T>::value, {elements}};
  std::vector<std::vector<T>> operands;
  std::vector<const void*> sources;
  for (int r = 0; r < world.size(); ++r) operands.push_back(Operand<T>(r, elements));
  for (const auto& operand : operands) sources.push_back(operand.data());
  std::vector<T> want(static_cast<std::size_t>(elements)), got(want.size());
  LeftFold(DTypeOf<T>::value, sources, elements, fold, /*accumulate=*/false, want.data());
  for (int time = 0; time < 2; ++time) {
    stream->Copy(tensor.data, operands[static_cast<std::size_t>(world.rank())].data(), bytes);
    stream->Wait(world.AllReduce({.in = tensor, .out = tensor, .fold = fold}, stream->Record()));
    stream->Copy(got.data(), tensor.data, bytes);
    LYCIA_RETURN_IF_ERROR(stream->Synchronize());
    LYCIA_RETURN_IF_ERROR(conformance::Same(got, want, StrCat("fold of ", elements, " ", Name(DTypeOf<T>::value), ", skip ", skip)));
  }
  return OkStatus();
}

TEST(GpuThreadWorld, SumsInDeviceMemoryHaveTheBitsOfTheHosts) {
  std::string why_not;
  const std::unique_ptr<Device> device = OpenGpu(&why_not);
  if (device == nullptr) GTEST_SKIP() << why_not;
  for (const int ranks : {1, 2, 3, 8}) {
    const Status status = RunCudaThreadRanks(std::vector<int>(static_cast<std::size_t>(ranks), 0), [&](Communicator& world) -> Status {
      for (const std::int64_t elements : {1, 7, 4097, 1'000'003}) {
        for (const std::int64_t skip : {0, 1}) {
          for (const Fold fold : {Fold::kSum, Fold::kLargest}) {
            LYCIA_RETURN_IF_ERROR(SumsAreTheHosts<float>(world, *device, elements, skip, fold));
            LYCIA_RETURN_IF_ERROR(SumsAreTheHosts<double>(world, *device, elements, skip, fold));
            LYCIA_RETURN_IF_ERROR(SumsAreTheHosts<BFloat16>(world, *device, elements, skip, fold));
            LYCIA_RETURN_IF_ERROR(SumsAreTheHosts<Float16>(world, *device, elements, skip, fold));
            LYCIA_RETURN_IF_ERROR(SumsAreTheHosts<std::int64_t>(world, *device, elements, skip, fold));
          }
        }
      }
      return OkStatus();
    });
    EXPECT_TRUE(status.ok()) << ranks << " ranks: " << status;
  }
}

}  // namespace
}  // namespace lycia
