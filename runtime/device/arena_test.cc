#include "runtime/device/arena.h"

#include <cstdint>
#include <memory>
#include <vector>

#include "gtest/gtest.h"

namespace lycia {
namespace {

TEST(ArenaPlan, RegionsAreAlignedInOrderAndApart) {
  ArenaPlan plan;
  const Region a = plan.Add("weights", 1);
  const Region b = plan.Add("weights", TensorSpec{DType::kF64, {3, 3}});  // 72 bytes
  const Region none = plan.Add("scratch", 0);
  const Region c = plan.Add("scratch", 64);
  EXPECT_EQ(a.offset, 0);
  EXPECT_EQ(a.bytes, 1);
  EXPECT_EQ(b.offset, 64);
  EXPECT_EQ(b.bytes, 72);
  EXPECT_EQ(none.bytes, 0);
  EXPECT_EQ(c.offset, 64 + 128);
  EXPECT_EQ(plan.bytes(), 64 + 128 + 64);
  EXPECT_EQ(plan.bytes("weights"), 64 + 128);
  EXPECT_EQ(plan.bytes("scratch"), 64);
  EXPECT_EQ(plan.bytes("nothing"), 0);
  EXPECT_DEATH(plan.Add("weights", -1), "CHECK failed");
}

TEST(ArenaPlan, PrintsALineACategoryInOrderOfFirstUseAndTheTotal) {
  ArenaPlan plan;
  plan.Add("weights", 1 << 20);
  plan.Add("activations", 3 << 19);
  plan.Add("weights", 1 << 20);
  EXPECT_EQ(plan.ToString(),
            "  weights                      2.00 MiB in 2 regions\n"
            "  activations                  1.50 MiB in 1 regions\n"
            "  total                        3.50 MiB\n");
}

TEST(Arena, IsZeroedAndItsTensorsDoNotOverlap) {
  ArenaPlan plan;
  std::vector<Region> regions;
  for (std::int64_t n : {1, 17, 1000, 64, 5000}) regions.push_back(plan.Add("r", n * 4));
  const std::unique_ptr<Device> device = NewCpuDevice();
  const StatusOr<Arena> arena = Arena::Allocate(*device, plan);
  ASSERT_TRUE(arena.ok()) << arena.status();
  EXPECT_EQ(arena->bytes(), plan.bytes());
  for (std::size_t i = 0; i < regions.size(); ++i) {
    const Tensor t = arena->At(regions[i], {DType::kF32, {regions[i].bytes / 4}});
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(t.data) % ArenaPlan::kAlignment, 0u);
    for (std::int64_t k = 0; k < t.elements(); ++k) {
      ASSERT_EQ(t.as<float>()[k], 0.0f) << "region " << i << " element " << k;
      t.as<float>()[k] = static_cast<float>(i + 1);
    }
  }
  for (std::size_t i = 0; i < regions.size(); ++i) {
    const Tensor t = arena->At(regions[i], {DType::kF32, {regions[i].bytes / 4}});
    for (std::int64_t k = 0; k < t.elements(); ++k)
      ASSERT_EQ(t.as<float>()[k], static_cast<float>(i + 1)) << "region " << i << " element " << k;
  }
  EXPECT_DEATH(arena->At(regions[0], {DType::kF64, {1}}), "8 against 4");
}

TEST(Arena, HasSizesAndNoAddressesOnTheShapeDevice) {
  ArenaPlan plan;
  const Region first = plan.Add("weights", std::int64_t{1} << 40);  // a terabyte costs nothing here
  const Region second = plan.Add("weights", 64);
  const std::unique_ptr<Device> device = NewShapeDevice();
  const StatusOr<Arena> arena = Arena::Allocate(*device, plan);
  ASSERT_TRUE(arena.ok()) << arena.status();
  EXPECT_EQ(arena->bytes(), plan.bytes());
  EXPECT_EQ(arena->At(first), nullptr);
  EXPECT_EQ(arena->At(second, {DType::kF32, {16}}).data, nullptr);
}

TEST(Arena, MayBeEmpty) {
  const std::unique_ptr<Device> device = NewCpuDevice();
  const StatusOr<Arena> arena = Arena::Allocate(*device, ArenaPlan());
  ASSERT_TRUE(arena.ok()) << arena.status();
  EXPECT_EQ(arena->bytes(), 0);
}

}  // namespace
}  // namespace lycia
