#include "runtime/comm/conformance_counters.h"

#include "runtime/comm/conformance_data.h"

namespace lycia::conformance {

// Shard r of an uneven buffer has r + 1 elements.
Status DoCountedWork(Communicator& communicator) {
  const std::int64_t q = communicator.size(), rank = communicator.rank(), total = q * (q + 1) / 2;
  std::vector<std::int64_t> offsets = {0}, one_each = {0}, none(static_cast<std::size_t>(q) + 1, 0);
  for (std::int64_t r = 0; r < q; ++r) {
    offsets.push_back(offsets.back() + r + 1);
    one_each.push_back(r + 1);
  }
  Values<float> whole(static_cast<std::size_t>(total)), shard(static_cast<std::size_t>(rank) + 1),
      equal(static_cast<std::size_t>(3 * q));
  Values<float> own(3);
  Values<double> ten(10), given(static_cast<std::size_t>(q)), got(static_cast<std::size_t>(q));
  LYCIA_RETURN_IF_ERROR(communicator.AllGather({.in = Of(own), .out = Of(equal), .tag = Tag::kWeight}, {}).Wait());
  LYCIA_RETURN_IF_ERROR(
      communicator.AllGather({.in = Of(shard), .out = Of(whole), .offsets = offsets, .tag = Tag::kActivation}, {}).Wait());
  LYCIA_RETURN_IF_ERROR(communicator.ReduceScatter({.in = Of(equal), .out = Of(own), .tag = Tag::kGradient}, {}).Wait());
  LYCIA_RETURN_IF_ERROR(communicator.ReduceScatter({.in = Of(whole), .out = Of(shard), .offsets = offsets, .tag = Tag::kTest}, {}).Wait());
  LYCIA_RETURN_IF_ERROR(communicator.AllReduce({.in = Of(equal), .out = Of(equal), .tag = Tag::kGradient}, {}).Wait());
  LYCIA_RETURN_IF_ERROR(communicator.AllReduce({.in = Of(ten), .out = Of(ten), .tag = Tag::kDecide}, {}).Wait());
  for (int i = 0; i < 2; ++i) LYCIA_RETURN_IF_ERROR(communicator.Broadcast(Of(ten), static_cast<int>(q) - 1, Tag::kSetup, {}).Wait());
  LYCIA_RETURN_IF_ERROR(
      communicator
          .AllToAllV({.in = Of(given), .out = Of(got), .send_offsets = one_each, .receive_offsets = one_each, .tag = Tag::kMetrics}, {})
          .Wait());
  // Payload only, also to oneself; the receiving side counts nothing.
  LYCIA_ASSIGN_OR_RETURN(const auto out,
                         communicator.OpenChannel({.peer = static_cast<int>((rank + 1) % q), .sender = true, .bytes = 100}));
  LYCIA_ASSIGN_OR_RETURN(const auto in, communicator.OpenChannel({.peer = static_cast<int>((rank + q - 1) % q), .bytes = 100}));
  const Event sent = out->Send(Of(own), {}, {});
  const Channel::Received received = in->Receive();
  LYCIA_RETURN_IF_ERROR(received.event.Wait());
  in->Release(received.slot, {});
  LYCIA_RETURN_IF_ERROR(sent.Wait());
  return communicator.Barrier();
}

Status CheckCountedWork(const Communicator& communicator) {
  const std::int64_t q = communicator.size(), rank = communicator.rank(), total = q * (q + 1) / 2;
  const std::int64_t tenth = 10 / q + (rank < 10 % q ? 1 : 0);
  struct Row {
    Operation operation;
    Tag tag;
    Counter want;
  };
  const Row rows[] = {
      {Operation::kAllGather, Tag::kWeight, {1, (q - 1) * 3 * 4}},
      {Operation::kAllGather, Tag::kActivation, {1, (total - (rank + 1)) * 4}},
      {Operation::kReduceScatter, Tag::kGradient, {1, (q - 1) * 3 * 4}},
      {Operation::kReduceScatter, Tag::kTest, {1, (q - 1) * (rank + 1) * 4}},
      {Operation::kAllReduce, Tag::kGradient, {1, 2 * (q - 1) * 3 * 4}},  // 2 (q-1)/q of 3 q elements
      {Operation::kAllReduce, Tag::kDecide, {1, ((q - 1) * tenth + (10 - tenth)) * 8}},
      {Operation::kBroadcast, Tag::kSetup, {2, rank == q - 1 ? 0 : 2 * 10 * 8}},
      {Operation::kAllToAllV, Tag::kMetrics, {1, (q - 1) * 8}},
      {Operation::kSend, Tag::kActivation, {1, 3 * 4}},
  };
  Counters want;
  for (const Row& row : rows) {
    want.of[static_cast<std::size_t>(row.operation)][static_cast<std::size_t>(row.tag)] = row.want;
    const Counter& got = communicator.counters().at(row.operation, row.tag);
    LYCIA_RETURN_IF_ERROR(Expect(got == row.want, absl::StrCat(std::string(Name(row.operation)), " (", std::string(Name(row.tag)),
                                                               ") on rank ", rank, " of ", q, " counted ", got.calls, " calls, ", got.bytes,
                                                               " bytes; want ", row.want.calls, ", ", row.want.bytes)));
  }
  return Expect(communicator.counters().of == want.of, "something else was counted too");
}

}  // namespace lycia::conformance
