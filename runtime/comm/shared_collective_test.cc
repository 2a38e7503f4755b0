// What the conformance suite over MPI cannot order: every interleaving of ranks that a random scheduler finds, on the memory alone.
#include "runtime/comm/shared_collective.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/comm/conformance_data.h"
#include "runtime/comm/shared_segment.h"

namespace lycia {
namespace {

using namespace conformance;  // NOLINT: the suite's data

struct FreeDeleter {
  void operator()(char* memory) const { std::free(memory); }
};

// All ranks of a group over one piece of memory.
struct Group {
  explicit Group(int size)
      : memory(static_cast<char*>(
            std::aligned_alloc(4096, (static_cast<std::size_t>(SharedCollective::SegmentBytes(size)) + 4095) / 4096 * 4096))) {
    std::fill_n(memory.get(), SharedCollective::SegmentBytes(size), '\0');
    for (int r = 0; r < size; ++r) ranks.push_back(std::make_unique<SharedCollective>(memory.get(), r, size));
  }
  std::unique_ptr<char, FreeDeleter> memory;
  std::vector<std::unique_ptr<SharedCollective>> ranks;
};

// One operation: what rank r calls, and what must be in `out` of rank r afterwards.
struct Step {
  std::vector<CollectiveCall> calls;
  std::vector<Values<float>> in, out, want;
  std::vector<std::int64_t> offsets;
};

std::int64_t Around(std::int64_t center, std::uint32_t bits) {
  return std::max<std::int64_t>(0, center + static_cast<std::int64_t>(bits % 5) - 2);
}

std::unique_ptr<Step> RandomStep(int size, std::uint64_t salt) {
  const RandomStream random(salt, "shared step", 0);
  auto step = std::make_unique<Step>();
  const std::int64_t piece = SharedCollective::PieceBytes(size) / 4, whole = SharedCollective::kWholeBytes / 4;
  const std::int64_t centers[] = {0, 7, whole, piece, 2 * piece, piece * size, 3 * piece + 17};
  const std::int64_t n = Around(centers[random.Bits(0) % 7], random.Bits(1));
  const int kind = static_cast<int>(random.Bits(2) % 3);
  const bool in_place = random.Bits(3) % 2 == 0;
  step->offsets = {0};
  for (int r = 0; r < size; ++r) {
    step->offsets.push_back(step->offsets.back() +
                            (random.Bits(10 + static_cast<std::uint64_t>(r)) % 3 == 0 ? 0 : Around(n / size, random.Bits(4))));
  }
  const std::int64_t elements = kind == 0 ? n : step->offsets.back();
  const Values<float> sum = SerialSum<float>(size, elements, salt);
  Values<float> gathered;
  for (int r = 0; r < size; ++r) {
    const Values<float> part =
        Data<float>(r, step->offsets[static_cast<std::size_t>(r) + 1] - step->offsets[static_cast<std::size_t>(r)], salt);
    gathered.insert(gathered.end(), part.begin(), part.end());
  }
  for (int r = 0; r < size; ++r) {
    const auto at = static_cast<std::size_t>(r);
    const std::int64_t begin = step->offsets[at], end = step->offsets[at + 1];
    CollectiveCall call{.dtype = DType::kF32, .elements = elements};
    Values<float> in = Data<float>(r, elements, salt), want = sum;
    std::int64_t place = 0;  // of `out` in `in`
    if (kind != 0) call.offsets = step->offsets;
    if (kind == 1) {
      call.operation = Operation::kReduceScatter;
      want.assign(sum.begin() + begin, sum.begin() + end);
      place = begin;
    } else if (kind == 2) {
      call.operation = Operation::kAllGather;
      want = gathered;
      in.assign(static_cast<std::size_t>(elements), 3.0f);
      std::copy(gathered.begin() + begin, gathered.begin() + end, in.begin() + begin);
    }
    step->in.push_back(std::move(in));
    step->out.emplace_back(want.size(), 9.0f);
    step->want.push_back(std::move(want));
    call.in = step->in[at].data() + (kind == 2 ? begin : 0);
    call.out = in_place ? step->in[at].data() + place : step->out[at].data();
    step->calls.push_back(call);
  }
  return step;
}

Status Check(const Step& step, int rank, std::uint64_t salt) {
  const auto at = static_cast<std::size_t>(rank);
  const auto* got = static_cast<const float*>(step.calls[at].out);
  return Same<float>(std::span<const float>(got, step.want[at].size()), step.want[at],
                     absl::StrCat(std::string(Name(step.calls[at].operation)), ", salt ", salt, ", rank ", rank));
}

TEST(SharedCollective, AnyInterleavingOfRanksGivesTheLeftFold) {
  constexpr int kSteps = 12;
  for (const int size : {2, 3, 5}) {
    Group group(size);
    std::vector<std::unique_ptr<Step>> steps;
    for (int k = 0; k < kSteps; ++k) steps.push_back(RandomStep(size, static_cast<std::uint64_t>(100 * size + k)));
    std::vector<int> at(static_cast<std::size_t>(size), -1);  // the call of each rank
    const RandomStream random(static_cast<std::uint64_t>(size), "scheduler", 0);
    std::uint64_t drawn = 0;
    int finished = 0, favourite = 0;
    while (finished < size) {
      ASSERT_LT(drawn, 1'000'000u) << "no rank of " << size << " gets on";
      const std::uint32_t bits = random.Bits(drawn++);
      if (bits % 97 == 0)
        favourite = static_cast<int>(bits / 97 % static_cast<std::uint32_t>(size));  // one rank runs far ahead of the others
      const int r = bits % 4 != 0 ? favourite : static_cast<int>(bits / 4 % static_cast<std::uint32_t>(size));
      const auto rank = static_cast<std::size_t>(r);
      if (at[rank] == kSteps) continue;
      if (at[rank] >= 0 && !group.ranks[rank]->done()) group.ranks[rank]->Advance();
      if (at[rank] >= 0 && !group.ranks[rank]->done()) continue;
      if (at[rank] >= 0) {
        const Status same = Check(*steps[static_cast<std::size_t>(at[rank])], r, static_cast<std::uint64_t>(100 * size + at[rank]));
        ASSERT_TRUE(same.ok()) << same;
      }
      if (++at[rank] == kSteps) {
        ++finished;
      } else {
        group.ranks[rank]->Begin(steps[static_cast<std::size_t>(at[rank])]->calls[rank]);
      }
    }
    for (const auto& rank : group.ranks) EXPECT_TRUE(rank->status().ok()) << rank->status();
  }
}

TEST(SharedCollective, RanksOnThreadsOfTheirOwn) {
  constexpr int kSize = 3, kSteps = 20;
  Group group(kSize);
  std::vector<std::unique_ptr<Step>> steps;
  for (int k = 0; k < kSteps; ++k) steps.push_back(RandomStep(kSize, static_cast<std::uint64_t>(7000 + k)));
  std::vector<std::thread> threads;
  for (int r = 0; r < kSize; ++r) {
    threads.emplace_back([&, r] {
      SharedCollective& mine = *group.ranks[static_cast<std::size_t>(r)];
      for (int k = 0; k < kSteps; ++k) {
        const Step& step = *steps[static_cast<std::size_t>(k)];
        for (mine.Begin(step.calls[static_cast<std::size_t>(r)]); !mine.done();) {
          if (!mine.Advance()) std::this_thread::yield();
        }
        const Status same = Check(step, r, static_cast<std::uint64_t>(7000 + k));
        EXPECT_TRUE(same.ok()) << same;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// In bf16 a sum is added in f32 and rounded once: 1 + 2^-8 + 2^-8 is 1 + 2^-7, and 1 if every addition were rounded.
TEST(SharedCollective, Bf16IsRoundedOnce) {
  constexpr int kSize = 3;
  for (const std::int64_t n : {std::int64_t{5}, SharedCollective::kWholeBytes, SharedCollective::PieceBytes(kSize) * 2}) {
    Group group(kSize);
    std::vector<std::vector<BFloat16>> values;
    for (int r = 0; r < kSize; ++r) {
      values.emplace_back(static_cast<std::size_t>(n), BFloat16(r == 0 ? 1.0f : 0x1p-8f));
      group.ranks[static_cast<std::size_t>(r)]->Begin(
          {.dtype = DType::kBF16, .in = values.back().data(), .out = values.back().data(), .elements = n});
    }
    for (int round = 0; round < 100; ++round) {
      for (const auto& rank : group.ranks) rank->Advance();
    }
    for (int r = 0; r < kSize; ++r) {
      ASSERT_TRUE(group.ranks[static_cast<std::size_t>(r)]->done());
      for (const BFloat16 value : values[static_cast<std::size_t>(r)]) ASSERT_EQ(static_cast<float>(value), 1.0f + 0x1p-7f);
    }
  }
}

TEST(SharedCollective, TellsRanksInDifferentOperations) {
  Group group(2);
  Values<float> a(100), b(100);
  group.ranks[0]->Begin({.operation = Operation::kAllReduce, .in = a.data(), .out = a.data(), .elements = 100});
  group.ranks[1]->Begin({.operation = Operation::kAllReduce, .in = b.data(), .out = b.data(), .elements = 99});
  for (int round = 0; round < 3; ++round) {
    for (const auto& rank : group.ranks) rank->Advance();
  }
  for (const auto& rank : group.ranks) {
    EXPECT_EQ(rank->status().code(), absl::StatusCode::kInternal);
    EXPECT_FALSE(rank->done());
  }
}

TEST(SharedSegment, IsOneMemoryUntilItIsForgotten) {
  const std::string name = SharedSegment::NewName();
  EXPECT_EQ(SharedSegment::Open(name, 8192).status().code(), absl::StatusCode::kNotFound);
  StatusOr<std::unique_ptr<SharedSegment>> created = SharedSegment::Create(name, 8192);
  ASSERT_TRUE(created.ok()) << created.status();
  EXPECT_FALSE(SharedSegment::Create(name, 8192).ok());  // never somebody else's
  EXPECT_EQ(SharedSegment::Open(name, 4096).status().code(), absl::StatusCode::kNotFound);
  StatusOr<std::unique_ptr<SharedSegment>> opened = SharedSegment::Open(name, 8192);
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_TRUE(std::all_of((*opened)->data(), (*opened)->data() + 8192, [](char c) { return c == 0; }));
  (*created)->data()[4711] = 'x';
  EXPECT_EQ((*opened)->data()[4711], 'x');
  SharedSegment::Forget(name);
  EXPECT_EQ(SharedSegment::Open(name, 8192).status().code(), absl::StatusCode::kNotFound);
  created->reset();
  EXPECT_EQ((*opened)->data()[4711], 'x');
  // More than there can be: refused here, and nothing is left behind.
  const StatusOr<std::unique_ptr<SharedSegment>> huge = SharedSegment::Create(name, std::int64_t{1} << 60);
  EXPECT_EQ(huge.status().code(), absl::StatusCode::kResourceExhausted) << huge.status();
  EXPECT_EQ(SharedSegment::Open(name, std::int64_t{1} << 60).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace lycia
