// Times reuse on CUDA against our dense kernels in the same run, in bf16:
//   rows     16,384 of 4,096 times 4,096 x 4,096, of which so many are distinct, in random order. What the product took is also given as a
//            share of the dense rate, which mapped_gemm_hopper_cuda.cu's model is made of
//   patches  of 64 images, of which so many are distinct, under 3 x 3 filters of two of ResNet-50's layers: equal ones (exact-patches), and
//            their means (mean-patches)
#include "tests/gpu/bench_reuse_cuda.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/conv/conv.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/gemm/gemm.h"
#include "kernels/reuse/build_index_map.h"
#include "kernels/reuse/gather.h"
#include "kernels/reuse/mapped_conv.h"
#include "kernels/reuse/mapped_gemm.h"
#include "kernels/reuse/patch_means.h"
#include "kernels/reuse/scatter.h"
#include "runtime/core/check.h"
#include "runtime/core/philox.h"

namespace lycia {
namespace {

constexpr int kWarmUps = 3, kLaunches = 10, kMeasurements = 5;
constexpr std::int64_t kRows = 16384, kWidth = 4096;

// A stream, memory and a clock.
class Bench {
 public:
  explicit Bench(Device& device) : device_(device) {
    StatusOr<std::unique_ptr<Stream>> stream = device.NewStream();
    LYCIA_CHECK_OK(stream.status());
    stream_ = *std::move(stream);
  }
  bool ok() const { return ok_; }

 protected:
  Tensor Make(DType dtype, const Shape& shape) {
    const TensorSpec spec{dtype, shape};
    StatusOr<Buffer> buffer = device_.Allocate(spec.bytes(), MemoryKind::kDevice);
    LYCIA_CHECK_OK(buffer.status());
    buffers_.push_back(*std::move(buffer));
    return {buffers_.back().data(), dtype, shape};
  }
  // The median.
  double Seconds(const char* what, const std::function<void()>& launch) {
    if (!ok_) return 0;
    for (int i = 0; i < kWarmUps; ++i) launch();
    if (const Status status = stream_->Synchronize(); !status.ok()) {
      std::printf("reuse, %s not timed: %s\n", what, std::string(status.message()).c_str());
      ok_ = false;
      return 0;
    }
    std::vector<double> seconds;
    for (int m = 0; m < kMeasurements; ++m) {
      const auto start = std::chrono::steady_clock::now();
      for (int i = 0; i < kLaunches; ++i) launch();
      LYCIA_CHECK_OK(stream_->Synchronize());
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / kLaunches);
    }
    std::sort(seconds.begin(), seconds.end());
    return seconds[kMeasurements / 2];
  }

  Device& device_;
  std::unique_ptr<Stream> stream_;
  std::vector<Buffer> buffers_;
  bool ok_ = true;
};

class RowsBench : public Bench {
 public:
  explicit RowsBench(Device& device) : Bench(device) {
    distinct_ = Make(DType::kBF16, {kRows, kWidth});
    x_ = Make(DType::kBF16, {kRows, kWidth});
    weight_ = Make(DType::kBF16, {kWidth, kWidth});
    c_ = Make(DType::kBF16, {kRows, kWidth});
    y_ = Make(DType::kBF16, {kRows, kWidth});
    order_ = Make(DType::kI32, {kRows});
    const Tensor map = Make(DType::kU8, {IndexMapBytes(kRows)});
    map_ = IndexMapIn(map.data, MapDim::kM, MapKind::kPartition, kRows);
    workspace_ = Make(DType::kU8, {BuildIndexMapBytes({}, DType::kBF16, kRows)});
    FillNormal(*stream_, {.out = distinct_, .random = RandomStream(1, "rows", 0)});
    FillNormal(*stream_, {.out = weight_, .random = RandomStream(1, "weight", 0)});
  }

