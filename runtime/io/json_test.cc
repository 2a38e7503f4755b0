#include "runtime/io/json.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lycia {
namespace {

using ::testing::HasSubstr;
using Kind = JsonValue::Kind;

TEST(JsonTest, ReadsEveryKind) {
  const auto value = ParseJson(R"( {"a": [1, -2, 2.5e1, true, null], "b": {"c": "x\u00e9\n"}, "max": 9223372036854775807} )");
  ASSERT_TRUE(value.ok()) << value.status();
  ASSERT_EQ(value->keys, (std::vector<std::string>{"a", "b", "max"}));
  const JsonValue& a = *value->Find("a");
  ASSERT_EQ(a.items.size(), 5u);
  EXPECT_EQ(a.items[1].integer, -2);
  EXPECT_EQ(a.items[2].kind, Kind::kReal);
  EXPECT_EQ(a.items[2].real, 25.0);
  EXPECT_TRUE(a.items[3].boolean);
  EXPECT_EQ(a.items[4].kind, Kind::kNull);
  EXPECT_EQ(value->Find("b")->Find("c")->text, "x\xC3\xA9\n");
  EXPECT_EQ(value->Find("max")->integer, INT64_MAX);
}

TEST(JsonTest, GetNamesTheKeyAndTheKinds) {
  const auto value = ParseJson(R"({"n": 3, "s": "x"})");
  ASSERT_TRUE(value.ok());
  EXPECT_EQ((*value->Get("n", Kind::kReal))->real, 3.0);
  EXPECT_THAT(std::string(value->Get("m", Kind::kInteger).status().message()), HasSubstr("\"m\" is missing"));
  EXPECT_THAT(std::string(value->Get("s", Kind::kInteger).status().message()), HasSubstr("\"s\" is a string and must be an integer"));
}

TEST(JsonTest, RefusesWhatIsAmbiguousOrTooLarge) {
  const std::pair<std::string, const char*> cases[] = {
      {R"({"a":1,"a":2})", "occurs twice"},
      {R"({"a":1} x)", "at byte"},
      {R"({"a":1)", "at byte"},
      {"", "at byte"},
      {std::string("{}\0{}", 5), "NUL at byte 2"},
      {"\xEF\xBB\xBF{}", "byte order mark"},
      {"[\"\xC3\x28\"]", "UTF-8"},
      {"[18446744073709551615]", "beyond"},
      {"[99999999999999999999999]", "beyond"},
      {"[1e999]", "out_of_range"},
      {"[[[[1]]]]", "deeper than 3"},
      {"[1,2,3,4,5,6,7,8,9,10,11]", "more than 10 values"},
      {"[\"12345678901234567890123\"]", "longer than 20"},
  };
  JsonLimits limits;
  limits.max_depth = 3;
  limits.max_values = 10;
  limits.max_string_bytes = 20;
  for (const auto& [text, reason] : cases) {
    const auto value = ParseJson(text, limits);
    ASSERT_FALSE(value.ok()) << text;
    EXPECT_EQ(value.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(value.status().message()), HasSubstr(reason)) << text;
  }
}

TEST(JsonTest, QuoteRoundTrips) {
  std::string text = "\"\\/\b\f\n\r\t\xC3\xA9";
  for (char c = 1; c < 32; ++c) text += c;
  EXPECT_EQ(JsonQuote("a\"\n\x01"), "\"a\\\"\\n\\u0001\"");
  EXPECT_EQ(ParseJson(JsonQuote(text))->text, text);
}

}  // namespace
}  // namespace lycia
