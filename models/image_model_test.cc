// Sizes of whole models, by what is published and by hand.
#include "models/image_model.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "models/model.h"

namespace lycia {
namespace {

struct Sizes {
  std::int64_t parameters = 0, tensors = 0, states = 0;
  double flops = 0;  // of a forward
  std::map<std::string, Shape> shapes;
  std::vector<Shape> outputs;  // of each layer
};

Sizes Plan(const ImageModelConfig& config, std::int64_t samples) {
  Sizes sizes;
  std::vector<TensorSpec> edge = {InputOf(config, samples)};
  for (const std::unique_ptr<Layer>& layer : ImageModelLayers(config)) {
    LayerPlan plan(DType::kF32);
    edge = *layer->Plan(edge, plan);
    for (const ParameterSpec& spec : plan.parameters()) {
      sizes.parameters += spec.shape.elements();
      ++sizes.tensors;
      EXPECT_TRUE(sizes.shapes.emplace(spec.name, spec.shape).second) << spec.name;
      EXPECT_EQ(spec.decay, spec.shape.rank() > 1) << spec.name;
    }
    for (const StateSpec& spec : plan.states()) {
      ++sizes.states;
      EXPECT_TRUE(sizes.shapes.emplace(spec.name, spec.shape).second) << spec.name;
    }
    sizes.flops += plan.forward_flops();
    if (!edge.empty()) sizes.outputs.push_back(edge[0].shape);
  }
  return sizes;
}

ImageModelConfig ImageNet(ImageModelKind kind) {
  return {.kind = kind, .height = 224, .width = 224, .channels = 3, .classes = 1000, .norm_samples = 2};
}

// Multiply-adds of a convolution of a square image, out x out pixels.
double Conv(double out, double filters, double filter, double channels) { return out * out * filters * filter * filter * channels; }

TEST(ImageModel, ResNet18IsThePublishedOne) {
  const Sizes sizes = Plan(ImageNet(ImageModelKind::kResNet18), 2);
  EXPECT_EQ(sizes.parameters, 11'689'512);
  EXPECT_EQ(sizes.tensors, 62);
  EXPECT_EQ(sizes.states, 40);
  EXPECT_EQ(sizes.shapes.at("conv1.weight"), (Shape{64, 7, 7, 3}));
  EXPECT_EQ(sizes.shapes.at("layer2.0.downsample.0.weight"), (Shape{128, 1, 1, 64}));
  EXPECT_EQ(sizes.shapes.at("layer4.1.bn2.running_var"), (Shape{512}));
  EXPECT_EQ(sizes.outputs, (std::vector<Shape>{{2, 112, 112, 64},
                                               {2, 56, 56, 64},
                                               {2, 56, 56, 64},
                                               {2, 56, 56, 64},
                                               {2, 28, 28, 128},
                                               {2, 28, 28, 128},
                                               {2, 14, 14, 256},
                                               {2, 14, 14, 256},
                                               {2, 7, 7, 512},
                                               {2, 7, 7, 512}}));
  double macs = Conv(112, 64, 7, 3) + 4 * Conv(56, 64, 3, 64) + 512 * 1000;
  for (const double out : {28, 14, 7}) {
    const double filters = 64 * 56 / out;
    macs += Conv(out, filters, 3, filters / 2) + 3 * Conv(out, filters, 3, filters) + Conv(out, filters, 1, filters / 2);
  }
  EXPECT_EQ(sizes.flops, 2 * 2 * macs);
  EXPECT_NEAR(macs, 1.814e9, 0.001e9);  // published
}

TEST(ImageModel, ResNet50IsThePublishedOne) {
  const Sizes sizes = Plan(ImageNet(ImageModelKind::kResNet50), 2);
  EXPECT_EQ(sizes.parameters, 25'557'032);
  EXPECT_EQ(sizes.tensors, 161);
  EXPECT_EQ(sizes.states, 106);
  EXPECT_EQ(sizes.outputs.back(), (Shape{2, 7, 7, 2048}));
  EXPECT_EQ(sizes.shapes.at("layer1.0.downsample.0.weight"), (Shape{256, 1, 1, 64}));
  EXPECT_EQ(sizes.shapes.at("layer3.0.conv2.weight"), (Shape{256, 3, 3, 256}));
  EXPECT_EQ(sizes.shapes.at("fc.weight"), (Shape{1000, 2048}));
  EXPECT_NEAR(sizes.flops / 4, 4.089e9, 0.001e9);
}

TEST(ImageModel, Vgg16IsThePublishedOne) {
  const Sizes sizes = Plan(ImageNet(ImageModelKind::kVgg16), 1);
  EXPECT_EQ(sizes.parameters, 138'357'544);
  EXPECT_EQ(sizes.tensors, 32);
  EXPECT_EQ(sizes.states, 0);
  EXPECT_EQ(sizes.shapes.at("features.28.weight"), (Shape{512, 3, 3, 512}));
  EXPECT_EQ(sizes.shapes.at("classifier.0.weight"), (Shape{4096, 25088}));
  EXPECT_EQ(sizes.shapes.at("classifier.6.bias"), (Shape{1000}));
  EXPECT_NEAR(sizes.flops / 2, 15.47e9, 0.01e9);
}

TEST(ImageModel, TheCnnBySizes) {
  const Sizes sizes = Plan({.norm_samples = 1}, 3);
  EXPECT_EQ(sizes.outputs, (std::vector<Shape>{{3, 28, 28, 32}, {3, 14, 14, 32}, {3, 14, 14, 64}, {3, 7, 7, 64}, {3, 128}}));
  EXPECT_EQ(sizes.parameters, 32 * 9 + 64 + 64 * 9 * 32 + 128 + 128 * 3136 + 128 + 10 * 128 + 10);
  EXPECT_EQ(sizes.flops, 3 * 2 * (Conv(28, 32, 3, 1) + Conv(14, 64, 3, 32) + 3136 * 128 + 1280));
}

// Below 96 pixels the stem keeps the size.
TEST(ImageModel, SmallImagesHaveASmallStem) {
  ImageModelConfig config = ImageNet(ImageModelKind::kResNet18);
  config.height = config.width = 32;
  config.classes = 10;
  config.filters = 3;
  Sizes sizes = Plan(config, 2);
  EXPECT_EQ(sizes.outputs.front(), (Shape{2, 32, 32, 3}));
  EXPECT_EQ(sizes.outputs.back(), (Shape{2, 4, 4, 24}));
  config.width = 96;
  config.height = 95;
  EXPECT_EQ(Plan(config, 2).outputs.front(), (Shape{2, 95, 96, 3}));
  config.height = 96;
  EXPECT_EQ(Plan(config, 2).outputs.front(), (Shape{2, 48, 48, 3}));
}

TEST(ImageModel, SizesThatDoNotFitAreRefused) {
  const auto message = [](const ImageModelConfig& config) { return std::string(Validate(config).message()); };
  EXPECT_EQ(message({}), "");
  EXPECT_EQ(message({.kind = ImageModelKind::kVgg16, .height = 31, .width = 40}),
            "images of 31 x 40 are too small for this model, which halves them down to nothing; use images of at least 32 x 32, or "
            "model.kind = \"cnn\"");
  EXPECT_EQ(message({.kind = ImageModelKind::kResNet18, .height = 8, .width = 8}), "");
  for (const ImageModelConfig& bad : {ImageModelConfig{.height = 3},
                                      {.width = 0},
                                      {.channels = 5},
                                      {.channels = 0},
                                      {.classes = 0},
                                      {.filters = 0},
                                      {.norm_samples = 0},
                                      {.dropout = 1},
                                      {.dropout = -0.1},
                                      {.kind = ImageModelKind::kResNet50, .height = 7, .width = 32}}) {
    EXPECT_EQ(Validate(bad).code(), absl::StatusCode::kInvalidArgument) << message(bad);
  }
  // The smallest that each takes can be planned.
  EXPECT_EQ(Plan({.height = 4, .width = 4, .norm_samples = 1}, 1).outputs[3], (Shape{1, 1, 1, 64}));
  EXPECT_EQ(Plan({.kind = ImageModelKind::kVgg16, .height = 32, .width = 32}, 1).outputs[17], (Shape{1, 1, 1, 512}));
  EXPECT_EQ(Plan({.kind = ImageModelKind::kResNet50, .height = 8, .width = 8, .norm_samples = 1}, 1).outputs.back(),
            (Shape{1, 1, 1, 2048}));
}

}  // namespace
}  // namespace lycia
