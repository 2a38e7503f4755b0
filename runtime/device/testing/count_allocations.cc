#include "runtime/device/testing/count_allocations.h"

#include <cstdlib>
#include <new>

namespace lycia::testing {
namespace {
thread_local std::int64_t allocations = 0;
}  // namespace

std::int64_t AllocationsOfThisThread() { return allocations; }

// For the operators below, which cannot be in a namespace.
static void* Allocate(std::size_t size, std::size_t alignment) {
  ++allocations;
  if (size == 0) size = 1;
  void* p = alignment == 0 ? std::malloc(size) : std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (p == nullptr) std::abort();
  return p;
}

}  // namespace lycia::testing

void* operator new(std::size_t size) { return lycia::testing::Allocate(size, 0); }
// std::stable_sort and its like ask this one; the library's own would pair another allocator with our delete.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return lycia::testing::Allocate(size, 0); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return lycia::testing::Allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
