// The angles of a model's rotary positions (kernels/rotary), one table for all of its attention layers on a rank.
//
// It is the only memory of layers that no plan declares: constants of T D numbers, in host memory, written when the first layer is planned,
// and on a GPU in memory of its own, copied there before the first turn.
#ifndef LYCIA_MODELS_LAYERS_ROTARY_ANGLES_H_
#define LYCIA_MODELS_LAYERS_ROTARY_ANGLES_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "models/gpt.h"
#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

class RotaryAngles {
 public:
  // Null where the model's positions are learned.
  static std::shared_ptr<RotaryAngles> Of(const GptConfig& config);
  RotaryAngles(std::int64_t head_dim, double base) : head_dim_(head_dim), base_(base) {}

  // Before the first turn: positions 0 .. positions - 1, in f32 or f64. Called again with the same it does nothing; with others it is a
  // broken promise.
  void Prepare(std::int64_t positions, DType dtype);
  // Turns the first `heads` heads of rows [B, T, W], token t being position t; or turns their gradients back.
  void Turn(Stream& stream, const Tensor& rows, std::int64_t heads) const { Rotate(stream, rows, heads, /*inverse=*/false); }
  void TurnBack(Stream& stream, const Tensor& rows, std::int64_t heads) const { Rotate(stream, rows, heads, /*inverse=*/true); }

 private:
  void Rotate(Stream& stream, const Tensor& rows, std::int64_t heads, bool inverse) const;
  Tensor Table(int which) const;                    // [positions, D / 2] of the host: 0 the cosines, 1 the sines
  Tensor TableOn(Stream& stream, int which) const;  // the same where the stream reads it

  std::int64_t head_dim_;
  double base_;
  std::int64_t positions_ = 0;
  DType dtype_ = DType::kF32;
  mutable std::vector<double> memory_;  // written by Prepare only; large enough for f64
  mutable Buffer on_device_;            // the same bytes, once a stream of a GPU has asked
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_ROTARY_ANGLES_H_
