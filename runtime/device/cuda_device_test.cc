// The host side of the CUDA device on a fake runtime: failures, and work that runs as late as CUDA allows. The conformance suite
// (device_test.cc) is linked into the same program.
#include "runtime/device/cuda_device.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_event.h"
#include "runtime/device/cuda_stream.h"
#include "runtime/device/graph.h"
#include "runtime/device/testing/fake_cuda.h"

namespace lycia {
namespace {

using ::testing::HasSubstr;

class FakeCudaTest : public ::testing::Test {
 protected:
  FakeCudaTest() : device_(Open()), stream_(NewStream()) {}
  ~FakeCudaTest() override { fake_cuda::Reset(); }

  static std::unique_ptr<Device> Open() {
    StatusOr<std::unique_ptr<Device>> device = NewCudaDevice(0);
    LYCIA_CHECK_OK(device.status());
    return *std::move(device);
  }
  std::unique_ptr<Stream> NewStream() {
    StatusOr<std::unique_ptr<Stream>> stream = device_->NewStream();
    LYCIA_CHECK_OK(stream.status());
    return *std::move(stream);
  }
  Buffer Allocate(std::int64_t bytes) {
    StatusOr<Buffer> buffer = device_->Allocate(bytes, MemoryKind::kDevice);
    LYCIA_CHECK_OK(buffer.status());
    return *std::move(buffer);
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
};

TEST_F(FakeCudaTest, AFailedCallIsNamedWithPlaceReasonAndSize) {
  const Buffer a = Allocate(4096);
  fake_cuda::FailNextEnqueue(cudaErrorIllegalAddress);
  stream_->Zero(a.data(), 4096);
  const std::string text(stream_->status().message());
  EXPECT_EQ(stream_->status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(text, HasSubstr("cudaMemsetAsync(to, 0, "));
  EXPECT_THAT(text, HasSubstr(" at runtime/device/cuda_device.cc:"));
  EXPECT_THAT(text, HasSubstr(": an illegal memory access was encountered (cudaErrorIllegalAddress); 4096 bytes"));
}

TEST_F(FakeCudaTest, TheHostCannotReachTheDevicesMemory) {
  const Buffer memory = Allocate(4096);
  std::string host(4096, 'x');
  stream_->Copy(memory.data(), host.data(), 4096);
  ASSERT_TRUE(stream_->Synchronize().ok());
  EXPECT_DEATH(*static_cast<volatile char*>(memory.data()) = 'y', "");
  host.assign(4096, ' ');
  stream_->Copy(host.data(), memory.data(), 4096);
  ASSERT_TRUE(stream_->Synchronize().ok());
  EXPECT_EQ(host, std::string(4096, 'x'));
  EXPECT_DEATH(host[0] = *static_cast<volatile char*>(memory.data()), "");
}

TEST_F(FakeCudaTest, DevicesAreRefusedBelowCapability8AndWithoutCodeForThem) {
  fake_cuda::SetCapability(7, 5, /*has_code=*/true);
  EXPECT_EQ(NewCudaDevice(0).status().message(), "no GPU: device 0, Fake, has compute capability 7.5; the kernels need 8.0 or newer");
  fake_cuda::SetCapability(8, 6, /*has_code=*/false);
  EXPECT_THAT(std::string(NewCudaDevice(0).status().message()), HasSubstr("capability 8.6; this build has code for 9.0 alone"));
  fake_cuda::SetCapability(8, 6, /*has_code=*/true);
  const StatusOr<std::unique_ptr<Device>> device = NewCudaDevice(0);
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_EQ(cuda::TargetOf(**(*device)->NewStream()).capability, 86);
}

TEST_F(FakeCudaTest, AKernelThatFailsLaterFailsSynchronizeAndEveryOpenEvent) {
  const std::unique_ptr<Stream> other = NewStream();
  const Event done_before = stream_->Record();
  ASSERT_TRUE(done_before.Wait().ok());
  stream_->Elapse(1000);
  const Event open = stream_->Record();
  fake_cuda::FailNextWork(cudaErrorIllegalAddress);
  EXPECT_FALSE(open.Done());
  EXPECT_THAT(std::string(open.Wait().message()), HasSubstr("cudaErrorIllegalAddress"));
  EXPECT_TRUE(done_before.Wait().ok());
  EXPECT_THAT(std::string(stream_->Synchronize().message()), HasSubstr("cudaStreamQuery"));
  other->Wait(open);
  EXPECT_FALSE(other->ok());
}

TEST_F(FakeCudaTest, AGraphRunsAgainWithTheArgumentsItWasCapturedWith) {
  const Buffer memory = Allocate(64);
  std::string from(64, 'a'), to(64, ' ');
  const int live = fake_cuda::LiveObjects();
  {
    StatusOr<std::unique_ptr<Graph>> graph = CaptureGraph(*stream_, [&] {
      stream_->Copy(memory.data(), from.data(), 32);
      stream_->Zero(static_cast<char*>(memory.data()) + 32, 32);
      stream_->Copy(to.data(), memory.data(), 64);
    });
    ASSERT_TRUE(graph.ok()) << graph.status();
    ASSERT_TRUE(stream_->Synchronize().ok());
    EXPECT_EQ(to, std::string(64, ' ')) << "what is captured is not run";
    for (const char value : {'b', 'c'}) {
      from.assign(64, value);
      (*graph)->Launch(*stream_);
      ASSERT_TRUE(stream_->Synchronize().ok());
      EXPECT_EQ(to, std::string(32, value) + std::string(32, '\0'));
    }
    (*graph)->Launch(*stream_);  // and may be gone before it has run
  }
  EXPECT_TRUE(stream_->Synchronize().ok());
  EXPECT_EQ(fake_cuda::LiveObjects(), live);
}

TEST_F(FakeCudaTest, WhatCannotBePartOfAGraphSaysSo) {
  const auto capture = [&](absl::FunctionRef<void(Stream&)> enqueue) {
    const std::unique_ptr<Stream> stream = NewStream();
    return std::string(CaptureGraph(*stream, [&] { enqueue(*stream); }).status().message());
  };
  EXPECT_THAT(capture([](Stream& stream) { stream.Record(); }), HasSubstr("cudaEventRecord"));
  EXPECT_THAT(capture([&](Stream&) { (void)device_->Allocate(64, MemoryKind::kDevice); }), HasSubstr("cudaStreamEndCapture"));
  EXPECT_EQ(capture([](Stream& stream) { stream.Fail(absl::AbortedError("rank 2 is gone")); }), "rank 2 is gone");
  EXPECT_EQ(CaptureGraph(**NewCpuDevice()->NewStream(), [] {}).status().message(), "only CUDA devices have graphs");
  EXPECT_TRUE(stream_->Synchronize().ok());
}

TEST_F(FakeCudaTest, AnEventRecordedOnAFailedStreamIsNeverDoneAndTellsWhy) {
  const Event before = stream_->Record();
  stream_->Fail(absl::AbortedError("rank 2 is gone"));
  const Event after = stream_->Record();
  EXPECT_TRUE(before.Wait().ok());
  EXPECT_FALSE(after.Done());
  EXPECT_EQ(after.Wait().message(), "rank 2 is gone");
  const std::unique_ptr<Stream> other = NewStream();
  other->Wait(before);
  EXPECT_TRUE(other->ok());
  other->Wait(after);
  EXPECT_EQ(other->status().message(), "rank 2 is gone");
  EXPECT_EQ(stream_->Synchronize().message(), "rank 2 is gone");
}

TEST_F(FakeCudaTest, AWaitBetweenStreamsDoesNotBlockTheCaller) {
  const std::unique_ptr<Stream> other = NewStream();
  stream_->Elapse(3'600'000'000'000);  // an hour
  other->Wait(stream_->Record());
  const Event blocked = other->Record();
  EXPECT_FALSE(blocked.Done());
  const std::unique_ptr<Stream> third = NewStream();  // and holds up nobody else
  EXPECT_TRUE(third->Record().Wait().ok());
}

// The slot of an old ticket is recorded again; who then waits for the old ticket must not wait for the young one, which here depends on
// him.
TEST_F(FakeCudaTest, AnOldTicketIsNotTakenForTheYoungOneInItsSlot) {
  const std::unique_ptr<Stream> other = NewStream();
  const Event old = stream_->Record();
  for (std::uint64_t i = 1; i < cuda::CudaEventSource::kRing; ++i) stream_->Record();
  stream_->Elapse(50'000'000);
  const Event young = stream_->Record();
  ASSERT_EQ(young.ticket % cuda::CudaEventSource::kRing, old.ticket % cuda::CudaEventSource::kRing);
  other->Wait(old);
  EXPECT_TRUE(other->Record().Wait().ok());
  EXPECT_TRUE(old.Done());
  EXPECT_FALSE(young.Done());
  EXPECT_TRUE(young.Wait().ok());
}

class GiveUpAt final : public WaitGuard {
 public:
  explicit GiveUpAt(int question) : question_(question) {}
  Status StillWaiting(std::int64_t) override {
    return ++asked_ >= question_ ? absl::DeadlineExceededError("worker 0 is in 1F3") : OkStatus();
  }
  int asked() const { return asked_; }

 private:
  const int question_;
  int asked_ = 0;
};

TEST_F(FakeCudaTest, AFullRingWaitsForItsOldestTicketUnderTheGuard) {
  GiveUpAt guard(3);
  stream_->set_guard(&guard);
  stream_->Elapse(3'600'000'000'000);
  for (std::uint64_t i = 0; i < cuda::CudaEventSource::kRing; ++i) EXPECT_FALSE(stream_->Record().Done());
  EXPECT_EQ(guard.asked(), 0);
  EXPECT_TRUE(stream_->ok());
  const Event one_too_many = stream_->Record();
  EXPECT_EQ(guard.asked(), 3);
  EXPECT_EQ(stream_->status().message(), "worker 0 is in 1F3");
  EXPECT_EQ(one_too_many.Wait().message(), "worker 0 is in 1F3");
}

TEST_F(FakeCudaTest, TheGuardEndsSynchronize) {
  GiveUpAt guard(2);
  stream_->set_guard(&guard);
  stream_->Elapse(3'600'000'000'000);
  EXPECT_EQ(stream_->Synchronize().message(), "worker 0 is in 1F3");
  EXPECT_EQ(guard.asked(), 2);
}

TEST_F(FakeCudaTest, NotReadyIsNotLeftBehindAsAnError) {
  stream_->Elapse(2'000'000);
  const Event event = stream_->Record();
  EXPECT_FALSE(event.Done());
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  ASSERT_TRUE(event.Wait().ok());
  ASSERT_TRUE(stream_->Synchronize().ok());
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(FakeCudaTest, AnyThreadMayAskWhileOneRecords) {
  constexpr int kEvents = 6000, kAskers = 3;
  std::atomic<std::uint64_t> recorded{0};
  std::atomic<int> wrong{0};
  const Event first = stream_->Record();
  recorded = first.ticket;
  std::vector<std::thread> askers;
  for (int a = 0; a < kAskers; ++a) {
    askers.emplace_back([&] {
      for (std::uint64_t at = 0; at < kEvents; at = recorded.load()) {
        const Event event{first.source, recorded.load()};
        if (!event.Wait().ok() || !event.Done()) ++wrong;
        if (event.ticket > 500 && !Event{first.source, event.ticket - 500}.Done()) ++wrong;
      }
    });
  }
  for (int i = 1; i < kEvents; ++i) recorded = stream_->Record().ticket;
  for (std::thread& asker : askers) asker.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_TRUE(stream_->Synchronize().ok());
}

TEST_F(FakeCudaTest, TargetOfGivesTheStreamAndRefusesOthers) {
  EXPECT_NE(cuda::TargetOf(*stream_).stream, nullptr);
  EXPECT_EQ(cuda::TargetOf(*stream_).multiprocessors, 132);
  const std::unique_ptr<Stream> cpu = *NewCpuDevice()->NewStream();
  EXPECT_DEATH(cuda::TargetOf(*cpu), "CHECK failed");
}

TEST(FakeCuda, EverythingIsGivenBack) {
  const int before = fake_cuda::LiveObjects();
  {
    StatusOr<std::unique_ptr<Device>> device = NewCudaDevice(0);
    ASSERT_TRUE(device.ok());
    ASSERT_TRUE((*device)->NewStream().ok());
    StatusOr<std::unique_ptr<Stream>> stream = (*device)->NewStream();
    (*stream)->Record();
    EXPECT_GT(fake_cuda::LiveObjects(), before);
  }
  EXPECT_EQ(fake_cuda::LiveObjects(), before);
}

TEST(CudaError, CodesFollowTheRemedy) {
  EXPECT_EQ(cuda::ToStatus(cudaErrorMemoryAllocation, "f", "g.cc", 1, "").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(cuda::ToStatus(cudaErrorNoDevice, "f", "g.cc", 1, "").code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(cuda::ToStatus(cudaErrorNoKernelImageForDevice, "f", "g.cc", 1, "").code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(cuda::ToStatus(cudaErrorInvalidValue, "f(x)", "g.cc", 7, "3 rows").message(), "f(x) at g.cc:7: fake (cudaErrorFake); 3 rows");
}

}  // namespace
}  // namespace lycia
