#include "runtime/comm/nccl_communicator.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "runtime/comm/nccl_error.h"
#include "runtime/core/check.h"

namespace lycia::nccl {
namespace {

constexpr int kFrameCredits = 8;  // frames on their way from one rank to another
constexpr int kLanes = 2047;      // of channels, as every transport offers

// The rank that `rank` of `size` meets in a round of a tournament of all against all; -1: nobody. Rounds 0 to size - 1 (size - 2 if even).
int PartnerIn(int round, int rank, int size) {
  const int circle = size % 2 == 0 ? size - 1 : size;
  if (rank == circle) {  // of an even number the last one sits in the middle: it meets whoever would meet himself
    for (int r = 0; r < circle; ++r) {
      if ((2 * r - round) % circle == 0) return r;
    }
  }
  const int partner = ((round - rank) % circle + circle) % circle;
  if (partner != rank) return partner;
  return size % 2 == 0 ? size - 1 : -1;
}

class Patience final : public WaitGuard {
 public:
  explicit Patience(std::chrono::nanoseconds most) : most_(most) {}
  Status StillWaiting(std::int64_t waited_ns) override {
    lost_ = waited_ns > most_.count();
    return lost_ ? absl::DeadlineExceededError("patience lost") : OkStatus();
  }
  bool lost() const { return lost_; }

 private:
  const std::chrono::nanoseconds most_;
  bool lost_ = false;
};

}  // namespace

NcclCommunicator::NcclCommunicator(std::shared_ptr<RankState> state, std::shared_ptr<Communicator> control, std::unique_ptr<Lane> lane)
    : CountedCommunicator(lane->rank, lane->size), state_(std::move(state)), control_(std::move(control)), lane_(std::move(lane)) {}

NcclCommunicator::~NcclCommunicator() {
  // NCCL may let a rank of a pair wait for the other one: both give their communicators up in the same order.
  outward_.clear();
  inward_.clear();
  while (!links_.empty()) links_.pop_back();
  state_->engine->Do([this](Wire&) { state_->issuer.Remove(lane_.get()); });
}

Status NcclCommunicator::Open() {
  const std::int64_t bytes = ScratchBytes(size());
  LYCIA_ASSIGN_OR_RETURN(scratch_memory_, state_->device->Allocate(bytes, MemoryKind::kDevice));
  scratch_ = {static_cast<char*>(scratch_memory_.data()), bytes};
  return OkStatus();
}

// The control world is the issuing thread's while calls are open.
Status NcclCommunicator::Barrier() {
  LYCIA_RETURN_IF_ERROR((Event{&lane_->events, lane_->asked}.Wait()));
  return control_->Barrier();
}

Status NcclCommunicator::AgreeAndDrain(std::string_view what) {
  Patience patience(state_->options.setup_patience);
  std::vector<std::int64_t> here(static_cast<std::size_t>(size()));
  std::int64_t mine = 1;
  Status met = Event{&lane_->events, lane_->asked}.Wait(&patience);
  if (met.ok()) {
    met = control_->AllGather({.in = {&mine, DType::kI64, {1}}, .out = {here.data(), DType::kI64, {size()}}, .tag = Tag::kSetup}, {})
              .Wait(&patience);
  }
  if (!patience.lost()) return met;
  met = absl::DeadlineExceededError(StrCat(what, ", collective over ", lane_->name, ": rank ", rank(), " of ", size(), " waited ",
                                           state_->options.setup_patience.count(), " ms, and not all ranks came"));
  Abort(met);
  return met;
}

StatusOr<std::unique_ptr<Lane>> NcclCommunicator::SplitLane(int color, std::string name, int rank, int size, bool collective) {
  std::unique_ptr<Lane> lane;
  if (color != NCCL_SPLIT_NOCOLOR) {
    LYCIA_ASSIGN_OR_RETURN(lane, state_->NewLane(std::move(name), rank, size, collective));
  }
  ncclComm_t none = nullptr;
  ncclComm_t* made = lane == nullptr ? &none : &lane->comm;
  LYCIA_RETURN_IF_ERROR(state_->Create(lane.get(), lane_.get(), [&] {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.splitShare = 1;
    if (lane != nullptr) config.commName = lane->name.c_str();
    if (!collective) config.maxCTAs = state_->options.channel_blocks;
    return LYCIA_NCCL_STATUS(lane_->comm, ncclCommSplit(lane_->comm, color, rank, made, &config), lane_->Where());
  }));
  return lane;
}

StatusOr<std::unique_ptr<Communicator>> NcclCommunicator::Split(std::span<const int> color_of_rank) {
  LYCIA_CHECK_EQ(color_of_rank.size(), static_cast<std::size_t>(size()));
  LYCIA_RETURN_IF_ERROR(AgreeAndDrain("Split"));
  LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> control, control_->Split(color_of_rank));
  const std::vector<int> members = RanksOfColor(color_of_rank, rank());
  const auto own = std::find(members.begin(), members.end(), rank());
  const int color = members.empty() ? NCCL_SPLIT_NOCOLOR : color_of_rank[static_cast<std::size_t>(rank())];
  LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<Lane> lane,
                         SplitLane(color, StrCat("world.", state_->next_name++), static_cast<int>(own - members.begin()),
                                   static_cast<int>(members.size()), /*collective=*/true));
  if (lane == nullptr) return std::unique_ptr<Communicator>();
  auto made = std::make_unique<NcclCommunicator>(state_, std::move(control), std::move(lane));
  LYCIA_RETURN_IF_ERROR(made->Open());
  return std::unique_ptr<Communicator>(std::move(made));
}

