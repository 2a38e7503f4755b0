#include "parallel/schedule/timeline_svg.h"

#include <algorithm>
#include <array>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace lycia::schedule {
namespace {

constexpr int kMargin = 16, kRowHeight = 18, kThinRow = 9, kRowGap = 2, kAxisHeight = 30, kTitleHeight = 40, kLegendHeight = 34,
              kLegendLine = 20;
constexpr int kFont = 12, kLabelFont = 9;
constexpr int kCharCenti = 560;  // width of a digit of a label in 1/100 px, at kLabelFont
constexpr int kTickPixels = 70;  // least distance of two marks on the axis

struct Colors {
  const char* fill;
  const char* text;
};

struct Style {
  const char* name;
  Colors light;
  Colors dark;
};

constexpr Colors WhiteOn(const char* fill) { return {fill, "#ffffff"}; }
constexpr Colors BlackOn(const char* fill) { return {fill, "#000000"}; }
constexpr Colors kHatch = {"url(#wait)", "currentColor"};

constexpr std::array<Style, 14> kStyles = {{
    {"forward", WhiteOn("#0f46a8"), WhiteOn("#3a68c8")},
    {"forward, up pipe", BlackOn("#4a8cff"), BlackOn("#7dd4ff")},
    {"forward, odd chunk", BlackOn("#4a8cff"), BlackOn("#7dd4ff")},
    {"backward", WhiteOn("#8a3208"), WhiteOn("#c04400")},
    {"backward, up pipe", BlackOn("#d37c00"), BlackOn("#eeb32a")},
    {"backward, odd chunk", BlackOn("#d37c00"), BlackOn("#eeb32a")},
    {"weight gradient", WhiteOn("#1f4a36"), BlackOn("#2dab5b")},
    {"weight gradient, up pipe", BlackOn("#26a860"), BlackOn("#b8ebc8")},
    {"weight gradient, odd chunk", BlackOn("#26a860"), BlackOn("#b8ebc8")},
    {"load", BlackOn("#7c8a84"), BlackOn("#9e8a8a")},
    {"message", WhiteOn("#6b2de3"), BlackOn("#8f6bff")},
    {"gradient sync", WhiteOn("#c02ba2"), BlackOn("#df5aba")},
    {"update", WhiteOn("#7d6a00"), BlackOn("#f2f51c")},
    {"waiting", kHatch, kHatch},
}};

std::string Escaped(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

// Hundredths of a pixel, shortest form: 1250 -> 12.5.
std::string Px(std::int64_t centi) {
  std::string text = absl::StrCat(centi / 100);
  if (centi % 100 == 0) return text;
  absl::StrAppendFormat(&text, ".%02d", static_cast<int>(centi % 100));
  if (text.back() == '0') text.pop_back();
  return text;
}

// A time in units: exact with at most three decimals.
std::string Time(std::int64_t ns, std::int64_t ns_per_unit) {
  const std::int64_t milli = static_cast<std::int64_t>((static_cast<__int128>(ns) * 1000 + ns_per_unit / 2) / ns_per_unit);
  std::string text = absl::StrFormat("%d.%03d", milli / 1000, milli % 1000);
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text;
}

class Picture {
 public:
  Picture(std::span<const Panel> panels, const PanelsOptions& options) : panels_(panels), options_(options) {
    std::size_t name_length = 0;
    std::int64_t needed = 0;  // centipixels for the whole time, so that every label fits
    for (const Panel& panel : panels) {
      for (const std::string& row : panel.rows) name_length = std::max(name_length, row.size());
      for (const Span& span : panel.spans) end_ = std::max(end_, span.end_ns);
      blocks_ = blocks_ || !panel.blocks.empty();
    }
    for (const Panel& panel : panels) {
      for (const Span& span : panel.spans) {
        if (span.end_ns <= span.start_ns) continue;
        used_[static_cast<std::size_t>(span.kind)] = true;
        if (span.label.empty()) continue;
        needed =
            std::max(needed, static_cast<std::int64_t>(static_cast<__int128>(LabelWidth(span)) * end_ / (span.end_ns - span.start_ns)));
      }
    }
    left_ = kMargin + static_cast<int>(name_length) * 7 + 8;
    const int frame = left_ + kMargin;
    const int max_width = std::max(options.min_width, options.max_width);
    width_ = static_cast<int>(std::clamp<std::int64_t>(needed / 100 + 1 + frame, options.min_width, max_width));
    time_width_ = std::int64_t{100} * (width_ - frame);
  }

  std::string Draw() {
    int top = 0;
    std::string body = Legend(top);
    for (const Panel& panel : panels_) top = DrawPanel(panel, top, body);
    return absl::StrCat(Head(top + kMargin), body, "</svg>\n");
  }

 private:
  static std::int64_t LabelWidth(const Span& span) { return static_cast<std::int64_t>(span.label.size()) * kCharCenti + 200; }

  // Left border of a time, in centipixels.
  std::int64_t X(std::int64_t ns) const { return 100 * left_ + static_cast<std::int64_t>(static_cast<__int128>(ns) * time_width_ / end_); }

  std::string Head(int height) const {
    std::string light, dark;
    const auto add = [](std::string& css, std::size_t kind, const Colors& colors) {
      absl::StrAppend(&css, ".k", kind, "{fill:", colors.fill, "}.t", kind, "{fill:", colors.text, "}\n");
    };
    for (std::size_t i = 0; i < kStyles.size(); ++i) {
      if (!used_[i]) continue;
      add(light, i, kStyles[i].light);
      add(dark, i, kStyles[i].dark);
    }
    return absl::StrCat(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", width_, "\" height=\"", height, "\" viewBox=\"0 0 ", width_, " ", height,
        "\" font-family=\"system-ui,sans-serif\" font-size=\"", kFont,
        "\">\n<style>\nsvg{color:#1a1a1a}.g{fill:#ffffff}\ntext{fill:currentColor}\n.l{font-size:", kLabelFont,
        "px;text-anchor:middle}\n.n{text-anchor:end}.c{text-anchor:middle}.h{font-size:14px;font-weight:600}\n"
        ".a{stroke:#d9d9d9}.q{stroke:#ffffff;stroke-width:.6}.b{fill:none;stroke:currentColor;stroke-width:1.5}\n",
        light, "@media (prefers-color-scheme:dark){\nsvg{color:#e8e8e8}.g{fill:#161616}.a{stroke:#3a3a3a}.q{stroke:#161616}\n", dark,
        "}\n</style>\n<defs><pattern id=\"wait\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" "
        "patternTransform=\"rotate(45)\"><path d=\"M0 0V5\" stroke=\"#8a8a8a\" stroke-width=\"1.4\"/></pattern></defs>\n"
        "<rect class=\"g\" width=\"100%\" height=\"100%\"/>\n");
  }

  // Names the kinds that occur, in as many lines as they need; `bottom` becomes the end of the last.
  std::string Legend(int& bottom) const {
    std::string text;
    int x = kMargin, y = kMargin;
    const auto add = [&](const std::string& style, const std::string& name) {
      const int width = 19 + 7 * static_cast<int>(name.size()) + 18;
      if (x > kMargin && x + width > width_) x = kMargin, y += kLegendLine;
      absl::StrAppend(&text, "<rect class=\"", style, "\" x=\"", x, "\" y=\"", y, "\" width=\"14\" height=\"14\"/><text x=\"", x + 19,
                      "\" y=\"", y + 11, "\">", name, "</text>\n");
      x += width;
    };
    for (std::size_t i = 0; i < kStyles.size(); ++i) {
      if (used_[i]) add(absl::StrCat("k", i), kStyles[i].name);
    }
    if (blocks_) add("b", "one block: outputs at its end");
    bottom = y + kLegendHeight;
    return text;
  }

  // 1, 2 or 5 times a power of ten (below a unit: ns), at least kTickPixels apart.
  std::int64_t AxisStep() const {
    const std::int64_t least =
        std::max<std::int64_t>(1, static_cast<std::int64_t>(static_cast<__int128>(end_) * kTickPixels * 100 / time_width_));
    std::int64_t base = options_.ns_per_unit;
    while (base % 10 == 0 && base / 10 * 5 >= least) base /= 10;
    for (;; base *= 10) {
      for (const int factor : {1, 2, 5}) {
        if (base * factor >= least) return base * factor;
      }
    }
  }

  int DrawPanel(const Panel& panel, int top, std::string& body) const {
    const int rows_top = top + kTitleHeight;
    std::vector<int> tops = {rows_top};  // of each row, and the end of the last
    for (const std::string& name : panel.rows) tops.push_back(tops.back() + (name.empty() ? kThinRow : kRowHeight));
    const int bottom = tops.back();
    absl::StrAppend(&body, "<text class=\"h\" x=\"", kMargin, "\" y=\"", top + 12, "\">", Escaped(panel.title), "</text>\n<text x=\"",
                    kMargin, "\" y=\"", top + 29, "\">", Escaped(panel.note), "</text>\n");
    const std::int64_t step = AxisStep();
    for (std::int64_t tick = 0; tick <= end_; tick += step) {
      const std::string x = Px(X(tick));
      absl::StrAppend(&body, "<path class=\"a\" d=\"M", x, " ", rows_top, "V", bottom + 4, "\"/><text class=\"c\" x=\"", x, "\" y=\"",
                      bottom + 17, "\">", Time(tick, options_.ns_per_unit), tick == 0 ? absl::StrCat(" ", options_.unit) : "", "</text>\n");
    }
    for (std::size_t row = 0; row < panel.rows.size(); ++row) {
      if (panel.rows[row].empty()) continue;
      absl::StrAppend(&body, "<text class=\"n\" x=\"", left_ - 6, "\" y=\"", tops[row] + 12, "\">", Escaped(panel.rows[row]), "</text>\n");
    }
    for (const Span& span : panel.spans) DrawSpan(panel, span, tops, body);
    for (const Block& block : panel.blocks) {
      absl::StrAppend(&body, "<rect class=\"b\" ", Box(block.row, block.start_ns, block.end_ns, tops), "/>\n");
    }
    return bottom + kAxisHeight;
  }

  // The attributes of a rectangle from start to end on a row.
  std::string Box(int row, std::int64_t start, std::int64_t end, const std::vector<int>& tops) const {
    return absl::StrCat("x=\"", Px(X(start)), "\" y=\"", tops[row], "\" width=\"", Px(X(end) - X(start)), "\" height=\"",
                        tops[row + 1] - tops[row] - kRowGap, "\"");
  }

  void DrawSpan(const Panel& panel, const Span& span, const std::vector<int>& tops, std::string& body) const {
    const std::int64_t left = X(span.start_ns), width = X(span.end_ns) - left;
    if (width <= 0) return;
    const int kind = static_cast<int>(span.kind);
    int named = span.row;
    while (named > 0 && panel.rows[named].empty()) --named;
    absl::StrAppend(&body, "<rect class=\"q k", kind, "\" ", Box(span.row, span.start_ns, span.end_ns, tops), "><title>",
                    Escaped(panel.rows[named]), ": ", Escaped(span.detail.empty() ? span.label : span.detail), " ",
                    Time(span.start_ns, options_.ns_per_unit), "-", Time(span.end_ns, options_.ns_per_unit), " ", options_.unit,
                    "</title></rect>");
    const bool high = tops[span.row + 1] - tops[span.row] == kRowHeight;
    if (high && !span.label.empty() && width >= LabelWidth(span) - 100) {
      absl::StrAppend(&body, "<text class=\"l t", kind, "\" x=\"", Px(left + width / 2), "\" y=\"", tops[span.row] + 11, "\">",
                      Escaped(span.label), "</text>");
    }
    body += "\n";
  }

  std::span<const Panel> panels_;
  const PanelsOptions& options_;
  std::int64_t end_ = 1;         // ns, of all panels
  std::int64_t time_width_ = 0;  // centipixels
  int left_ = 0, width_ = 0;     // pixels
  std::array<bool, kStyles.size()> used_{};
  bool blocks_ = false;
};

}  // namespace

std::string DrawPanels(std::span<const Panel> panels, const PanelsOptions& options) { return Picture(panels, options).Draw(); }

}  // namespace lycia::schedule
