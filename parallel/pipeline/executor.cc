#include "parallel/pipeline/executor.h"

#include <algorithm>

#include "runtime/core/check.h"

namespace lycia {
namespace {

using schedule::Instruction;
using schedule::Op;

// Channels between two workers are told apart by lane: pipe, boundary and direction. Boundary s lies between stages s and s + 1.
int ActivationLane(int pipe, int boundary, int stages) { return 2 * (pipe * stages + boundary); }
int GradientLane(int pipe, int boundary, int stages) { return ActivationLane(pipe, boundary, stages) + 1; }

bool Makes(Op op, bool gradient) { return gradient ? schedule::IsBackward(op) : op == Op::kForward; }

// Most of one stage's instructions of one kind that have run before their counterparts of the other kind.
template <typename First, typename Second>
int MostAhead(const std::vector<Instruction>& program, int pipe, int stage, const First& first, const Second& second) {
  int ahead = 0, most = 0;
  for (const Instruction& instruction : program) {
    if (instruction.pipe != pipe || instruction.stage != stage) continue;
    if (first(instruction.op)) most = std::max(most, ++ahead);
    if (second(instruction.op)) --ahead;
  }
  return most;
}

StageSlots SlotsOf(const Instruction& instruction) {
  return {.stash = instruction.stash_slot,
          .input = instruction.input_slot,
          .handoff = instruction.handoff_slot,
          .part = instruction.part,
          .parts = instruction.parts};
}

}  // namespace

Program ProgramOf(const schedule::Schedule& schedule, int worker) {
  Program program{schedule.program[static_cast<std::size_t>(worker)], {}};
  for (const Instruction& instruction : program.instructions) program.texts.push_back(schedule::ToString(schedule, instruction));
  return program;
}

Executor::Executor(Args args, ArenaPlan& plan) : args_(std::move(args)) {
  const int stages = args_.schedule->shape.stages;
  for (const auto& [key, stage] : args_.stages) {
    const auto [pipe, s] = key;
    const std::vector<int>& worker_of = args_.schedule->worker_of[static_cast<std::size_t>(pipe)];
    Node node;
    node.stage = stage;
    if (s + 1 < stages) {
      const int peer = worker_of[static_cast<std::size_t>(s + 1)];
      node.activation_out =
          PlanSender(peer, ActivationLane(pipe, s, stages), stage->outputs(), TrafficOf(pipe, s, /*gradient=*/false), plan);
      node.gradient_in = PlanReceiver(peer, GradientLane(pipe, s, stages), stage->outputs(), TrafficOf(pipe, s, /*gradient=*/true), plan);
    }
    if (s > 0) {
      const int peer = worker_of[static_cast<std::size_t>(s - 1)];
      node.activation_in =
          PlanReceiver(peer, ActivationLane(pipe, s - 1, stages), stage->inputs(), TrafficOf(pipe, s - 1, /*gradient=*/false), plan);
      node.gradient_out =
          PlanSender(peer, GradientLane(pipe, s - 1, stages), stage->inputs(), TrafficOf(pipe, s - 1, /*gradient=*/true), plan);
    }
    nodes_[key] = std::move(node);
  }
}

Executor::Traffic Executor::TrafficOf(int pipe, int boundary, bool gradient) const {
  const int from = gradient ? boundary + 1 : boundary, to = gradient ? boundary : boundary + 1;
  const int credits = std::max(args_.credits, args_.schedule->credits);
  Traffic traffic{.credits = credits, .buffers = credits};
  for (const schedule::Schedule* schedule : {args_.schedule, args_.evaluation}) {
    if (schedule == nullptr) continue;
    const std::vector<int>& worker_of = schedule->worker_of[static_cast<std::size_t>(pipe)];
    const auto& sending = schedule->program[static_cast<std::size_t>(worker_of[static_cast<std::size_t>(from)])];
    const auto& receiving = schedule->program[static_cast<std::size_t>(worker_of[static_cast<std::size_t>(to)])];
    const auto makes = [&](Op op) { return Makes(op, gradient); };
    const auto sends = [&](Op op) { return op == (gradient ? Op::kSendGradient : Op::kSendActivation); };
    const auto receives = [&](Op op) { return op == (gradient ? Op::kReceiveGradient : Op::kReceiveActivation); };
    traffic.buffers = std::max(traffic.buffers, MostAhead(sending, pipe, from, makes, sends));
    traffic.credits = std::max(traffic.credits, MostAhead(receiving, pipe, to, receives, makes));
    for (const Instruction& instruction : sending) {
      if (!sends(instruction.op) || instruction.pipe != pipe || instruction.stage != from) continue;
      traffic.parts = traffic.parts == 0 ? instruction.parts : std::min<int>(traffic.parts, instruction.parts);
    }
  }
  traffic.parts = std::max(traffic.parts, 1);
  return traffic;
}

std::unique_ptr<Executor::Sender> Executor::PlanSender(int peer, int lane, std::span<const TensorSpec> specs, const Traffic& traffic,
                                                       ArenaPlan& plan) const {
  auto sender = std::make_unique<Sender>();
  sender->peer = peer;
  sender->lane = lane;
  sender->credits = traffic.credits;
  sender->bytes = PackedBytes(specs, traffic.parts);
  sender->specs = specs;
  for (int i = 0; i < traffic.buffers; ++i) sender->regions.push_back(plan.Add("messages", sender->bytes));
  return sender;
}

std::unique_ptr<Executor::Receiver> Executor::PlanReceiver(int peer, int lane, std::span<const TensorSpec> specs, const Traffic& traffic,
                                                           ArenaPlan& plan) const {
  auto receiver = std::make_unique<Receiver>();
  receiver->peer = peer;
  receiver->lane = lane;
  receiver->bytes = PackedBytes(specs, traffic.parts);
  receiver->credits = traffic.credits;
  receiver->held.resize(static_cast<std::size_t>(traffic.credits));
  receiver->region = plan.Add("messages", ChannelMemoryBytes(receiver->bytes, traffic.credits));
  return receiver;
}

Status Executor::Open(const Arena& arena, EmulatedClock* clock) {
  clock_ = clock;
  auto open_sender = [&](Sender* sender, Tag tag) -> Status {
    if (sender == nullptr) return OkStatus();
    for (const Region& region : sender->regions) sender->buffers.push_back(arena.At(region));
    if (clock_ != nullptr) {
      const auto bytes = static_cast<std::size_t>(sender->bytes);
      sender->emulated.resize(bytes * sender->buffers.size());
      for (std::size_t i = 0; i < sender->buffers.size(); ++i) sender->buffers[i] = sender->emulated.data() + i * bytes;
    }
    sender->events.resize(sender->buffers.size());
    ChannelOptions options{.peer = sender->peer,
                           .sender = true,
                           .lane = sender->lane,
                           .bytes = sender->bytes,
                           .credits = sender->credits,
                           .send_window = static_cast<int>(sender->buffers.size()),
                           .tag = tag};
    LYCIA_ASSIGN_OR_RETURN(sender->channel, args_.pipeline->OpenChannel(options));
    return OkStatus();
  };
  auto open_receiver = [&](Receiver* receiver, Tag tag) -> Status {
    if (receiver == nullptr) return OkStatus();
    ChannelOptions options{.peer = receiver->peer,
                           .sender = false,
                           .lane = receiver->lane,
                           .bytes = receiver->bytes,
                           .credits = receiver->credits,
                           .receive_memory = arena.At(receiver->region),
                           .tag = tag};
    LYCIA_ASSIGN_OR_RETURN(receiver->channel, args_.pipeline->OpenChannel(options));
    return OkStatus();
  };
  for (auto& [key, node] : nodes_) {
    LYCIA_RETURN_IF_ERROR(open_sender(node.activation_out.get(), Tag::kActivation));
    LYCIA_RETURN_IF_ERROR(open_sender(node.gradient_out.get(), Tag::kGradient));
    LYCIA_RETURN_IF_ERROR(open_receiver(node.activation_in.get(), Tag::kActivation));
    LYCIA_RETURN_IF_ERROR(open_receiver(node.gradient_in.get(), Tag::kGradient));
  }
  return OkStatus();
}

Status Executor::Run(const Program& program, StageContext context, std::int64_t first_sample, std::int64_t samples_per_micro_batch,
                     StepActions& actions) {
  for (std::size_t i = 0; i < program.instructions.size(); ++i) {
    const Instruction& instruction = program.instructions[i];
    if (args_.observer != nullptr) args_.observer->Begin(instruction, program.texts[i]);
    const std::int64_t samples = samples_per_micro_batch / instruction.parts;
    context.samples = {first_sample + instruction.micro_batch * samples_per_micro_batch + instruction.part * samples, samples};
    Status status = Execute(instruction, context, actions);
    if (status.ok()) status = context.stream->status();
    if (status.ok() && clock_ != nullptr && !program.durations.empty()) clock_->Compute(program.durations[i]);
    if (args_.observer != nullptr) args_.observer->End(instruction);
    if (!status.ok()) return Annotate(status, StrCat("step ", context.step + 1, ", ", program.texts[i]));
  }
  return OkStatus();
}

Status Executor::Execute(const Instruction& instruction, StageContext& context, StepActions& actions) {
  Stream& stream = *context.stream;
  if (clock_ != nullptr && (instruction.op == Op::kGradientSync || instruction.op == Op::kUpdate)) {
    if (instruction.op == Op::kUpdate) return clock_->AwaitSync(instruction.sync_set);
    clock_->IssueSync(instruction.sync_set);
    return OkStatus();
  }
  if (instruction.op == Op::kGradientSync) {
    actions.SynchronizeGradients(stream, instruction.sync_set);
    return OkStatus();
  }
  if (instruction.op == Op::kUpdate) {
    instruction.sync_set >= 0 ? actions.UpdateSet(stream, instruction.sync_set) : actions.Update(stream);
    return OkStatus();
  }
  auto found = nodes_.find({instruction.pipe, instruction.stage});
  LYCIA_CHECK(found != nodes_.end()) << schedule::ToString(instruction) << " is not of worker " << args_.worker << " ";
  Node& node = found->second;
  const StageSlots slots = SlotsOf(instruction);
  switch (instruction.op) {
    case Op::kLoad:
      if (instruction.stage == 0) actions.LoadInputs(stream, context.samples, node.stage->input(slots));
      if (node.stage->reads_labels()) actions.LoadLabels(stream, context.samples, node.stage->labels(slots));
      return OkStatus();
    case Op::kForward:
      if (node.activation_in != nullptr) {
        node.stage->TakeInput(stream, slots, MessageFor(node.activation_in.get(), instruction));
        Release(stream, node.activation_in.get(), instruction);  // before computing, so that the next message may come meanwhile
      }
      context.sample_losses = node.stage->reads_labels() ? actions.SampleLosses(context.samples) : nullptr;
      context.sample_hits = node.stage->reads_labels() ? actions.SampleHits(context.samples) : nullptr;
      node.stage->Forward(context, slots, NextBuffer(stream, node.activation_out.get()));
      return OkStatus();
    case Op::kBackward:
    case Op::kBackwardInput: {
      context.sample_losses = context.sample_hits = nullptr;
      const void* dout = MessageFor(node.gradient_in.get(), instruction);
      void* din = NextBuffer(stream, node.gradient_out.get());
      instruction.op == Op::kBackward ? node.stage->Backward(context, slots, dout, din)
                                      : node.stage->BackwardInput(context, slots, dout, din);
      Release(stream, node.gradient_in.get(), instruction);
      return OkStatus();
    }
    case Op::kBackwardWeight:
      context.sample_losses = context.sample_hits = nullptr;
      node.stage->BackwardWeight(context, slots);
      return OkStatus();
    case Op::kSendActivation:
      Send(stream, *node.activation_out, instruction);
      return OkStatus();
    case Op::kSendGradient:
      Send(stream, *node.gradient_out, instruction);
      return OkStatus();
    case Op::kReceiveActivation:
      return Receive(stream, *node.activation_in, instruction);
    case Op::kReceiveGradient:
      return Receive(stream, *node.gradient_in, instruction);
    default:
      break;
  }
  return absl::InternalError(StrCat("the executor does not know ", schedule::ToString(instruction)));
}

void* Executor::NextBuffer(Stream& stream, Sender* sender) {
  if (sender == nullptr) return nullptr;
  const std::size_t buffer = sender->filled;
  stream.Wait(sender->events[buffer]);
  sender->filled = (buffer + 1) % sender->buffers.size();
  return sender->buffers[buffer];
}

void Executor::Send(Stream& stream, Sender& sender, const Instruction& instruction) {
  // A device waits for the buffer in its own time (NextBuffer); here the host does, because a channel takes so many sends at once only.
  stream.Fail(sender.events[sender.sent].Wait(stream.guard()));
  if (!stream.ok()) return;
  const ConstTensor message(sender.buffers[sender.sent], DType::kU8, {PackedBytes(sender.specs, instruction.parts)});
  MessageHeader header{.micro_batch = instruction.micro_batch, .part = instruction.part};
  if (clock_ != nullptr) header.virtual_ns = sender.peer == args_.worker ? clock_->now_ns() : clock_->Depart();
  sender.events[sender.sent] = sender.channel->Send(message, stream.Record(), header);
  sender.sent = (sender.sent + 1) % sender.buffers.size();
}

Status Executor::Receive(Stream& stream, Receiver& receiver, const Instruction& instruction) {
  LYCIA_CHECK_LT(receiver.count, receiver.held.size());
  const Channel::Received received = receiver.channel->Receive();
  const bool blocked = !received.event.Done();
  stream.Wait(received.event);
  LYCIA_RETURN_IF_ERROR(stream.status());
  receiver.held[receiver.count++] = {received.slot, instruction.micro_batch, instruction.part};
  const MessageHeader& got = receiver.channel->header(received.slot);
  if (clock_ != nullptr) clock_->Arrive(got.virtual_ns, blocked);
  // A dry run has no peers and so no headers.
  if (args_.pipeline->transport() == "dry-run") return OkStatus();
  if (got.micro_batch == instruction.micro_batch && got.part == instruction.part) return OkStatus();
  const auto name = [&](int micro_batch, int part) {
    return instruction.parts > 1 ? StrCat(micro_batch, " part ", part) : StrCat(micro_batch);
  };
  return absl::InternalError(StrCat("expected micro-batch ", name(instruction.micro_batch, instruction.part), " from worker ",
                                    receiver.peer, ", got ", name(got.micro_batch, got.part), ": the two workers run different schedules"));
}

Executor::Receiver::Held* Executor::Find(Receiver& receiver, const Instruction& instruction) {
  const auto end = receiver.held.begin() + static_cast<std::ptrdiff_t>(receiver.count);
  const auto found = std::find_if(receiver.held.begin(), end, [&](const Receiver::Held& held) {
    return held.micro_batch == instruction.micro_batch && held.part == instruction.part;
  });
  LYCIA_CHECK(found != end) << schedule::ToString(instruction) << " has no message ";
  return &*found;
}

const void* Executor::MessageFor(Receiver* receiver, const Instruction& instruction) {
  if (receiver == nullptr) return nullptr;
  return receiver->channel->data(Find(*receiver, instruction)->slot);
}

void Executor::Release(Stream& stream, Receiver* receiver, const Instruction& instruction) {
  if (receiver == nullptr || !stream.ok()) return;
  Receiver::Held* held = Find(*receiver, instruction);
  receiver->channel->Release(held->slot, stream.Record());
  *held = receiver->held[--receiver->count];
}

}  // namespace lycia
