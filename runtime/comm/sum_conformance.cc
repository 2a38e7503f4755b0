// The sums of the conformance suite: bitwise a serial left fold, whatever the size, the shards and the place.
#include <algorithm>

#include "runtime/comm/collective.h"
#include "runtime/comm/communicator_conformance.h"
#include "runtime/comm/conformance_data.h"

namespace lycia {
namespace {

using namespace conformance;  // NOLINT: the suite's own data

// Around nothing, around one element a rank, around the one-round limit, around one and two segments a rank.
template <typename T>
std::vector<std::int64_t> Sizes(int size) {
  const std::int64_t segment = SegmentBytes(size) / static_cast<std::int64_t>(sizeof(T)),
                     round = 16384 / static_cast<std::int64_t>(sizeof(T));
  return {
      0, 1, size - 1, size, 3 * size + 1, round, round + 1, segment * size - 1, segment * size, segment * size + 1, 2 * segment * size + 5};
}

template <typename T>
Status AllReduceIsALeftFold(Communicator& world) {
  const int size = world.size();
  for (const std::int64_t n : Sizes<T>(size)) {
    const Values<T> in = Data<T>(world.rank(), n, 1), want = SerialSum<T>(size, n, 1);
    const std::string what = absl::StrCat("all-reduce of ", n, " ", std::string(Name(DTypeOf<T>::value)), " on rank ", world.rank());
    // The check would be worthless if the order did not matter.
    if (std::is_floating_point_v<T> && size >= 3 && n == 16384 / static_cast<std::int64_t>(sizeof(T))) {
      LYCIA_RETURN_IF_ERROR(Expect(SerialSum<T>(size, n, 1, /*backwards=*/true) != want, "the data do not tell orders of addition apart"));
    }
    Values<T> operand = in, out(in.size());
    LYCIA_RETURN_IF_ERROR(world.AllReduce({.in = Of(operand), .out = Of(out)}, {}).Wait());
    const Values<T> sizes = SerialSumOfSizes<T>(size, n, 1);
    LYCIA_RETURN_IF_ERROR(SameSum<T>(out, want, sizes, size, what));
    LYCIA_RETURN_IF_ERROR(Same(operand, in, what + ": the input"));
    LYCIA_RETURN_IF_ERROR(world.AllReduce({.in = Of(operand), .out = Of(operand)}, {}).Wait());
    LYCIA_RETURN_IF_ERROR(Same(operand, out, what + " in place, or made again"));
  }
  return OkStatus();
}

template <typename T>
Status ReduceScatterOf(Communicator& world, const std::vector<std::int64_t>& offsets, bool give_offsets, std::uint64_t salt) {
  const int rank = world.rank();
  const std::string what =
      absl::StrCat("reduce-scatter of ", offsets.back(), " ", std::string(Name(DTypeOf<T>::value)), " salt ", salt, " on rank ", rank);
  Values<T> in = Data<T>(rank, offsets.back(), salt), sum = SerialSum<T>(world.size(), offsets.back(), salt);
  const std::span<T> own_sum = Shard(sum, offsets, rank);
  Values<T> all_sizes = SerialSumOfSizes<T>(world.size(), offsets.back(), salt);
  const std::span<T> sizes = Shard(all_sizes, offsets, rank);
  const std::span<const std::int64_t> given = give_offsets ? std::span<const std::int64_t>(offsets) : std::span<const std::int64_t>();
  Values<T> out(own_sum.size(), T{7});
  LYCIA_RETURN_IF_ERROR(world.ReduceScatter({.in = Of(in), .out = Of(out), .offsets = given}, {}).Wait());
  LYCIA_RETURN_IF_ERROR(SameSum<T>(out, own_sum, sizes, world.size(), what));

  Values<T> grown = Data<T>(rank, static_cast<std::int64_t>(out.size()), salt + 1), want = grown;
  Values<T> grown_sizes(sizes.begin(), sizes.end());
  for (std::size_t i = 0; i < want.size(); ++i) grown_sizes[i] += want[i] < 0 ? -want[i] : want[i];
  for (std::size_t i = 0; i < want.size(); ++i) want[i] += own_sum[i];
  LYCIA_RETURN_IF_ERROR(world.ReduceScatter({.in = Of(in), .out = Of(grown), .offsets = given, .accumulate = true}, {}).Wait());
  LYCIA_RETURN_IF_ERROR(SameSum<T>(grown, want, grown_sizes, world.size() + 1, what + " accumulating"));

  const std::span<T> place = Shard(in, offsets, rank);
  LYCIA_RETURN_IF_ERROR(world.ReduceScatter({.in = Of(in), .out = Of(place), .offsets = given}, {}).Wait());
  return Same<T>(place, out, what + " in place, or made again");
}

template <typename T>
Status ReduceScatterIsALeftFold(Communicator& world) {
  const int size = world.size();
  for (const std::int64_t n : Sizes<T>(size)) {
    std::vector<std::int64_t> equal;
    for (int r = 0; r <= size; ++r) equal.push_back(n / size * r);
    LYCIA_RETURN_IF_ERROR(ReduceScatterOf<T>(world, equal, /*give_offsets=*/false, 2));
  }
  for (std::uint64_t salt = 10; salt < 16; ++salt) {
    LYCIA_RETURN_IF_ERROR(ReduceScatterOf<T>(world, UnevenOffsets(size, salt % 2 == 0 ? 3 : 20000, salt), /*give_offsets=*/true, salt));
  }
  return OkStatus();
}

Status LargeSum(Communicator& world) {
  constexpr std::int64_t kElements = (std::int64_t{16} << 20) / 4 + 3;
  Values<float> values = Data<float>(world.rank(), kElements, 6);
  LYCIA_RETURN_IF_ERROR(world.AllReduce({.in = Of(values), .out = Of(values)}, {}).Wait());
  return SameSum<float>(values, SerialSum<float>(world.size(), kElements, 6), SerialSumOfSizes<float>(world.size(), kElements, 6),
                        world.size(), absl::StrCat("16 MB all-reduce on rank ", world.rank()));
}

// Across the one-round limit; negative numbers too, so that a zero or a sum shows.
template <typename T>
Status AllReduceTakesTheLargest(Communicator& world) {
  for (const std::int64_t n : {std::int64_t{1}, std::int64_t{5}, 5000 * static_cast<std::int64_t>(world.size()) + 3}) {
    const auto value = [&](int rank, std::int64_t i) { return static_cast<T>((rank * 7 + i * 3) % 11 - 20); };
    Values<T> values, want;
    for (std::int64_t i = 0; i < n; ++i) {
      values.push_back(value(world.rank(), i));
      want.push_back(value(0, i));
      for (int r = 1; r < world.size(); ++r) want.back() = std::max(want.back(), value(r, i));
    }
    LYCIA_RETURN_IF_ERROR(world.AllReduce({.in = Of(values), .out = Of(values), .fold = Fold::kLargest}, {}).Wait());
    LYCIA_RETURN_IF_ERROR(Same(values, want, absl::StrCat("largest of ", n, " on rank ", world.rank())));
  }
  return OkStatus();
}

constexpr ConformanceCase kCases[] = {
    {"LargestF32", AllReduceTakesTheLargest<float>},
    {"LargestF64", AllReduceTakesTheLargest<double>},
    {"LargestI64", AllReduceTakesTheLargest<std::int64_t>},
    {"AllReduceF32", AllReduceIsALeftFold<float>},
    {"AllReduceF64", AllReduceIsALeftFold<double>},
    {"AllReduceI64", AllReduceIsALeftFold<std::int64_t>},
    {"ReduceScatterF32", ReduceScatterIsALeftFold<float>},
    {"ReduceScatterF64", ReduceScatterIsALeftFold<double>},
    {"LargeSum", LargeSum, /*large=*/true},
};

}  // namespace

std::span<const ConformanceCase> internal::SumCases() { return kCases; }

}  // namespace lycia
