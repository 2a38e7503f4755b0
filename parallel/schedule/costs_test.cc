#include "parallel/schedule/costs.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lycia::schedule {
namespace {

using ::testing::HasSubstr;

TEST(FractionTest, ReadsNumbersExactly) {
  EXPECT_EQ(*ParseFraction("3"), (Fraction{3, 1}));
  EXPECT_EQ(*ParseFraction("0"), (Fraction{0, 1}));
  EXPECT_EQ(*ParseFraction("6/4"), (Fraction{3, 2}));
  EXPECT_EQ(*ParseFraction("0.1"), (Fraction{1, 10}));
  EXPECT_EQ(*ParseFraction("18.522"), (Fraction{9261, 500}));
  EXPECT_EQ(*ParseFraction("1.50"), (Fraction{3, 2}));
  EXPECT_EQ(ToString(*ParseFraction("1.5")), "3/2");
  EXPECT_EQ(ToString(*ParseFraction("4/2")), "2");
}

TEST(FractionTest, RejectsWhatIsNoNumber) {
  for (const char* text : {"", "-1", "+1", "1e3", "a", "1/", "/2", ".5", "1.", "1/2/3", "1.2.3", "1 ", "1234567", "1/1234567", "0x1"}) {
    EXPECT_EQ(ParseFraction(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
  EXPECT_THAT(std::string(ParseFraction("1/0").status().message()), HasSubstr("divides by zero"));
}

TEST(CostsTest, WhatIsNotGivenFollows) {
  const auto check = [](const char* text, double forward, double backward, double input, double weight) {
    const StatusOr<Costs> costs = ParseCosts(text);
    ASSERT_TRUE(costs.ok()) << costs.status();
    EXPECT_EQ(costs->forward.value(), forward) << text;
    EXPECT_EQ(costs->backward.value(), backward) << text;
    EXPECT_EQ(costs->input.value(), input) << text;
    EXPECT_EQ(costs->weight.value(), weight) << text;
  };
  check("", 1, 2, 1, 1);
  check("F=1,B=2", 1, 2, 1, 1);
  check("B=3/2,F=1/2", 0.5, 1.5, 0.75, 0.75);
  check("F=3", 3, 6, 3, 3);
  check("I=1,W=0.5", 1, 1.5, 1, 0.5);
  check("B=3,I=1", 1, 3, 1, 2);
  check("B=3,W=1", 1, 3, 2, 1);
  check("I=2", 1, 4, 2, 2);
  check("F=1,B=2,I=1.5,W=1.25", 1, 2, 1.5, 1.25);  // measured: split may cost more than fused
}

TEST(CostsTest, RejectsWithReason) {
  const auto error = [](const char* text) { return std::string(ParseCosts(text).status().message()); };
  EXPECT_THAT(error("F=1,X=2"), HasSubstr("\"X=2\" is none of F=, B=, I=, W="));
  EXPECT_THAT(error("F"), HasSubstr("none of"));
  EXPECT_THAT(error("F="), HasSubstr("none of"));
  EXPECT_THAT(error("F=1,F=2"), HasSubstr("given twice"));
  EXPECT_THAT(error("F=-1"), HasSubstr("not a cost"));
  EXPECT_THAT(error("F=0"), HasSubstr("must cost something"));
  EXPECT_THAT(error("B=1,I=2"), HasSubstr("more than the whole"));
}

TEST(CostsTest, TicksKeepHalvesAndRatiosExact) {
  Costs costs = *ParseCosts("F=1/3,B=3/4");
  costs.latency = {1, 10};
  const TickCosts ticks = *ToTicks(costs, 4);
  EXPECT_EQ(ticks.forward * 3, ticks.ticks_per_unit);
  EXPECT_EQ(ticks.backward * 4, ticks.ticks_per_unit * 3);
  EXPECT_EQ(ticks.latency * 10, ticks.ticks_per_unit);
  EXPECT_EQ(ticks.forward % 4, 0);
  EXPECT_EQ(ticks.input % 4, 0);
  EXPECT_FALSE(ToTicks(*ParseCosts("F=1/999983,B=1/999979")).ok());  // two primes
}

}  // namespace
}  // namespace lycia::schedule
