#include "runtime/comm/communicator_conformance.h"

#include <time.h>

#include <algorithm>

#include "runtime/comm/conformance_data.h"

namespace lycia {
namespace {

using namespace conformance;  // NOLINT: the suite's own data

template <typename T>
Status AllGatherOf(Communicator& world, const std::vector<std::int64_t>& offsets, bool give_offsets, std::uint64_t salt) {
  const int rank = world.rank();
  const std::string what = absl::StrCat("all-gather of ", offsets.back(), " salt ", salt, " on rank ", rank);
  Values<T> want;
  for (int r = 0; r < world.size(); ++r) {
    const Values<T> part = Data<T>(r, offsets[static_cast<std::size_t>(r) + 1] - offsets[static_cast<std::size_t>(r)], salt);
    want.insert(want.end(), part.begin(), part.end());
  }
  const std::span<const std::int64_t> given = give_offsets ? std::span<const std::int64_t>(offsets) : std::span<const std::int64_t>();
  Values<T> shard = Data<T>(rank, static_cast<std::int64_t>(Shard(want, offsets, rank).size()), salt), out(want.size(), T{3});
  LYCIA_RETURN_IF_ERROR(world.AllGather({.in = Of(shard), .out = Of(out), .offsets = given}, {}).Wait());
  LYCIA_RETURN_IF_ERROR(Same(out, want, what));
  Values<T> place(want.size(), T{3});
  std::copy(shard.begin(), shard.end(), Shard(place, offsets, rank).begin());
  LYCIA_RETURN_IF_ERROR(world.AllGather({.in = Of(Shard(place, offsets, rank)), .out = Of(place), .offsets = given}, {}).Wait());
  return Same(place, want, what + " in place");
}

Status AllGather(Communicator& world) {
  const int size = world.size();
  for (const std::int64_t shard : {0, 1, 1000, 262143, 262144, 262145}) {  // around a piece of 1 MiB
    if (size > 3 && shard > 1000) continue;
    std::vector<std::int64_t> equal;
    for (int r = 0; r <= size; ++r) equal.push_back(shard * r);
    LYCIA_RETURN_IF_ERROR(AllGatherOf<float>(world, equal, /*give_offsets=*/false, 3));
  }
  for (std::uint64_t salt = 20; salt < 26; ++salt) {
    LYCIA_RETURN_IF_ERROR(
        AllGatherOf<std::uint8_t>(world, UnevenOffsets(size, salt % 5 != 0 ? 1 : 300000, salt), /*give_offsets=*/true, salt));
  }
  return OkStatus();
}

Status Broadcast(Communicator& world) {
  for (int root = 0; root < world.size(); ++root) {
    for (const std::int64_t n : {0, 1, 262144, 600001}) {
      if (n > 1 && root != 0 && root != world.size() - 1) continue;
      const Values<float> want = Data<float>(root, n, 4);
      Values<float> values = world.rank() == root ? want : Values<float>(want.size());
      LYCIA_RETURN_IF_ERROR(world.Broadcast(Of(values), root, Tag::kTest, {}).Wait());
      LYCIA_RETURN_IF_ERROR(Same(values, want, absl::StrCat("broadcast of ", n, " from ", root, " on rank ", world.rank())));
    }
  }
  return OkStatus();
}

// Rank a sends Count(a, b) elements to rank b, some of them none.
Status AllToAllV(Communicator& world) {
  const int size = world.size(), rank = world.rank();
  for (const std::int64_t unit : {1, 70000}) {
    const auto count = [&](int from, int to) { return (from * 3 + to * 5) % 4 * unit; };
    std::vector<std::int64_t> send = {0}, receive = {0};
    Values<double> in, want;
    for (int r = 0; r < size; ++r) {
      const Values<double> sent = Data<double>(rank * size + r, count(rank, r), 5),
                                got = Data<double>(r * size + rank, count(r, rank), 5);
      in.insert(in.end(), sent.begin(), sent.end());
      want.insert(want.end(), got.begin(), got.end());
      send.push_back(static_cast<std::int64_t>(in.size()));
      receive.push_back(static_cast<std::int64_t>(want.size()));
    }
    Values<double> out(want.size());
    LYCIA_RETURN_IF_ERROR(world.AllToAllV({.in = Of(in), .out = Of(out), .send_offsets = send, .receive_offsets = receive}, {}).Wait());
    LYCIA_RETURN_IF_ERROR(Same(out, want, absl::StrCat("all-to-all, unit ", unit, ", on rank ", rank)));
  }
  return OkStatus();
}

std::int64_t NowNs() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);  // one clock for all processes of the machine
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

Status NobodyLeavesABarrierBeforeAllCame(Communicator& world) {
  for (int round = 0; round < 10; ++round) {
    const timespec pause{0, (world.rank() + round) % world.size() * 2'000'000};
    ::nanosleep(&pause, nullptr);
    std::vector<std::int64_t> came = {NowNs()}, all(static_cast<std::size_t>(world.size()));
    LYCIA_RETURN_IF_ERROR(world.Barrier());
    const std::int64_t left = NowNs();
    LYCIA_RETURN_IF_ERROR(world.AllGather({.in = Of(came), .out = Of(all)}, {}).Wait());
    LYCIA_RETURN_IF_ERROR(Expect(*std::max_element(all.begin(), all.end()) <= left, absl::StrCat("rank ", world.rank(), " left early")));
  }
  return OkStatus();
}

// 600 calls without a wait, each on the result of the one before; more than a communicator keeps open.
Status CallsRunInOrder(Communicator& world) {
  std::vector<std::int64_t> value = {world.rank() + 1, 1}, shard(1);
  std::int64_t want = 0;
  for (int r = 0; r < world.size(); ++r) want += r + 1;
  std::vector<std::int64_t> all(static_cast<std::size_t>(world.size()));
  Event last = world.AllReduce({.in = Of(value), .out = Of(value)}, {});
  for (int i = 0; i < 600; ++i) last = world.AllReduce({.in = Of(value), .out = Of(value)}, last);
  LYCIA_RETURN_IF_ERROR(last.Wait());
  for (int i = 0; i < 600; ++i) want = static_cast<std::int64_t>(static_cast<std::uint64_t>(want) * std::uint64_t(world.size()));
  return Expect(value[0] == want, absl::StrCat("600 sums of sums gave ", value[0], ", not ", want));
}

Status AnOperationWaitsForItsEvent(Communicator& world) {
  HostEventSource ready;
  Values<double> value = {0};
  const Event done = world.AllReduce({.in = Of(value), .out = Of(value)}, {&ready, 1});
  const timespec pause{0, 5'000'000};
  ::nanosleep(&pause, nullptr);
  LYCIA_RETURN_IF_ERROR(Expect(!done.Done(), "a sum was made before its operand was ready"));
  value[0] = world.rank() + 1;
  ready.Complete(1);
  LYCIA_RETURN_IF_ERROR(done.Wait());
  return Expect(value[0] == world.size() * (world.size() + 1) / 2, absl::StrCat("sum ", value[0]));
}

Status SplitsNest(Communicator& world) {
  const int size = world.size(), rank = world.rank();
  std::vector<int> parity, none(static_cast<std::size_t>(size), -1);
  for (int r = 0; r < size; ++r) parity.push_back(r % 2);
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> half, world.Split(parity));
  LYCIA_RETURN_IF_ERROR(Expect(half->rank() == rank / 2 && half->size() == (size + 1 - rank % 2) / 2, "rank or size after Split"));
  // The first of each half, then pairs across the halves, then nobody.
  std::vector<int> first(static_cast<std::size_t>(half->size()), -1), pairs;
  first[0] = 5;
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> alone, half->Split(first));
  LYCIA_RETURN_IF_ERROR(Expect((alone != nullptr) == (half->rank() == 0), "color -1 must get no communicator"));
  for (int r = 0; r < size; ++r) pairs.push_back(r / 2);
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> pair, world.Split(pairs));
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> nobody, world.Split(none));
  LYCIA_RETURN_IF_ERROR(Expect(nobody == nullptr, "a split of nobody"));
  // All at once: messages of one communicator must not end in another.
  Values<double> a = {1.0 + rank}, b = a, c = a, d = a;
  const Event events[] = {world.AllReduce({.in = Of(a), .out = Of(a)}, {}), half->AllReduce({.in = Of(b), .out = Of(b)}, {}),
                          pair->AllReduce({.in = Of(c), .out = Of(c)}, {}),
                          alone == nullptr ? Event{} : alone->AllReduce({.in = Of(d), .out = Of(d)}, {})};
  for (const Event& event : events) LYCIA_RETURN_IF_ERROR(event.Wait());
  double whole = 0, of_half = 0, of_pair = 0;
  for (int r = 0; r < size; ++r) {
    whole += 1.0 + r;
    if (r % 2 == rank % 2) of_half += 1.0 + r;
    if (r / 2 == rank / 2) of_pair += 1.0 + r;
  }
  return Expect(a[0] == whole && b[0] == of_half && c[0] == of_pair && d[0] == 1.0 + rank,
                absl::StrCat("sums ", a[0], " ", b[0], " ", c[0], " ", d[0], " on rank ", rank));
}

