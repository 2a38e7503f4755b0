#include "runtime/comm/wire_communicator.h"

#include <array>
#include <cstdio>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "runtime/comm/collective.h"
#include "runtime/comm/counted_communicator.h"
#include "runtime/comm/wire_channel.h"

namespace lycia {
namespace {

// Tags of one context: 0 for its collectives, then a header and a payload tag for each lane and generation. A channel opened where one of
// the same name was before is the next generation: its messages cannot end in receives of the old one that its peer still has posted.
constexpr std::int64_t kTagsPerContext = 16384;
constexpr int kGenerations = 4;  // then they come round again
constexpr int kLanes = (kTagsPerContext - 1) / (2 * kGenerations);

// What all communicators of one rank share.
struct RankState {
  std::shared_ptr<Engine> engine;
  std::string_view transport;
  bool processes = false;  // ranks are processes, not threads
  Sums sums = Sums::kMessages;
  std::int64_t max_tag = 0;
  std::int64_t max_message_bytes = 0;
  std::int64_t next_context = 1;  // above every context this rank was ever a member of; 0 is the world
};

std::int64_t HashOf(std::span<const int> table) {
  std::uint64_t hash = 14695981039346656037u;  // FNV-1a, 64 bits
  for (int value : table) hash = (hash ^ static_cast<std::uint32_t>(value)) * 1099511628211u;
  return static_cast<std::int64_t>(hash);
}

class WireCommunicator final : public CountedCommunicator {
 public:
  WireCommunicator(std::shared_ptr<RankState> state, std::vector<int> world_ranks, int rank, std::int64_t context)
      : CountedCommunicator(rank, static_cast<int>(world_ranks.size())),
        state_(std::move(state)),
        world_ranks_(std::move(world_ranks)),
        context_(context),
        task_(world_ranks_, rank, context * kTagsPerContext) {
    state_->engine->Add(&task_);
  }
  ~WireCommunicator() override { state_->engine->Remove(&task_); }

  // Collective: lets sums go through memory where all ranks are processes of one host. Where they are not, or the host has none to give, they
  // go by messages as before: returned is this rank's reason, if it has one. Other failures are left to the next operation.
  Status ShareMemory() {
    if (!state_->processes || size() == 1) return OkStatus();
    const std::int64_t bytes = SharedCollective::SegmentBytes(size());
    std::array<char, 64> name{};
    std::unique_ptr<SharedSegment> segment;
    const bool wanted = state_->sums == Sums::kSharedMemory;
    Status why;
    const auto keep = [&](StatusOr<std::unique_ptr<SharedSegment>> mapped) {
      if (mapped.ok()) segment = *std::move(mapped);
      why = mapped.status();
    };
    if (rank() == 0 && wanted) {
      const std::string fresh = SharedSegment::NewName();
      keep(SharedSegment::Create(fresh, bytes));
      if (segment != nullptr) fresh.copy(name.data(), name.size() - 1);
    }
    const Status told = Enqueue({.operation = Operation::kBroadcast, .dtype = DType::kU8, .in = name.data(), .out = name.data(),
                                 .elements = static_cast<std::int64_t>(name.size())}, {}).Wait();
    if (!told.ok()) {
      if (rank() == 0 && segment != nullptr) SharedSegment::Forget(name.data());
      return told;
    }
    if (rank() != 0 && wanted && name[0] != 0) keep(SharedSegment::Open(name.data(), bytes));
    std::int64_t missing = segment == nullptr ? 1 : 0;
    const Status agreed = Enqueue({.operation = Operation::kAllReduce, .dtype = DType::kI64, .in = &missing, .out = &missing, .elements = 1},
                                  {}).Wait();
    if (rank() == 0 && segment != nullptr) SharedSegment::Forget(name.data());
    LYCIA_RETURN_IF_ERROR(agreed);
    if (missing > 0) return why;
    state_->engine->Do([&](Wire&) { task_.Share(std::move(segment)); });
    return OkStatus();
  }

  std::string_view transport() const override { return state_->transport; }

  StatusOr<std::unique_ptr<Channel>> OpenChannel(const ChannelOptions& options) override {
    LYCIA_RETURN_IF_ERROR(ValidateChannel(options, size()));
    if (options.lane >= kLanes)
      return InvalidArgument("channel lane ", options.lane, ": there are ", kLanes, " lanes (0 to ", kLanes - 1, ")");
    if (options.bytes > state_->max_message_bytes) {
      return InvalidArgument("channel messages of ", options.bytes, " bytes: ", std::string(transport()), " carries at most ",
                             state_->max_message_bytes, "; use smaller micro-batches");
    }
    const int generation = opened_[{options.peer, options.sender, options.lane}]++ % kGenerations;
    const std::int64_t tag = context_ * kTagsPerContext + 1 + 2 * (options.lane * kGenerations + generation);
    const WireChannelArgs args{.engine = state_->engine,
                               .counters = shared_counters(),
                               .self = world_ranks_[static_cast<std::size_t>(rank())],
                               .peer = world_ranks_[static_cast<std::size_t>(options.peer)],
                               .header_tag = tag,
                               .payload_tag = tag + 1,
                               .options = options};
    return options.sender ? OpenSendingChannel(args) : OpenReceivingChannel(args);
  }

