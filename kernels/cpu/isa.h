// Runs a loop compiled for the best instruction set of this machine; the program itself needs only the x86-64 baseline.
//
//   ForBestIsa([=](auto isa) LYCIA_INLINE { using V = Vector<float, decltype(isa)::value>; for (...) ... });
//
// Pointers and sizes that the body captures by value stay in registers; captured by reference they are read again after every store.
// The body is compiled three times, inside functions with target attributes; everything hot that it calls must be LYCIA_INLINE too.
// No ifuncs (target_clones): their resolvers run before the sanitizers are ready.
#ifndef LYCIA_KERNELS_CPU_ISA_H_
#define LYCIA_KERNELS_CPU_ISA_H_

#include <cstdint>

// After a lambda's parameter list, or before a function's return type (there with `inline`).
#define LYCIA_INLINE __attribute__((always_inline))

namespace lycia::cpu {

enum class Isa : std::uint8_t { kBaseline, kAvx2, kAvx512 };

// AddressSanitizer's own stack of GCC 12 aligns to 32 bytes only (GCC bug 110027), too little for 64-byte vectors.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAvx512Usable = false;
#else
inline constexpr bool kAvx512Usable = true;
#endif

inline Isa DetectIsa() {
  __builtin_cpu_init();
  if (kAvx512Usable && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return Isa::kAvx512;
  }
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? Isa::kAvx2 : Isa::kBaseline;
}

namespace internal {
// Written by tests only, to run the other paths.
inline Isa& SelectedIsa() {
  static Isa selected = DetectIsa();
  return selected;
}
}  // namespace internal

inline Isa BestIsa() { return internal::SelectedIsa(); }

// What a body gets: decltype(isa)::value.
template <Isa isa>
struct IsaConstant {
  static constexpr Isa value = isa;
};

namespace internal {
template <typename Body>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512"), noinline)) void RunAvx512(const Body& body) {
  const Body own = body;  // in registers: no store of the loop can change it
  own(IsaConstant<Isa::kAvx512>{});
}
template <typename Body>
__attribute__((target("avx2,fma"), noinline)) void RunAvx2(const Body& body) {
  const Body own = body;
  own(IsaConstant<Isa::kAvx2>{});
}
template <typename Body>
__attribute__((noinline)) void RunBaseline(const Body& body) {
  const Body own = body;
  own(IsaConstant<Isa::kBaseline>{});
}
}  // namespace internal

template <typename Body>
void ForIsa(Isa isa, const Body& body) {
  if constexpr (kAvx512Usable) {
    if (isa == Isa::kAvx512) return internal::RunAvx512(body);
  }
  return isa == Isa::kAvx2 ? internal::RunAvx2(body) : internal::RunBaseline(body);
}

template <typename Body>
void ForBestIsa(const Body& body) {
  ForIsa(BestIsa(), body);
}

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_CPU_ISA_H_
