#include "parallel/optimizer/parameter_store.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "gtest/gtest.h"

namespace lycia {
namespace {

constexpr float kStale = 7;

// "plain" and "shared" (used twice) in one group, all gradients full of an earlier step's numbers.
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
    ASSERT_TRUE(*first && *second && *plain);
    s.Fill("shared", 1, 2);  // overwritten, and the mark taken away
    *second = false;
    s.store->AddUses(*s.stream, 0);
    EXPECT_EQ(s.Values("plain", 0), std::vector<float>(5, 0)) << "step " << step;
    EXPECT_EQ(s.Values("shared", 0), std::vector<float>(3, 2)) << "step " << step;
    EXPECT_FALSE(*first || *second || *plain);
  }
}

}  // namespace
}  // namespace lycia
