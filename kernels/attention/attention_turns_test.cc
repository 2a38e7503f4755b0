#include "kernels/attention/attention_turns.h"

#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace lycia::cpu {
namespace {

// Tiles see keys that differ from tile to tile, some none. What each key was given, in order, is what one thread would have given it; the
// lists are not locked.
TEST(KeyTurns, KeysAreAddedToInTheOrderOfOneThread) {
  constexpr int kTiles = 300, kKeys = 40;
  const auto sees = [](int tile, int key) { return tile % 7 != 3 && key <= tile && (tile * 31 + key * 17) % 5 < 3; };
  std::vector<std::vector<int>> expected(kKeys);
  for (int tile = 0; tile < kTiles; ++tile) {
    for (int key = 0; key < kKeys; ++key) {
      if (sees(tile, key)) expected[static_cast<std::size_t>(key)].push_back(tile);
    }
  }
  for (const int threads : {1, 2, 5}) {
    std::vector<KeyTurns::Place> places(static_cast<std::size_t>(threads));
    std::vector<std::vector<int>> given(kKeys);
    std::atomic<int> next{0};
    const auto work = [&] {
      for (int tile = next.fetch_add(1); tile < kTiles; tile = next.fetch_add(1)) {
        const KeyTurns turns(places.data(), threads, tile);
        for (int key = 0; key < kKeys; ++key) {
          if (!sees(tile, key)) continue;
          turns.Await(key);
          given[static_cast<std::size_t>(key)].push_back(tile);
          turns.Pass(key);
        }
        turns.Leave();
      }
    };
    std::vector<std::thread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(work);
    work();
    for (std::thread& other : others) other.join();
    EXPECT_EQ(given, expected) << threads << " threads";
  }
}

}  // namespace
}  // namespace lycia::cpu