  double Dense() {
    return Seconds("dense",
                   [&] { cuda::Gemm(*stream_, {.a = AsMatrix(ConstTensor(x_)), .b = AsMatrix(ConstTensor(weight_)), .c = AsMatrix(c_)}); });
  }
  // x: kRows rows of which ratio * kRows are different.
  void Repeat(double ratio) {
    const auto distinct = static_cast<std::int64_t>(ratio * kRows);
    const RandomStream random(1, "order", 0);
    std::vector<std::int32_t> order;
    for (std::int64_t m = 0; m < kRows; ++m) order.push_back(static_cast<std::int32_t>(m % distinct));
    for (std::int64_t m = kRows - 1; m > 0; --m) {
      std::swap(order[static_cast<std::size_t>(m)], order[random.Bits(static_cast<std::uint64_t>(m)) % static_cast<std::uint64_t>(m + 1)]);
    }
    stream_->Copy(order_.data, order.data(), order_.bytes());
    // Rows by a list: a gather of all of them.
    size_ = kRows;
    const Tensor size = Make(DType::kI32, {1});
    stream_->Copy(size.data, &size_, sizeof(size_));
    IndexMap list = map_;
    list.size = size.as<std::int32_t>();
    list.representatives = order_.as<std::int32_t>();
    GatherRows(*stream_, {.map = list, .x = AsMatrix(ConstTensor(distinct_)), .to = AsMatrix(x_)});
    LYCIA_CHECK_OK(stream_->Synchronize());
    buffers_.pop_back();
  }
  double Find() {
    return Seconds("find",
                   [&] { BuildIndexMap(*stream_, {.rows = AsMatrix(ConstTensor(x_)), .map = map_, .workspace = workspace_.data}); });
  }
  double Product() {
    return Seconds("product", [&] { cuda::MappedGemm(*stream_, Mapped()); });
  }
  double Both() {
    return Seconds("reuse", [&] {
      BuildIndexMap(*stream_, {.rows = AsMatrix(ConstTensor(x_)), .map = map_, .workspace = workspace_.data});
      cuda::MappedGemm(*stream_, Mapped());
    });
  }

 private:
  MappedGemmArgs Mapped() const {
    return {.map = map_,
            .gather_a = true,
            .gemm = {.a = AsMatrix(ConstTensor(x_)), .b = AsMatrix(ConstTensor(weight_)), .c = AsMatrix(c_)},
            .scattered = AsMatrix(y_)};
  }
  Tensor distinct_, x_, weight_, c_, y_, order_, workspace_;
  IndexMap map_;
  std::int32_t size_ = 0;
};

constexpr std::int64_t kImages = 64;

ConvShape Layer(std::int64_t size, std::int64_t channels) {
  const ConvAxis axis{.in = size, .filter = 3, .pad_before = 1, .pad_after = 1};
  return {.N = kImages, .C = channels, .K = channels, .height = axis, .width = axis};
}

class PatchesBench : public Bench {
 public:
  PatchesBench(Device& device, const ConvShape& shape) : Bench(device), s_(shape), patches_(s_.N * s_.P() * s_.Q()) {
    const std::int64_t depth = s_.R() * s_.S() * s_.C;
    image_ = Make(DType::kBF16, {s_.N, s_.H(), s_.W(), s_.C});
    weight_ = Make(DType::kBF16, {s_.K, s_.R(), s_.S(), s_.C});
    c_ = Make(DType::kBF16, {patches_, s_.K});
    y_ = Make(DType::kBF16, {s_.N, s_.P(), s_.Q(), s_.K});
    means_ = Make(DType::kBF16, {patches_, depth});
    map_ = IndexMapIn(Make(DType::kU8, {IndexMapBytes(patches_)}).data, MapDim::kM, MapKind::kPartition, patches_);
    build_memory_ = Make(DType::kU8, {BuildPatchMapBytes({}, DType::kBF16, s_)});
    means_memory_ = Make(DType::kU8, {ClusterPatchMeansBytes(DType::kBF16, s_)});
    FillNormal(*stream_, {.out = image_, .random = RandomStream(1, "images", 0)});
    FillNormal(*stream_, {.out = weight_, .random = RandomStream(1, "filters", 0)});
  }