  StatusOr<std::unique_ptr<Communicator>> Split(std::span<const int> color_of_rank) override {
    LYCIA_CHECK_EQ(color_of_rank.size(), static_cast<std::size_t>(size()));
    // Every rank says which table it was given and which context it could use next.
    std::vector<std::int64_t> said(2 * static_cast<std::size_t>(size()));
    const std::array<std::int64_t, 2> own = {HashOf(color_of_rank), state_->next_context};
    LYCIA_RETURN_IF_ERROR(Enqueue({.operation = Operation::kAllGather, .dtype = DType::kI64, .in = own.data(), .out = said.data(),
                                   .elements = static_cast<std::int64_t>(said.size())}, {}).Wait());
    std::int64_t context = 0;
    for (std::size_t r = 0; r < said.size() / 2; ++r) {
      if (said[2 * r] != said[0]) {
        return InvalidArgument("Split: rank ", r, " of ", size(),
                               " was given another table of colors than rank 0; all must be given the same");
      }
      context = std::max(context, said[2 * r + 1]);
    }
    // One context for all colors: their ranks are disjoint, so are their messages.
    state_->next_context = context + 1;
    if ((context + 1) * kTagsPerContext - 1 > state_->max_tag) {
      return absl::ResourceExhaustedError(absl::StrCat("communicator ", context, ": ", std::string(transport()), " has tags up to ",
                                                       state_->max_tag, " only, and a communicator takes ", kTagsPerContext));
    }
    const std::vector<int> members = RanksOfColor(color_of_rank, rank());
    if (members.empty()) return std::unique_ptr<Communicator>();
    std::vector<int> world_ranks;
    int new_rank = 0;
    for (int member : members) {
      if (member == rank()) new_rank = static_cast<int>(world_ranks.size());
      world_ranks.push_back(world_ranks_[static_cast<std::size_t>(member)]);
    }
    auto made = std::make_unique<WireCommunicator>(state_, std::move(world_ranks), new_rank, context);
    const Status shared = made->ShareMemory();
    if (absl::IsResourceExhausted(shared)) {  // the world had its memory; anything else the world has said
      std::fprintf(stderr, "lycia: rank %d: a group of %d ranks sums by messages: %s\n", world_ranks_[static_cast<std::size_t>(rank())],
                   made->size(), std::string(shared.message()).c_str());
    }
    return made;
  }

  Status Barrier() override {
    std::int64_t arrived = 1;
    return Enqueue({.operation = Operation::kAllReduce, .dtype = DType::kI64, .in = &arrived, .out = &arrived, .elements = 1}, {}).Wait();
  }

  void Abort(const Status& why) override {
    state_->engine->Abort(why);
    // Until the communication thread has seen it: a later call whose peers have all come already would be done at once otherwise.
    state_->engine->Do([](Wire&) {});
  }

 protected:
  Event Enqueue(const CollectiveCall& call, const Event& after) override {
    const Event event = task_.Enqueue(call, after);
    state_->engine->Wake();
    return event;
  }

 private:
  const std::shared_ptr<RankState> state_;
  const std::vector<int> world_ranks_;
  const std::int64_t context_;
  std::map<std::tuple<int, bool, int>, int> opened_;  // channels by (peer, sender, lane)
  CollectiveTask task_;
};

}  // namespace

std::unique_ptr<Communicator> OpenWireWorld(std::shared_ptr<Engine> engine, std::string_view transport, int rank, int size, Sums sums) {
  auto state = std::make_shared<RankState>();
  state->sums = sums;
  engine->Do([&](Wire& wire) {
    state->max_tag = wire.max_tag();
    state->processes = wire.external();
    state->max_message_bytes = wire.max_message_bytes();
  });
  state->engine = std::move(engine);
  state->transport = transport;
  std::vector<int> world_ranks(static_cast<std::size_t>(size));
  std::iota(world_ranks.begin(), world_ranks.end(), 0);
  auto world = std::make_unique<WireCommunicator>(std::move(state), std::move(world_ranks), rank, /*context=*/0);
  const Status shared = world->ShareMemory();
  if (absl::IsResourceExhausted(shared) || absl::IsUnavailable(shared)) {
    std::fprintf(stderr, "lycia: rank %d: %s; sums between ranks of this host go by messages, which is slower\n", rank,
                 std::string(shared.message()).c_str());
  }
  return world;
}

}  // namespace lycia
