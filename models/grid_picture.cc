#include "models/grid_picture.h"

#include <algorithm>
#include <array>

#include "models/layers/grid_gpt_parameters.h"

namespace lycia {
namespace {

// Rows × columns of a matrix.
struct Rectangle {
  std::int64_t row, rows, column, columns;
};

class Panels {
 public:
  Panels(const GridGptOptions& options, int featured_rank) : options_(options), featured_(featured_rank) {}

  // part, whole: what a rank holds of an activation and what it multiplies with, by its shape.
  template <typename Part, typename Whole>
  void AddActivation(const std::string& title, std::int64_t rows, std::int64_t columns, const Part& part, const Whole& whole) {
    OwnershipPanel& panel = Begin(title, rows, columns);
    ForEachRank([&](const GridGptShape& shape, int rank) {
      Mark(panel.owner, columns, part(shape), rank);
      if (rank == featured_) Mark(panel.needed, columns, whole(shape), std::uint8_t{1});
    });
  }

  void AddWeight(const std::string& title, GridParameter (*parameter)(const GridGptShape&, const std::string&)) {
    OwnershipPanel* panel = nullptr;
    ForEachRank([&](const GridGptShape& shape, int rank) {
      const GridParameter weight = parameter(shape, "h.0.");
      if (panel == nullptr) panel = &Begin(title, weight.tensor_shape[0], weight.tensor_shape[1]);
      for (const ElementRun& run : weight.OwnedRuns(shape.grid())) Mark(panel->owner, run, rank);
      if (rank != featured_) return;
      for (const ElementRun& run : Runs(weight.block, 0, weight.block.elements())) Mark(panel->needed, run, std::uint8_t{1});
    });
  }

  std::vector<OwnershipPanel> Take() { return std::move(panels_); }

 private:
  OwnershipPanel& Begin(const std::string& title, std::int64_t rows, std::int64_t columns) {
    const std::size_t size = static_cast<std::size_t>(rows * columns);
    panels_.push_back({title, rows, columns, std::vector<int>(size, -1), std::vector<std::uint8_t>(size)});
    return panels_.back();
  }
  template <typename T>
  static void Mark(std::vector<T>& of, std::int64_t width, const Rectangle& r, T value) {
    for (std::int64_t i = r.row; i < r.row + r.rows; ++i) {
      std::fill_n(of.begin() + i * width + r.column, r.columns, value);
    }
  }
  template <typename T>
  static void Mark(std::vector<T>& of, const ElementRun& run, T value) {
    if (run.tensor >= 0) std::fill_n(of.begin() + run.tensor, run.count, value);
  }
  template <typename F>
  void ForEachRank(const F& visit) const {
    for (int rank = 0; rank < options_.grid->mesh().ranks(); ++rank) {
      const Grid seen = options_.grid->SeenFrom(rank);
      GridGptOptions options = options_;
      options.grid = &seen;
      visit(*FitGpt(options), rank);
    }
  }

