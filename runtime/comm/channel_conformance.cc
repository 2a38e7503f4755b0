// The channel part of the conformance suite, and counters, which need both.
#include <time.h>

#include "runtime/comm/communicator_conformance.h"
#include "runtime/comm/conformance_counters.h"
#include "runtime/comm/conformance_data.h"

namespace lycia {
namespace {

using namespace conformance;  // NOLINT: the suite's own data

void Pause(int ms) {
  const timespec pause{0, ms * 1'000'000};
  ::nanosleep(&pause, nullptr);
}

StatusOr<std::unique_ptr<Channel>> OpenEnd(Communicator& world, int peer, bool sender, int lane, std::int64_t bytes, int credits) {
  return world.OpenChannel({.peer = peer, .sender = sender, .lane = lane, .bytes = bytes, .credits = credits, .tag = Tag::kTest});
}

// Message k of a channel between two ranks: its own length and content.
Values<float> Message(int from, int to, int lane, int k, std::int64_t largest) {
  const std::int64_t elements = k == 0 ? largest : k == 1 ? 0 : (k * 7919 + from) % (largest + 1);
  return Data<float>(from * 64 + to, elements, static_cast<std::uint64_t>(1000 * lane + k));
}

Status CheckMessage(const Channel& channel, int slot, const Values<float>& want, int k, const std::string& what) {
  const MessageHeader& header = channel.header(slot);
  LYCIA_RETURN_IF_ERROR(Expect(header.sequence == static_cast<std::uint64_t>(k) && header.micro_batch == 100 + k && header.part == k % 3 &&
                                   header.virtual_ns == 1'000'000'007LL * k,
                               absl::StrCat(what, ": header of message ", header.sequence, ", micro-batch ", header.micro_batch)));
  return Same<float>({static_cast<const float*>(channel.data(slot)), want.size()}, want, absl::StrCat(what, ", message ", k));
}

MessageHeader HeaderOf(int k) { return {.virtual_ns = 1'000'000'007LL * k, .sequence = 99, .micro_batch = 100 + k, .part = k % 3}; }

// A ring in both directions, as a bidirectional pipeline uses it; with two ranks both neighbours are the same one, with one rank oneself.
Status RingBothWays(Communicator& world, std::int64_t largest, int credits, int messages, bool collectives_too) {
  const int size = world.size(), rank = world.rank(), next = (rank + 1) % size, before = (rank + size - 1) % size;
  const std::int64_t bytes = largest * 4;
  LYCIA_ASSIGN_OR_RETURN(const auto send_up, OpenEnd(world, next, true, 0, bytes, credits));
  LYCIA_ASSIGN_OR_RETURN(const auto send_down, OpenEnd(world, before, true, 1, bytes, credits));
  LYCIA_ASSIGN_OR_RETURN(const auto from_below, OpenEnd(world, before, false, 0, bytes, credits));
  LYCIA_ASSIGN_OR_RETURN(const auto from_above, OpenEnd(world, next, false, 1, bytes, credits));
  constexpr int kWindow = 4;
  std::vector<Values<float>> up(kWindow), down(kWindow);
  std::vector<Event> up_events(kWindow), down_events(kWindow);
  for (int k = 0; k < messages; ++k) {
    const std::size_t w = static_cast<std::size_t>(k % kWindow);
    Values<double> sum = {1.0 * rank};
    const Event summed = collectives_too ? world.AllReduce({.in = Of(sum), .out = Of(sum)}, {}) : Event{};
    LYCIA_RETURN_IF_ERROR(up_events[w].Wait());
    LYCIA_RETURN_IF_ERROR(down_events[w].Wait());
    up[w] = Message(rank, next, 0, k, largest);
    down[w] = Message(rank, before, 1, k, largest);
    up_events[w] = send_up->Send(Of(up[w]), {}, HeaderOf(k));
    down_events[w] = send_down->Send(Of(down[w]), {}, HeaderOf(k));
    const Channel::Received below = from_below->Receive(), above = from_above->Receive();
    LYCIA_RETURN_IF_ERROR(below.event.Wait());
    LYCIA_RETURN_IF_ERROR(CheckMessage(*from_below, below.slot, Message(before, rank, 0, k, largest), k, absl::StrCat("upward to ", rank)));
    from_below->Release(below.slot, {});
    LYCIA_RETURN_IF_ERROR(above.event.Wait());
    LYCIA_RETURN_IF_ERROR(CheckMessage(*from_above, above.slot, Message(next, rank, 1, k, largest), k, absl::StrCat("downward to ", rank)));
    from_above->Release(above.slot, {});
    LYCIA_RETURN_IF_ERROR(summed.Wait());
    if (collectives_too) LYCIA_RETURN_IF_ERROR(Expect(sum[0] == size * (size - 1) / 2, absl::StrCat("sum ", sum[0], " beside channels")));
  }
  for (const Event& event : up_events) LYCIA_RETURN_IF_ERROR(event.Wait());
  for (const Event& event : down_events) LYCIA_RETURN_IF_ERROR(event.Wait());
  return OkStatus();
}

Status SmallMessages(Communicator& world) { return RingBothWays(world, 50, 1, 40, false); }
Status MediumMessages(Communicator& world) { return RingBothWays(world, 30'000, 2, 20, true); }
Status LargeMessages(Communicator& world) { return RingBothWays(world, (16 << 20) / 4, 2, 3, true); }

// With one credit the second send must stay open while the first message is held, however small it is.
Status ASendWaitsForAPostedReceive(Communicator& world) {
  const int size = world.size(), rank = world.rank(), next = (rank + 1) % size, before = (rank + size - 1) % size;
  LYCIA_ASSIGN_OR_RETURN(const auto out, OpenEnd(world, next, true, 7, 8, 1));
  Values<double> value = {1.0 * rank}, second = {100.0 + rank};
  const Event first_sent = out->Send(Of(value), {}, {});
  Pause(10);
  LYCIA_RETURN_IF_ERROR(Expect(!first_sent.Done(), "a send was done before its receiver opened the channel"));
  LYCIA_RETURN_IF_ERROR(world.Barrier());
  LYCIA_ASSIGN_OR_RETURN(const auto in, OpenEnd(world, before, false, 7, 8, 1));
  const Event second_sent = out->Send(Of(second), {}, {});
  const Channel::Received first = in->Receive();
  LYCIA_RETURN_IF_ERROR(first.event.Wait());
  LYCIA_RETURN_IF_ERROR(first_sent.Wait());
  Pause(10);
  LYCIA_RETURN_IF_ERROR(Expect(!second_sent.Done(), "a second send was done under one credit, its predecessor not released"));
  LYCIA_RETURN_IF_ERROR(world.Barrier());
  LYCIA_RETURN_IF_ERROR(Expect(*static_cast<double*>(in->data(first.slot)) == before, "the held message changed"));
  in->Release(first.slot, {});
  LYCIA_RETURN_IF_ERROR(second_sent.Wait());
  const Channel::Received last = in->Receive();
  LYCIA_RETURN_IF_ERROR(last.event.Wait());
  LYCIA_RETURN_IF_ERROR(Expect(*static_cast<double*>(in->data(last.slot)) == 100.0 + before, "the second message"));
  in->Release(last.slot, {});
  return world.Barrier();
}

// A slot given back while its message is still being read takes the next message only when the reader is done.
Status AReleaseWaitsForItsReader(Communicator& world) {
  const int size = world.size(), rank = world.rank(), next = (rank + 1) % size, before = (rank + size - 1) % size;
  LYCIA_ASSIGN_OR_RETURN(const auto out, OpenEnd(world, next, true, 12, 8, 1));
  LYCIA_ASSIGN_OR_RETURN(const auto in, OpenEnd(world, before, false, 12, 8, 1));
  Values<double> value = {1.0 * rank}, second = {100.0 + rank};
  const Event sent[] = {out->Send(Of(value), {}, {}), out->Send(Of(second), {}, {})};
  HostEventSource read;
  const Channel::Received first = in->Receive();
  LYCIA_RETURN_IF_ERROR(first.event.Wait());
  in->Release(first.slot, {&read, 1});
  const Channel::Received last = in->Receive();
  Pause(10);
  LYCIA_RETURN_IF_ERROR(Expect(!last.event.Done() && !sent[1].Done(), "a slot was used again before its reader was done"));
  LYCIA_RETURN_IF_ERROR(Expect(*static_cast<double*>(in->data(first.slot)) == before, "a message changed under its reader"));
  LYCIA_RETURN_IF_ERROR(world.Barrier());
  read.Complete(1);
  for (const Event& event : {sent[0], sent[1], last.event}) LYCIA_RETURN_IF_ERROR(event.Wait());
  return Expect(*static_cast<double*>(in->data(last.slot)) == 100.0 + before, "the message after a release");
}

// A message starts only after its event, and messages behind it keep their order.
Status ASendWaitsForItsEvent(Communicator& world) {
  const int size = world.size(), rank = world.rank(), next = (rank + 1) % size, before = (rank + size - 1) % size;
  LYCIA_ASSIGN_OR_RETURN(const auto out, OpenEnd(world, next, true, 8, 8, 2));
  LYCIA_ASSIGN_OR_RETURN(const auto in, OpenEnd(world, before, false, 8, 8, 2));
  HostEventSource computed;
  Values<double> first = {-1}, second = {2.0};
  const Event events[] = {out->Send(Of(first), {&computed, 1}, {}), out->Send(Of(second), {}, {})};
  const Channel::Received a = in->Receive(), b = in->Receive();
  Pause(5);
  first[0] = 1.0;
  computed.Complete(1);
  for (const Event& event : {events[0], events[1], a.event, b.event}) LYCIA_RETURN_IF_ERROR(event.Wait());
  LYCIA_RETURN_IF_ERROR(Expect(*static_cast<double*>(in->data(a.slot)) == 1.0 && *static_cast<double*>(in->data(b.slot)) == 2.0,
                               "messages out of order, or sent before their event"));
  return world.Barrier();
}

// Slots may be released in any order and live in memory of the caller; a slot kept must not stop the others.
Status SlotsComeBackInAnyOrder(Communicator& world) {
  const int size = world.size(), rank = world.rank(), next = (rank + 1) % size, before = (rank + size - 1) % size;
  constexpr int kCredits = 3, kMessages = 12;
  Values<double> slots(kCredits * 64 / sizeof(double));
  char* const memory = reinterpret_cast<char*>(slots.data());
  if (ChannelMemoryBytes(8, kCredits) != kCredits * 64) return absl::InternalError("slots are not padded to 64 bytes");
  LYCIA_ASSIGN_OR_RETURN(const auto in,
                         world.OpenChannel({.peer = before, .lane = 9, .bytes = 8, .credits = kCredits, .receive_memory = memory}));
  LYCIA_ASSIGN_OR_RETURN(const auto out, OpenEnd(world, next, true, 9, 8, kCredits));
  Values<double> values(kMessages);
  std::vector<Event> sent;
  std::vector<int> held;
  for (int k = 0; k < kMessages; ++k) {
    values[static_cast<std::size_t>(k)] = rank * 1000 + k;
    if (k >= 4) LYCIA_RETURN_IF_ERROR(sent[static_cast<std::size_t>(k - 4)].Wait());
    sent.push_back(out->Send(Of(std::span<double>(&values[static_cast<std::size_t>(k)], 1)), {}, {}));
    const Channel::Received got = in->Receive();
    LYCIA_RETURN_IF_ERROR(got.event.Wait());
    const char* data = static_cast<const char*>(in->data(got.slot));
    LYCIA_RETURN_IF_ERROR(Expect(data >= memory && data + 8 <= memory + kCredits * 64, "a slot outside the caller's memory"));
    LYCIA_RETURN_IF_ERROR(Expect(*reinterpret_cast<const double*>(data) == before * 1000 + k, absl::StrCat("message ", k)));
    held.push_back(got.slot);
    if (k == 0) continue;  // the first slot is held to the end
    in->Release(held.back(), {});
    held.pop_back();
  }
  LYCIA_RETURN_IF_ERROR(Expect(*static_cast<double*>(in->data(held[0])) == before * 1000, "the held message was overwritten"));
  for (const Event& event : sent) LYCIA_RETURN_IF_ERROR(event.Wait());
  return world.Barrier();
}

// Channels between all ordered pairs of ranks at once, oneself included.
Status EverybodyToEverybody(Communicator& world) {
  const int size = world.size(), rank = world.rank();
  std::vector<std::unique_ptr<Channel>> out, in;
  std::vector<Values<float>> messages;
  std::vector<Event> events;
  for (int r = 0; r < size; ++r) {
    LYCIA_ASSIGN_OR_RETURN(auto to, OpenEnd(world, r, true, 3, 4000, 2));
    LYCIA_ASSIGN_OR_RETURN(auto from, OpenEnd(world, r, false, 3, 4000, 2));
    out.push_back(std::move(to));
    in.push_back(std::move(from));
    messages.push_back(Message(rank, r, 3, 0, 1000));
  }
  for (int r = 0; r < size; ++r) {
    events.push_back(out[static_cast<std::size_t>(r)]->Send(Of(messages[static_cast<std::size_t>(r)]), {}, HeaderOf(0)));
  }
  for (int r = size - 1; r >= 0; --r) {  // not the order of sending
    Channel& from = *in[static_cast<std::size_t>(r)];
    const Channel::Received got = from.Receive();
    LYCIA_RETURN_IF_ERROR(got.event.Wait());
    LYCIA_RETURN_IF_ERROR(CheckMessage(from, got.slot, Message(r, rank, 3, 0, 1000), 0, absl::StrCat("from ", r, " to ", rank)));
  }
  for (const Event& event : events) LYCIA_RETURN_IF_ERROR(event.Wait());
  return world.Barrier();
}

// The first opening of a lane meets the peer's first, the second its second, while receives of the first are still posted.
Status ALaneMayBeOpenedAgain(Communicator& world) {
  const int size = world.size(), rank = world.rank(), next = (rank + 1) % size, before = (rank + size - 1) % size;
  LYCIA_ASSIGN_OR_RETURN(const auto first_in, OpenEnd(world, before, false, 11, 8, 2));
  LYCIA_ASSIGN_OR_RETURN(const auto second_in, OpenEnd(world, before, false, 11, 8, 2));
  LYCIA_ASSIGN_OR_RETURN(const auto first_out, OpenEnd(world, next, true, 11, 8, 2));
  LYCIA_ASSIGN_OR_RETURN(const auto second_out, OpenEnd(world, next, true, 11, 8, 2));
  Values<double> one = {1.0 + rank}, two = {100.0 + rank};
  const Event second_sent = second_out->Send(Of(two), {}, {});
  const Channel::Received second = second_in->Receive();
  LYCIA_RETURN_IF_ERROR(second.event.Wait());
  LYCIA_RETURN_IF_ERROR(Expect(*static_cast<double*>(second_in->data(second.slot)) == 100.0 + before, "a message of the second opening"));
  const Event first_sent = first_out->Send(Of(one), {}, {});
  const Channel::Received first = first_in->Receive();
  LYCIA_RETURN_IF_ERROR(first.event.Wait());
  LYCIA_RETURN_IF_ERROR(Expect(*static_cast<double*>(first_in->data(first.slot)) == 1.0 + before, "a message of the first opening"));
  LYCIA_RETURN_IF_ERROR(first_sent.Wait());
  return second_sent.Wait();
}

Status BadChannelsAreRefused(Communicator& world) {
  for (const ChannelOptions& bad : {ChannelOptions{.peer = world.size()}, ChannelOptions{.peer = -1}, ChannelOptions{.lane = -1},
                                    ChannelOptions{.lane = 1 << 20}, ChannelOptions{.bytes = -1}, ChannelOptions{.credits = 0},
                                    ChannelOptions{.send_window = 0}}) {
    LYCIA_RETURN_IF_ERROR(Expect(world.OpenChannel(bad).status().code() == absl::StatusCode::kInvalidArgument, "a bad channel was opened"));
  }
  return OkStatus();
}

Status Counters(Communicator& world) {
  std::vector<int> all(static_cast<std::size_t>(world.size()), 0);
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> fresh, world.Split(all));
  LYCIA_RETURN_IF_ERROR(DoCountedWork(*fresh));
  return CheckCountedWork(*fresh);
}

constexpr ConformanceCase kCases[] = {
    {"SmallMessages", SmallMessages},
    {"MediumMessages", MediumMessages},
    {"LargeMessages", LargeMessages, /*large=*/true},
    {"ASendWaitsForAPostedReceive", ASendWaitsForAPostedReceive},
    {"AReleaseWaitsForItsReader", AReleaseWaitsForItsReader},
    {"ASendWaitsForItsEvent", ASendWaitsForItsEvent},
    {"SlotsComeBackInAnyOrder", SlotsComeBackInAnyOrder},
    {"EverybodyToEverybody", EverybodyToEverybody},
    {"ALaneMayBeOpenedAgain", ALaneMayBeOpenedAgain},
    {"BadChannelsAreRefused", BadChannelsAreRefused},
    {"Counters", Counters},
};

}  // namespace

std::span<const ConformanceCase> internal::ChannelCases() { return kCases; }

}  // namespace lycia
