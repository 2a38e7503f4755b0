#include "launch/progress.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <utility>

namespace lycia {
namespace {

constexpr double kNewShare = 0.1;  // of the newest step in a moving average
constexpr double kAbsent = std::numeric_limits<double>::quiet_NaN();

// JSON has no NaN or infinity: null stands for both. `text` holds 32 bytes.
const char* Number(double value, char* text) {
  if (!std::isfinite(value)) return "null";
  std::snprintf(text, 32, "%.9g", value);
  return text;
}

void Average(double& average, double value) { average = average == 0 ? value : (1 - kNewShare) * average + kNewShare * value; }

// Every line begins with {"step":N, ; -1 for any other.
std::int64_t StepOfLine(const std::string& line) {
  static constexpr char kOpening[] = "{\"step\":";
  if (line.compare(0, sizeof kOpening - 1, kOpening) != 0 || line.back() != '}') return -1;
  return std::strtoll(line.c_str() + sizeof kOpening - 1, nullptr, 10);
}

std::string SystemReason() { return std::strerror(errno); }

// Rewrites the file without the lines of steps after `step` (and, if asked, the evaluation of `step`), by way of a temporary name, so that
// a kill here loses nothing.
Status DropLaterLines(const std::string& path, std::int64_t step, bool drop_evaluation) {
  std::ifstream in(path);
  if (!in) return OkStatus();  // nothing was written yet
  const std::string temporary = path + ".tmp";
  std::ofstream out(temporary, std::ios::trunc);
  std::string line;
  while (std::getline(in, line)) {
    const std::int64_t of = line.empty() ? -1 : StepOfLine(line);
    const bool dropped = drop_evaluation && of == step && line.find("\"held_out_loss\"") != std::string::npos;
    if (of >= 0 && of <= step && !dropped) out << line << '\n';
  }
  out.close();
  if (!out || std::rename(temporary.c_str(), path.c_str()) != 0) {
    return InvalidArgument("metrics file ", path, " cannot be rewritten: ", SystemReason());
  }
  return OkStatus();
}

}  // namespace

StatusOr<MetricsWriter> MetricsWriter::Open(const std::string& path, std::int64_t resumed_step, bool evaluates_again) {
  if (resumed_step > 0) LYCIA_RETURN_IF_ERROR(DropLaterLines(path, resumed_step, evaluates_again));
  MetricsWriter writer;
  writer.file_ = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (resumed_step > 0 ? 0 : O_TRUNC), 0644);
  if (writer.file_ < 0) return InvalidArgument("metrics file ", path, " cannot be opened: ", SystemReason());
  return writer;
}

MetricsWriter::MetricsWriter(MetricsWriter&& other) noexcept : file_(std::exchange(other.file_, -1)), buffer_(std::move(other.buffer_)) {}
MetricsWriter& MetricsWriter::operator=(MetricsWriter&& other) noexcept {
  std::swap(file_, other.file_);
  return *this;
}
MetricsWriter::~MetricsWriter() {
  if (file_ >= 0) close(file_);
}

Status MetricsWriter::Write(const StepMetrics& m) {
  char line[512], loss[32], lr[32], norm[32], rate[32], seconds[32], share[32], scale[32], scaling[96] = "";
  if (m.loss_scale > 0) {
    std::snprintf(scaling, sizeof scaling, ",\"loss_scale\":%s,\"skipped_steps\":%" PRId64, Number(m.loss_scale, scale), m.skipped_steps);
  }
  const int bytes = std::snprintf(line, sizeof line,
                                  "{\"step\":%" PRId64 ",\"loss\":%s,\"lr\":%s,\"grad_norm\":%s,\"%s\":%" PRId64
                                  ",\"%s_per_second\":%s,\"step_seconds\":%s,\"mfu_or_peak_share\":%s%s}\n",
                                  m.step, Number(m.loss, loss), Number(m.lr, lr), Number(m.grad_norm, norm), m.unit, m.count, m.unit,
                                  Number(m.per_second, rate), Number(m.step_seconds, seconds), Number(m.mfu_or_peak_share, share), scaling);
  return WriteLine(line, bytes);
}

Status MetricsWriter::WriteEvaluation(const EvaluationMetrics& m) {
  char line[256], loss[32], accuracy[32];
  const int bytes =
      std::snprintf(line, sizeof line, "{\"step\":%" PRId64 ",\"held_out_loss\":%s,\"held_out_accuracy\":%s,\"held_out_%s\":%" PRId64 "}\n",
                    m.step, Number(m.loss, loss), Number(m.accuracy, accuracy), m.unit, m.count);
  return WriteLine(line, bytes);
}

