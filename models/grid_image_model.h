// Models of images on a tensor grid: the layers of image_model.h with every operand cut by (x, y, z). Same names, initial values, random
// keys and results.
#ifndef LYCIA_MODELS_GRID_IMAGE_MODEL_H_
#define LYCIA_MODELS_GRID_IMAGE_MODEL_H_

#include <memory>
#include <vector>

#include "models/image_model.h"
#include "models/layers/grid_images.h"
#include "parallel/grid/grid_layer.h"
#include "parallel/grid/weights.h"

namespace lycia {

struct GridImageOptions {
  ImageModelConfig model;
  const Grid* grid = nullptr;  // outlives the layers
  std::int64_t samples = 0;    // of a micro-batch, on all ranks together
  GridPolicy policy;
  bool weights_each_step = false;
};

// InvalidArgument with the numbers and sizes that work: z lcm(x, y) divides the samples of a micro-batch and, times norm_samples of a model
// with batch norms, too.
Status FitImages(const GridImageOptions& options);

struct GridImageLayers {
  std::vector<std::unique_ptr<GridLayer>> layers;  // fresh
  std::vector<GridImages> in;                      // of each; the first reads bytes of whole images, of this rank's samples
};
// Labels are [samples / |z|, 1] of this z. A call is for a whole micro-batch.
StatusOr<GridImageLayers> MakeGridImageLayers(const GridImageOptions& options);

}  // namespace lycia

#endif  // LYCIA_MODELS_GRID_IMAGE_MODEL_H_
