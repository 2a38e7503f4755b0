// Verify: every message has one sender and one receiver at the right places, and both ends see one order; see verify.h.
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "parallel/schedule/activations.h"
#include "parallel/schedule/messages.h"
#include "parallel/schedule/program_text.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

// Where a message is made, sent, received and used: indices in the programs of its sender and its receiver; -1 = nowhere.
struct Road {
  int made = -1, sent = -1, received = -1, used = -1;
  bool begun() const { return made >= 0 || sent >= 0 || received >= 0 || used >= 0; }
};

Status VerifyRoad(const Schedule& schedule, const Message& message, const Road& road) {
  const int sender = SenderOf(schedule, message);
  const int receiver = ReceiverOf(schedule, message);
  const auto fail = [&](const Place& place, const char* why) {
    return ErrorAt(schedule, place, absl::StrCat("the ", ToString(message), why));
  };
  if (road.made < 0) return fail(road.sent >= 0 ? Place{sender, road.sent} : Place{receiver, road.received}, " is never made");
  if (road.sent < 0) return fail({sender, road.made}, " is never sent");
  if (road.received < 0) return fail({receiver, road.used}, " is never received");
  if (road.sent < road.made) return fail({sender, road.sent}, " is sent before it is made");
  if (road.received > road.used) return fail({receiver, road.received}, " is received after it is needed");
  return OkStatus();
}

// All messages, by number. VerifyCompute has proven that each has a maker and a user, where they run, and in how many parts.
class Roads {
 public:
  explicit Roads(const Schedule& schedule)
      : schedule_(schedule), max_parts_(MaxParts(schedule)), roads_(NumMessages(schedule.shape, max_parts_)) {}

  Status Add(const Place& place, const Instruction& instruction) {
    const ScheduleShape& shape = schedule_.shape;
    if (const auto made = Produces(shape, instruction)) return Mark(place, *made, &Road::made);
    return IsCompute(instruction.op) ? OkStatus() : AddTransfer(place, instruction);
  }

  Status AddUse(const Place& place, const Instruction& instruction) {
    const auto used = Consumes(schedule_.shape, instruction);
    return used ? Mark(place, *used, &Road::used) : OkStatus();
  }

  const Road& of(const Message& message) const { return roads_[MessageIndex(schedule_.shape, max_parts_, message)]; }

 private:
  Status AddTransfer(const Place& place, const Instruction& instruction) {
    if (!IsSend(instruction.op) && !IsReceive(instruction.op)) return OkStatus();
    const bool down = instruction.op == Op::kSendGradient || instruction.op == Op::kReceiveActivation;  // crosses the boundary before it
    if (down && instruction.stage == 0) return ErrorAt(schedule_, place, "there is no stage before the first");
    if (!down && instruction.stage == schedule_.shape.stages - 1) return ErrorAt(schedule_, place, "there is no stage behind the last");
    if (instruction.part >= instruction.parts) return ErrorAt(schedule_, place, "the part is not one of its parts");
    return Mark(place, MessageOf(instruction), IsSend(instruction.op) ? &Road::sent : &Road::received);
  }

  Status Mark(const Place& place, const Message& message, int Road::*event) {
    Road& road = roads_[MessageIndex(schedule_.shape, max_parts_, message)];
    if (road.*event >= 0) {
      return ErrorAt(schedule_, place,
                     absl::StrCat("the ", ToString(message), event == &Road::sent ? " is sent twice" : " is received twice"));
    }
    road.*event = place.index;
    return OkStatus();
  }

  const Schedule& schedule_;
  const int max_parts_;
  std::vector<Road> roads_;
};

// The order of an ordered pair's sends against that of its receives.
Status VerifyOrder(const Schedule& schedule) {
  const WorkerPairs pairs = PairWorkers(schedule);
  std::vector<std::vector<Place>> sends(pairs.count), receives(pairs.count);
  for (int worker = 0; worker < schedule.shape.workers; ++worker) {
    for (int i = 0; i < static_cast<int>(schedule.program[worker].size()); ++i) {
      const Instruction& instruction = schedule.program[worker][i];
      if (!IsSend(instruction.op) && !IsReceive(instruction.op)) continue;
      const int pair = pairs.of_channel[ChannelIndex(schedule.shape, MessageOf(instruction))];
      (IsSend(instruction.op) ? sends : receives)[pair].push_back({worker, i});
    }
  }
  for (int pair = 0; pair < pairs.count; ++pair) {
    for (std::size_t k = 0; k < sends[pair].size(); ++k) {
      const Place& from = sends[pair][k];
      const Place& to = receives[pair][k];
      const Message sent = MessageOf(schedule.program[from.worker][from.index]);
      if (sent == MessageOf(schedule.program[to.worker][to.index])) continue;
      return ErrorAt(schedule, to,
                     absl::StrCat("message ", k, " from worker ", from.worker, " to worker ", to.worker, " is sent as the ", ToString(sent),
                                  " (instruction ", from.index, " of worker ", from.worker, ") and received as another"));
    }
  }
  return OkStatus();
}

}  // namespace

Status VerifyMessages(const Schedule& schedule) {
  const ScheduleShape& shape = schedule.shape;
  Roads roads(schedule);
  std::vector<std::uint8_t> parts(2 * static_cast<std::size_t>(shape.micro_batches), 0);  // [gradient?][micro-batch]
  const auto parts_of = [&](const Message& message) -> std::uint8_t& {
    return parts[(message.gradient ? shape.micro_batches : 0) + message.micro_batch];
  };
  for (int worker = 0; worker < shape.workers; ++worker) {
    for (int i = 0; i < static_cast<int>(schedule.program[worker].size()); ++i) {
      const Instruction& instruction = schedule.program[worker][i];
      LYCIA_RETURN_IF_ERROR(roads.Add({worker, i}, instruction));
      LYCIA_RETURN_IF_ERROR(roads.AddUse({worker, i}, instruction));
      if (const auto made = Produces(shape, instruction)) parts_of(*made) = made->parts;
    }
  }
  for (int worker = 0; worker < shape.workers; ++worker) {
    for (int i = 0; i < static_cast<int>(schedule.program[worker].size()); ++i) {
      const Instruction& instruction = schedule.program[worker][i];
      std::optional<Message> message = Produces(shape, instruction);
      if (IsSend(instruction.op) || IsReceive(instruction.op)) message = MessageOf(instruction);
      if (!message) continue;
      if (message->parts != parts_of(*message)) {
        return ErrorAt(schedule, {worker, i},
                       absl::StrCat("the ", ToString(*message), " is never made: it has ", static_cast<int>(parts_of(*message)), " parts"));
      }
      LYCIA_RETURN_IF_ERROR(VerifyRoad(schedule, *message, roads.of(*message)));
    }
  }
  return VerifyOrder(schedule);
}

}  // namespace lycia::schedule
