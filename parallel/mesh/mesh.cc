#include "parallel/mesh/mesh.h"

#include <algorithm>

#include "absl/strings/str_split.h"
#include "runtime/core/check.h"

namespace lycia {

std::string_view Name(Axis axis) {
  constexpr std::array<std::string_view, kNumAxes> kNames = {"data", "context", "expert", "pipeline", "z", "y", "x"};
  return kNames[static_cast<std::size_t>(axis)];
}

StatusOr<Mesh> Mesh::Create(const Spec& spec, int ranks) {
  Mesh mesh;
  mesh.sizes_ = {spec.data, 1, 1, spec.pipeline, spec.z, spec.y, spec.x};
  std::int64_t product = 1;
  for (int a = 0; a < kNumAxes; ++a) {
    const int size = mesh.sizes_[static_cast<std::size_t>(a)];
    if (size < 1) return InvalidArgument("mesh axis ", Name(static_cast<Axis>(a)), " has size ", size, "; sizes start at 1");
    product *= size;
  }
  if (product != ranks) {
    return InvalidArgument("the mesh pipeline ", spec.pipeline, " x data ", spec.data, " x grid ", spec.x, " x ", spec.y, " x ", spec.z,
                           " needs ", product, " ranks, but ", ranks, " are running; start ", product, " ranks or change the sizes");
  }
  mesh.ranks_ = ranks;
  const std::vector<std::string> order = absl::StrSplit(spec.order, ',');
  if (order.size() != kNumAxes)
    return InvalidArgument("mesh order \"", spec.order, "\" has ", order.size(), " axes; name all ", kNumAxes, " once");
  int stride = 1;
  for (auto name = order.rbegin(); name != order.rend(); ++name) {
    int axis = 0;
    while (axis < kNumAxes && Name(static_cast<Axis>(axis)) != *name) ++axis;
    if (axis == kNumAxes)
      return InvalidArgument("mesh order names an unknown axis \"", *name, "\"; axes are data, context, expert, pipeline, z, y, x");
    int& slot = mesh.strides_[static_cast<std::size_t>(axis)];
    if (slot != 0) return InvalidArgument("mesh order names axis \"", *name, "\" twice");
    slot = stride;
    stride *= mesh.sizes_[static_cast<std::size_t>(axis)];
  }
  return mesh;
}

int Mesh::coordinate(int rank, Axis axis) const {
  return rank / strides_[static_cast<std::size_t>(axis)] % sizes_[static_cast<std::size_t>(axis)];
}

int Mesh::Neighbour(int rank, Axis axis, int to) const {
  return rank + (to - coordinate(rank, axis)) * strides_[static_cast<std::size_t>(axis)];
}

std::vector<int> Mesh::ColorsAlong(const std::vector<Axis>& axes) const {
  // The color is the lowest rank of the group: all coordinates along `axes` set to 0.
  std::vector<int> colors(static_cast<std::size_t>(ranks_));
  for (int rank = 0; rank < ranks_; ++rank) {
    int lowest = rank;
    for (const Axis axis : axes) lowest = Neighbour(lowest, axis, 0);
    colors[static_cast<std::size_t>(rank)] = lowest;
  }
  return colors;
}

std::vector<int> Mesh::ColorsOfHolders(const std::vector<int>& workers) const {
  std::vector<int> colors = ColorsAlong({Axis::kPipeline, Axis::kData});
  for (int rank = 0; rank < ranks_; ++rank) {
    const bool holds = std::find(workers.begin(), workers.end(), coordinate(rank, Axis::kPipeline)) != workers.end();
    if (!holds) colors[static_cast<std::size_t>(rank)] = -1;
  }
  return colors;
}

std::string Mesh::ToString() const {
  std::string text = StrCat("data ", size(Axis::kData), " x pipeline ", size(Axis::kPipeline));
  const int x = size(Axis::kX), y = size(Axis::kY), z = size(Axis::kZ);
  if (x * y * z > 1) text += StrCat(" x grid ", x, ",", y, ",", z);
  return StrCat(text, " = ", ranks_, " ranks");
}

}  // namespace lycia
