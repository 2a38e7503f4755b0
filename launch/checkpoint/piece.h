// Piece: the part of one tensor that one rank holds. The list of pieces a rank saves is the list it loads.
#ifndef LYCIA_LAUNCH_CHECKPOINT_PIECE_H_
#define LYCIA_LAUNCH_CHECKPOINT_PIECE_H_

#include <cstdint>
#include <string>

#include "runtime/core/tensor.h"

namespace lycia {

// Elements [begin, end) of the tensor `name`, counted row-major in its logical (unsharded) shape. Over all ranks the pieces of a tensor
// must hold each element exactly once: of replicas, one writes.
struct Piece {
  std::string name;  // global and the same on every layout: "weight/h.0.attn.c_attn.weight", "adam_m/...", "adam_v/..."
  DType dtype = DType::kF32;
  Shape logical_shape;
  std::int64_t begin = 0, end = 0;
  void* data = nullptr;  // element `begin`; not owned

  std::int64_t bytes() const { return (end - begin) * SizeOf(dtype); }
};

}  // namespace lycia

#endif  // LYCIA_LAUNCH_CHECKPOINT_PIECE_H_
