// Times exact reuse of rows on CUDA: 16,384 rows of 4,096 in bf16 times 4,096 x 4,096, of which so many are distinct, in random order,
// against our dense product in the same run. What the product took is also given as a share of the dense rate, which
// mapped_gemm_hopper_cuda.cu's model is made of.
#include "tests/gpu/bench_reuse_cuda.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/elementwise/elementwise.h"
#include "kernels/gemm/gemm.h"
#include "kernels/reuse/build_index_map.h"
#include "kernels/reuse/gather.h"
#include "kernels/reuse/mapped_gemm.h"
#include "runtime/core/check.h"
#include "runtime/core/philox.h"

namespace lycia {
namespace {

constexpr int kWarmUps = 3, kLaunches = 10, kMeasurements = 5;
constexpr std::int64_t kRows = 16384, kWidth = 4096;

class ReuseBench {
 public:
  explicit ReuseBench(Device& device) : device_(device) {
    StatusOr<std::unique_ptr<Stream>> stream = device.NewStream();
    LYCIA_CHECK_OK(stream.status());
    stream_ = *std::move(stream);
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
  bool ok() const { return ok_; }

 private:
  MappedGemmArgs Mapped() const {
    return {.map = map_,
            .gather_a = true,
            .gemm = {.a = AsMatrix(ConstTensor(x_)), .b = AsMatrix(ConstTensor(weight_)), .c = AsMatrix(c_)},
            .scattered = AsMatrix(y_)};
  }
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
  Tensor distinct_, x_, weight_, c_, y_, order_, workspace_;
  IndexMap map_;
  std::int32_t size_ = 0;
  bool ok_ = true;
};

}  // namespace

void BenchCudaReuse(Device& device) {
  ReuseBench bench(device);
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
}

}  // namespace lycia
