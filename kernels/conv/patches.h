// Patches of images as operands of a product, read where they lie: what a lowering to columns (im2col) would write is never written.
//
// A position m = (n, i, j) of a grid over the images and a tap (r, s) name the pixel h = first_h + i * step_h + r * tap_h, w likewise. A
// run is what lies contiguous in memory for a position: the channels of one tap, or, where neighbouring taps are neighbouring pixels and
// channels are few, those of one row of taps (whole_rows).
#ifndef LYCIA_KERNELS_CONV_PATCHES_H_
#define LYCIA_KERNELS_CONV_PATCHES_H_

#include "kernels/conv/conv_shape.h"
#include "kernels/gemm/driver.h"

namespace lycia::cpu {

struct Patches {
  const char* data = nullptr;            // channel 0 (of a group) of pixel 0
  bool bf16 = false;                     // else f32
  std::int64_t H = 1, W = 1, pixel = 1;  // of an image; elements from a pixel to the next
  std::int64_t channels = 1;
  std::int64_t images = 1, rows = 1, cols = 1;  // of the grid
  std::int64_t first_h = 0, first_w = 0, step_h = 1, step_w = 1;
  std::int64_t taps_h = 1, taps_w = 1, tap_h = 1, tap_w = 1;
  bool whole_rows = false;
  // Positions in the order in which they are taken, in place of all; null: all.
  const std::int32_t* listed = nullptr;
  std::int64_t num_listed = 0;

  std::int64_t element_bytes() const { return bf16 ? 2 : 4; }
  std::int64_t positions() const { return listed != nullptr ? num_listed : images * rows * cols; }
  Runs runs() const { return whole_rows ? Runs{taps_h, taps_w * channels} : Runs{taps_h * taps_w, channels}; }
};

// The patches that a forward convolution multiplies with its filters, of one group.
Patches PatchesOfInput(const ConvShape& shape, const void* in, bool bf16, std::int64_t group);
// Those of dout that make din at the input positions of one phase of each axis.
Patches PatchesOfOutput(const ConvShape& shape, const ConvPhase& height, const ConvPhase& width, const void* dout, bool bf16,
                        std::int64_t group);

// Rows of a product are positions, depth is runs: forward and input gradient.
struct PatchesByPosition {
  Patches patches;
  void Pack(const MicroKernel& kernel, const PanelPart& part) const;
  void Find(const MicroKernel& kernel, const PanelPart& part) const;
  // Tiles can read these where they lie.
  bool InPlace(const MicroKernel& kernel) const;

 private:
  void FindGroups(const MicroKernel& kernel, const PanelPart& part) const;
};
// Depth is positions, columns are runs: weight gradient.
struct PatchesByChannel {
  Patches patches;
  void Pack(const MicroKernel& kernel, const PanelPart& part) const;
  void Find(const MicroKernel& kernel, const PanelPart& part) const;
  bool InPlace(const MicroKernel& kernel) const;
};

// Filters as the operand b, their depth in runs as the patches' is. Run (r, s) of taps_h x taps_w begins r * down + s * right elements on;
// lane l, element e of it stand at l * ld + e when k_contiguous, else at e * ld + l.
struct FilterRuns {
  const char* data = nullptr;
  bool bf16 = false, k_contiguous = true;
  Runs depth;
  std::int64_t taps_w = 1, down = 0, right = 0, ld = 0;
  void Pack(const MicroKernel& kernel, const PanelPart& part) const;
};

}  // namespace lycia::cpu

#endif  // LYCIA_KERNELS_CONV_PATCHES_H_
