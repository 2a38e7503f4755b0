#include "parallel/optimizer/parameter_store.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "gtest/gtest.h"

namespace lycia {
namespace {

constexpr float kStale = 7;

// "plain" and "shared" (used twice, last by use 1) in one group, all gradients full of an earlier step's numbers.
struct Store {
  Store() {
    const std::vector<std::vector<ParameterSpec>> stages = {
        {{.name = "plain", .shape = {5}}, {.name = "shared", .shape = {3}, .use = 0}, {.name = "shared", .shape = {3}, .use = 1}}};
    groups = *DeriveParameterGroups(stages);
    ArenaPlan plan;
    store = std::make_unique<ParameterStore>(groups, std::vector<int>{0}, stages[0], DType::kF32, /*gradients=*/true, plan);
    arena = *Arena::Allocate(*device, plan);
    store->Bind(arena);
    for (const auto& [name, use] : {std::pair{"plain", 0}, {"shared", 0}, {"shared", 1}}) Fill(name, use, kStale);
  }
  void Fill(const char* name, int use, float value) {
    const Tensor gradient = store->gradient(name, use);
    std::fill_n(gradient.as<float>(), gradient.elements(), value);
  }
  std::vector<float> Values(const char* name, int use) {
    const Tensor gradient = store->gradient(name, use);
    return {gradient.as<float>(), gradient.as<float>() + gradient.elements()};
  }

  std::unique_ptr<Device> device = NewCpuDevice();
  std::unique_ptr<Stream> stream = *device->NewStream();
  ParameterGroups groups;
  Arena arena;
  std::unique_ptr<ParameterStore> store;
};

TEST(ParameterStore, GradientsAreZeroedAtOnceUnlessSomebodyHoldsTheirMark) {
  Store s;
  bool* fresh = s.store->fresh("shared", 1);
  s.store->ZeroGradients(*s.stream);
  EXPECT_EQ(s.Values("plain", 0), std::vector<float>(5, 0));
  EXPECT_EQ(s.Values("shared", 0), std::vector<float>(3, 0));
  EXPECT_TRUE(*fresh);
  EXPECT_EQ(s.Values("shared", 1), std::vector<float>(3, kStale)) << "not touched: whoever writes first overwrites";
}

TEST(ParameterStore, AFreshGradientThatNobodyWroteCountsAsZero) {
  Store s;
  bool *first = s.store->fresh("shared", 0), *second = s.store->fresh("shared", 1), *plain = s.store->fresh("plain", 0);
  for (int step = 0; step < 2; ++step) {
    s.store->ZeroGradients(*s.stream);
    ASSERT_TRUE(*second && *plain);
    ASSERT_EQ(*first, step == 0) << "the earlier use's is zero since it was added";
    s.Fill("shared", 1, 2);  // overwritten, and the mark taken away
    *second = false;
    s.store->AddUses(*s.stream, 0);
    EXPECT_EQ(s.Values("plain", 0), std::vector<float>(5, 0)) << "step " << step;
    EXPECT_EQ(s.Values("shared", 1), std::vector<float>(3, 2)) << "step " << step;
    EXPECT_EQ(s.Values("shared", 0), std::vector<float>(3, 0)) << "step " << step;
    EXPECT_FALSE(*first || *second || *plain);
  }
}

// Marked or not: what the earlier use has summed is added in every step, and its buffer starts the next from zero.
TEST(ParameterStore, TheEarlierUseIsAddedToTheLast) {
  for (const bool marked : {false, true}) {
    Store s;
    bool* fresh = marked ? s.store->fresh("shared", 0) : nullptr;
    for (int step = 0; step < 3; ++step) {
      s.store->ZeroGradients(*s.stream);
      if (marked && *fresh) {
        s.Fill("shared", 0, 0);
        *fresh = false;
      }
      EXPECT_EQ(s.Values("shared", 0), std::vector<float>(3, 0)) << "step " << step;
      s.store->gradient("shared", 0).as<float>()[1] += 5;
      s.Fill("shared", 1, 2);
      s.store->AddUses(*s.stream, 0);
      EXPECT_EQ(s.Values("shared", 1), (std::vector<float>{2, 7, 2})) << "step " << step;
    }
    const auto in_flat = [&](int use) {
      const Tensor flat = s.store->flat_gradients(0);
      const float* at = s.store->gradient("shared", use).as<float>();
      return at >= flat.as<float>() && at < flat.as<float>() + flat.elements();
    };
    EXPECT_TRUE(in_flat(1));
    EXPECT_FALSE(in_flat(0));
  }
}

}  // namespace
}  // namespace lycia
