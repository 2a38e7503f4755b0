// Piece: the part of one tensor that one rank holds. The list of pieces a rank saves is the list it loads.
#ifndef LYCIA_LAUNCH_CHECKPOINT_PIECE_H_
#define LYCIA_LAUNCH_CHECKPOINT_PIECE_H_

#include <cstdint>
#include <string>

#include "parallel/grid/block.h"
#include "runtime/core/tensor.h"

namespace lycia {

// Elements [begin, end) of the tensor `name`, counted row-major in its logical (unsharded) shape; or, on a tensor grid, elements
// [begin, end) of `block`, counted row-major in it. Over all ranks the pieces of a tensor must hold each element exactly once: of replicas,
// one writes. Padding belongs to no element: it is written as it lies in memory, and zero after a load.
struct Piece {
  std::string name;  // global and the same on every layout: "weight/h.0.attn.c_attn.weight", "adam_m/...", "adam_v/..."
  DType dtype = DType::kF32;
  Shape logical_shape;
  std::int64_t begin = 0, end = 0;
  void* data = nullptr;  // element `begin`; not owned
  Block block = {};      // no rows: the whole tensor in order. All blocks of a tensor have the same tensor_columns.

  std::int64_t bytes() const { return (end - begin) * SizeOf(dtype); }
};

}  // namespace lycia

#endif  // LYCIA_LAUNCH_CHECKPOINT_PIECE_H_
