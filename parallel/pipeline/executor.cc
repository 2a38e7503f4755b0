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

// Most messages of one channel that its receiver holds at once: received, and not yet used by the compute instruction that needs them.
int MostHeld(const schedule::Schedule& schedule, int worker, int pipe, int stage, Op receive) {
  int held = 0, most = 0;
  for (const Instruction& instruction : schedule.program[static_cast<std::size_t>(worker)]) {
    if (instruction.pipe != pipe || instruction.stage != stage) continue;
    const bool used = receive == Op::kReceiveActivation ? instruction.op == Op::kForward : schedule::IsBackward(instruction.op);
    if (instruction.op == receive) most = std::max(most, ++held);
    if (used) --held;
  }
  return most;
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
    // Both ends compute the same number of credits: what the receiver holds at once, and at least the usual.
    auto credits = [&](int receiver, int receiving_stage, Op receive) {
      const int training = MostHeld(*args_.schedule, receiver, pipe, receiving_stage, receive);
      const int evaluation = args_.evaluation == nullptr ? 0 : MostHeld(*args_.evaluation, receiver, pipe, receiving_stage, receive);
      return std::max({args_.credits, training, evaluation});
    };
    if (s + 1 < stages) {
      const int peer = worker_of[static_cast<std::size_t>(s + 1)];
      const std::int64_t bytes = PackedBytes(stage->outputs());
      node.activation_out = PlanSender(peer, ActivationLane(pipe, s, stages), bytes, credits(peer, s + 1, Op::kReceiveActivation), plan);
      node.gradient_in = PlanReceiver(peer, GradientLane(pipe, s, stages), bytes, credits(args_.worker, s, Op::kReceiveGradient), plan);
    }
    if (s > 0) {
      const int peer = worker_of[static_cast<std::size_t>(s - 1)];
      const std::int64_t bytes = PackedBytes(stage->inputs());
      node.activation_in =
          PlanReceiver(peer, ActivationLane(pipe, s - 1, stages), bytes, credits(args_.worker, s, Op::kReceiveActivation), plan);
      node.gradient_out = PlanSender(peer, GradientLane(pipe, s - 1, stages), bytes, credits(peer, s - 1, Op::kReceiveGradient), plan);
    }
    nodes_[key] = std::move(node);
  }
}

std::unique_ptr<Executor::Sender> Executor::PlanSender(int peer, int lane, std::int64_t bytes, int credits, ArenaPlan& plan) const {
  auto sender = std::make_unique<Sender>();
  sender->peer = peer;
  sender->lane = lane;
  sender->credits = credits;
  sender->message = {DType::kU8, {bytes}};
  for (int i = 0; i < args_.credits; ++i) sender->regions.push_back(plan.Add("messages", bytes));
  return sender;
}

std::unique_ptr<Executor::Receiver> Executor::PlanReceiver(int peer, int lane, std::int64_t bytes, int credits, ArenaPlan& plan) const {
  auto receiver = std::make_unique<Receiver>();
  receiver->peer = peer;
  receiver->lane = lane;
  receiver->bytes = bytes;
  receiver->credits = credits;
  receiver->held.assign(static_cast<std::size_t>(credits), -1);
  receiver->region = plan.Add("messages", ChannelMemoryBytes(bytes, credits));
  return receiver;
}

