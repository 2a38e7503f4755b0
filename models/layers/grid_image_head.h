// ImageHead on a tensor grid: images or rows of features, averaged over the image or flattened, and labels [samples / |z|, 1] of this z ->
// logits, cut by samples and by classes (grid_dense.h), and the softmax cross-entropy of one label a sample. Forward turns the logits into
// their gradient.
#ifndef LYCIA_MODELS_LAYERS_GRID_IMAGE_HEAD_H_
#define LYCIA_MODELS_LAYERS_GRID_IMAGE_HEAD_H_

#include <string>

#include "kernels/pool/pool.h"
#include "models/layers/grid_dense.h"
#include "parallel/grid/grid_layer.h"
#include "parallel/grid/vocabulary.h"

namespace lycia {

class GridImageHead final : public GridLayer {
 public:
  struct Options {
    const Grid* grid = nullptr;  // outlives the layer
    GridImages in;
    GridDense::Options dense;  // its units are the classes
    bool average = false;
  };
  explicit GridImageHead(const Options& options) : options_(options) {}
  const std::string& name() const override { return options_.dense.name; }
  // in: GridImages::Part of Options::in.
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override;
  // StageContext::logits, where wanted: this rank's [its samples, its classes, padded].
  void Forward(const LayerContext& context) const override;
  void BackwardInput(const LayerContext& context) const override;
  void BackwardWeight(const LayerContext& context) const override { dense_.BackwardWeight(context); }
  void Backward(const LayerContext& context) const override;
  void Fetch(const LayerContext& context, TransferHandle, TransferPlace& place) const override { dense_.Fetch(context, place); }

 private:
  PoolShape WholeImage() const;
  Tensor FeatureGradient(const LayerContext& context) const;
  void BackwardAverage(const LayerContext& context) const;

  Options options_;
  GridDense dense_;
  GridScratch scratch_;
  GridCrossEntropy cross_entropy_;
  ScratchHandle dfeatures_;  // of an average: [samples, 1, 1, channels] of this rank
};

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_GRID_IMAGE_HEAD_H_
