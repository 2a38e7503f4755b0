// Data of the conformance suite: every rank can make every rank's operands, so each checks its result against a serial formula.
#ifndef LYCIA_RUNTIME_COMM_CONFORMANCE_DATA_H_
#define LYCIA_RUNTIME_COMM_CONFORMANCE_DATA_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "runtime/comm/communicator.h"
#include "runtime/core/philox.h"

namespace lycia::conformance {

// Where the suite's operands lie: plain memory, or what the test of a transport on GPUs puts here before it runs the suite, such as
// page-locked memory, which both the devices and the suite can read.
struct OperandMemory {
  void* (*allocate)(std::size_t bytes) = [](std::size_t bytes) { return ::operator new(bytes); };
  void (*free)(void* data) = [](void* data) { ::operator delete(data); };
};
inline OperandMemory operand_memory;
// Whether the transport adds in rank order, to the bit, or in an order of its own (NCCL's).
inline bool sums_in_rank_order = true;

template <typename T>
struct OperandAllocator {
  using value_type = T;
  OperandAllocator() = default;
  template <typename U>
  OperandAllocator(const OperandAllocator<U>&) {}  // NOLINT: as the standard asks
  T* allocate(std::size_t n) { return static_cast<T*>(operand_memory.allocate(n * sizeof(T))); }
  void deallocate(T* data, std::size_t) { operand_memory.free(data); }
  bool operator==(const OperandAllocator&) const { return true; }
};
template <typename T>
using Values = std::vector<T, OperandAllocator<T>>;

template <typename T>
Tensor Of(std::span<T> values) {
  return {values.data(), DTypeOf<T>::value, {static_cast<std::int64_t>(values.size())}};
}
template <typename T, typename Allocator>
Tensor Of(std::vector<T, Allocator>& values) {
  return Of(std::span<T>(values));
}

// What only this rank's thread sees needs no sanitizer, which would take most of the suite's time.
#define LYCIA_OWN_DATA __attribute__((no_sanitize("thread,address")))

// Operand of `rank`: floating magnitudes span 24 powers of two and all bits are used, so that sums depend on the order of addition.
template <typename T>
LYCIA_OWN_DATA Values<T> Data(int rank, std::int64_t elements, std::uint64_t salt) {
  const std::uint64_t key = RandomStream::KeyOf(salt, "conformance") + static_cast<std::uint64_t>(rank) * 0xD1B54A32D192ED03u;
  Values<T> values(static_cast<std::size_t>(elements));
  T* const to = values.data();
  for (std::size_t i = 0; i < static_cast<std::size_t>(elements); ++i) {
    std::uint64_t bits = (key + i) * 0x9E3779B97F4A7C15u;
    bits = (bits ^ bits >> 29) * 0xBF58476D1CE4E5B9u;
    if constexpr (std::is_floating_point_v<T>) {
      const double scale = 1.0 / static_cast<double>(std::uint64_t{1} << (40 + bits % 24));
      to[i] = static_cast<T>(static_cast<double>(static_cast<std::int64_t>(bits)) * scale / 3.0);
    } else {
      to[i] = static_cast<T>(bits >> 8);
    }
  }
  return values;
}

// ((rank 0 + rank 1) + rank 2) + ..., or the other way round.
template <typename T>
LYCIA_OWN_DATA Values<T> SerialSum(int size, std::int64_t elements, std::uint64_t salt, bool backwards = false) {
  Values<T> sum = Data<T>(backwards ? size - 1 : 0, elements, salt);
  for (int r = 1; r < size; ++r) {
    const Values<T> next = Data<T>(backwards ? size - 1 - r : r, elements, salt);
    T* const to = sum.data();
    const T* const from = next.data();
    for (std::int64_t i = 0; i < elements; ++i) to[i] += from[i];
  }
  return sum;
}

// Bitwise.
template <typename T>
Status Same(std::span<const T> got, std::span<const T> want, const std::string& what) {
  if (got.size() != want.size()) return absl::InternalError(absl::StrCat(what, ": ", got.size(), " elements instead of ", want.size()));
  if (got.empty() || std::memcmp(got.data(), want.data(), got.size_bytes()) == 0) return OkStatus();
  std::size_t wrong = 0, first = 0;
  for (std::size_t i = got.size(); i-- > 0;) {
    if (std::memcmp(&got[i], &want[i], sizeof(T)) != 0) {
      ++wrong;
      first = i;
    }
  }
  return absl::InternalError(absl::StrCat(what, ": ", wrong, " of ", got.size(), " elements differ, first at ", first, ": got ",
                                          static_cast<double>(got[first]), ", want ", static_cast<double>(want[first])));
}
template <typename T, typename A, typename B>
Status Same(const std::vector<T, A>& got, const std::vector<T, B>& want, const std::string& what) {
  return Same<T>(std::span<const T>(got), std::span<const T>(want), what);
}

// ((|rank 0| + |rank 1|) + ...): what an error of summation is measured by. Zeros where nobody asks (SameSum).
template <typename T>
LYCIA_OWN_DATA Values<T> SerialSumOfSizes(int size, std::int64_t elements, std::uint64_t salt) {
  Values<T> sum(static_cast<std::size_t>(elements));
  if (sums_in_rank_order || !std::is_floating_point_v<T>) return sum;
  for (int r = 0; r < size; ++r) {
    const Values<T> next = Data<T>(r, elements, salt);
    T* const to = sum.data();
    const T* const from = next.data();
    for (std::int64_t i = 0; i < elements; ++i) to[i] += from[i] < 0 ? -from[i] : from[i];
  }
  return sum;
}

// Bitwise where sums are made in rank order and always for integers; else each element within `size` roundings of sizes[i].
template <typename T>
Status SameSum(std::span<const T> got, std::span<const T> want, std::span<const T> sizes, int size, const std::string& what) {
  if (sums_in_rank_order || !std::is_floating_point_v<T> || got.size() != want.size()) return Same(got, want, what);
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double error = static_cast<double>(got[i]) - static_cast<double>(want[i]);
    const double allowed = size * static_cast<double>(std::numeric_limits<T>::epsilon()) * static_cast<double>(sizes[i]);
    if (!(error <= allowed && -error <= allowed)) {
      return absl::InternalError(absl::StrCat(what, ": element ", i, " is ", static_cast<double>(got[i]), ", want ",
                                              static_cast<double>(want[i]), " within ", allowed));
    }
  }
  return OkStatus();
}

inline Status Expect(bool condition, const std::string& what) { return condition ? OkStatus() : absl::InternalError(what); }

// size + 1 offsets; about every third shard is empty and the others differ by far.
inline std::vector<std::int64_t> UnevenOffsets(int size, std::int64_t unit, std::uint64_t salt) {
  const RandomStream random(salt, "offsets", 0);
  std::vector<std::int64_t> offsets = {0};
  for (int r = 0; r < size; ++r) {
    const std::uint32_t bits = random.Bits(static_cast<std::uint64_t>(r));
    offsets.push_back(offsets.back() + (bits % 3 == 0 ? 0 : static_cast<std::int64_t>(bits / 3 % 5) * unit + r));
  }
  return offsets;
}

template <typename T, typename Allocator>
std::span<T> Shard(std::vector<T, Allocator>& values, const std::vector<std::int64_t>& offsets, int rank) {
  const std::size_t r = static_cast<std::size_t>(rank);
  return std::span<T>(values).subspan(static_cast<std::size_t>(offsets[r]), static_cast<std::size_t>(offsets[r + 1] - offsets[r]));
}

}  // namespace lycia::conformance

#endif  // LYCIA_RUNTIME_COMM_CONFORMANCE_DATA_H_
