// The conformance suite over threads, what only one process can test (failures, broken promises), and the dry run.
#include <time.h>

#include <atomic>

#include "gtest/gtest.h"
#include "runtime/comm/communicator_conformance.h"
#include "runtime/comm/conformance_counters.h"
#include "runtime/comm/conformance_data.h"
#include "runtime/comm/transports.h"

namespace lycia {
namespace {

using conformance::Of;

void Pause(int ms) {
  const timespec pause{0, ms * 1'000'000};
  ::nanosleep(&pause, nullptr);
}

struct Run {
  ConformanceCase test;
  int size;
};

std::vector<Run> AllRuns() {
  std::vector<Run> runs;
  for (const int size : {1, 2, 3, 4, 5, 8}) {
    for (const ConformanceCase& test : AllConformanceCases()) {
      if (size <= 3 || !test.large) runs.push_back({test, size});  // minutes under a sanitizer, and nothing new
    }
  }
  return runs;
}

class ThreadConformance : public testing::TestWithParam<Run> {};

TEST_P(ThreadConformance, Holds) {
  const Status status = RunThreadRanks(GetParam().size, GetParam().test.run);
  EXPECT_TRUE(status.ok()) << status;
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadConformance, testing::ValuesIn(AllRuns()), [](const testing::TestParamInfo<Run>& info) {
  return std::string(info.param.test.name) + "_" + std::to_string(info.param.size);
});

TEST(ThreadWorld, AbortEndsEveryWaitOfEveryRank) {
  const Status why = absl::UnavailableError("cable cut");
  const Status status = RunThreadRanks(4, [&](Communicator& world) -> Status {
    std::vector<float> value(100'000, 1.0f);
    std::vector<int> all(4, 0);
    Status ended;
    if (world.rank() == 0) {
      ended = world.AllReduce({.in = Of(value), .out = Of(value)}, {}).Wait();
    } else if (world.rank() == 1) {
      LYCIA_ASSIGN_OR_RETURN(const auto in, world.OpenChannel({.peer = 2, .bytes = 400'000}));
      ended = in->Receive().event.Wait();
    } else if (world.rank() == 2) {
      LYCIA_ASSIGN_OR_RETURN(const auto out, world.OpenChannel({.peer = 0, .sender = true, .bytes = 400'000}));
      ended = out->Send(Of(value), {}, {}).Wait();
      for (int i = 0; i < 10; ++i) EXPECT_EQ(out->Send(Of(value), {}, {}).Wait(), ended);  // more than the window: it failed, not we
    } else {
      Pause(20);
      world.Abort(why);
      world.Abort(absl::InternalError("a later reason"));
      ended = world.Barrier();
    }
    EXPECT_EQ(ended, why);
    EXPECT_EQ(world.Barrier(), why);
    EXPECT_EQ(world.Split(all).status(), why);
    LYCIA_ASSIGN_OR_RETURN(const auto late, world.OpenChannel({.peer = 0, .bytes = 8}));
    EXPECT_EQ(late->Receive().event.Wait(), why);
    return OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

// The rank that failed first is reported, not the ones that fell with it; its operands may be gone while others still wait.
TEST(ThreadWorld, TheRootCauseIsReported) {
  for (int failing = 0; failing < 4; ++failing) {
    std::atomic<int> fell_with_it{0};
    const Status status = RunThreadRanks(4, [&](Communicator& world) -> Status {
      std::vector<float> value(300'000, 1.0f);
      LYCIA_ASSIGN_OR_RETURN(const auto half, world.Split(std::vector<int>{0, 1, 0, 1}));
      if (world.rank() == failing) {
        LYCIA_ASSIGN_OR_RETURN(const auto in, world.OpenChannel({.peer = (failing + 1) % 4, .bytes = 8}));
        (void)in->Receive();
        (void)half->AllReduce({.in = Of(value), .out = Of(value)}, {});
        return absl::DataLossError("disk on fire");
      }
      (void)half->AllReduce({.in = Of(value), .out = Of(value)}, {});
      const Status ended = world.Barrier();
      EXPECT_EQ(ended.message(), absl::StrCat("rank ", failing, " failed: disk on fire"));
      ++fell_with_it;
      return Annotate(ended, "training");
    });
    EXPECT_EQ(status, absl::DataLossError("disk on fire"));
    EXPECT_EQ(fell_with_it, 3);
  }
}

TEST(ThreadWorld, RanksThatDisagreeAreToldSo) {
  const Status sizes = RunThreadRanks(2, [](Communicator& world) {
    std::vector<float> value(world.rank() == 0 ? 10 : 12);
    return world.AllReduce({.in = Of(value), .out = Of(value)}, {}).Wait();
  });
  EXPECT_EQ(sizes.code(), absl::StatusCode::kInternal) << sizes;
  EXPECT_NE(sizes.message().find("disagree"), std::string::npos) << sizes;

  const Status credits = RunThreadRanks(2, [](Communicator& world) -> Status {
    std::vector<float> value(2);
    LYCIA_ASSIGN_OR_RETURN(const auto end, world.OpenChannel({.peer = 1 - world.rank(), .sender = world.rank() == 0, .bytes = 8,
                                                              .credits = 1 + world.rank()}));
    const Event event = world.rank() == 0 ? end->Send(Of(value), {}, {}) : end->Receive().event;
    LYCIA_RETURN_IF_ERROR(event.Wait());
    return world.Barrier();
  });
  EXPECT_EQ(credits.code(), absl::StatusCode::kInternal) << credits;
  EXPECT_NE(credits.message().find("under 1 credits"), std::string::npos) << credits;
}

class GivesUpAfter final : public WaitGuard {
 public:
  explicit GivesUpAfter(std::int64_t ns) : ns_(ns) {}
  Status StillWaiting(std::int64_t waited_ns) override {
    return waited_ns < ns_ ? OkStatus() : absl::DeadlineExceededError("rank 1 is stuck in 2F0");
  }

 private:
  const std::int64_t ns_;
};

// A peer that never comes is found by the guard of the wait; the world then ends with what the guard said.
TEST(ThreadWorld, AGuardEndsAHang) {
  const Status status = RunThreadRanks(2, [](Communicator& world) -> Status {
    if (world.rank() == 1) return world.Barrier();
    LYCIA_ASSIGN_OR_RETURN(const auto in, world.OpenChannel({.peer = 1, .bytes = 8}));
    GivesUpAfter guard(30'000'000);
    return in->Receive().event.Wait(&guard);
  });
  EXPECT_EQ(status, absl::DeadlineExceededError("rank 1 is stuck in 2F0"));
}

TEST(ThreadWorld, WorldsAreApart) {
  std::vector<std::unique_ptr<Communicator>> a = OpenThreadWorld(1), b = OpenThreadWorld(1);
  a[0]->Abort(absl::InternalError("only here"));
  EXPECT_FALSE(a[0]->Barrier().ok());
  EXPECT_TRUE(b[0]->Barrier().ok());
  EXPECT_EQ(b[0]->transport(), "threads");
}

TEST(ThreadWorldDeathTest, BrokenPromisesAreCaught) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  std::vector<float> value(2);
  EXPECT_DEATH(
      {
        auto world = OpenThreadWorld(1);
        auto out = std::move(world[0]->OpenChannel({.sender = true, .bytes = 8, .send_window = 2})).value();
        for (int i = 0; i < 3; ++i) out->Send(Of(value), {}, {});
      },
      "more than 2 sends are open");
  EXPECT_DEATH(
      {
        auto world = OpenThreadWorld(1);
        auto in = std::move(world[0]->OpenChannel({.bytes = 8, .credits = 2})).value();
        for (int i = 0; i < 3; ++i) in->Receive();
      },
      "every slot is held");
}

TEST(DryRun, CountsAtAnySize) {
  for (const int size : {1, 2, 3, 5, 64, 4096}) {
    for (const int rank : {0, size / 2, size - 1}) {
      const std::unique_ptr<Communicator> world = OpenDryRunWorld(rank, size);
      Status status = conformance::DoCountedWork(*world);
      EXPECT_TRUE(status.ok()) << status;
      status = conformance::CheckCountedWork(*world);
      EXPECT_TRUE(status.ok()) << status;
    }
  }
}

TEST(DryRun, NeedsNoMemoryAndKnowsTheWholeTable) {
  const std::unique_ptr<Communicator> world = OpenDryRunWorld(4000, 4096);
  EXPECT_EQ(world->transport(), "dry-run");
  std::vector<int> rows(4096), none(4096, -1);
  for (int r = 0; r < 4096; ++r) rows[static_cast<std::size_t>(r)] = r / 64;
  const StatusOr<std::unique_ptr<Communicator>> row = world->Split(rows);
  ASSERT_TRUE(row.ok());
  EXPECT_EQ((*row)->rank(), 4000 % 64);
  EXPECT_EQ((*row)->size(), 64);
  EXPECT_EQ(world->Split(none)->get(), nullptr);
  EXPECT_TRUE(world->Barrier().ok());
  const Tensor huge{nullptr, DType::kF32, {std::int64_t{1} << 40}};
  EXPECT_TRUE((*row)->AllReduce({.in = huge, .out = huge, .tag = Tag::kGradient}, {}).Done());
  // 2 * 63/64 * 2^42 bytes
  EXPECT_EQ((*row)->counters().at(Operation::kAllReduce, Tag::kGradient), (Counter{1, (std::int64_t{1} << 37) * 63}));
  EXPECT_EQ(world->counters().total(), Counter{});
  const auto in = std::move((*row)->OpenChannel({.peer = 63, .bytes = 100})).value();
  const Channel::Received received = in->Receive();
  EXPECT_TRUE(received.event.Done());
  EXPECT_EQ(in->data(received.slot), nullptr);
}

}  // namespace
}  // namespace lycia
