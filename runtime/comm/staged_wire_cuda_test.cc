// Messages of device memory through page-locked memory: the conformance suite with all operands on a (fake) device, over a wire that dies
// of a device's address.
#include <cuda_runtime_api.h>

#include <thread>

#include "gtest/gtest.h"
#include "runtime/comm/communicator_conformance.h"
#include "runtime/comm/conformance_data.h"
#include "runtime/comm/cuda_mover.h"
#include "runtime/comm/engine.h"
#include "runtime/comm/staged_wire.h"
#include "runtime/comm/testing/pinned_operands_cuda.h"
#include "runtime/comm/thread_wire.h"
#include "runtime/comm/transports.h"
#include "runtime/comm/wire_communicator.h"
#include "runtime/device/testing/fake_cuda.h"

namespace lycia {
namespace {

// Neither lends memory nor takes a device's; counts what it carries.
class HostWire final : public Wire {
 public:
  explicit HostWire(bool takes_device_memory) : takes_device_memory_(takes_device_memory), beneath_(NewThreadWire()) {}
  bool external() const override { return true; }
  std::int64_t max_tag() const override { return beneath_->max_tag(); }
  std::int64_t max_message_bytes() const override { return beneath_->max_message_bytes(); }
  Port* Open(const PortName& name, int requests) override { return beneath_->Open(name, requests); }
  void Close(Port* port) override { beneath_->Close(port); }
  void Send(Port* port, const void* data, std::int64_t bytes, bool confirmed, Request* request) override {
    Check(data, bytes);
    beneath_->Send(port, data, bytes, confirmed, request);
  }
  void Receive(Port* port, void* data, std::int64_t bytes, Request* request) override {
    Check(data, bytes);
    beneath_->Receive(port, data, bytes, request);
  }
  void Borrow(Port* port, void* data, std::int64_t bytes, Request* request) override { Receive(port, data, bytes, request); }
  void GiveBack(Request*) override {}
  void Cancel(Request* request) override { beneath_->Cancel(request); }
  bool Poll() override {
    const bool moved = beneath_->Poll();
    if (!beneath_->status().ok()) Fail(beneath_->status());
    return moved;
  }

 private:
  void Check(const void* data, std::int64_t bytes) const {
    cudaPointerAttributes attributes{};
    cudaPointerGetAttributes(&attributes, data);
    LYCIA_CHECK(bytes == 0 || takes_device_memory_ || attributes.type != cudaMemoryTypeDevice) << "a device's address in a message ";
  }
  const bool takes_device_memory_;
  const std::unique_ptr<Wire> beneath_;
};

struct Run {
  ConformanceCase test;
  int size = 1;
  DeviceMessages messages = DeviceMessages::kStaged;
};

std::vector<Run> AllRuns() {
  std::vector<Run> runs;
  for (const ConformanceCase& test : AllConformanceCases()) {
    for (const int size : {1, 2, 4}) {
      if (size <= 2 || !test.large) runs.push_back({test, size});
    }
    runs.push_back({test, 3, DeviceMessages::kDirect});
  }
  return runs;
}

class StagedConformance : public testing::TestWithParam<Run> {
 protected:
  ~StagedConformance() override { fake_cuda::Reset(); }
};

TEST_P(StagedConformance, Holds) {
  const DeviceOperands on_the_device;
  auto engine = Engine::Start([]() -> StatusOr<std::unique_ptr<Wire>> {
    LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<Mover> mover, cuda::NewMover({0}, /*piece_bytes=*/100'000));
    return NewStagedWire(std::make_unique<HostWire>(GetParam().messages == DeviceMessages::kDirect), std::move(mover), GetParam().messages);
  });
  ASSERT_TRUE(engine.ok());
  std::vector<std::unique_ptr<Communicator>> world(static_cast<std::size_t>(GetParam().size));
  std::vector<std::thread> openers;  // opening is collective where ranks count as processes
  for (int r = 0; r < GetParam().size; ++r) {
    openers.emplace_back([&, r] { world[static_cast<std::size_t>(r)] = OpenWireWorld(*engine, "staged", r, GetParam().size); });
  }
  for (std::thread& opener : openers) opener.join();
  *engine = nullptr;
  const Status status = RunRanksOf(world, GetParam().test.run);
  EXPECT_TRUE(status.ok()) << status;
}

INSTANTIATE_TEST_SUITE_P(Fake, StagedConformance, testing::ValuesIn(AllRuns()), [](const testing::TestParamInfo<Run>& info) {
  return StrCat(info.param.test.name, "_", info.param.size, info.param.messages == DeviceMessages::kDirect ? "_direct" : "");
});

}  // namespace
}  // namespace lycia
