// ParameterSpec: what a layer declares about one of its parameters. A parameter *is* its global name.
#ifndef LYCIA_PARALLEL_LAYER_PARAMETER_H_
#define LYCIA_PARALLEL_LAYER_PARAMETER_H_

#include <cstdint>
#include <string>

#include "parallel/mesh/sharding.h"
#include "runtime/core/tensor.h"

namespace lycia {

enum class Initial : std::uint8_t { kZero, kOne, kNormal };

// May the optimizer cut the tensor anywhere, or does its update need it whole (matrix methods)?
enum class ShardPolicy : std::uint8_t { kFlat, kWholeTensor };

struct ParameterSpec {
  std::string name;  // Hugging Face's
  Shape shape;
  Initial initial = Initial::kZero;
  double std = 0;      // of kNormal; element i is std * RandomStream(seed, "init/" + name, 0).Normal(i)
  bool decay = false;  // decoupled weight decay applies
  // A parameter used twice (tied embedding) has one weight and one gradient buffer per use, added use by use: 0, then 1.
  int use = 0;
  ShardPolicy shard = ShardPolicy::kFlat;
  Sharding gradient;  // on a tensor grid, as the optimizer gets it; without one: whole

  bool operator==(const ParameterSpec&) const = default;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_LAYER_PARAMETER_H_
