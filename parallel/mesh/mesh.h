// Mesh: named axes of parallelism and the map between coordinates and ranks.
//
// One table of axes: pipeline (workers of one replica of the pipeline), data (replicas), x, y, z (the tensor grid, docs/tensor_grid.md),
// context and expert (reserved, size 1). The order of axes in a rank number is a string from the slowest to the fastest. By default y is
// fastest, then x: what moves along them waits for compute and compute for it, so neighbours in a node are best; weights along z can be
// moved ahead of their use, replicas meet once a step, and a pipeline sends only the residual.
#ifndef LYCIA_PARALLEL_MESH_MESH_H_
#define LYCIA_PARALLEL_MESH_MESH_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/status.h"

namespace lycia {

enum class Axis : std::uint8_t { kData, kContext, kExpert, kPipeline, kZ, kY, kX };
inline constexpr int kNumAxes = 7;
std::string_view Name(Axis axis);

class Mesh {
 public:
  struct Spec {
    int pipeline = 1, data = 1;
    int x = 1, y = 1, z = 1;
    std::string order = "data,context,expert,pipeline,z,x,y";  // slowest first; every axis once
  };
  // InvalidArgument: an unknown, missing or repeated axis in `order`, a size below 1, or sizes whose product is not `ranks`.
  static StatusOr<Mesh> Create(const Spec& spec, int ranks);

  int ranks() const { return ranks_; }
  int size(Axis axis) const { return sizes_[static_cast<std::size_t>(axis)]; }
  int coordinate(int rank, Axis axis) const;
  // The rank whose coordinates are those of `rank` but for `axis`.
  int Neighbour(int rank, Axis axis, int coordinate) const;

  // For Communicator::Split. Ranks that differ only along `axes` share a color.
  std::vector<int> ColorsAlong(const std::vector<Axis>& axes) const;
  // Ranks on one of the pipeline coordinates `workers` that differ only along pipeline and data share a color; the others get -1: the
  // holders of a parameter that lives on these workers.
  std::vector<int> ColorsOfHolders(const std::vector<int>& workers) const;

  // "data 2 x pipeline 4 = 8 ranks", "data 1 x pipeline 2 x grid 1,4,2 = 16 ranks" (x, y, z)
  std::string ToString() const;

 private:
  int ranks_ = 1;
  std::array<int, kNumAxes> sizes_{};
  std::array<int, kNumAxes> strides_{};
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_MESH_MESH_H_
