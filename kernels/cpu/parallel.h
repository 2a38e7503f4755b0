// Cuts a kernel's work over the threads of its stream. A kernel may do so only where its results do not depend on the cut: elements, rows,
// or columns of sums over rows.
#ifndef LYCIA_KERNELS_CPU_PARALLEL_H_
#define LYCIA_KERNELS_CPU_PARALLEL_H_

#include <algorithm>
#include <cstdint>

#include "runtime/device/device.h"

namespace lycia::cpu {

// Less memory than this is passed over by one thread in about the time that a fork and a join take.
inline constexpr std::int64_t kSerialBytes = std::int64_t{64} << 10;
// Elements are cut here: whole cache lines of the narrowest type, so that threads write no line together.
inline constexpr std::int64_t kElementUnit = 64;

struct Work {
  std::int64_t count = 0;
  std::int64_t unit = 1;        // parts begin at multiples of it
  std::int64_t bytes_each = 0;  // memory that one of `count` stands for
};

// body(begin, end, thread) on each thread whose part of [0, count) is not empty; thread < stream.pool()->threads().
template <typename Body>
void ForEachPart(Stream& stream, const Work& work, const Body& body) {
  ThreadPool* pool = stream.pool();
  const std::int64_t units = (work.count + work.unit - 1) / work.unit;
  if (work.count == 0) return;
  if (pool == nullptr || pool->threads() == 1 || units == 1 || work.count * work.bytes_each < kSerialBytes) return body(0, work.count, 0);
  pool->Run([&](int thread) {
    const std::int64_t begin = units * thread / pool->threads() * work.unit;
    const std::int64_t end = std::min(units * (thread + 1) / pool->threads() * work.unit, work.count);
    if (begin < end) body(begin, end, thread);
  });
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_CPU_PARALLEL_H_