Status SplitRefusesDifferentTables(Communicator& world) {
  std::vector<int> colors(static_cast<std::size_t>(world.size()), 0);
  if (world.rank() == world.size() - 1) colors[0] = 1;
  const Status status = world.Split(colors).status();
  if (world.size() == 1) return status;
  return Expect(status.code() == absl::StatusCode::kInvalidArgument, absl::StrCat("Split of different tables: ", status.ToString()));
}

// Random operations, sizes and orders, several open at once; the same on all ranks as they come from the seed alone.
Status RandomSequence(Communicator& world, std::uint64_t seed) {
  const RandomStream random(seed, "sequence", 0);
  std::uint64_t drawn = 0;
  const auto draw = [&](std::uint32_t below) { return static_cast<std::int64_t>(random.Bits(drawn++) % below); };
  struct Open {
    std::vector<std::int64_t> offsets;
    Values<float> in, out, want, sizes;
    Event event;
  };
  std::vector<Open> open(40);
  for (std::size_t k = 0; k < open.size(); ++k) {
    Open& o = open[k];
    const std::uint64_t salt = seed * 1000 + k;
    const std::int64_t unit = draw(4) == 0 ? 4000 : 20, kind = draw(3);
    o.offsets = UnevenOffsets(world.size(), unit, salt);
    const std::int64_t n = o.offsets.back();
    Values<float> sum = SerialSum<float>(world.size(), n, salt), sizes = SerialSumOfSizes<float>(world.size(), n, salt);
    o.in = Data<float>(world.rank(), n, salt);
    if (kind == 0) {
      o.out.resize(o.in.size());
      o.want = sum;
      o.sizes = sizes;
      o.event = world.AllReduce({.in = Of(o.in), .out = Of(o.out)}, {});
    } else if (kind == 1) {
      const std::span<float> own = Shard(sum, o.offsets, world.rank());
      o.want.assign(own.begin(), own.end());
      const std::span<float> own_sizes = Shard(sizes, o.offsets, world.rank());
      o.sizes.assign(own_sizes.begin(), own_sizes.end());
      o.out.resize(own.size());
      o.event = world.ReduceScatter({.in = Of(o.in), .out = Of(o.out), .offsets = o.offsets}, {});
    } else {
      const int root = static_cast<int>(draw(static_cast<std::uint32_t>(world.size())));
      o.want = Data<float>(root, n, salt);
      o.out = o.in;
      o.event = world.Broadcast(Of(o.out), root, Tag::kTest, {});
    }
    if (draw(3) == 0) LYCIA_RETURN_IF_ERROR(o.event.Wait());
  }
  for (std::size_t k = 0; k < open.size(); ++k) {
    LYCIA_RETURN_IF_ERROR(open[k].event.Wait());
    open[k].sizes.resize(open[k].want.size());  // a broadcast is exact
    LYCIA_RETURN_IF_ERROR(SameSum<float>(open[k].out, open[k].want, open[k].sizes, world.size(),
                                         absl::StrCat("seed ", seed, ", operation ", k, ", rank ", world.rank())));
  }
  return OkStatus();
}

Status RandomSequences(Communicator& world) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) LYCIA_RETURN_IF_ERROR(RandomSequence(world, seed));
  return OkStatus();
}

constexpr ConformanceCase kCases[] = {
    {"AllGather", AllGather},
    {"Broadcast", Broadcast},
    {"AllToAllV", AllToAllV},
    {"Barrier", NobodyLeavesABarrierBeforeAllCame},
    {"CallsRunInOrder", CallsRunInOrder},
    {"AnOperationWaitsForItsEvent", AnOperationWaitsForItsEvent},
    {"SplitsNest", SplitsNest},
    {"SplitRefusesDifferentTables", SplitRefusesDifferentTables},
    {"RandomSequences", RandomSequences},
};

}  // namespace

std::vector<ConformanceCase> AllConformanceCases() {
  std::vector<ConformanceCase> all(std::begin(kCases), std::end(kCases));
  for (const auto& cases : {internal::SumCases(), internal::ChannelCases()}) all.insert(all.end(), cases.begin(), cases.end());
  return all;
}

}  // namespace lycia
