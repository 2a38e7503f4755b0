// Sharding: how one matrix lies on the grid, axis by axis. Operators compute the type of their result from the types of their operands, so
// a product along the wrong axes, a sum that was never made, or a gradient handed over unreduced is an error before anything runs.
#ifndef LYCIA_PARALLEL_MESH_SHARDING_H_
#define LYCIA_PARALLEL_MESH_SHARDING_H_

#include <array>
#include <cstdint>
#include <string>

#include "parallel/mesh/mesh.h"
#include "runtime/core/status.h"

namespace lycia {

// Along one axis every rank has
enum class Spread : std::uint8_t {
  kReplicate,  // the same values
  kRows,       // its rows
  kColumns,    // its columns
  kFlat,       // its part of the block's elements in order; how parameters are held
  kPartial,    // a summand of the values
};
std::string_view Name(Spread spread);

struct Sharding {
  Spread x = Spread::kReplicate, y = Spread::kReplicate, z = Spread::kReplicate;

  Spread along(Axis axis) const { return axis == Axis::kX ? x : axis == Axis::kY ? y : z; }
  Sharding With(Axis axis, Spread spread) const;
  Sharding Transposed() const;  // rows <-> columns
  bool operator==(const Sharding&) const = default;
  std::string ToString() const;  // "x columns, y rows, z partial"
};

// Internal error, naming both types, where a rule is broken.
// All-gather: a shard becomes a copy.
StatusOr<Sharding> Gathered(const Sharding& of, Axis along);
// Reduce-scatter: a summand becomes a shard `into` rows, columns or flat.
StatusOr<Sharding> Reduced(const Sharding& of, Axis along, Spread into);
// Each rank takes its part of a copy; no communication.
StatusOr<Sharding> Selected(const Sharding& of, Axis along, Spread part);
// rows × columns = product, by axis: rows × copy = rows; copy × columns = columns; columns × rows = partial; copy × copy = copy.
StatusOr<Sharding> Product(const Sharding& left, const Sharding& right);

// What an optimizer may step: no axis is partial.
Status MayUpdate(const Sharding& gradient, const std::string& name);

}  // namespace lycia

#endif  // LYCIA_PARALLEL_MESH_SHARDING_H_