  const GridGptOptions& options_;
  const int featured_;
  std::vector<OwnershipPanel> panels_;
};

std::int64_t FirstRowOfZ(const GridGptShape& s) { return s.coordinate(Axis::kZ) * s.sizes.rows_z; }

Rectangle Residual(const GridGptShape& s) {
  return {FirstRowOfZ(s) + s.first_row(), s.sizes.rows_zy, s.coordinate(Axis::kX) * s.sizes.features, s.sizes.features};
}
// Tokens of z, features of x: gathered along y, or a summand before the reduce-scatter along y.
Rectangle ResidualBrick(const GridGptShape& s) {
  return {FirstRowOfZ(s), s.sizes.rows_z, s.coordinate(Axis::kX) * s.sizes.features, s.sizes.features};
}
Rectangle Hidden(const GridGptShape& s) {
  return {FirstRowOfZ(s) + s.coordinate(Axis::kX) * s.sizes.rows_zx, s.sizes.rows_zx, s.coordinate(Axis::kY) * s.sizes.ffn, s.sizes.ffn};
}
Rectangle HiddenBrick(const GridGptShape& s) { return {FirstRowOfZ(s), s.sizes.rows_z, s.coordinate(Axis::kY) * s.sizes.ffn, s.sizes.ffn}; }
Rectangle Heads(const GridGptShape& s) {
  const std::int64_t width = s.sizes.heads * s.options.model.head_dim();
  return {FirstRowOfZ(s), s.sizes.rows_z, s.head_part() * width, width};
}
Rectangle HeadsBrick(const GridGptShape& s) {
  const std::int64_t width = s.options.grid->size(Axis::kX) * s.sizes.heads * s.options.model.head_dim();
  return {FirstRowOfZ(s), s.sizes.rows_z, s.coordinate(Axis::kY) * width, width};
}

constexpr std::array<const char*, 12> kColors = {"#8dd3c7", "#ffffb3", "#bebada", "#fb8072", "#80b1d3", "#fdb462",
                                                 "#b3de69", "#fccde5", "#d9d9d9", "#bc80bd", "#ccebc5", "#ffed6f"};
constexpr std::int64_t kCell = 14, kGap = 28, kTitle = 18, kWidth = 900;

std::string PanelSvg(const OwnershipPanel& panel, std::int64_t left, std::int64_t top) {
  std::string svg = StrCat("<text x=\"", left, "\" y=\"", top - 5, "\" class=\"t\">", panel.title, "</text>\n");
  const auto at = [&](std::int64_t r, std::int64_t c) { return static_cast<std::size_t>(r * panel.columns + c); };
  for (std::int64_t r = 0; r < panel.rows; ++r) {
    for (std::int64_t c = 0; c < panel.columns; ++c) {
      const int owner = panel.owner[at(r, c)];
      const std::int64_t x = left + c * kCell, y = top + r * kCell;
      svg += StrCat("<rect x=\"", x, "\" y=\"", y, "\" width=\"", kCell, "\" height=\"", kCell, "\" fill=\"",
                    owner < 0 ? "white" : kColors[static_cast<std::size_t>(owner) % kColors.size()], "\"/><text x=\"", x + kCell / 2,
                    "\" y=\"", y + kCell - 4, "\">", owner, "</text>\n");
    }
  }
  // The frame: sides between an element that is needed and one that is not.
  const auto needed = [&](std::int64_t r, std::int64_t c) {
    return r >= 0 && c >= 0 && r < panel.rows && c < panel.columns && panel.needed[at(r, c)] != 0;
  };
  std::string frame;
  for (std::int64_t r = 0; r <= panel.rows; ++r) {
    for (std::int64_t c = 0; c <= panel.columns; ++c) {
      const std::int64_t x = left + c * kCell, y = top + r * kCell;
      if (needed(r, c) != needed(r - 1, c)) frame += StrCat("M", x, " ", y, "h", kCell);
      if (needed(r, c) != needed(r, c - 1)) frame += StrCat("M", x, " ", y, "v", kCell);
    }
  }
  return svg + StrCat("<path d=\"", frame, "\"/>\n");
}

}  // namespace

StatusOr<std::vector<OwnershipPanel>> OwnershipOfBlock(const GridGptOptions& options, int featured_rank) {
  LYCIA_RETURN_IF_ERROR(FitGpt(options).status());
  const GptConfig& model = options.model;
  const std::int64_t m = options.samples * options.sequence;
  Panels panels(options, featured_rank);
  panels.AddActivation("X: tokens × features", m, model.hidden, Residual, ResidualBrick);
  panels.AddWeight("W of QKV: features × (q, k, v)", QkvWeight);
  panels.AddActivation("Y: tokens × heads (of q)", m, model.hidden, Heads, HeadsBrick);
  panels.AddWeight("W of proj", AttentionProjection);
  panels.AddActivation("Y of proj = residual", m, model.hidden, Residual, ResidualBrick);
  panels.AddWeight("W of FC1", MlpWeight);
  panels.AddActivation("Y of FC1: tokens × hidden", m, model.ffn, Hidden, HiddenBrick);
  panels.AddWeight("W of FC2", MlpProjection);
  return panels.Take();
}

std::string OwnershipSvg(const std::vector<OwnershipPanel>& panels, const Mesh& mesh, int featured_rank) {
  std::string body;
  std::int64_t left = kGap, top = 2 * kGap + kTitle, tallest = 0;
  for (const OwnershipPanel& panel : panels) {
    const std::int64_t width = std::max(panel.columns * kCell, static_cast<std::int64_t>(panel.title.size()) * 7);
    if (left + width > kWidth) {
      left = kGap;
      top += tallest + kGap + kTitle;
      tallest = 0;
    }
    body += PanelSvg(panel, left, top);
    left += width + kGap;
    tallest = std::max(tallest, panel.rows * kCell);
  }
  const std::int64_t height = top + tallest + kGap;
  const auto coordinate = [&](Axis axis) { return mesh.coordinate(featured_rank, axis); };
  return StrCat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", kWidth, "\" height=\"", height, "\" viewBox=\"0 0 ", kWidth, " ", height,
      "\">\n<style>rect{stroke:#999;stroke-width:.4}text{font:8px sans-serif;text-anchor:middle}"
      ".t{font:12px sans-serif;text-anchor:start}path{stroke:black;stroke-width:2.5;fill:none}</style>\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"",
      kGap, "\" y=\"", kGap, "\" class=\"t\">Grid ", mesh.size(Axis::kX), " × ", mesh.size(Axis::kY), " × ", mesh.size(Axis::kZ),
      ": the number in a cell is the rank that holds it; framed is the brick of rank ", featured_rank, " (x = ", coordinate(Axis::kX),
      ", y = ", coordinate(Axis::kY), ", z = ", coordinate(Axis::kZ), ")</text>\n", body, "</svg>\n");
}

}  // namespace lycia
