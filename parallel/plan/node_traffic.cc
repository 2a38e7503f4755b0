#include "parallel/plan/node_traffic.h"

#include <algorithm>

#include "runtime/core/check.h"

namespace lycia::plan {

std::span<const AxisOrder> AxisOrders() {
  static constexpr AxisOrder kOrders[] = {{Axis::kZ, Axis::kX, Axis::kY}, {Axis::kZ, Axis::kY, Axis::kX}, {Axis::kY, Axis::kZ, Axis::kX},
                                          {Axis::kY, Axis::kX, Axis::kZ}, {Axis::kX, Axis::kZ, Axis::kY}, {Axis::kX, Axis::kY, Axis::kZ}};
  return kOrders;
}

std::string ToString(const AxisOrder& order) { return StrCat(Name(order[0]), ",", Name(order[1]), ",", Name(order[2])); }

StatusOr<AxisOrder> ParseAxisOrder(std::string_view text) {
  for (const AxisOrder& order : AxisOrders()) {
    if (ToString(order) == text) return order;
  }
  return InvalidArgument("'", text, "' is no order of the axes; name x, y and z once, the slowest first, as in z,x,y");
}

std::vector<NodeEdges> EdgesLeaving(const GridShape& grid, const AxisOrder& order, int ranks_per_node) {
  LYCIA_CHECK_GE(ranks_per_node, 1);
  const int ranks = grid.ranks();
  std::vector<NodeEdges> nodes(static_cast<std::size_t>((ranks + ranks_per_node - 1) / ranks_per_node));
  int stride = 1;
  for (int place = 2; place >= 0; --place) {
    const Axis axis = order[static_cast<std::size_t>(place)];
    const int q = grid.size(axis);
    for (int rank = 0; rank < ranks; ++rank) {
      const int coordinate = rank / stride % q;
      const int next = rank + ((coordinate + 1) % q - coordinate) * stride;
      if (next / ranks_per_node == rank / ranks_per_node) continue;
      NodeEdges& node = nodes[static_cast<std::size_t>(rank / ranks_per_node)];
      ++(axis == Axis::kX ? node.x : axis == Axis::kY ? node.y : node.z);
    }
    stride *= q;
  }
  return nodes;
}

std::int64_t BytesLeavingNode(std::span<const NodeEdges> nodes, const AxisTraffic& traffic) {
  std::int64_t most = 0;
  for (const NodeEdges& node : nodes) most = std::max(most, node.x * traffic.x + node.y * traffic.y + node.z * traffic.z);
  return most;
}

}  // namespace lycia::plan
