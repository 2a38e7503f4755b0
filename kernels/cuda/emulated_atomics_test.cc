// Atomics, votes and shuffles of the emulator against what the CUDA programming guide says of them.
#include "kernels/cuda/testing/emulated_atomics.h"

#include <vector>

#include "gtest/gtest.h"

namespace lycia {
namespace {

constexpr int kThreads = 64, kBlocks = 3;
template <typename... P, typename... A>
void LaunchAndWait(void (*kernel)(P...), A... arguments) {
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(kBlocks);
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  ASSERT_EQ(cudaLaunchKernelEx(&config, kernel, arguments...), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  ASSERT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

struct Numbers {
  int sum = 0, most = -5, places[kBlocks * kThreads] = {}, winners = 0;
  unsigned long long word = 7;
};
void Count(Numbers* to) {
  const int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  to->places[atomicAdd(&to->sum, 1)] += 1;
  atomicMax(&to->most, i % 100);
  if (atomicCAS(&to->word, 7ull, 100ull + static_cast<unsigned long long>(i)) == 7) atomicAdd(&to->winners, 1);
}

TEST(EmulatedAtomics, EveryThreadsStepCountsOnce) {
  for (int launch = 0; launch < 2; ++launch) {  // forwards and backwards
    Numbers numbers;
    LaunchAndWait(Count, &numbers);
    EXPECT_EQ(numbers.sum, kBlocks * kThreads);
    for (const int place : numbers.places) EXPECT_EQ(place, 1);
    EXPECT_EQ(numbers.most, 99);
    EXPECT_EQ(numbers.winners, 1);
    EXPECT_GE(numbers.word, 100u);
  }
}

void Vote(unsigned* votes, int* before) {
  const int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x), lane = i % 32;
  votes[i] = __ballot_sync(0xffffffffu, (i / 32 + lane) % 3 == 0);
  before[i] = __shfl_up_sync(0xffffffffu, 1000 + lane, 4);
}

TEST(EmulatedAtomics, VotesAndShufflesAreOfTheWarp) {
  std::vector<unsigned> votes(kBlocks * kThreads);
  std::vector<int> before(votes.size());
  LaunchAndWait(Vote, votes.data(), before.data());
  for (std::size_t i = 0; i < votes.size(); ++i) {
    unsigned expected = 0;
    for (unsigned lane = 0; lane < 32; ++lane) expected |= static_cast<unsigned>((i / 32 + lane) % 3 == 0) << lane;
    EXPECT_EQ(votes[i], expected);
    const int lane = static_cast<int>(i % 32);
    EXPECT_EQ(before[i], 1000 + (lane < 4 ? lane : lane - 4));
  }
  EXPECT_EQ(__popc(0xf0f0u), 8);
  EXPECT_EQ(__ffs(0), 0);
  EXPECT_EQ(__ffs(8), 4);
}

}  // namespace
}  // namespace lycia
