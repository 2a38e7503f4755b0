// Pictures must be readable: equal lengths are equal times, and every colour is told from its page, its label and the other colours, by the
// colour-blind too.
#include "parallel/schedule/timeline_svg.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/schedule/svg_for_test.h"

namespace lycia::schedule {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(PanelsTest, PanelsShareOneTimeAxis) {
  const std::vector<Panel> panels = {
      {"promised", "as planned", {"rank 0"}, {{0, 0, 5'000'000, SpanKind::kForward, "0"}}},
      {"measured & <wall>",
       "2 cores",
       {"rank 0", "rank 1"},
       {{0, 0, 10'000'000, SpanKind::kBackward, "0", "p0.0B0"}, {1, 0, 10, SpanKind::kWait}}},
  };
  const std::string svg = DrawPanels(panels, {.min_width = 1000, .max_width = 1000});
  ExpectWellFormed(svg);
  EXPECT_THAT(svg, AllOf(HasSubstr("measured &amp; &lt;wall&gt;"), HasSubstr("<title>rank 0: 0 0-5 ms</title>"),
                         HasSubstr("<title>rank 0: p0.0B0 0-10 ms</title>"), HasSubstr(">10</text>"), HasSubstr("waiting")));
  // Left edge 16 + 6 * 7 + 8 = 66, right margin 16: 918 px of time; half of it is 459.
  EXPECT_THAT(svg, AllOf(HasSubstr("width=\"459\""), HasSubstr("width=\"918\"")));
  ExpectWellFormed(DrawPanels({}, {}));
}

TEST(PanelsTest, RowsWithoutANameAreThin) {
  const std::vector<Panel> panels = {
      {"", "", {"rank 0", "", "rank 1"}, {{0, 0, 9, SpanKind::kForward}, {1, 0, 9, SpanKind::kSync}, {2, 0, 9, SpanKind::kForward}}}};
  const std::string svg = DrawPanels(panels);
  // Rows start under the legend (16 + 34) and the title (40): 90, a row of 18, a thin one of 9.
  EXPECT_THAT(svg, AllOf(HasSubstr("y=\"90\" width=\"878\" height=\"16\""), HasSubstr("y=\"108\" width=\"878\" height=\"7\""),
                         HasSubstr("y=\"117\" width=\"878\" height=\"16\"")));
}

using Color = std::array<double, 3>;  // linear RGB

Color Linear(const std::string& hex) {
  Color color{};
  for (int i = 0; i < 3; ++i) {
    const double c = std::stoi(hex.substr(1 + 2 * i, 2), nullptr, 16) / 255.0;
    color[i] = c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4);
  }
  return color;
}

double Luminance(const Color& c) { return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]; }

// WCAG 2.1
double Contrast(const Color& a, const Color& b) {
  const auto [low, high] = std::minmax({Luminance(a), Luminance(b)});
  return (high + 0.05) / (low + 0.05);
}

std::array<double, 3> Lab(const Color& c) {
  const auto f = [](double t) { return t > 0.008856 ? std::cbrt(t) : 7.787 * t + 16.0 / 116; };
  const double x = f((0.4124 * c[0] + 0.3576 * c[1] + 0.1805 * c[2]) / 0.9505), y = f(Luminance(c)),
               z = f((0.0193 * c[0] + 0.1192 * c[1] + 0.9505 * c[2]) / 1.089);
  return {116 * y - 16, 500 * (x - y), 200 * (y - z)};
}

// What is seen: normal, without red, green or blue cones (Machado, Oliveira & Fernandes 2009, severity 1).
constexpr double kSights[4][3][3] = {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}},
                                     {{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}},
                                     {{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}},
                                     {{1.255528, -0.076749, -0.178779}, {-0.078411, 0.930809, 0.147602}, {0.004733, 0.691367, 0.303900}}};

double LeastDistance(const Color& a, const Color& b) {
  double least = 1e9;
  for (const auto& sight : kSights) {
    Color seen[2] = {};
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j < 3; ++j) seen[0][i] += sight[i][j] * a[j], seen[1][i] += sight[i][j] * b[j];
      for (Color& color : seen) color[i] = std::clamp(color[i], 0.0, 1.0);
    }
    const auto one = Lab(seen[0]), two = Lab(seen[1]);
    least = std::min(least, std::hypot(one[0] - two[0], one[1] - two[1], one[2] - two[2]));
  }
  return least;
}

// The value of `property` in the rule of `selector` at or behind `from`.
std::string Css(const std::string& svg, const std::string& selector, std::size_t from) {
  const std::size_t at = svg.find(selector + "{fill:", from);
  EXPECT_NE(at, std::string::npos) << selector;
  return svg.substr(at + selector.size() + 6, 7);
}

TEST(ColorsTest, ContrastAndColourBlindness) {
  Panel panel{"", "", {"row"}};
  std::vector<SpanKind> compute, kinds;
  for (int kind = 0; kind < static_cast<int>(SpanKind::kWait); ++kind) {
    panel.spans.push_back({0, 0, 1, static_cast<SpanKind>(kind)});
    const bool chunk = kind < static_cast<int>(SpanKind::kLoad) && kind % 3 == 2;  // drawn like the up pipe
    if (!chunk) kinds.push_back(static_cast<SpanKind>(kind));
  }
  const std::string svg = DrawPanels({&panel, 1});
  const std::size_t dark = svg.find("prefers-color-scheme:dark");
  ASSERT_NE(dark, std::string::npos);
  for (const std::size_t theme : {std::size_t{0}, dark}) {
    const Color page = Linear(Css(svg, ".g", theme));
    for (const SpanKind a : kinds) {
      SCOPED_TRACE(testing::Message() << (theme == 0 ? "light" : "dark") << ", kind " << static_cast<int>(a));
      const std::string number = std::to_string(static_cast<int>(a));
      const Color fill = Linear(Css(svg, ".k" + number, theme));
      EXPECT_GE(Contrast(fill, page), 3.0);
      EXPECT_GE(Contrast(fill, Linear(Css(svg, ".t" + number, theme))), 4.5);
      for (const SpanKind b : kinds) {
        if (b >= a) continue;
        const bool both_compute = a < SpanKind::kLoad;
        EXPECT_GE(LeastDistance(fill, Linear(Css(svg, ".k" + std::to_string(static_cast<int>(b)), theme))), both_compute ? 16 : 11)
            << "against kind " << static_cast<int>(b);
      }
    }
  }
}

}  // namespace
}  // namespace lycia::schedule
