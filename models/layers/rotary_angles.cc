#include "models/layers/rotary_angles.h"

#include "kernels/rotary/rotary.h"
#include "runtime/core/check.h"
#include "runtime/device/allocate_beside.h"

namespace lycia {

std::shared_ptr<RotaryAngles> RotaryAngles::Of(const GptConfig& config) {
  if (!config.rotary()) return nullptr;
  return std::make_shared<RotaryAngles>(config.head_dim(), config.rope_base);
}

void RotaryAngles::Prepare(std::int64_t positions, DType dtype) {
  if (positions_ == 0) {
    positions_ = positions;
    dtype_ = dtype;
    memory_.resize(static_cast<std::size_t>(positions * head_dim_));
    cpu::FillRotaryTable({.cosines = Table(0), .sines = Table(1), .base = base_});
  }
  LYCIA_CHECK(positions == positions_ && dtype == dtype_) << positions << " positions after " << positions_ << " ";
}

Tensor RotaryAngles::Table(int which) const {
  const std::int64_t half = positions_ * (head_dim_ / 2);
  return {reinterpret_cast<char*>(memory_.data()) + which * half * SizeOf(dtype_), dtype_, {positions_, head_dim_ / 2}};
}

Tensor RotaryAngles::TableOn(Stream& stream, int which) const {
  Tensor table = Table(which);
  if (stream.kind() != DeviceKind::kCuda) return table;
  const std::int64_t bytes = 2 * table.bytes();
  if (on_device_.data() == nullptr) {
    StatusOr<Buffer> memory = AllocateBeside(stream, bytes);
    stream.Fail(memory.status());
    if (!stream.ok()) return table;
    on_device_ = *std::move(memory);
    stream.Copy(on_device_.data(), memory_.data(), bytes);
  }
  table.data = static_cast<char*>(on_device_.data()) + which * table.bytes();
  return table;
}

void RotaryAngles::Rotate(Stream& stream, const Tensor& rows, std::int64_t heads, bool inverse) const {
  Rotary(stream, {.rows = rows, .cosines = TableOn(stream, 0), .sines = TableOn(stream, 1), .heads = heads, .inverse = inverse});
}

}  // namespace lycia
