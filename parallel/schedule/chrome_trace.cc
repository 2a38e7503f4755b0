#include "parallel/schedule/chrome_trace.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "parallel/schedule/json_text.h"
#include "parallel/schedule/messages.h"
#include "parallel/schedule/render.h"

namespace lycia::schedule {
namespace {

constexpr int kComputeThread = 0, kSyncThread = 1, kFirstMessageThread = 2;

const char* Category(Op op) {
  switch (op) {
    case Op::kForward:
      return "forward";
    case Op::kBackward:
      return "backward";
    case Op::kBackwardInput:
      return "input gradient";
    case Op::kBackwardWeight:
      return "weight gradient";
    case Op::kGradientSync:
      return "sync";
    case Op::kUpdate:
      return "update";
    default:
      return "message";
  }
}

class Trace {
 public:
  Trace(const Schedule& schedule, const Timeline& timeline, const TickCosts& costs)
      : schedule_(schedule), timeline_(timeline), costs_(costs) {}

  std::string Render() {
    for (int worker = 0; worker < schedule_.shape.workers; ++worker) {
      Name("process_name", worker, 0, absl::StrCat("worker ", worker));
      Name("thread_name", worker, kComputeThread, "compute");
      AddInstructions(worker);
    }
    for (int worker = 0; worker < schedule_.shape.workers; ++worker) AddMessages(worker);
    return absl::StrCat("{\"displayTimeUnit\": \"ms\", \"otherData\": {\"schedule\": ", JsonQuoted(schedule_.name),
                        ", \"unit\": \"1 ms is one unit of cost\"}, \"traceEvents\": [\n", events_, "\n]}\n");
  }

 private:
  void Add(const std::string& event) { absl::StrAppend(&events_, events_.empty() ? "" : ",\n", event); }

  std::string Us(std::int64_t ticks) const {
    return ShortestNumber(static_cast<double>(ticks) * 1000 / static_cast<double>(timeline_.ticks_per_unit));
  }

  void Name(const char* what, int worker, int thread, const std::string& name) {
    Add(absl::StrCat("{\"ph\": \"M\", \"name\": \"", what, "\", \"pid\": ", worker, ", \"tid\": ", thread,
                     ", \"args\": {\"name\": ", JsonQuoted(name), "}}"));
  }

  void Slice(const std::string& name, const char* category, int worker, int thread, const Interval& span) {
    Add(absl::StrCat("{\"ph\": \"X\", \"name\": ", JsonQuoted(name), ", \"cat\": \"", category, "\", \"pid\": ", worker,
                     ", \"tid\": ", thread, ", \"ts\": ", Us(span.start), ", \"dur\": ", Us(span.end - span.start), "}"));
  }

  void AddInstructions(int worker) {
    bool synced = false;
    for (std::size_t i = 0; i < schedule_.program[worker].size(); ++i) {
      const Instruction& instruction = schedule_.program[worker][i];
      const Interval& span = timeline_.spans[worker][i];
      const bool sync = instruction.op == Op::kGradientSync;
      if (!IsCompute(instruction.op) && (span.end <= span.start || (!sync && instruction.op != Op::kUpdate))) continue;
      if (sync && !synced) Name("thread_name", worker, kSyncThread, "gradient sync");
      synced = synced || sync;
      Slice(ToString(schedule_, instruction), Category(instruction.op), worker, sync ? kSyncThread : kComputeThread, span);
      if (!IsCompute(instruction.op)) continue;
      if (const auto message = Consumes(schedule_.shape, instruction)) needed_[*message] = span.start;
    }
  }

  // Messages leave at the end of the block that made them, one after the other over the worker's one link.
  void AddMessages(int worker) {
    const auto& program = schedule_.program[worker];
    std::vector<std::int64_t> thread_free;
    std::int64_t link_free = 0;
    for (std::size_t first = 0; first < program.size();) {
      std::size_t last = first;
      while (program[last].paired_with_next && last + 1 < program.size()) ++last;
      const std::int64_t made = timeline_.spans[worker][last].end;
      for (std::size_t i = first; i <= last; ++i) {
        const auto message = IsCompute(program[i].op) ? Produces(schedule_.shape, program[i]) : std::nullopt;
        if (!message || ReceiverOf(schedule_, *message) == worker) continue;
        const std::int64_t leaves = std::max(made, link_free);
        link_free = leaves + costs_.transmit;
        const Interval travel{leaves, link_free + costs_.latency};
        if (travel.end > travel.start) {
          std::size_t thread = 0;
          while (thread < thread_free.size() && thread_free[thread] > travel.start) ++thread;
          if (thread == thread_free.size()) {
            thread_free.push_back(0);
            Name("thread_name", worker, kFirstMessageThread + static_cast<int>(thread), "messages");
          }
          thread_free[thread] = travel.end;
          Slice(ToString(*message), "message", worker, kFirstMessageThread + static_cast<int>(thread), travel);
        }
        Arrow(*message, worker, timeline_.spans[worker][i]);
      }
      first = last + 1;
    }
  }

  // From the last tick of its maker, so that it starts inside that slice, to the start of the one that needs it.
  void Arrow(const Message& message, int sender, const Interval& maker) {
    const auto needed = needed_.find(message);
    if (needed == needed_.end()) return;
    const auto end = [&](const char* phase, int worker, std::int64_t at) {
      Add(absl::StrCat("{\"ph\": \"", phase, "\", \"bp\": \"e\", \"cat\": \"message\", \"name\": \"",
                       message.gradient ? "gradient" : "activation", "\", \"id\": ", next_arrow_, ", \"pid\": ", worker,
                       ", \"tid\": ", kComputeThread, ", \"ts\": ", Us(at), "}"));
    };
    end("s", sender, std::max(maker.start, maker.end - 1));
    end("f", ReceiverOf(schedule_, message), needed->second);
    ++next_arrow_;
  }

  const Schedule& schedule_;
  const Timeline& timeline_;
  const TickCosts& costs_;
  std::map<Message, std::int64_t> needed_;  // start of what consumes it
  std::string events_;
  int next_arrow_ = 1;
};

}  // namespace

std::string RenderChromeTrace(const Schedule& schedule, const Timeline& timeline, const TickCosts& costs) {
  return Trace(schedule, timeline, costs).Render();
}

}  // namespace lycia::schedule
