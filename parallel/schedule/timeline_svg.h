// Timelines as a picture: one or several panels of rows with spans on a common time axis, as one SVG document.
//
// Deterministic bytes (integer arithmetic only). Colours for light and dark by prefers-color-scheme: every fill has a contrast of at least
// 3 with the page and 4.5 with its label, and any two kinds stay apart for the colour-blind (timeline_svg_test). A span's label is drawn
// where it fits; its row, detail and times show on hovering.
#ifndef LYCIA_PARALLEL_SCHEDULE_TIMELINE_SVG_H_
#define LYCIA_PARALLEL_SCHEDULE_TIMELINE_SVG_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lycia::schedule {

enum class SpanKind : std::uint8_t {
  kForward,
  kForwardUp,     // of an up pipe
  kForwardChunk,  // of a worker's second, fourth, ... stage of a pipe; drawn like Up
  kBackward,      // full, or input gradient
  kBackwardUp,
  kBackwardChunk,
  kWeight,  // weight gradient
  kWeightUp,
  kWeightChunk,
  kLoad,
  kMessage,
  kSync,
  kUpdate,
  kWait,
};

struct Span {
  int row = 0;
  std::int64_t start_ns = 0;  // >= 0; or ticks: PanelsOptions says what a unit is
  std::int64_t end_ns = 0;
  SpanKind kind = SpanKind::kForward;
  std::string label = {};   // inside the span
  std::string detail = {};  // on hovering; empty: label
};

// Spans of a row that belong together: drawn with a frame around them.
struct Block {
  int row = 0;
  std::int64_t start_ns = 0;
  std::int64_t end_ns = 0;
};

struct Panel {
  std::string title;
  std::string note;                // one line under the title
  std::vector<std::string> rows;   // names, top to bottom; one without a name is half as high and belongs to the one above
  std::vector<Span> spans;         // later ones are drawn over earlier ones
  std::vector<Block> blocks = {};  // over all spans
};

struct PanelsOptions {
  std::int64_t ns_per_unit = 1'000'000;
  std::string unit = "ms";
  int min_width = 960;   // pixels
  int max_width = 1600;  // between them, as wide as the shortest span needs for its label
};

// All panels share one time axis, so that equal lengths are equal times. A legend names the kinds that occur.
std::string DrawPanels(std::span<const Panel> panels, const PanelsOptions& options = {});

}  // namespace lycia::schedule

#endif  // LYCIA_PARALLEL_SCHEDULE_TIMELINE_SVG_H_
