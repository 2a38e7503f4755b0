// The transport over NCCL on an NCCL without GPUs, as unhelpful as the real one may be (testing/fake_nccl.h): the conformance suite with
// both kinds of sums, in one stream and in many, and what only this transport can get wrong.
#include <algorithm>
#include <atomic>
#include <optional>
#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/comm/bootstrap.h"
#include "runtime/comm/communicator_conformance.h"
#include "runtime/comm/conformance_data.h"
#include "runtime/comm/nccl_error.h"
#include "runtime/comm/nccl_world.h"
#include "runtime/comm/tcp_world.h"
#include "runtime/comm/testing/fake_nccl.h"
#include "runtime/comm/testing/pinned_operands_cuda.h"
#include "runtime/comm/transports.h"
#include "runtime/device/device.h"
#include "runtime/device/testing/fake_cuda.h"

namespace lycia {
namespace {

using conformance::Of;
using conformance::Values;
using nccl::Options;
using nccl::Sums;
using std::chrono::milliseconds;
using ::testing::HasSubstr;

Status RunRanks(int size, const Options& options, const std::function<Status(Communicator&)>& body) {
  LYCIA_ASSIGN_OR_RETURN(const auto world, nccl::OpenThreadWorld(std::vector<int>(static_cast<std::size_t>(size), 0), options));
  return RunRanksOf(world, body);
}

class FakeNccl : public testing::Test {
 protected:
  ~FakeNccl() override {
    EXPECT_EQ(fake_nccl::Alive(), 0);
    fake_nccl::Reset();
    fake_cuda::Reset();
    conformance::sums_in_rank_order = true;
  }
  PinnedOperands pinned_;
};

struct Run {
  ConformanceCase test;
  int size = 1;
  Sums sums = Sums::kLibrary;
  bool serial = false;
};

std::vector<Run> AllRuns() {
  std::vector<Run> runs;
  for (const ConformanceCase& test : AllConformanceCases()) {
    for (const int size : {1, 2, 3, 4}) {
      if (size > 3 && test.large) continue;
      runs.push_back({test, size, Sums::kInRankOrder, false});
      runs.push_back({test, size, Sums::kLibrary, size % 2 == 1});
    }
  }
  return runs;
}

class NcclConformance : public FakeNccl, public testing::WithParamInterface<Run> {};

TEST_P(NcclConformance, Holds) {
  conformance::sums_in_rank_order = GetParam().sums == Sums::kInRankOrder;
  const int before = fake_cuda::LiveObjects();
  const Status status = RunRanks(GetParam().size, {.sums = GetParam().sums, .serial = GetParam().serial}, GetParam().test.run);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(fake_cuda::LiveObjects(), before);
  EXPECT_EQ(fake_nccl::Aborted(), 0);
}

INSTANTIATE_TEST_SUITE_P(Fake, NcclConformance, testing::ValuesIn(AllRuns()), [](const testing::TestParamInfo<Run>& info) {
  return StrCat(info.param.test.name, "_", info.param.size, info.param.sums == Sums::kInRankOrder ? "_in_rank_order" : "",
                info.param.serial ? "_serial" : "");
});

// What NCCL's own sums are: another order, the same every time.
TEST_F(FakeNccl, TheLibrarysSumsAreNotALeftFold) {
  const auto all_reduce = [&](Values<float>* out) {
    return RunRanks(3, {}, [&](Communicator& world) -> Status {
      Values<float> values = conformance::Data<float>(world.rank(), 5000, 1);
      LYCIA_RETURN_IF_ERROR(world.AllReduce({.in = Of(values), .out = Of(values)}, {}).Wait());
      if (world.rank() == 0) *out = values;
      return OkStatus();
    });
  };
  Values<float> first, again;
  ASSERT_TRUE(all_reduce(&first).ok());
  ASSERT_TRUE(all_reduce(&again).ok());
  EXPECT_EQ(first, again);
  EXPECT_NE(first, conformance::SerialSum<float>(3, 5000, 1));
}

// Rule 1 of NCCL: whatever the communicators, all ranks launch in one order, here that of the calls; also where the ranks' threads are far
// apart in time. In its own words: "world.1 all-reduce", "world.2 all-reduce", ...
TEST_F(FakeNccl, CollectivesAreLaunchedInTheOrderOfTheCalls) {
  for (const bool serial : {false, true}) {
    const Status ran = RunRanks(3, {.serial = serial}, [&](Communicator& world) -> Status {
      std::vector<std::unique_ptr<Communicator>> groups;
      for (int g = 0; g < 3; ++g) {
        LYCIA_ASSIGN_OR_RETURN(groups.emplace_back(), world.Split(std::vector<int>{0, 0, 0}));
      }
      LYCIA_RETURN_IF_ERROR(world.Barrier());
      Values<float> values(60);
      Event last;
      for (int k = 0; k < 60; ++k) {
        const Tensor one = Of(std::span<float>(values).subspan(static_cast<std::size_t>(k), 1));
        last = groups[static_cast<std::size_t>(k * 7 % 3)]->AllReduce({.in = one, .out = one}, {});
        if (k % 11 == world.rank()) std::this_thread::sleep_for(milliseconds(1));
      }
      LYCIA_RETURN_IF_ERROR(last.Wait());
      return world.Barrier();
    });
    ASSERT_TRUE(ran.ok()) << ran;
    const std::vector<std::string> order = fake_nccl::LaunchesOf(0);
    EXPECT_EQ(fake_nccl::LaunchesOf(1), order);
    EXPECT_EQ(fake_nccl::LaunchesOf(2), order);
    std::vector<std::string> sums;
    for (const std::string& launch : order) {
      if (launch.find("world.") == 0 && launch.find("all-reduce") != std::string::npos) sums.push_back(launch);
    }
    ASSERT_EQ(sums.size(), 60u);
    for (int k = 0; k < 60; ++k) EXPECT_EQ(sums[static_cast<std::size_t>(k)], StrCat("world.", k * 7 % 3 + 1, " all-reduce"));
    fake_nccl::Reset();
  }
}

// A call that waits for an event of the host is overtaken by other communicators, unless the world is serial.
TEST_F(FakeNccl, OnlyWhatWaitsForTheHostIsOvertaken) {
  const Status ran = RunRanks(2, {}, [&](Communicator& world) -> Status {
    LYCIA_ASSIGN_OR_RETURN(const auto other, world.Split(std::vector<int>{0, 0}));
    HostEventSource ready;
    Values<float> late(1), early(1);
    const Event last = world.AllReduce({.in = Of(late), .out = Of(late)}, {&ready, 1});
    LYCIA_RETURN_IF_ERROR(other->AllReduce({.in = Of(early), .out = Of(early)}, {}).Wait());
    EXPECT_FALSE(last.Done());
    ready.Complete(1);
    return last.Wait();
  });
  EXPECT_TRUE(ran.ok()) << ran;
}

// ncclCommSplit in one fixed order: all ranks of a communicator split it in the same order, with or without a part in the result, and
// the sender of a pair is its first rank.
TEST_F(FakeNccl, RanksSplitInOneOrder) {
  constexpr int kRanks = 5;
  const Status ran = RunRanks(kRanks, {}, [&](Communicator& world) -> Status {
    LYCIA_ASSIGN_OR_RETURN(const auto some, world.Split(std::vector<int>{-1, 3, 3, -1, 3}));
    EXPECT_EQ(some == nullptr, world.rank() == 0 || world.rank() == 3);
    LYCIA_ASSIGN_OR_RETURN(const auto in, world.OpenChannel({.peer = (world.rank() + 1) % kRanks, .bytes = 8}));
    return world.Barrier();
  });
  ASSERT_TRUE(ran.ok()) << ran;
  std::vector<std::vector<std::string>> splits;
  for (int r = 0; r < kRanks; ++r) splits.push_back(fake_nccl::SplitsOf(r));
  for (int r = 0; r < kRanks; ++r) {
    // The split, and for the channels five rounds of pairs in two directions.
    ASSERT_EQ(splits[static_cast<std::size_t>(r)].size(), 1u + 2 * kRanks);
    EXPECT_EQ(splits[static_cast<std::size_t>(r)][0], StrCat("world split color ", r == 0 || r == 3 ? -1 : 3, " key ",
                                                             r == 1   ? 0
                                                             : r == 2 ? 1
                                                             : r == 4 ? 2
                                                                      : 0));
  }
  for (std::size_t round = 1; round < splits[0].size(); ++round) {
    int idle = 0;
    for (int r = 0; r < kRanks; ++r) idle += splits[static_cast<std::size_t>(r)][round].find("color -1") != std::string::npos ? 1 : 0;
    EXPECT_EQ(idle, 1) << "round " << round;  // an odd number: one rests
  }
}

TEST_F(FakeNccl, AnAbortEndsEveryRankOfTheProcess) {
  const Status why = absl::UnavailableError("cable cut");
  const Status ran = RunRanks(4, {}, [&](Communicator& world) -> Status {
    Values<float> value(1000, 1.0f);
    std::unique_ptr<Channel> channel;
    LYCIA_ASSIGN_OR_RETURN(channel, world.OpenChannel({.peer = world.rank() ^ 3, .sender = world.rank() == 2, .bytes = 4000}));
    LYCIA_RETURN_IF_ERROR(world.Barrier());
    Status ended;
    if (world.rank() == 0 || world.rank() == 2) {
      ended = world.AllReduce({.in = Of(value), .out = Of(value)}, {}).Wait();
    } else if (world.rank() == 1) {
      ended = channel->Receive().event.Wait();  // rank 2 sends nothing
    } else {
      std::this_thread::sleep_for(milliseconds(20));
      world.Abort(why);
      world.Abort(absl::InternalError("a later reason"));
      ended = world.Barrier();
    }
    EXPECT_EQ(ended, why);
    EXPECT_EQ(world.Barrier(), why);
    EXPECT_EQ(world.Split(std::vector<int>(4, 0)).status(), why);
    return OkStatus();
  });
  EXPECT_TRUE(ran.ok()) << ran;
  EXPECT_GT(fake_nccl::Aborted(), 4);  // the world's and the pairs'
}

TEST_F(FakeNccl, TheFirstFailureIsReportedAndEndsTheOthers) {
  const Status ran = RunRanks(3, {}, [&](Communicator& world) -> Status {
    if (world.rank() == 1) return absl::DataLossError("disk on fire");
    const Status ended = world.Barrier();
    EXPECT_EQ(ended.message(), "rank 1 failed: disk on fire");
    return ended;
  });
  EXPECT_EQ(ran, absl::DataLossError("disk on fire"));
}

TEST_F(FakeNccl, AnOperationThatDoesNotEndIsAbortedAtItsDeadline) {
  const Status ran = RunRanks(2, {.operation_patience = milliseconds(60)}, [&](Communicator& world) -> Status {
    Values<float> value(4096);
    if (world.rank() == 1) {
      while (fake_nccl::Aborted() == 0) std::this_thread::sleep_for(milliseconds(1));
      return OkStatus();
    }
    return world.AllReduce({.in = Of(value), .out = Of(value)}, {}).Wait();
  });
  EXPECT_TRUE(absl::IsDeadlineExceeded(ran)) << ran;
  EXPECT_THAT(std::string(ran.message()),
              HasSubstr("all-reduce of 4096 f32 (NCCL, rank 0 of 2 of world) or one before it has not ended within 60 ms"));
}

TEST_F(FakeNccl, APeerThatIsGoneIsNoticed) {
  const Status ran = RunRanks(2, {}, [&](Communicator& world) -> Status {
    Values<float> value(7);
    if (world.rank() == 1) {
      fake_nccl::Break(0, ncclRemoteError);
      return world.Barrier();
    }
    return world.AllReduce({.in = Of(value), .out = Of(value)}, {}).Wait();
  });
  EXPECT_TRUE(absl::IsUnavailable(ran)) << ran;
  EXPECT_THAT(std::string(ran.message()), HasSubstr("ncclRemoteError"));
  EXPECT_THAT(std::string(ran.message()), HasSubstr("rank 0 of 2 of world"));
}

// A rank that has the id and never joins.
TEST_F(FakeNccl, AWorldThatDoesNotComeAboutIsGivenUp) {
  std::vector<std::unique_ptr<Communicator>> controls = OpenThreadWorld(2);
  std::thread other([control = controls[1].get()] { (void)BootstrapOver(control)->Exchange("NCCL's unique id", ""); });
  const Status opened = nccl::OpenWorld(std::move(controls[0]), {.setup_patience = milliseconds(80)}).status();
  other.join();
  EXPECT_TRUE(absl::IsDeadlineExceeded(opened)) << opened;
  EXPECT_THAT(std::string(opened.message()), HasSubstr("NCCL communicator world has not come about within 80 ms: rank 0"));
  EXPECT_EQ(fake_nccl::Aborted(), 1);
}

TEST_F(FakeNccl, ASplitThatNotAllRanksCallIsGivenUp) {
  const Status ran = RunRanks(2, {.setup_patience = milliseconds(80)}, [&](Communicator& world) -> Status {
    if (world.rank() == 0) return world.Split(std::vector<int>{0, 0}).status();
    while (fake_nccl::Aborted() == 0) std::this_thread::sleep_for(milliseconds(1));
    return OkStatus();
  });
  EXPECT_TRUE(absl::IsDeadlineExceeded(ran)) << ran;
  EXPECT_THAT(std::string(ran.message()), HasSubstr("Split, collective over world: rank 0 of 2 waited 80 ms, and not all ranks came"));
}

TEST_F(FakeNccl, RanksThatDisagreeAreToldSo) {
  const Status credits = RunRanks(2, {}, [](Communicator& world) -> Status {
    Values<float> value(2);
    LYCIA_ASSIGN_OR_RETURN(
        const auto end,
        world.OpenChannel({.peer = 1 - world.rank(), .sender = world.rank() == 0, .bytes = 8, .credits = 1 + world.rank()}));
    const Event event = world.rank() == 0 ? end->Send(Of(value), {}, {}) : end->Receive().event;
    LYCIA_RETURN_IF_ERROR(event.Wait());
    return world.Barrier();
  });
  EXPECT_EQ(credits.code(), absl::StatusCode::kInternal) << credits;
  EXPECT_THAT(std::string(credits.message()), HasSubstr("under 1 credits"));
}

// Page-locked, then pageable operands, then page-locked ones: the order of the calls holds between NCCL and the control world.
TEST_F(FakeNccl, OperandsOfTheHostGoByTheControlWorldInTheirTurn) {
  const Status ran = RunRanks(2, {}, [](Communicator& world) -> Status {
    Values<double> pinned(1000, 1.0);
    std::vector<double> pageable(300'000, 1.0);
    HostEventSource ready;
    const Event first = world.AllReduce({.in = Of(pinned), .out = Of(pinned)}, {&ready, 1});
    const Event second = world.AllReduce({.in = Of(pageable), .out = Of(pageable)}, {});
    const Event third = world.AllReduce({.in = Of(pinned), .out = Of(pinned)}, {});
    std::this_thread::sleep_for(milliseconds(5));
    EXPECT_FALSE(second.Done());
    ready.Complete(1);
    LYCIA_RETURN_IF_ERROR(third.Wait());
    EXPECT_TRUE(first.Done() && second.Done());
    EXPECT_EQ(pageable[299'999], 2.0);
    EXPECT_EQ(pinned[999], 4.0);
    return world.Barrier();
  });
  EXPECT_TRUE(ran.ok()) << ran;
}

// Streams wait for NCCL on the device: the host is ahead of both.
TEST_F(FakeNccl, ComputeAndSumsFollowOneAnotherWithoutTheHost) {
  const Status ran = RunRanks(2, {}, [](Communicator& world) -> Status {
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, NewCudaDevice(0));
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream, device->NewStream());
    LYCIA_ASSIGN_OR_RETURN(const Buffer memory, device->Allocate(4, MemoryKind::kDevice));
    LYCIA_ASSIGN_OR_RETURN(const Buffer host, device->Allocate(8, MemoryKind::kPinned));
    static_cast<float*>(host.data())[0] = 1.0f + static_cast<float>(world.rank());
    const Tensor tensor{memory.data(), DType::kF32, {1}};
    stream->Elapse(20'000'000);
    stream->Copy(memory.data(), host.data(), 4);
    for (int k = 0; k < 3; ++k) stream->Wait(world.AllReduce({.in = tensor, .out = tensor}, stream->Record()));
    stream->Copy(static_cast<float*>(host.data()) + 1, memory.data(), 4);
    const Event end = stream->Record();
    EXPECT_FALSE(end.Done());
    LYCIA_RETURN_IF_ERROR(end.Wait());
    EXPECT_EQ(static_cast<float*>(host.data())[1], 12.0f);  // 3, 6, 12
    return world.Barrier();
  });
  EXPECT_TRUE(ran.ok()) << ran;
}

// As under srun without MPI: files, TCP, NCCL.
TEST_F(FakeNccl, AWorldOpensOverFilesAndTcp) {
  std::string folder = std::string(testing::TempDir()) + "nccl-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  std::vector<std::thread> ranks;
  std::vector<Status> ended(3, absl::UnknownError("not run"));
  for (int r = 0; r < 3; ++r) {
    ranks.emplace_back([&, r] {
      ended[static_cast<std::size_t>(r)] = [&]() -> Status {
        LYCIA_ASSIGN_OR_RETURN(const auto bootstrap, OpenFileBootstrap(folder, {.rank = r, .size = 3, .job = "7"}));
        LYCIA_ASSIGN_OR_RETURN(auto control, OpenTcpWorld(*bootstrap, {.host = "localhost"}));
        LYCIA_ASSIGN_OR_RETURN(const auto world, nccl::OpenWorld(std::move(control), {}));
        Values<std::int64_t> value = {r + 1};
        LYCIA_ASSIGN_OR_RETURN(const auto in, world->OpenChannel({.peer = (r + 2) % 3, .bytes = 8}));
        LYCIA_ASSIGN_OR_RETURN(const auto out, world->OpenChannel({.peer = (r + 1) % 3, .sender = true, .bytes = 8}));
        const Event sent = out->Send(Of(value), {}, {});
        const Channel::Received got = in->Receive();
        LYCIA_RETURN_IF_ERROR(got.event.Wait());
        LYCIA_RETURN_IF_ERROR(conformance::Expect(*static_cast<std::int64_t*>(in->data(got.slot)) == (r + 2) % 3 + 1, "a wrong message"));
        LYCIA_RETURN_IF_ERROR(sent.Wait());
        LYCIA_RETURN_IF_ERROR(world->AllReduce({.in = Of(value), .out = Of(value)}, {}).Wait());
        LYCIA_RETURN_IF_ERROR(conformance::Expect(value[0] == 6, "a wrong sum"));
        return world->Barrier();
      }();
    });
  }
  for (std::thread& rank : ranks) rank.join();
  for (const Status& status : ended) EXPECT_TRUE(status.ok()) << status;
}

TEST(NcclError, SaysWhatWhereAndHowMuch) {
  const Status status =
      nccl::ToStatus(ncclRemoteError, nullptr, "ncclAllReduce(a)", "g.cc", 7, "all-reduce of 3 f32, rank 1 of 2 of world");
  EXPECT_EQ(status,
            absl::UnavailableError("ncclAllReduce(a) at g.cc:7: remote process exited or there was a network error (ncclRemoteError); "
                                   "all-reduce of 3 f32, rank 1 of 2 of world"));
  EXPECT_EQ(nccl::ToStatus(ncclInvalidUsage, nullptr, "f", "g.cc", 1, "").code(), absl::StatusCode::kInternal);
  EXPECT_EQ(nccl::Version(), StrCat(NCCL_MAJOR, ".", NCCL_MINOR, ".", NCCL_PATCH));
}

}  // namespace
}  // namespace lycia
