#include "launch/reuse_bench.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <random>

#include "kernels/cpu/parallel.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/gemm_kernels.h"
#include "kernels/reuse/build_index_map.h"
#include "kernels/reuse/gather.h"
#include "kernels/reuse/mapped_gemm.h"
#include "kernels/reuse/scatter.h"

namespace lycia {
namespace {

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

constexpr const char* kPolicies[] = {"exact", "quantized", "lsh"};

double MedianOf(std::vector<double>& times) {
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

// One region with its memory.
class Region {
 public:
  Region(Device& device, Stream& stream, const ReuseRegion& region, const ReuseBenchOptions& options)
      : device_(device), stream_(stream), region_(region), copies_(options.copy_rows || region.means) {
    // Finer than any two rows are near.
    rule_ = {.policy = options.policy, .delta = 0x1p-6, .width = 0.5};
  }

  Status Allocate() {
    const std::int64_t rows = region_.rows;
    for (std::size_t i = 0; i + 1 < region_.widths.size(); ++i) {
      const std::int64_t k = region_.widths[i], n = region_.widths[i + 1];
      LYCIA_ASSIGN_OR_RETURN(const Tensor weight, Make({k, n}));
      FillNormal(stream_, {.out = weight, .random = RandomStream(1, StrCat("weight ", i), 0), .std = 0.03});
      LYCIA_ASSIGN_OR_RETURN(void* const packed, Memory(PackedMatrixBytes(region_.dtype, k, n)));
      packed_.push_back({packed, region_.dtype, k, n});
      PackMatrix(stream_, {.b = AsMatrix(weight), .to = packed_.back()});
      LYCIA_ASSIGN_OR_RETURN(const Tensor wide, Make({rows, n}));
      LYCIA_ASSIGN_OR_RETURN(const Tensor compact, Make({rows, n}));
      wide_.push_back(wide);
      compact_.push_back(compact);
    }
    LYCIA_ASSIGN_OR_RETURN(x_, Make({rows, region_.widths.front()}));
    LYCIA_ASSIGN_OR_RETURN(distinct_, Make({rows, region_.widths.front()}));
    LYCIA_ASSIGN_OR_RETURN(y_, Make({rows, region_.widths.back()}));
    FillNormal(stream_, {.out = distinct_, .random = RandomStream(1, "rows", 0)});
    LYCIA_ASSIGN_OR_RETURN(void* const map, Memory(IndexMapBytes(rows)));
    map_ = IndexMapIn(map, MapDim::kM, MapKind::kPartition, rows);
    if (rule_.policy == ReusePolicy::kLsh) {
      LYCIA_ASSIGN_OR_RETURN(const Tensor projections, Make({kProjections, region_.widths.front()}));
      LYCIA_ASSIGN_OR_RETURN(void* const shifts, Memory(kProjections * 8));
      const Tensor shift = {shifts, DType::kF64, {kProjections}};
      MakeProjections(stream_, {.seed = 1, .projections = projections, .shifts = shift});
      rule_.projections = AsMatrix(projections);
      rule_.shifts = shift;
    }
    LYCIA_ASSIGN_OR_RETURN(gathered_, Make({rows, region_.widths.front()}));
    LYCIA_ASSIGN_OR_RETURN(means_workspace_, Memory(ClusterMeansBytes(rows)));
    LYCIA_ASSIGN_OR_RETURN(workspace_, Memory(BuildIndexMapBytes(rule_, region_.dtype, rows)));
    LYCIA_ASSIGN_OR_RETURN(copy_, Memory(static_cast<std::int64_t>(ReuseBytes(region_, 1)) + 64));
    return OkStatus();
  }

  // x's rows from now on: every distinct row at least once, in a random order.
  void Repeat(double ratio) {
    const std::int64_t rows = region_.rows, bytes = x_.bytes() / rows;
    const std::int64_t distinct = std::max<std::int64_t>(1, static_cast<std::int64_t>(ratio * static_cast<double>(rows) + 0.5));
    std::vector<std::int64_t> order;
    std::minstd_rand random(1);
    for (std::int64_t m = 0; m < rows; ++m) order.push_back(m < distinct ? m : static_cast<std::int64_t>(random()) % distinct);
    std::shuffle(order.begin(), order.end(), random);
    for (std::int64_t m = 0; m < rows; ++m) {
      std::memcpy(static_cast<char*>(x_.data) + m * bytes, static_cast<char*>(distinct_.data) + order[static_cast<std::size_t>(m)] * bytes,
                  static_cast<std::size_t>(bytes));
    }
  }

  void Dense() {
    Products(x_, wide_, [&](const GemmArgs& args, bool) { Gemm(stream_, args); });
  }

  // Returns the times after each part.
  struct Parts {
    double hash = 0, gather = 0, gemm = 0, expand = 0;
  };
  Parts Reuse() {
    Parts parts;
    const double begin = Now();
    BuildIndexMap(stream_, {.rows = AsMatrix(x_), .rule = rule_, .map = map_, .workspace = workspace_});
    const double hashed = Now();
    if (region_.means) {
      ClusterMeans(stream_, {.map = map_, .x = AsMatrix(x_), .to = AsMatrix(gathered_), .meter = &meter_, .workspace = means_workspace_});
    } else if (copies_) {
      GatherRows(stream_, {.map = map_, .x = AsMatrix(x_), .to = AsMatrix(gathered_)});
    }
    const double gathered = Now();
    // Without a copy the first product gathers while it packs.
    Products(copies_ ? gathered_ : x_, compact_,
             [&](const GemmArgs& args, bool first) { MappedGemm(stream_, {.map = map_, .gather_a = first && !copies_, .gemm = args}); });
    const double multiplied = Now();
    ScatterRows(stream_, {.map = map_, .c = AsMatrix(compact_.back()), .y = AsMatrix(y_)});
    parts.hash = hashed - begin;
    parts.gather = gathered - hashed;
    parts.gemm = multiplied - gathered;
    parts.expand = Now() - multiplied;
    return parts;
  }

  // Moves as many bytes, read and written ones counted.
  void Copy(double bytes) {
    const auto half = static_cast<std::int64_t>(bytes / 2);
    cpu::ForEachPart(stream_, {.count = half, .unit = 4096, .bytes_each = 2}, [&](std::int64_t begin, std::int64_t end, int) {
      char* from = static_cast<char*>(copy_) + begin;
      std::memcpy(from + half, from, static_cast<std::size_t>(end - begin));
    });
  }

  double ratio() const { return static_cast<double>(*map_.size) / static_cast<double>(region_.rows); }
  bool SameBits() const { return std::memcmp(y_.data, wide_.back().data, static_cast<std::size_t>(y_.bytes())) == 0; }

 private:
  template <typename Multiply>
  void Products(const Tensor& in, const std::vector<Tensor>& out, const Multiply& multiply) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      multiply({.a = AsMatrix(i == 0 ? in : out[i - 1]), .c = AsMatrix(out[i]), .packed_b = packed_[i], .gelu = i + 1 < out.size()},
               i == 0);
    }
  }
  StatusOr<void*> Memory(std::int64_t bytes) {
    LYCIA_ASSIGN_OR_RETURN(Buffer buffer, device_.Allocate(bytes, MemoryKind::kDevice));
    std::memset(buffer.data(), 1, static_cast<std::size_t>(bytes));  // pages are there
    buffers_.push_back(std::move(buffer));
    return buffers_.back().data();
  }
  StatusOr<Tensor> Make(const Shape& shape) {
    LYCIA_ASSIGN_OR_RETURN(void* const memory, Memory(shape.elements() * SizeOf(region_.dtype)));
    return Tensor{memory, region_.dtype, shape};
  }

