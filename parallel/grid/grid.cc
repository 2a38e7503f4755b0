#include "parallel/grid/grid.h"

#include <algorithm>

#include "kernels/elementwise/elementwise.h"
#include "runtime/comm/collective_call.h"
#include "runtime/device/device.h"

namespace lycia {
namespace {

struct GroupInfo {
  std::string_view name;
  std::array<Axis, 3> axes;
  std::size_t count;
};

constexpr std::array<GroupInfo, kNumGridGroups> kGroups = {{
    {"x", {Axis::kX}, 1},
    {"y", {Axis::kY}, 1},
    {"z", {Axis::kZ}, 1},
    {"zy", {Axis::kZ, Axis::kY}, 2},
    {"zx", {Axis::kZ, Axis::kX}, 2},
    {"xyz", {Axis::kZ, Axis::kY, Axis::kX}, 3},
}};

const GroupInfo& Info(GridGroup group) { return kGroups[static_cast<std::size_t>(group)]; }

}  // namespace

std::string_view Name(GridGroup group) { return Info(group).name; }

std::span<const Axis> AxesOf(GridGroup group) { return {Info(group).axes.data(), Info(group).count}; }

GridGroup GroupOf(Axis axis) {
  LYCIA_CHECK(axis == Axis::kX || axis == Axis::kY || axis == Axis::kZ) << "axis " << Name(axis) << " is none of the grid ";
  return axis == Axis::kX ? GridGroup::kX : axis == Axis::kY ? GridGroup::kY : GridGroup::kZ;
}

StatusOr<std::unique_ptr<Grid>> Grid::Create(Communicator& world, const Mesh& mesh, const Wrap& wrap) {
  LYCIA_CHECK_EQ(world.size(), mesh.ranks());
  std::unique_ptr<Grid> grid(new Grid(mesh, world.rank()));
  for (int g = 0; g < kNumGridGroups; ++g) {
    const GridGroup group = static_cast<GridGroup>(g);
    if (grid->size(group) == 1) continue;
    const std::span<const Axis> axes = AxesOf(group);
    LYCIA_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> made, world.Split(mesh.ColorsAlong({axes.begin(), axes.end()})));
    grid->communicators_[static_cast<std::size_t>(g)] = wrap ? wrap(group, std::move(made)) : std::move(made);
  }
  return grid;
}

int Grid::size(GridGroup group) const {
  int size = 1;
  for (const Axis axis : AxesOf(group)) size *= mesh_.size(axis);
  return size;
}

int Grid::position(GridGroup group, int rank) const {
  const std::span<const Axis> axes = AxesOf(group);
  const std::vector<int> colors = mesh_.ColorsAlong({axes.begin(), axes.end()});
  return static_cast<int>(std::count(colors.begin(), colors.begin() + rank, colors[static_cast<std::size_t>(rank)]));
}

Event StartGather(Stream& stream, Communicator* along, const ConstTensor& shard, const Tensor& whole, Tag tag,
                  std::span<const std::int64_t> offsets) {
  if (!stream.ok()) return {};
  if (along != nullptr) return along->AllGather({.in = shard, .out = whole, .offsets = offsets, .tag = tag}, stream.Record());
  if (shard.data != whole.data) stream.Copy(whole.data, shard.data, whole.bytes());
  return {};
}

void GatherAlong(Stream& stream, Communicator* along, const ConstTensor& shard, const Tensor& whole, Tag tag,
                 std::span<const std::int64_t> offsets) {
  stream.Wait(StartGather(stream, along, shard, whole, tag, offsets));
}

Event StartReduceScatter(Stream& stream, Communicator* along, const ConstTensor& whole, const Tensor& shard, const ReduceOptions& options) {
  if (!stream.ok()) return {};
  if (along != nullptr) {
    return along->ReduceScatter(
        {.in = whole, .out = shard, .offsets = options.offsets, .accumulate = options.accumulate, .tag = options.tag}, stream.Record());
  }
  if (options.accumulate) {
    AddInPlace(stream, {.x = shard, .y = ConstTensor(whole.data, whole.dtype, shard.shape)});
  } else if (shard.data != whole.data) {
    stream.Copy(shard.data, whole.data, whole.bytes());
  }
  return {};
}

void ReduceScatterAlong(Stream& stream, Communicator* along, const ConstTensor& whole, const Tensor& shard, const ReduceOptions& options) {
  stream.Wait(StartReduceScatter(stream, along, whole, shard, options));
}

void AllReduceAlong(Stream& stream, Communicator* along, const Tensor& values, Fold fold, Tag tag) {
  if (!stream.ok() || along == nullptr) return;
  stream.Wait(along->AllReduce({.in = values, .out = values, .fold = fold, .tag = tag}, stream.Record()));
}

std::vector<std::int64_t> BalancedOffsets(std::int64_t elements, int parts) {
  std::vector<std::int64_t> offsets = {0};
  for (int p = 0; p < parts; ++p) offsets.push_back(offsets.back() + BalancedPart(elements, parts, p).elements);
  return offsets;
}

}  // namespace lycia
