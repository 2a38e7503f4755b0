// Timelines as a picture: one or several panels of rows with spans on a common time axis, as one SVG document.
//
// Deterministic bytes (integer arithmetic only), light and dark by prefers-color-scheme, colours of Okabe and Ito, which differ in
// lightness too. A span's label is drawn where it fits; its detail and times show on hovering.
#ifndef LYCIA_PARALLEL_SCHEDULE_TIMELINE_SVG_H_
#define LYCIA_PARALLEL_SCHEDULE_TIMELINE_SVG_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lycia::schedule {

enum class SpanKind : std::uint8_t {
  kForward,
  kForwardUp,  // of an up pipe
  kBackward,   // full, or input gradient
  kBackwardUp,
  kWeight,  // weight gradient
  kWeightUp,
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

struct Panel {
  std::string title;
  std::string note;               // one line under the title
  std::vector<std::string> rows;  // names, top to bottom
  std::vector<Span> spans;        // later ones are drawn over earlier ones
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
