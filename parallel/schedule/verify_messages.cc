// Verify: every message has one sender and one receiver at the right places, and both ends see one order; see verify.h.
#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "parallel/schedule/messages.h"
#include "parallel/schedule/program_text.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

// Where a message is made, sent, received and used.
struct Road {
  std::vector<Place> made, sent, received, used;
};

Status VerifyRoad(const Schedule& schedule, const Message& message, const Road& road) {
  const std::string what = absl::StrCat("the ", ToString(message));
  const auto fail = [&](const Place& place, const auto&... parts) { return ErrorAt(schedule, place, absl::StrCat(what, parts...)); };
  if (road.made.empty())
    return fail((road.sent.empty() ? road.received.empty() ? road.used : road.received : road.sent)[0], " is never made");
  if (road.sent.empty()) return fail(road.made[0], " is never sent");
  if (road.used.empty()) return fail(road.made[0], " is never used");
  if (road.received.empty()) return fail(road.used[0], " is never received");
  if (road.sent.size() > 1) return fail(road.sent[1], " is sent twice");
  if (road.received.size() > 1) return fail(road.received[1], " is received twice");
  if (road.sent[0].index < road.made[0].index) return fail(road.sent[0], " is sent before it is made");
  if (road.received[0].index > road.used[0].index) return fail(road.received[0], " is received after it is needed");
  return OkStatus();
}

// The order of an ordered pair's sends against that of its receives.
Status VerifyOrder(const Schedule& schedule) {
  std::map<std::pair<int, int>, std::pair<std::vector<Place>, std::vector<Place>>> pairs;
  for (int worker = 0; worker < schedule.shape.workers; ++worker) {
    for (int i = 0; i < static_cast<int>(schedule.program[worker].size()); ++i) {
      const Instruction& instruction = schedule.program[worker][i];
      if (IsSend(instruction.op)) pairs[{worker, ReceiverOf(schedule, MessageOf(instruction))}].first.push_back({worker, i});
      if (IsReceive(instruction.op)) pairs[{SenderOf(schedule, MessageOf(instruction)), worker}].second.push_back({worker, i});
    }
  }
  for (const auto& [pair, ends] : pairs) {
    const auto& [sends, receives] = ends;
    for (std::size_t k = 0; k < sends.size(); ++k) {
      const Message sent = MessageOf(schedule.program[sends[k].worker][sends[k].index]);
      const Message received = MessageOf(schedule.program[receives[k].worker][receives[k].index]);
      if (sent == received) continue;
      return ErrorAt(
          schedule, receives[k],
          absl::StrCat("message ", k, " from worker ", pair.first, " to worker ", pair.second, " is sent as the ", ToString(sent),
                       " (instruction ", sends[k].index, " of worker ", pair.first, ") and received as another"));
    }
  }
  return OkStatus();
}

}  // namespace

Status VerifyMessages(const Schedule& schedule) {
  std::map<Message, Road> roads;
  for (int worker = 0; worker < schedule.shape.workers; ++worker) {
    for (int i = 0; i < static_cast<int>(schedule.program[worker].size()); ++i) {
      const Instruction& instruction = schedule.program[worker][i];
      const Place here{worker, i};
      const int stage = instruction.stage;
      const bool at_top = stage == schedule.shape.stages - 1;
      if (stage == 0 && (instruction.op == Op::kReceiveActivation || instruction.op == Op::kSendGradient)) {
        return ErrorAt(schedule, here, "there is no stage before the first");
      }
      if (at_top && (instruction.op == Op::kSendActivation || instruction.op == Op::kReceiveGradient)) {
        return ErrorAt(schedule, here, "there is no stage behind the last");
      }
      if (IsSend(instruction.op)) roads[MessageOf(instruction)].sent.push_back(here);
      if (IsReceive(instruction.op)) roads[MessageOf(instruction)].received.push_back(here);
      if (const auto made = Produces(schedule.shape, instruction)) roads[*made].made.push_back(here);
      if (const auto used = Consumes(schedule.shape, instruction)) roads[*used].used.push_back(here);
    }
  }
  for (const auto& [message, road] : roads) LYCIA_RETURN_IF_ERROR(VerifyRoad(schedule, message, road));
  return VerifyOrder(schedule);
}

}  // namespace lycia::schedule
