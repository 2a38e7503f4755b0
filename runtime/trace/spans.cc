#include "runtime/trace/spans.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/core/check.h"

namespace lycia {
namespace {

constexpr std::uint64_t kMagic = 0x4C594349415350;  // "LYCIASP"

std::int64_t Clock(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * std::int64_t{1'000'000'000} + now.tv_nsec;
}

struct WireHeader {
  std::uint64_t magic;
  std::int64_t rank, clock_offset_ns, dropped;
  std::uint64_t host_bytes, spans;
};

static_assert(std::is_trivially_copyable_v<Span>, "spans travel as bytes");

std::string Quoted(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (byte < 0x20 || byte >= 0x7F) {
      absl::StrAppendFormat(&quoted, "\\u%04x", byte);
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

std::string NameOf(const Span& span) { return std::string(span.name, strnlen(span.name, sizeof span.name)); }

double Microseconds(std::int64_t ns) { return static_cast<double>(ns) * 1e-3; }

void AppendSpan(const RankSpans& rank, const Span& span, std::int64_t origin_ns, std::string& text) {
  const int lane = static_cast<int>(span.lane);
  const double start = Microseconds(span.start_ns + rank.clock_offset_ns - origin_ns), length = Microseconds(span.wall_ns());
  absl::StrAppendFormat(&text, ",\n{\"ph\":\"X\",\"pid\":%d,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,\"name\":%s,", rank.rank, lane, start,
                        length, Quoted(NameOf(span)));
  absl::StrAppendFormat(&text, "\"args\":{\"step\":%d,\"cpu_us\":%.3f}}", span.step, Microseconds(span.cpu_ns()));
  // An arrow leaves at the end of the sending span and lands at the end of the receiving one, which may have begun to wait long before.
  if (span.flow_out != 0) {
    absl::StrAppendFormat(
        &text, ",\n{\"ph\":\"s\",\"cat\":\"message\",\"name\":\"message\",\"id\":\"%d.%d\",\"pid\":%d,\"tid\":%d,\"ts\":%.3f}", span.step,
        span.flow_out, rank.rank, lane, start + length);
  }
  if (span.flow_in != 0) {
    absl::StrAppendFormat(
        &text, ",\n{\"ph\":\"f\",\"bp\":\"e\",\"cat\":\"message\",\"name\":\"message\",\"id\":\"%d.%d\",\"pid\":%d,\"tid\":%d,\"ts\":%.3f}",
        span.step, span.flow_in, rank.rank, lane, start + length);
  }
}

}  // namespace

std::string_view Name(Lane lane) {
  static constexpr std::string_view kNames[] = {"compute", "messages", "sync", "io"};
  LYCIA_CHECK_LT(static_cast<int>(lane), static_cast<int>(Lane::kCount));
  return kNames[static_cast<int>(lane)];
}

SpanRecorder::SpanRecorder(int rank, std::int64_t capacity) : capacity_(static_cast<std::size_t>(capacity)) {
  recorded_.rank = rank;
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  recorded_.host = host;
  recorded_.clock_offset_ns = Clock(CLOCK_REALTIME) - Clock(CLOCK_MONOTONIC);
  recorded_.spans.reserve(capacity_);
}

void SpanRecorder::Clear() {
  recorded_.spans.clear();
  recorded_.dropped = 0;
}

std::int64_t SpanRecorder::Begin(const Start& start) {
  if (!enabled_) return -1;
  if (recorded_.spans.size() == capacity_) {
    ++recorded_.dropped;
    return -1;
  }
  Span& span = recorded_.spans.emplace_back();
  start.name.copy(span.name, sizeof span.name - 1);
  span.lane = start.lane;
  span.instruction = start.instruction;
  span.step = start.step;
  span.flow_out = start.flow_out;
  span.flow_in = start.flow_in;
  span.cpu_start_ns = span.cpu_end_ns = Clock(CLOCK_THREAD_CPUTIME_ID);
  span.start_ns = span.end_ns = Clock(CLOCK_MONOTONIC);
  return static_cast<std::int64_t>(recorded_.spans.size()) - 1;
}

void SpanRecorder::End(std::int64_t handle) {
  if (handle < 0) return;
  Span& span = recorded_.spans[static_cast<std::size_t>(handle)];
  span.end_ns = Clock(CLOCK_MONOTONIC);
  span.cpu_end_ns = Clock(CLOCK_THREAD_CPUTIME_ID);
}

std::string SerializeSpans(const RankSpans& spans) {
  const WireHeader header{kMagic, spans.rank, spans.clock_offset_ns, spans.dropped, spans.host.size(), spans.spans.size()};
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  bytes += spans.host;
  bytes.append(reinterpret_cast<const char*>(spans.spans.data()), spans.spans.size() * sizeof(Span));
  return bytes;
}

StatusOr<RankSpans> ParseSpans(std::string_view bytes) {
  WireHeader header;
  if (bytes.size() < sizeof header) return absl::DataLossError(absl::StrCat("spans: ", bytes.size(), " bytes are less than a header"));
  std::memcpy(&header, bytes.data(), sizeof header);
  const std::size_t body = bytes.size() - sizeof header;
  if (header.magic != kMagic || header.host_bytes > body || (body - header.host_bytes) % sizeof(Span) != 0 ||
      (body - header.host_bytes) / sizeof(Span) != header.spans) {
    return absl::DataLossError(absl::StrCat("spans: ", bytes.size(), " bytes do not hold what their header says"));
  }
  RankSpans spans{static_cast<int>(header.rank), std::string(bytes.substr(sizeof header, header.host_bytes)), header.clock_offset_ns,
                  header.dropped, std::vector<Span>(header.spans)};
  if (header.spans > 0) {
    std::memcpy(static_cast<void*>(spans.spans.data()), bytes.data() + sizeof header + header.host_bytes, header.spans * sizeof(Span));
  }
  for (const Span& span : spans.spans) {
    if (span.lane >= Lane::kCount) return absl::DataLossError("spans: a span has no valid lane");
  }
  return spans;
}

std::string ChromeTrace(std::span<const RankSpans> ranks) {
  std::int64_t origin_ns = std::numeric_limits<std::int64_t>::max();
  for (const RankSpans& rank : ranks) {
    for (const Span& span : rank.spans) origin_ns = std::min(origin_ns, span.start_ns + rank.clock_offset_ns);
  }
  std::string text = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n{\"ph\":\"M\",\"pid\":0,\"name\":\"trace\",\"args\":{}}";
  for (const RankSpans& rank : ranks) {
    absl::StrAppendFormat(&text, ",\n{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_name\",\"args\":{\"name\":%s}}", rank.rank,
                          Quoted(absl::StrCat("rank ", rank.rank, " on ", rank.host)));
    absl::StrAppendFormat(&text, ",\n{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_sort_index\",\"args\":{\"sort_index\":%d}}", rank.rank,
                          rank.rank);
    bool used[static_cast<std::size_t>(Lane::kCount)] = {};
    for (const Span& span : rank.spans) {
      const auto lane = static_cast<std::size_t>(span.lane);
      if (!used[lane]) {
        absl::StrAppendFormat(&text, ",\n{\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"name\":\"thread_name\",\"args\":{\"name\":%s}}", rank.rank,
                              static_cast<int>(lane), Quoted(Name(span.lane)));
      }
      used[lane] = true;
      AppendSpan(rank, span, origin_ns, text);
    }
  }
  return text + "\n]}\n";
}

}  // namespace lycia
