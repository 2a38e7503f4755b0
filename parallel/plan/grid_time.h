// Predicted time of one transformer block on a grid: a plain model of a device and its wires, stated here in full.
//
//   compute   = flops / (device flops), flops = (6 c m h^2 + 6 m s h) / P: forward and backward, causal attention over sequences of s
//   axis      = calls (q - 1) latency + bytes / bandwidth
//   bandwidth = the link inside a node; where the axis' rings leave a node, the least of that and the node's network shared by all rings of
//               the axis that leave it. Latency likewise that inside or between nodes
//   block     = x + y + max(compute, z): weights along z are gathered ahead of compute, x and y are waited for
#ifndef LYCIA_PARALLEL_PLAN_GRID_TIME_H_
#define LYCIA_PARALLEL_PLAN_GRID_TIME_H_

#include "parallel/plan/node_traffic.h"

namespace lycia::plan {

// Round figures of a node of 8 H100: what its data sheets and a good matrix product give, not a measurement.
struct DeviceModel {
  double flops = 600e12;           // per second, sustained in bf16
  double intra_bandwidth = 450e9;  // bytes per second out of one device to others of its node
  double inter_bandwidth = 50e9;   // bytes per second out of a node, per device of the node (400 Gb/s each)
  double intra_latency = 2e-6;     // seconds of one step of a ring
  double inter_latency = 5e-6;
};

struct GridTime {
  double compute = 0, x = 0, y = 0, z = 0;  // seconds
  double total() const { return x + y + (compute > z ? compute : z); }
};

// `edges`: of the order that the ranks are in.
GridTime BlockTime(const GridProblem& problem, const GridShape& grid, const BlockTraffic& traffic, std::span<const NodeEdges> edges,
                   int ranks_per_node, const DeviceModel& device);

}  // namespace lycia::plan

#endif  // LYCIA_PARALLEL_PLAN_GRID_TIME_H_