Status NcclCommunicator::OpenLinks() {
  if (links_open_) return OkStatus();
  LYCIA_RETURN_IF_ERROR(AgreeAndDrain("the first channel"));
  outward_.resize(static_cast<std::size_t>(size()));
  inward_.resize(outward_.size());
  const int rounds = size() % 2 == 0 ? size() - 1 : size();
  for (int round = 0; size() > 1 && round < rounds; ++round) {
    const int peer = PartnerIn(round, rank(), size());
    for (const bool upward : {true, false}) {  // from the lower rank to the higher, and back
      const bool outward = upward == (rank() < peer);
      const int from = outward ? rank() : peer, to = outward ? peer : rank();
      const int color = peer < 0 ? NCCL_SPLIT_NOCOLOR : std::min(rank(), peer);
      LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<Lane> lane,
                             SplitLane(color, StrCat(lane_->name, " from ", from, " to ", to), outward ? 0 : 1, 2,
                                       /*collective=*/false));
      if (lane == nullptr) continue;
      LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<Channel> frames, control_->OpenChannel({.peer = peer,
                                                                                     .sender = outward,
                                                                                     .bytes = sizeof(Frame),
                                                                                     .credits = kFrameCredits,
                                                                                     .send_window = LaunchedEvents::kRing,
                                                                                     .tag = Tag::kSetup}));
      if (outward) {
        outward_[static_cast<std::size_t>(peer)] = std::make_shared<OutwardLink>(state_, std::move(lane), std::move(frames), peer);
        links_.push_back(outward_[static_cast<std::size_t>(peer)]);
        LYCIA_RETURN_IF_ERROR(outward_[static_cast<std::size_t>(peer)]->Open());
      } else {
        inward_[static_cast<std::size_t>(peer)] = std::make_shared<InwardLink>(state_, std::move(lane), std::move(frames), peer);
        links_.push_back(inward_[static_cast<std::size_t>(peer)]);
        LYCIA_RETURN_IF_ERROR(inward_[static_cast<std::size_t>(peer)]->Open());
      }
    }
  }
  links_open_ = true;
  return OkStatus();
}

StatusOr<std::unique_ptr<Channel>> NcclCommunicator::OpenChannel(const ChannelOptions& options) {
  LYCIA_RETURN_IF_ERROR(ValidateChannel(options, size()));
  if (options.lane >= kLanes)
    return InvalidArgument("channel lane ", options.lane, ": there are ", kLanes, " lanes (0 to ", kLanes - 1, ")");
  LYCIA_RETURN_IF_ERROR(OpenLinks());
  const int generation = opened_[{options.peer, options.sender, options.lane}]++;
  const int from = options.sender ? rank() : options.peer, to = options.sender ? options.peer : rank();
  const ChannelArgs args{.rank = state_,
                         .counters = shared_counters(),
                         .options = options,
                         .generation = generation,
                         .name = StrCat("channel ", options.lane, " from rank ", from, " to rank ", to, " of ", lane_->name)};
  const std::size_t peer = static_cast<std::size_t>(options.peer);
  if (options.peer != rank()) return options.sender ? OpenSender(args, outward_[peer]) : OpenReceiver(args, inward_[peer]);
  std::weak_ptr<SelfPipe>& known = pipes_[{options.lane, generation}];
  std::shared_ptr<SelfPipe> pipe = known.lock();
  if (pipe == nullptr) {
    pipe = std::make_shared<SelfPipe>(state_);
    LYCIA_RETURN_IF_ERROR(pipe->Open());
    known = pipe;
  }
  return options.sender ? OpenSelfSender(args, std::move(pipe)) : OpenSelfReceiver(args, std::move(pipe));
}

}  // namespace lycia::nccl
