// Replicas hold the same weights, to the bit: a check of memory and network.
#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launch/trainer.h"

namespace lycia {
namespace {

// FNV-1a over 64-bit words: any changed bit changes the hash.
std::int64_t HashOf(const Tensor& weights) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  const auto* words = static_cast<const std::uint64_t*>(weights.data);
  for (std::int64_t i = 0; i < weights.bytes() / 8; ++i) hash = (hash ^ words[i]) * 0x100000001B3u;
  return static_cast<std::int64_t>(hash);
}

// ranks: of the world, in the order of the hashes.
Status DifferenceOf(const std::vector<int>& stages, const std::vector<int>& ranks, std::span<const std::int64_t> hashes,
                    std::int64_t step) {
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    texts.push_back(absl::StrCat("rank ", ranks[i], " ", absl::Hex(hashes[i], absl::kZeroPad16)));
  }
  return absl::DataLossError(StrCat("after step ", step, " the replicas of stages {", absl::StrJoin(stages, ", "),
                                    "} differ: weight hashes of ", absl::StrJoin(texts, ", "),
                                    "; a rank computed or received wrong data (memory, network); resume from the last checkpoint"));
}

}  // namespace

Status Trainer::CompareReplicas() {
  Status first_difference;  // returned after the last group, so that no rank waits for one that has left
  for (const int g : store_->local_groups()) {
    const Tensor weights = store_->flat_weights(g);
    Communicator& holders = *optimizer_->holders(g);
    if (weights.data == nullptr || weights.bytes() == 0 || holders.size() == 1) continue;
    std::int64_t mine = 0;
    LYCIA_RETURN_IF_ERROR(host_->Read(weights, [&](const Tensor& host) {
      mine = HashOf(host);
      return OkStatus();
    }));
    const std::span<std::int64_t> all(hashes_.data(), static_cast<std::size_t>(holders.size()));
    const Event gathered = holders.AllGather(
        {.in = ConstTensor(&mine, DType::kI64, {1}), .out = Tensor{all.data(), DType::kI64, {holders.size()}}, .tag = Tag::kMetrics}, {});
    LYCIA_RETURN_IF_ERROR(gathered.Wait(options_.guard));
    if (first_difference.ok() && std::any_of(all.begin(), all.end(), [&](std::int64_t h) { return h != mine; })) {
      const std::vector<int>& stages = groups_->groups[static_cast<std::size_t>(g)].stages;
      const std::vector<int> colors = mesh_->ColorsOfHolders(schedule::WorkersOfSyncSet(schedule_, {stages}));
      std::vector<int> ranks;
      for (int rank = 0; rank < world_->size(); ++rank) {
        const auto r = static_cast<std::size_t>(rank), mine_at = static_cast<std::size_t>(world_->rank());
        if (colors[r] == colors[mine_at]) ranks.push_back(rank);
      }
      first_difference = DifferenceOf(stages, ranks, all, step_ + 1);
    }
  }
  return first_difference;
}

}  // namespace lycia
