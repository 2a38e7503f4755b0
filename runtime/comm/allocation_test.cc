// After its first round, communication allocates nothing: on no rank's thread and not on the communication thread.
#include <atomic>
#include <cstdlib>
#include <new>

#include "gtest/gtest.h"
#include "runtime/comm/conformance_data.h"
#include "runtime/comm/transports.h"

namespace {
std::atomic<bool> counting{false};
std::atomic<int> allocations{0};
}  // namespace

// Not inlined: GCC 12 would see memory of operator new given to free.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(bytes)) return memory;
  std::abort();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace lycia {
namespace {

using conformance::Of;

struct Operands {
  std::vector<float> whole, shard, from_all;
  std::vector<double> small;
};

// What a step does: sums of both kinds, gathers, a broadcast, an exchange, and messages both ways.
Status Step(Communicator& world, Channel& out, Channel& in, Operands& o, std::span<const std::int64_t> one_each) {
  const Event sent = out.Send(Of(o.whole), {}, {});
  const Event events[] = {
      world.AllReduce({.in = Of(o.small), .out = Of(o.small)}, {}),
      world.AllReduce({.in = Of(o.whole), .out = Of(o.whole)}, sent),
      world.ReduceScatter({.in = Of(o.from_all), .out = Of(o.shard), .accumulate = true}, {}),
      world.AllGather({.in = Of(o.shard), .out = Of(o.from_all)}, {}),
      world.Broadcast(Of(o.small), 1, Tag::kTest, {}),
      world.AllToAllV({.in = Of(o.whole), .out = Of(o.from_all), .send_offsets = one_each, .receive_offsets = one_each}, {})};
  const Channel::Received received = in.Receive();
  LYCIA_RETURN_IF_ERROR(received.event.Wait());
  in.Release(received.slot, {});
  for (const Event& event : events) LYCIA_RETURN_IF_ERROR(event.Wait());
  return sent.Wait();
}

TEST(Communication, AllocatesNothingInASteadyStep) {
  constexpr int kSize = 3;
  const Status status = RunThreadRanks(kSize, [](Communicator& world) -> Status {
    const int next = (world.rank() + 1) % kSize, before = (world.rank() + kSize - 1) % kSize;
    constexpr std::int64_t kElements = 200'000;
    LYCIA_ASSIGN_OR_RETURN(const auto out, world.OpenChannel({.peer = next, .sender = true, .bytes = kElements * 4}));
    LYCIA_ASSIGN_OR_RETURN(const auto in, world.OpenChannel({.peer = before, .bytes = kElements * 4}));
    Operands operands{std::vector<float>(kElements), std::vector<float>(1000), std::vector<float>(1000 * kSize), std::vector<double>(3)};
    const std::vector<std::int64_t> one_each = {0, 1, 2, 3};
    LYCIA_RETURN_IF_ERROR(Step(world, *out, *in, operands, one_each));
    LYCIA_RETURN_IF_ERROR(world.Barrier());
    counting.store(true);
    for (int step = 0; step < 20; ++step) LYCIA_RETURN_IF_ERROR(Step(world, *out, *in, operands, one_each));
    LYCIA_RETURN_IF_ERROR(world.Barrier());
    counting.store(false);
    return world.Barrier();
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(allocations, 0);
  // The count counts: a vector of one element is one allocation.
  counting.store(true);
  std::vector<int> one(1);
  counting.store(false);
  EXPECT_EQ(allocations, 1) << one[0];
}

}  // namespace
}  // namespace lycia
