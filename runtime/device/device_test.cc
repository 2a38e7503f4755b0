// One conformance suite for Device, Stream and their events, run on every device that is present.
#include "runtime/device/device.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/core/check.h"
#include "runtime/device/testing/count_allocations.h"

namespace lycia {
namespace {

constexpr std::int64_t kMillisecond = 1'000'000;

std::int64_t NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class GivesUp final : public WaitGuard {
 public:
  Status StillWaiting(std::int64_t) override { return absl::DeadlineExceededError("worker 1 is in 0B2"); }
};

class DeviceTest : public ::testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    if (GetParam() == DeviceKind::kCuda) {
      StatusOr<std::unique_ptr<Device>> device = NewCudaDevice(0);
      if (!device.ok()) {
        ASSERT_EQ(device.status().code(), absl::StatusCode::kUnavailable) << device.status();
        GTEST_SKIP() << device.status().message();
      }
      device_ = *std::move(device);
    } else {
      device_ = GetParam() == DeviceKind::kCpu ? NewCpuDevice() : NewShapeDevice();
    }
    stream_ = NewStream();
  }
  std::unique_ptr<Stream> NewStream() {
    StatusOr<std::unique_ptr<Stream>> stream = device_->NewStream();
    LYCIA_CHECK_OK(stream.status());
    return *std::move(stream);
  }
  Buffer Allocate(std::int64_t bytes, MemoryKind kind = MemoryKind::kDevice) {
    StatusOr<Buffer> buffer = device_->Allocate(bytes, kind);
    LYCIA_CHECK_OK(buffer.status());
    return *std::move(buffer);
  }
  bool has_data() const { return GetParam() != DeviceKind::kShape; }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
};

TEST_P(DeviceTest, NamesItself) {
  EXPECT_EQ(device_->kind(), GetParam());
  EXPECT_EQ(stream_->kind(), GetParam());
  const std::string prefix = GetParam() == DeviceKind::kCpu ? "cpu" : GetParam() == DeviceKind::kCuda ? "cuda:0 " : "shape";
  EXPECT_EQ(device_->name().substr(0, prefix.size()), prefix);
}

TEST_P(DeviceTest, MemoryIsAlignedSizedAndZeroedEvenWhenUsedBefore) {
  for (MemoryKind kind : {MemoryKind::kDevice, MemoryKind::kPinned, MemoryKind::kHost}) {
    EXPECT_EQ(Allocate(0, kind).bytes(), 0);
    for (int round = 0; round < 3; ++round) {
      for (std::int64_t bytes : {std::int64_t{1}, std::int64_t{4097}, std::int64_t{5} << 20}) {
        const Buffer buffer = Allocate(bytes, kind);
        EXPECT_EQ(buffer.bytes(), bytes);
        if (!has_data() && kind == MemoryKind::kDevice) {  // what the host reads and writes is real in a dry run too
          EXPECT_EQ(buffer.data(), nullptr);
          continue;
        }
        ASSERT_NE(buffer.data(), nullptr);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64, 0u);
        if (!has_data()) continue;
        std::vector<unsigned char> seen(static_cast<std::size_t>(bytes), 1), dirty(static_cast<std::size_t>(bytes), 0xff);
        stream_->Copy(seen.data(), buffer.data(), bytes);
        stream_->Copy(buffer.data(), dirty.data(), bytes);  // for the next one who gets this memory
        ASSERT_TRUE(stream_->Synchronize().ok()) << stream_->status();
        for (std::int64_t i = 0; i < bytes; ++i) ASSERT_EQ(seen[static_cast<std::size_t>(i)], 0) << "byte " << i << " of " << bytes;
      }
    }
  }
}