  Device& device_;
  Stream& stream_;
  ReuseRegion region_;
  ReuseRule rule_;
  bool copies_;
  std::vector<Buffer> buffers_;
  std::vector<PackedMatrix> packed_;
  std::vector<Tensor> wide_, compact_;
  Tensor x_, distinct_, y_, gathered_;
  IndexMap map_;
  ReuseMeter meter_;
  void *workspace_ = nullptr, *means_workspace_ = nullptr, *copy_ = nullptr;
};

ReuseSpeed MeasureRatio(Region& region, const ReuseRegion& shape, double seconds) {
  std::vector<double> dense, reuse, hash, gather, gemm, expand, copy;
  region.Dense();
  region.Reuse();
  const double bytes = ReuseBytes(shape, region.ratio());
  region.Copy(bytes);
  for (const double start = Now(); dense.size() < 3 || Now() - start < seconds;) {
    double begin = Now();
    region.Dense();
    dense.push_back(Now() - begin);
    begin = Now();
    const Region::Parts parts = region.Reuse();
    reuse.push_back(Now() - begin);
    hash.push_back(parts.hash);
    gather.push_back(parts.gather);
    gemm.push_back(parts.gemm);
    expand.push_back(parts.expand);
    begin = Now();
    region.Copy(bytes);
    copy.push_back(Now() - begin);
  }
  return {.region = shape,
          .isa = cpu::SelectedKernel(shape.dtype).name,
          .ratio = region.ratio(),
          .dense_us = 1e6 * MedianOf(dense),
          .hash_us = 1e6 * MedianOf(hash),
          .gather_us = 1e6 * MedianOf(gather),
          .gemm_us = 1e6 * MedianOf(gemm),
          .expand_us = 1e6 * MedianOf(expand),
          .reuse_us = 1e6 * MedianOf(reuse),
          .copy_gbps = bytes / MedianOf(copy) / 1e9,
          .same_bits = region.SameBits()};
}

// Where the line of least squares through (ratio, reuse / dense) meets 1; with one ratio, the model's.
double BreakEvenOf(const ReuseSpeed* rows, std::size_t count) {
  double n = 0, sum_r = 0, sum_t = 0, sum_rr = 0, sum_rt = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const double r = rows[i].ratio, t = rows[i].reuse_us / rows[i].dense_us;
    n += 1;
    sum_r += r;
    sum_t += t;
    sum_rr += r * r;
    sum_rt += r * t;
  }
  const double spread = n * sum_rr - sum_r * sum_r;
  if (spread <= 0) return BreakEvenRatio(rows[0].region, {.flops = rows[0].dense_gflops() * 1e9, .bytes_per_s = rows[0].copy_gbps * 1e9});
  const double slope = (n * sum_rt - sum_r * sum_t) / spread, base = (sum_t - slope * sum_r) / n;
  return (1 - base) / slope;
}