Status Executor::Open(const Arena& arena) {
  auto open_sender = [&](Sender* sender, Tag tag) -> Status {
    if (sender == nullptr) return OkStatus();
    for (const Region& region : sender->regions) sender->buffers.push_back(arena.At(region));
    sender->events.resize(sender->buffers.size());
    ChannelOptions options{.peer = sender->peer,
                           .sender = true,
                           .lane = sender->lane,
                           .bytes = sender->message.bytes(),
                           .credits = sender->credits,
                           .send_window = args_.credits,
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
    context.samples = {first_sample + instruction.micro_batch * samples_per_micro_batch, samples_per_micro_batch};
    Status status = Execute(instruction, context, actions);
    if (status.ok()) status = context.stream->status();
    if (args_.observer != nullptr) args_.observer->End(instruction);
    if (!status.ok()) return Annotate(status, StrCat("step ", context.step + 1, ", ", program.texts[i]));
  }
  return OkStatus();
}

Status Executor::Execute(const Instruction& instruction, StageContext& context, StepActions& actions) {
  Stream& stream = *context.stream;
  if (instruction.op == Op::kGradientSync) {
    actions.SynchronizeGradients(stream, instruction.sync_set);
    return OkStatus();
  }
  if (instruction.op == Op::kUpdate) {
    actions.Update(stream);
    return OkStatus();
  }
  auto found = nodes_.find({instruction.pipe, instruction.stage});
  LYCIA_CHECK(found != nodes_.end()) << schedule::ToString(instruction) << " is not of worker " << args_.worker << " ";
  Node& node = found->second;
  const int slot = instruction.stash_slot;
  switch (instruction.op) {
    case Op::kLoad:
      if (instruction.stage == 0) actions.LoadTokens(stream, context.samples, node.stage->input(slot));
      if (node.stage->reads_labels()) actions.LoadLabels(stream, context.samples, node.stage->labels(slot));
      return OkStatus();
    case Op::kForward:
      if (node.activation_in != nullptr) {
        stream.Copy(node.stage->input(slot), Oldest(node.activation_in.get()), node.activation_in->bytes);
        Release(stream, node.activation_in.get());
      }
      context.sample_losses = node.stage->reads_labels() ? actions.SampleLosses(context.samples) : nullptr;
      node.stage->Forward(context, slot, NextBuffer(stream, node.activation_out.get()));
      return OkStatus();
    case Op::kBackward:
      context.sample_losses = nullptr;
      node.stage->Backward(context, slot, Oldest(node.gradient_in.get()), NextBuffer(stream, node.gradient_out.get()));
      Release(stream, node.gradient_in.get());
      return OkStatus();
    case Op::kBackwardInput:
      context.sample_losses = nullptr;
      node.stage->BackwardInput(context, slot, Oldest(node.gradient_in.get()), NextBuffer(stream, node.gradient_out.get()));
      Release(stream, node.gradient_in.get());
      return OkStatus();
    case Op::kBackwardWeight:
      node.stage->BackwardWeight(context, slot);
      return OkStatus();
    case Op::kSendActivation:
      Send(stream, *node.activation_out, instruction.micro_batch);
      return OkStatus();
    case Op::kSendGradient:
      Send(stream, *node.gradient_out, instruction.micro_batch);
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
  stream.Wait(sender->events[sender->next]);
  return sender->buffers[sender->next];
}

void Executor::Send(Stream& stream, Sender& sender, int micro_batch) {
  const ConstTensor message(sender.buffers[sender.next], sender.message.dtype, sender.message.shape);
  sender.events[sender.next] = sender.channel->Send(message, stream.Record(), {.micro_batch = micro_batch});
  sender.next = (sender.next + 1) % sender.buffers.size();
}

Status Executor::Receive(Stream& stream, Receiver& receiver, const Instruction& instruction) {
  LYCIA_CHECK_LT(receiver.count, receiver.held.size());
  const Channel::Received received = receiver.channel->Receive();
  stream.Wait(received.event);
  LYCIA_RETURN_IF_ERROR(stream.status());
  receiver.held[(receiver.first + receiver.count++) % receiver.held.size()] = received.slot;
  const int got = receiver.channel->header(received.slot).micro_batch;
  // A dry run has no peers and so no headers.
  if (args_.pipeline->transport() != "dry-run" && got != instruction.micro_batch) {
    return absl::InternalError(StrCat("expected micro-batch ", instruction.micro_batch, " from worker ", receiver.peer, ", got ", got,
                                      ": the two workers run different schedules"));
  }
  return OkStatus();
}

const void* Executor::Oldest(const Receiver* receiver) {
  if (receiver == nullptr) return nullptr;
  LYCIA_CHECK_GT(receiver->count, 0u);
  return receiver->channel->data(receiver->held[receiver->first]);
}

void Executor::Release(Stream& stream, Receiver* receiver) {
  if (receiver == nullptr || !stream.ok()) return;
  receiver->channel->Release(receiver->held[receiver->first], stream.Record());
  receiver->first = (receiver->first + 1) % receiver->held.size();
  --receiver->count;
}

}  // namespace lycia