  // Of the images the first `distinct` differ, the others repeat them; so do their patches, but for those of padding alone.
  void Repeat(std::int64_t distinct) {
    const std::int64_t bytes = image_.bytes() / kImages;
    char* const data = static_cast<char*>(image_.data);
    FillNormal(*stream_, {.out = image_, .random = RandomStream(1, "images", 0)});
    for (std::int64_t n = distinct; n < kImages; ++n) stream_->Copy(data + n * bytes, data + n % distinct * bytes, bytes);
    LYCIA_CHECK_OK(stream_->Synchronize());
  }
  double Dense() {
    return Seconds("dense convolution", [&] { ConvForward(*stream_, {.shape = s_, .in = image_, .weight = weight_, .out = y_}); });
  }
  // Steps so small that only equal patches are alike: both ways find the same clusters.
  double Find(bool means) {
    const ReuseRule rule = means ? ReuseRule{.policy = ReusePolicy::kQuantized, .delta = 0x1p-20} : ReuseRule{};
    return Seconds("patches", [&] {
      BuildPatchMap(*stream_, {.shape = s_, .in = image_, .rule = rule, .map = map_, .workspace = build_memory_.data});
      if (!means) return;
      ClusterPatchMeans(*stream_, {.map = map_, .shape = s_, .in = image_, .to = AsMatrix(means_), .workspace = means_memory_.data});
    });
  }
  double Product(bool means) {
    return Seconds("product of patches", [&] {
      if (means) {
        const std::int64_t depth = s_.R() * s_.S() * s_.C;
        return cuda::MappedGemm(*stream_, {.map = map_,
                                           .gemm = {.a = AsMatrix(means_),
                                                    .b = {weight_.data, weight_.dtype, s_.K, depth, depth},
                                                    .transpose_b = true,
                                                    .c = AsMatrix(c_)},
                                           .scattered = AsMatrix(y_)});
      }
      MappedConvForward(*stream_, {.map = map_, .shape = s_, .in = image_, .weight = weight_, .c = AsMatrix(c_)});
      ScatterRows(*stream_, {.map = map_, .c = AsMatrix(ConstTensor(c_)), .y = AsMatrix(y_)});
    });
  }
  void Print(std::int64_t distinct, bool means, double dense) {
    const double find = Find(means), product = Product(means);
    if (!ok()) return;
    std::printf(
        "reuse %s bf16 %lld x %lld x %lld r %.2f: dense %8.1f us %6.1f TFLOP/s, find %7.1f us, product and expand %8.1f us, "
        "reuse %8.1f us, %5.2f x\n",
        means ? "mean-patches" : "exact-patches", static_cast<long long>(patches_), static_cast<long long>(s_.R() * s_.S() * s_.C),
        static_cast<long long>(s_.K), static_cast<double>(distinct) / kImages, dense * 1e6, s_.flops() / dense * 1e-12, find * 1e6,
        product * 1e6, (find + product) * 1e6, dense / (find + product));
  }

 private:
  ConvShape s_;
  std::int64_t patches_;
  Tensor image_, weight_, c_, y_, means_, build_memory_, means_memory_;
  IndexMap map_;
};

void BenchPatches(Device& device) {
  for (const ConvShape& shape : {Layer(56, 64), Layer(14, 256)}) {
    PatchesBench bench(device, shape);
    for (const std::int64_t distinct : {kImages, kImages / 2, kImages / 4}) {
      bench.Repeat(distinct);
      const double dense = bench.Dense();
      for (const bool means : {false, true}) bench.Print(distinct, means, dense);
      if (!bench.ok()) return;
    }
  }
}

}  // namespace

void BenchCudaReuse(Device& device) {
  RowsBench bench(device);
  for (const double ratio : {1.0, 0.75, 0.5, 0.25, 0.1}) {
    bench.Repeat(ratio);
    const double dense = bench.Dense(), find = bench.Find(), product = bench.Product(), both = bench.Both();
    if (!bench.ok()) return;
    std::printf(
        "reuse exact bf16 %lld x %lld x %lld r %.2f: dense %8.1f us %6.1f TFLOP/s, find %7.1f us, product and expand %8.1f us (%5.1f%% of "
        "the "
        "dense rate), reuse %8.1f us, %5.2f x\n",
        static_cast<long long>(kRows), static_cast<long long>(kWidth), static_cast<long long>(kWidth), ratio, dense * 1e6,
        2.0 * kRows * kWidth * kWidth / dense * 1e-12, find * 1e6, product * 1e6, 100 * ratio * dense / product, both * 1e6, dense / both);
  }
  BenchPatches(device);
}

}  // namespace lycia