Status Check(const ReuseBenchOptions& options) {
  for (const double ratio : options.ratios) {
    if (!(ratio > 0 && ratio <= 1)) return InvalidArgument("ratio ", ratio, " of distinct rows must be above 0 and at most 1");
  }
  for (const ReuseRegion& region : options.regions) {
    if (region.rows < 1 || region.widths.size() < 2 || *std::min_element(region.widths.begin(), region.widths.end()) < 1) {
      return InvalidArgument("a region needs rows and at least two widths, all of them 1 or more");
    }
  }
  return OkStatus();
}

}  // namespace

std::vector<ReuseRegion> ReuseBenchRegions() {
  std::vector<ReuseRegion> regions;
  for (const auto& widths :
       std::vector<std::vector<std::int64_t>>{{1024, 1024}, {1024, 4096, 1024}, {512, 512}, {512, 4096}, {4096, 1024}}) {
    regions.push_back({.rows = 4096, .widths = widths});
  }
  return regions;
}

StatusOr<std::vector<ReuseSpeed>> MeasureReuse(const ReuseBenchOptions& options) {
  LYCIA_RETURN_IF_ERROR(Check(options));
  const std::unique_ptr<Device> device = NewCpuDevice(options.cpu);
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream, device->NewStream());
  std::vector<ReuseSpeed> rows;
  for (const DType dtype : options.dtypes) {
    for (ReuseRegion shape : options.regions) {
      shape.dtype = dtype;
      shape.means = options.policy != ReusePolicy::kExact;
      Region region(*device, *stream, shape, options);
      LYCIA_RETURN_IF_ERROR(region.Allocate());
      const std::size_t first = rows.size();
      for (const double ratio : options.ratios) {
        region.Repeat(ratio);
        rows.push_back(MeasureRatio(region, shape, options.seconds));
        rows.back().policy = kPolicies[static_cast<int>(options.policy)];
      }
      if (rows.size() == first) continue;
      const double break_even = BreakEvenOf(&rows[first], rows.size() - first);
      for (std::size_t i = first; i < rows.size(); ++i) rows[i].break_even = break_even;
      LYCIA_RETURN_IF_ERROR(stream->Synchronize());
    }
  }
  return rows;
}

}  // namespace lycia
