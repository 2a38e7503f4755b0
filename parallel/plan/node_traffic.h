// What leaves a node: rings of a grid's axes laid over nodes of so many ranks (docs/plan_grid.md).
//
// Ranks are numbered by an axis order, the last axis fastest, and nodes hold consecutive ranks. A collective along an axis of q ranks is a
// ring over them in the order of their coordinate: every rank sends its bytes to the next. So a node emits, for each axis,
//   (ranks of the node whose next rank along the axis is on another node) * bytes of a rank along the axis.
//
//   4,4,4 on nodes of 8 in the order x,z,y (y fastest): y stays inside; z's rings have two members a node and leave it once, 4 rings a
//   node; all 8 ranks of a node have their next along x elsewhere: 4 * 151.0 + 8 * 151.0 MB. The order y,z,x (x inside): 4 * 151.0 for z
//   and 8 * 50.3 for y.
#ifndef LYCIA_PARALLEL_PLAN_NODE_TRAFFIC_H_
#define LYCIA_PARALLEL_PLAN_NODE_TRAFFIC_H_

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "parallel/plan/grid_bytes.h"

namespace lycia::plan {

// Slowest first, as in Mesh::Spec::order: {kZ, kX, kY} has y fastest.
using AxisOrder = std::array<Axis, 3>;
std::span<const AxisOrder> AxisOrders();       // all six; the mesh's default z,x,y comes first
std::string ToString(const AxisOrder& order);  // "z,x,y"
StatusOr<AxisOrder> ParseAxisOrder(std::string_view text);

// Of each node: how many of its ranks have their next along x, y and z on another node. All nodes are alike where sizes are powers of two.
struct NodeEdges {
  std::int64_t x = 0, y = 0, z = 0;
  std::int64_t of(Axis axis) const { return axis == Axis::kX ? x : axis == Axis::kY ? y : z; }
};
std::vector<NodeEdges> EdgesLeaving(const GridShape& grid, const AxisOrder& order, int ranks_per_node);

// Bytes that the busiest node emits.
std::int64_t BytesLeavingNode(std::span<const NodeEdges> nodes, const AxisTraffic& traffic);

}  // namespace lycia::plan

#endif  // LYCIA_PARALLEL_PLAN_NODE_TRAFFIC_H_
