// Grid: one rank's view of the tensor grid x × y × z, and a communicator for every group of ranks that share an operand.
//
// The axes have no meaning of their own; every operator gives them roles (linear.h). In the residual stream tokens are split by (z, y), z
// major, and features by x (docs/tensor_grid.md).
#ifndef LYCIA_PARALLEL_GRID_GRID_H_
#define LYCIA_PARALLEL_GRID_GRID_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "parallel/mesh/mesh.h"
#include "runtime/comm/communicator.h"
#include "runtime/device/device.h"

namespace lycia {

// Ranks that differ only along the axes named.
enum class GridGroup : std::uint8_t { kX, kY, kZ, kZY, kZX, kXYZ, kCount };
inline constexpr int kNumGridGroups = static_cast<int>(GridGroup::kCount);
std::string_view Name(GridGroup group);
std::span<const Axis> AxesOf(GridGroup group);
GridGroup GroupOf(Axis axis);

class Grid {
 public:
  // Sees every communicator as it is made: counters, order checks.
  using Wrap = std::function<std::unique_ptr<Communicator>(GridGroup, std::unique_ptr<Communicator>)>;

  // Collective over `world`, whose ranks are the mesh's. Groups of size 1 get no communicator, on every rank alike.
  static StatusOr<std::unique_ptr<Grid>> Create(Communicator& world, const Mesh& mesh, const Wrap& wrap = {});

  const Mesh& mesh() const { return mesh_; }
  int rank() const { return rank_; }
  int size(Axis axis) const { return mesh_.size(axis); }
  int coordinate(Axis axis) const { return mesh_.coordinate(rank_, axis); }
  int size(GridGroup group) const;
  // Rank within the group's communicator; of another rank of the mesh: within its own group.
  int position(GridGroup group) const { return position(group, rank_); }
  int position(GridGroup group, int rank) const;

  // nullptr: a group of one.
  Communicator* along(GridGroup group) const { return communicators_[static_cast<std::size_t>(group)].get(); }
  Communicator* along(Axis axis) const { return along(GroupOf(axis)); }

  // The grid of another rank of the mesh, to ask where its parts lie: same sizes, no communicators.
  Grid SeenFrom(int rank) const { return Grid(mesh_, rank); }

 private:
  Grid(const Mesh& mesh, int rank) : mesh_(mesh), rank_(rank) {}

  Mesh mesh_;
  int rank_ = 0;
  std::array<std::unique_ptr<Communicator>, kNumGridGroups> communicators_;
};

// Collectives on a stream. Without a communicator (a group of one) data are copied where `in` and `out` differ.
// Shard r of the whole is elements [offsets[r], offsets[r + 1]); no offsets: equal shards. Offsets outlive the call's event.
// Start...: the operation begins after what the stream has so far, and operands stay untouched until its event, which is done already
// where there is no communicator or the stream has failed. ...Along: later work of the stream starts after it.
Event StartGather(Stream& stream, Communicator* along, const ConstTensor& shard, const Tensor& whole, Tag tag,
                  std::span<const std::int64_t> offsets = {});
void GatherAlong(Stream& stream, Communicator* along, const ConstTensor& shard, const Tensor& whole, Tag tag,
                 std::span<const std::int64_t> offsets = {});
struct ReduceOptions {
  Tag tag = Tag::kActivation;
  bool accumulate = false;  // += instead of =
  std::span<const std::int64_t> offsets = {};
};
Event StartReduceScatter(Stream& stream, Communicator* along, const ConstTensor& whole, const Tensor& shard, const ReduceOptions& options);
void ReduceScatterAlong(Stream& stream, Communicator* along, const ConstTensor& whole, const Tensor& shard, const ReduceOptions& options);
void AllReduceAlong(Stream& stream, Communicator* along, const Tensor& values, Fold fold, Tag tag);

// [0, n/q, 2 n/q, ..., n] in parts that differ by at most one element.
std::vector<std::int64_t> BalancedOffsets(std::int64_t elements, int parts);

}  // namespace lycia

#endif  // LYCIA_PARALLEL_GRID_GRID_H_
