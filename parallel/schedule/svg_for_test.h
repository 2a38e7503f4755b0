// What tests ask of an SVG text.
#ifndef LYCIA_PARALLEL_SCHEDULE_SVG_FOR_TEST_H_
#define LYCIA_PARALLEL_SCHEDULE_SVG_FOR_TEST_H_

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace lycia::schedule {

inline int Count(const std::string& text, const std::string& what) {
  int count = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + what.size())) ++count;
  return count;
}

// Well-formed as far as our own output goes: every element closed, in order, no raw ampersand.
inline void ExpectWellFormed(const std::string& svg) {
  std::vector<std::string> open;
  for (std::size_t at = svg.find('<'); at != std::string::npos; at = svg.find('<', at + 1)) {
    const std::size_t end = svg.find('>', at);
    ASSERT_NE(end, std::string::npos);
    const std::string tag = svg.substr(at + 1, end - at - 1);
    ASSERT_EQ(tag.find('<'), std::string::npos) << tag;
    const std::string name = tag.substr(0, tag.find_first_of(" /", 1));
    if (tag[0] == '/') {
      ASSERT_FALSE(open.empty());
      ASSERT_EQ(open.back(), tag.substr(1));
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(name);
    }
  }
  EXPECT_TRUE(open.empty());
  for (std::size_t at = svg.find('&'); at != std::string::npos; at = svg.find('&', at + 1)) {
    const std::string entity = svg.substr(at, 5);
    EXPECT_TRUE(absl::StartsWith(entity, "&amp;") || absl::StartsWith(entity, "&lt;") || absl::StartsWith(entity, "&gt;") ||
                absl::StartsWith(entity, "&quot"))
        << entity;
  }
}

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_SVG_FOR_TEST_H_
