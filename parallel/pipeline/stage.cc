#include "parallel/pipeline/stage.h"

#include "runtime/core/check.h"

namespace lycia {

TensorSpec PartOf(const TensorSpec& spec, int parts) {
  if (parts == 1) return spec;
  LYCIA_CHECK(spec.shape.rank() > 0 && spec.shape.dim(0) % parts == 0) << spec.ToString() << " has no " << parts << " parts ";
  TensorSpec part{spec.dtype, {spec.shape.dim(0) / parts}};
  for (int i = 1; i < spec.shape.rank(); ++i) part.shape.push_back(spec.shape.dim(i));
  return part;
}

std::int64_t PackedBytes(std::span<const TensorSpec> specs, int parts) {
  std::int64_t bytes = 0;
  for (const TensorSpec& spec : specs) bytes += PaddedBytes(spec.bytes() / parts);
  return bytes;
}

}  // namespace lycia