TEST_P(DeviceTest, TooMuchMemoryIsRefusedWithTheNumbers) {
  const std::int64_t bytes = std::int64_t{1} << 60;
  const StatusOr<Buffer> buffer = device_->Allocate(bytes, MemoryKind::kDevice);
  if (!has_data()) {  // sizes cost nothing
    ASSERT_TRUE(buffer.ok());
    EXPECT_EQ(buffer->bytes(), bytes);
    return;
  }
  ASSERT_EQ(buffer.status().code(), absl::StatusCode::kResourceExhausted) << buffer.status();
  EXPECT_NE(buffer.status().message().find(std::to_string(bytes)), absl::string_view::npos) << buffer.status();
  // The device is as good as before.
  const Buffer small = Allocate(64);
  stream_->Zero(small.data(), 64);
  EXPECT_TRUE(stream_->Synchronize().ok());
}

TEST_P(DeviceTest, CopiesAndZerosRunInOrder) {
  for (std::int64_t bytes : {1, 63, 64, 1000, 1 << 20}) {
    const Buffer a = Allocate(bytes), b = Allocate(bytes), pinned = Allocate(bytes, MemoryKind::kPinned);
    std::vector<unsigned char> sent(static_cast<std::size_t>(bytes)), first(sent.size()), second(sent.size());
    std::iota(sent.begin(), sent.end(), static_cast<unsigned char>(3));
    stream_->Copy(a.data(), sent.data(), bytes);
    stream_->Copy(b.data(), a.data(), bytes);
    stream_->Zero(a.data(), bytes / 2);
    stream_->Copy(pinned.data(), b.data(), bytes);
    stream_->Copy(first.data(), a.data(), bytes);
    stream_->Copy(second.data(), pinned.data(), bytes);
    ASSERT_TRUE(stream_->Synchronize().ok()) << stream_->status();
    if (!has_data()) continue;
    EXPECT_EQ(second, sent) << bytes;
    std::fill(sent.begin(), sent.begin() + bytes / 2, static_cast<unsigned char>(0));
    EXPECT_EQ(first, sent) << bytes;
  }
}

TEST_P(DeviceTest, ElapseTakesItsTime) {
  const std::int64_t start = NowNs();
  stream_->Elapse(0);
  stream_->Elapse(-5);
  for (int i = 0; i < 3; ++i) stream_->Elapse(4 * kMillisecond);
  const Event event = stream_->Record();
  ASSERT_TRUE(stream_->Synchronize().ok()) << stream_->status();
  EXPECT_GE(NowNs() - start, 12 * kMillisecond - kMillisecond / 10);
  EXPECT_TRUE(event.Done());
}

TEST_P(DeviceTest, AStreamWaitsForAnEventOfAnother) {
  const std::unique_ptr<Stream> other = NewStream();
  const Buffer middle = Allocate(1024);
  const Buffer from = Allocate(1024, MemoryKind::kPinned), to = Allocate(1024, MemoryKind::kPinned);
  for (int round = 1; round <= 20; ++round) {
    if (has_data()) std::fill_n(static_cast<int*>(from.data()), 256, round);
    stream_->Elapse(kMillisecond / 2);
    stream_->Copy(middle.data(), from.data(), 1024);
    const Event ready = stream_->Record();
    other->Wait(ready);
    other->Copy(to.data(), middle.data(), 1024);
    const Event read = other->Record();
    ASSERT_TRUE(read.Wait().ok());
    EXPECT_TRUE(ready.Done());  // an event that a finished wait depended on
    if (has_data()) {
      ASSERT_EQ(static_cast<int*>(to.data())[255], round);
    }
  }
}

TEST_P(DeviceTest, ManyMoreEventsThanAnyRingKeepTheirMeaning) {
  constexpr int kEvents = 5000;
  const std::unique_ptr<Stream> other = NewStream();
  std::vector<Event> events;
  for (int i = 0; i < kEvents; ++i) {
    if (i % 1000 == 0) stream_->Elapse(kMillisecond);
    events.push_back(stream_->Record());
    if (i % 7 == 0) other->Wait(events[static_cast<std::size_t>(i / 2)]);  // old and young ones
  }
  ASSERT_TRUE(events.back().Wait().ok());
  for (const Event& event : events) {
    ASSERT_TRUE(event.Done());
    ASSERT_TRUE(event.Wait().ok());
  }
  EXPECT_TRUE(stream_->Synchronize().ok());
  EXPECT_TRUE(other->Synchronize().ok());
}

