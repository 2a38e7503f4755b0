// How fast convolutions are on this machine, each beside the plain matrix product of the same sizes and an explicit lowering to columns
// with our own product: `lycia bench conv`.
#ifndef LYCIA_LAUNCH_CONV_BENCH_H_
#define LYCIA_LAUNCH_CONV_BENCH_H_

#include <string>
#include <vector>

#include "kernels/conv/conv_shape.h"
#include "runtime/core/dtype.h"
#include "runtime/core/status.h"
#include "runtime/device/device.h"

namespace lycia {

struct ConvLayer {
  std::string name;  // "res3 3x3 /2"
  ConvShape shape;
  int uses = 1;  // in the model
};
// The convolutions of ResNet-50 (He et al. 2016; stride in the 3 x 3 layers) on images of 224 x 224.
std::vector<ConvLayer> ResNet50Layers(std::int64_t images);

struct ConvBenchOptions {
  std::vector<ConvLayer> layers;
  std::vector<DType> dtypes;      // f32, bf16
  std::vector<std::string> uses;  // of "forward", "input_gradient", "weight_gradient"; empty: all
  CpuOptions cpu;
  double seconds = 0.2;  // of each row
};

// One layer in one direction. Rates are medians of calls in alternation.
struct ConvSpeed {
  std::string layer, use;
  ConvShape shape;
  DType dtype = DType::kF32;
  std::string isa;
  int uses = 1;
  double gflops = 0;          // of the convolution, weights packed beforehand
  double product_gflops = 0;  // of the plain product of equal m, n, k
  double lowered_gflops = 0;  // of the explicit lowering, its copies included
  double peak_gflops = 0;     // of a loop on registers, same instruction set and threads, measured once a type
  double share_of_peak() const { return peak_gflops > 0 ? gflops / peak_gflops : 0; }
  double share_of_product() const { return product_gflops > 0 ? gflops / product_gflops : 0; }
};

// InvalidArgument where there are no threads or cores as asked for.
StatusOr<std::vector<ConvSpeed>> MeasureConvolutions(const ConvBenchOptions& options);

std::string ConvSpeedTable(const std::vector<ConvSpeed>& rows);
// A JSON array of objects with layer, use, shape, dtype, isa, uses, gflops, product_gflops, lowered_gflops and peak_gflops.
std::string ConvSpeedJson(const std::vector<ConvSpeed>& rows);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_CONV_BENCH_H_
