// Spans: what a rank did when, recorded without allocation, gathered as bytes, written as a Chrome trace (Perfetto reads it).
#ifndef LYCIA_RUNTIME_TRACE_SPANS_H_
#define LYCIA_RUNTIME_TRACE_SPANS_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/status.h"

namespace lycia {

// A lane is a row of its own under the rank.
enum class Lane : std::uint8_t { kCompute, kMessages, kSync, kIo, kCount };
std::string_view Name(Lane lane);

struct Span {
  char name[32] = {};             // instruction text, cut to 31 bytes
  Lane lane = Lane::kCompute;
  std::int32_t instruction = -1;  // index in the worker's program; -1: none
  std::int32_t step = 0;
  std::int64_t start_ns = 0;      // monotonic clock of the host
  std::int64_t end_ns = 0;
  std::int64_t cpu_start_ns = 0;  // CPU time of the recording thread
  std::int64_t cpu_end_ns = 0;
  std::uint64_t flow_out = 0;     // this span sends message id flow_out; 0: none
  std::uint64_t flow_in = 0;      // this span receives it

  std::int64_t wall_ns() const { return end_ns - start_ns; }
  std::int64_t cpu_ns() const { return cpu_end_ns - cpu_start_ns; }
};

// All spans of a rank, as gathered.
struct RankSpans {
  int rank = 0;
  std::string host;
  std::int64_t clock_offset_ns = 0;  // add to a span's times to get wall-clock time, which hosts share
  std::int64_t dropped = 0;          // spans that did not fit
  std::vector<Span> spans;
};

// Used by one thread. Records only while enabled; a full recorder drops and counts.
class SpanRecorder {
 public:
  SpanRecorder(int rank, std::int64_t capacity);

  void Enable(bool enabled) { enabled_ = enabled; }
  bool enabled() const { return enabled_; }
  void Clear();

  struct Start {
    std::string_view name;
    Lane lane = Lane::kCompute;
    std::int32_t instruction = -1;
    std::int32_t step = 0;
    std::uint64_t flow_out = 0;
    std::uint64_t flow_in = 0;
  };
  // Handle for End; -1 (which End ignores) when disabled or full. Spans may nest.
  std::int64_t Begin(const Start& start);
  void End(std::int64_t handle);

  // Recorded so far; spans that have not ended have end_ns = start_ns.
  const RankSpans& recorded() const { return recorded_; }

 private:
  bool enabled_ = false;
  std::size_t capacity_ = 0;
  RankSpans recorded_;
};

// Id of a message for flow_out and flow_in: the same on both sides, unlike any other of the step.
constexpr std::uint64_t FlowId(int sender, int receiver, int lane, std::uint64_t sequence) {
  return (static_cast<std::uint64_t>(sender) << 48 | static_cast<std::uint64_t>(receiver) << 32 | static_cast<std::uint64_t>(lane) << 24 |
          (sequence & 0xFFFFFFu)) + 1;
}

// Bytes for a gather; Parse checks them (DataLoss when torn).
std::string SerializeSpans(const RankSpans& spans);
StatusOr<RankSpans> ParseSpans(std::string_view bytes);

// The JSON text of a Chrome trace: process = rank, thread = lane, complete events with args cpu_us and step, flow arrows from flow_out to
// flow_in. Times start at the earliest span.
std::string ChromeTrace(std::span<const RankSpans> ranks);

}  // namespace lycia

#endif  // LYCIA_RUNTIME_TRACE_SPANS_H_