TEST_P(DeviceTest, AHostEventHoldsBackWhatIsEnqueuedAfterIt) {
  HostEventSource source;
  const Buffer memory = Allocate(sizeof(int)), result = Allocate(sizeof(int), MemoryKind::kPinned);
  int input = 0;
  std::thread producer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    input = 42;
    source.Complete(1);
  });
  stream_->Wait({&source, 1});
  stream_->Copy(memory.data(), &input, sizeof(int));
  stream_->Copy(result.data(), memory.data(), sizeof(int));
  const Status status = stream_->Synchronize();
  producer.join();
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(input, 42);
  if (has_data()) {
    EXPECT_EQ(*static_cast<int*>(result.data()), 42);
  }
}

TEST_P(DeviceTest, AFailureSticksAndLaterWorkDoesNothing) {
  HostEventSource source;
  source.Fail(absl::AbortedError("rank 2 is gone"));
  const Buffer result = Allocate(sizeof(int), MemoryKind::kPinned);
  int one = 1;
  stream_->Copy(result.data(), &one, sizeof(int));
  stream_->Wait({&source, 1});
  EXPECT_FALSE(stream_->ok());
  int two = 2;
  stream_->Copy(result.data(), &two, sizeof(int));
  stream_->Fail(absl::InternalError("later"));
  const Status status = stream_->Synchronize();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(status.message(), "rank 2 is gone");
  if (has_data()) {
    EXPECT_EQ(*static_cast<int*>(result.data()), 1);
  }
  EXPECT_EQ(stream_->Synchronize(), status);  // and stays
}

TEST_P(DeviceTest, TheGuardEndsAWait) {
  HostEventSource never;
  GivesUp guard;
  stream_->set_guard(&guard);
  stream_->Wait({&never, 1});
  EXPECT_EQ(stream_->status().message(), "worker 1 is in 0B2");
  EXPECT_EQ(stream_->Synchronize().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_P(DeviceTest, EnqueueingAllocatesNothing) {
  const std::unique_ptr<Stream> other = NewStream();
  const Buffer a = Allocate(4096), b = Allocate(4096);
  const auto work = [&] {
    stream_->Copy(a.data(), b.data(), 4096);
    stream_->Zero(b.data(), 4096);
    stream_->Elapse(1000);
    const Event event = stream_->Record();
    other->Wait(event);
    LYCIA_CHECK_OK(event.Wait());
  };
  work();  // a device may load its code at the first use
  const std::int64_t before = testing::AllocationsOfThisThread();
  for (int i = 0; i < 2000; ++i) work();
  EXPECT_EQ(testing::AllocationsOfThisThread() - before, 0);
  EXPECT_TRUE(stream_->Synchronize().ok());
  EXPECT_TRUE(other->Synchronize().ok());
}

INSTANTIATE_TEST_SUITE_P(Devices, DeviceTest, ::testing::Values(DeviceKind::kCpu, DeviceKind::kShape, DeviceKind::kCuda),
                         [](const auto& info) {
                           return std::string(info.param == DeviceKind::kCpu ? "Cpu" : info.param == DeviceKind::kShape ? "Shape" : "Cuda");
                         });

TEST(CudaDevice, WhatIsNotThereIsUnavailableWithTheReason) {
  for (int ordinal : {-1, 1 << 20}) {
    const StatusOr<std::unique_ptr<Device>> device = NewCudaDevice(ordinal);
    EXPECT_EQ(device.status().code(), absl::StatusCode::kUnavailable) << device.status();
    EXPECT_EQ(device.status().message().substr(0, 8), "no GPU: ") << device.status();
  }
}

}  // namespace
}  // namespace lycia
