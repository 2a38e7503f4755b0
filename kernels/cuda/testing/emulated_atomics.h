// Atomics and votes of emulated kernels (emulated_cuda.h). Threads change places only at barriers and shuffles, so that an atomic is an
// ordinary step; the order of the threads is one in one launch and its reverse in the next, which shows results that depend on it.
#ifndef LYCIA_KERNELS_CUDA_TESTING_EMULATED_ATOMICS_H_
#define LYCIA_KERNELS_CUDA_TESTING_EMULATED_ATOMICS_H_

#include <bit>
#include <type_traits>

#include "kernels/cuda/testing/emulated_cuda.h"

template <typename T>
T atomicAdd(T* at, std::type_identity_t<T> value) {
  const T old = *at;
  *at = old + value;
  return old;
}
template <typename T>
T atomicMax(T* at, std::type_identity_t<T> value) {
  const T old = *at;
  if (value > old) *at = value;
  return old;
}
template <typename T>
T atomicCAS(T* at, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  const T old = *at;
  if (old == expected) *at = value;
  return old;
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  unsigned votes = 0;
  std::memcpy(lycia::emulator::WarpSlot(lycia::emulator::Lane()), &predicate, sizeof(predicate));
  lycia::emulator::WarpBarrier(mask);
  for (int lane = 0; lane < 32; ++lane) {
    int other = 0;
    if ((mask >> lane & 1u) != 0) std::memcpy(&other, lycia::emulator::WarpSlot(lane), sizeof(other));
    votes |= static_cast<unsigned>(other != 0) << lane;
  }
  lycia::emulator::WarpBarrier(mask);  // nobody writes its slot again before all have read
  return votes;
}
// Lanes below `delta` keep their own.
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta) {
  const int lane = lycia::emulator::Lane(), from = lane - static_cast<int>(delta);
  return lycia::emulator::Shuffle(mask, value, from < 0 ? lane : from);
}

inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }

#endif  // LYCIA_KERNELS_CUDA_TESTING_EMULATED_ATOMICS_H_
