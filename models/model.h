// Model: what a trainer can train, as a list of layers; the first reads tokens or images, the last labels.
#ifndef LYCIA_MODELS_MODEL_H_
#define LYCIA_MODELS_MODEL_H_

#include <memory>
#include <variant>
#include <vector>

#include "models/gpt.h"
#include "models/image_model.h"

namespace lycia {

using Model = std::variant<GptConfig, ImageModelConfig>;

// InvalidArgument with the numbers for sizes that do not fit.
Status Validate(const Model& model);

// Fresh layers.
std::vector<std::unique_ptr<Layer>> LayersOf(const Model& model);

// Of so many samples: tokens [samples, T] i32 with as many labels, or images [samples, H, W, C] u8 with labels [samples, 1] i32.
TensorSpec InputOf(const Model& model, std::int64_t samples);
TensorSpec LabelsOf(const Model& model, std::int64_t samples);

}  // namespace lycia

#endif  // LYCIA_MODELS_MODEL_H_