Status MetricsWriter::WriteReuse(std::int64_t step, std::span<const ReuseMetrics> layers) {
  char part[512], ratio[32], error[32], width[32], saving[32];
  std::snprintf(part, sizeof part, "{\"step\":%" PRId64 ",\"reuse\":[", step);
  buffer_.assign(part);
  for (const ReuseMetrics& m : layers) {
    std::snprintf(part, sizeof part,
                  "%s{\"layer\":\"%.200s\",\"use\":\"%s\",\"unique_ratio\":%s,\"relative_error\":%s,\"width\":%s,\"predicted_saving\":%s}",
                  &m == layers.data() ? "" : ",", m.layer, m.use, Number(m.unique_ratio.value_or(kAbsent), ratio),
                  Number(m.relative_error.value_or(kAbsent), error), Number(m.width, width), Number(m.predicted_saving, saving));
    buffer_ += part;
  }
  buffer_ += "]}\n";
  return WriteLine(buffer_.data(), static_cast<int>(buffer_.size()));
}

Status MetricsWriter::WriteEmulated(const EmulatedStepMetrics& m) {
  char line[256], makespan[32], simulated[32], excess[32], bubble[32];
  const int bytes = std::snprintf(
      line, sizeof line, "{\"step\":%" PRId64 ",\"emulated_makespan_ms\":%s,\"simulated_makespan_ms\":%s,\"excess\":%s,\"bubble\":%s}\n",
      m.step, Number(m.makespan_ms, makespan), Number(m.simulated_ms, simulated), Number(m.excess, excess), Number(m.bubble, bubble));
  return WriteLine(line, bytes);
}

Status MetricsWriter::WriteLine(const char* line, int bytes) {
  if (file_ < 0) return OkStatus();
  for (int done = 0; done < bytes;) {
    const ssize_t written = write(file_, line + done, static_cast<std::size_t>(bytes - done));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return absl::UnavailableError(absl::StrCat("metrics cannot be written: ", SystemReason()));
    done += static_cast<int>(written);
  }
  return OkStatus();
}

ProgressLine::ProgressLine(const Options& options)
    : options_(options), terminal_(options.terminal >= 0 ? options.terminal == 1 : isatty(fileno(options.out)) == 1) {}

void ProgressLine::Step(const StepMetrics& m) {
  Average(seconds_a_step_, m.step_seconds);
  Average(per_second_, m.per_second);
  const bool last = m.step >= options_.steps;
  if (!terminal_ && !last && m.step % options_.every != 0) return;
  const auto left = static_cast<std::int64_t>(std::ceil(static_cast<double>(options_.steps - m.step) * seconds_a_step_));
  char eta[32];
  if (left >= 3600) {
    std::snprintf(eta, sizeof eta, "%" PRId64 ":%02d:%02d", left / 3600, static_cast<int>(left / 60 % 60), static_cast<int>(left % 60));
  } else {
    std::snprintf(eta, sizeof eta, "%02d:%02d", static_cast<int>(left / 60), static_cast<int>(left % 60));
  }
  char scale[32] = "";
  if (m.loss_scale > 0) std::snprintf(scale, sizeof scale, "  scale %.9g", m.loss_scale);
  const bool thousands = per_second_ >= 1000;
  std::fprintf(options_.out, "%sstep %" PRId64 "/%" PRId64 "  loss %.4f%s  %.*f%s %s/s  ETA %s%s", terminal_ ? "\r\x1b[K" : "", m.step,
               options_.steps, m.loss, scale, thousands ? 2 : 0, thousands ? per_second_ / 1000 : per_second_, thousands ? "k" : "", m.unit,
               eta, terminal_ ? "" : "\n");
  std::fflush(options_.out);
  open_ = terminal_;
}

void ProgressLine::EmulatedStep(const EmulatedStepMetrics& m) {
  if (!terminal_ && m.step < options_.steps && m.step % options_.every != 0) return;
  std::fprintf(options_.out, "%sstep %" PRId64 "/%" PRId64 "  emulated %.3f ms  simulated %.3f ms (%+.2f %%)  bubble %.1f %%%s",
               terminal_ ? "\r\x1b[K" : "", m.step, options_.steps, m.makespan_ms, m.simulated_ms, 100 * m.excess, 100 * m.bubble,
               terminal_ ? "" : "\n");
  std::fflush(options_.out);
  open_ = terminal_;
}

void ProgressLine::Message(const std::string& text) {
  std::fprintf(options_.out, "%s%s\n", open_ ? "\r\x1b[K" : "", text.c_str());
  std::fflush(options_.out);
  open_ = false;
}

void ProgressLine::Finish() {
  if (open_) std::fputc('\n', options_.out);
  std::fflush(options_.out);
  open_ = false;
}

}  // namespace lycia
