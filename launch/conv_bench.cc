#include "launch/conv_bench.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <random>

#include "absl/strings/str_format.h"
#include "kernels/conv/conv.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/gemm_kernels.h"
#include "launch/register_peak.h"
#include "runtime/io/json.h"

namespace lycia {
namespace {

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Memory with values between -1 and 1, none of them subnormal.
StatusOr<Buffer> RandomBuffer(Device& device, DType dtype, std::int64_t elements) {
  LYCIA_ASSIGN_OR_RETURN(Buffer buffer, device.Allocate(elements * SizeOf(dtype), MemoryKind::kDevice));
  std::minstd_rand random(1);
  for (std::int64_t i = 0; i < elements; ++i) {
    const float value = static_cast<float>(static_cast<int>(random() % 2001) - 1000) / 1000.0f;
    if (dtype == DType::kF32) static_cast<float*>(buffer.data())[i] = value;
    if (dtype == DType::kBF16) static_cast<BFloat16*>(buffer.data())[i] = BFloat16(value);
  }
  return buffer;
}

// The columns [N P Q, R S C] of an image, and the sum of columns into one: what a convolution by lowering moves besides its product.
class Lowering {
 public:
  Lowering(const ConvShape& shape, std::int64_t element_bytes) : s_(shape), bytes_(element_bytes) {}
  std::int64_t depth() const { return s_.R() * s_.S() * s_.C; }
  void Lower(Stream& stream, const char* in, char* columns) const {
    OverRows(stream, s_.N * s_.P(), [&](std::int64_t row) {
      const std::int64_t n = row / s_.P(), p = row % s_.P();
      char* to = columns + row * s_.Q() * depth() * bytes_;
      for (std::int64_t q = 0; q < s_.Q(); ++q) {
        for (std::int64_t r = 0; r < s_.R(); ++r) {
          for (std::int64_t t = 0; t < s_.S(); ++t, to += s_.C * bytes_) {
            const std::int64_t h = s_.height.InputOf(p, r), w = s_.width.InputOf(q, t);
            const auto run = static_cast<std::size_t>(s_.C * bytes_);
            if (s_.height.Inside(h) && s_.width.Inside(w)) {
              std::memcpy(to, in + ((n * s_.H() + h) * s_.W() + w) * s_.C * bytes_, run);
            } else {
              std::memset(to, 0, run);
            }
          }
        }
      }
    });
  }
  template <typename T>
  void Raise(Stream& stream, const T* columns, T* din) const {
    OverRows(stream, s_.N * s_.H(), [&](std::int64_t row) {
      const std::int64_t n = row / s_.H(), h = row % s_.H();
      for (std::int64_t w = 0; w < s_.W(); ++w) {
        T* to = din + (row * s_.W() + w) * s_.C;
        bool first = true;
        for (std::int64_t r = 0; r < s_.R(); ++r) {
          for (std::int64_t t = 0; t < s_.S(); ++t) {
            const std::int64_t p = s_.height.OutputOf(h, r), q = s_.width.OutputOf(w, t);
            if (p < 0 || q < 0) continue;
            const T* from = columns + (((n * s_.P() + p) * s_.Q() + q) * s_.R() * s_.S() + r * s_.S() + t) * s_.C;
            for (std::int64_t c = 0; c < s_.C; ++c) {
              to[c] = first ? from[c] : static_cast<T>(static_cast<float>(to[c]) + static_cast<float>(from[c]));
            }
            first = false;
          }
        }
        if (first) std::fill_n(to, s_.C, static_cast<T>(0.0f));
      }
    });
  }

 private:
  template <typename F>
  void OverRows(Stream& stream, std::int64_t rows, const F& f) const {
    ThreadPool* pool = stream.pool();
    pool->Run([&](int thread) {
      for (std::int64_t row = rows * thread / pool->threads(); row < rows * (thread + 1) / pool->threads(); ++row) f(row);
    });
  }
  ConvShape s_;
  std::int64_t bytes_;
};

// Median seconds of each call, one of each in turn, for `seconds` in all, at least thrice.
std::array<double, 3> MedianInTurn(double seconds, const std::array<std::function<void()>, 3>& calls) {
  std::array<std::vector<double>, 3> times;
  for (const auto& call : calls) call();  // pages are touched, caches filled
  for (const double start = Now(); times[0].size() < 3 || Now() - start < seconds;) {
    for (std::size_t i = 0; i < calls.size(); ++i) {
      const double begin = Now();
      calls[i]();
      times[i].push_back(Now() - begin);
    }
  }
  std::array<double, 3> medians;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    std::nth_element(times[i].begin(), times[i].begin() + static_cast<std::ptrdiff_t>(times[i].size() / 2), times[i].end());
    medians[i] = times[i][times[i].size() / 2];
  }
  return medians;
}

// The operands of one layer.
struct Operands {
  Buffer in, weight, out, columns, sums, packed, packed_back, product;
};

StatusOr<std::array<double, 3>> TimeUse(const ConvBenchOptions& options, Device& device, Stream& stream, const ConvLayer& layer,
                                        DType dtype, const std::string& use) {
  const ConvShape& s = layer.shape;
  const std::int64_t m = s.N * s.P() * s.Q(), depth = s.R() * s.S() * s.C, weights = s.K * depth;
  const Shape in_shape = {s.N, s.H(), s.W(), s.C}, out_shape = {s.N, s.P(), s.Q(), s.K}, weight_shape = {s.K, s.R(), s.S(), s.C};
  Operands o;
  LYCIA_ASSIGN_OR_RETURN(o.in, RandomBuffer(device, dtype, in_shape.elements()));
  LYCIA_ASSIGN_OR_RETURN(o.weight, RandomBuffer(device, dtype, weights));
  LYCIA_ASSIGN_OR_RETURN(o.out, RandomBuffer(device, dtype, m * s.K));
  LYCIA_ASSIGN_OR_RETURN(o.columns, RandomBuffer(device, dtype, m * depth));
  LYCIA_ASSIGN_OR_RETURN(o.sums, RandomBuffer(device, DType::kF32, weights));
  const ConvUse direction = use == "forward" ? ConvUse::kForward : ConvUse::kBackwardInput;
  LYCIA_ASSIGN_OR_RETURN(o.packed, device.Allocate(PackedConvBytes(dtype, direction, s), MemoryKind::kDevice));
  const PackedConvWeight packed = {o.packed.data(), dtype, direction, s};
  const ConstTensor weight = {o.weight.data(), dtype, weight_shape};
  PackConvWeight(stream, {.weight = weight, .to = packed});
  const Lowering lowering(s, SizeOf(dtype));
  const Matrix columns = {o.columns.data(), dtype, m, depth, depth}, out = {o.out.data(), dtype, m, s.K, s.K};
  const ConstMatrix filters = {o.weight.data(), dtype, s.K, depth, depth};
  const Tensor in_tensor = {o.in.data(), dtype, in_shape}, out_tensor = {o.out.data(), dtype, out_shape};
  const auto* image = static_cast<const char*>(o.in.data());
  auto* lowered = static_cast<char*>(o.columns.data());

  if (use == "forward") {
    LYCIA_ASSIGN_OR_RETURN(o.product, device.Allocate(PackedMatrixBytes(dtype, depth, s.K), MemoryKind::kDevice));
    const PackedMatrix matrix = {o.product.data(), dtype, depth, s.K};
    PackMatrix(stream, {.b = filters, .transpose_b = true, .to = matrix});
    const auto product = [&] { Gemm(stream, {.a = columns, .c = out, .packed_b = matrix}); };
    return MedianInTurn(options.seconds,
                        {[&] { ConvForward(stream, {.shape = s, .in = in_tensor, .packed = packed, .out = out_tensor}); }, product,
                         [&] {
                           lowering.Lower(stream, image, lowered);
                           product();
                         }});
  }
  if (use == "weight_gradient") {
    const Tensor dweight = {o.sums.data(), DType::kF32, weight_shape};
    const auto product = [&] {
      Gemm(stream, {.a = out, .transpose_a = true, .b = columns, .c = {o.sums.data(), DType::kF32, s.K, depth, depth}, .accumulate = true});
    };
    return MedianInTurn(
        options.seconds,
        {[&] { ConvBackwardWeight(stream, {.shape = s, .in = in_tensor, .dout = out_tensor, .dweight = dweight}); }, product,
         [&] {
           lowering.Lower(stream, image, lowered);
           product();
         }});
  }
  // The product of equal sizes has the image's pixels as rows and (tap, filter) as depth; lowered, it is dout W, then columns are added up.
  const std::int64_t pixels = s.N * s.H() * s.W(), back = m * s.K * s.R() * s.S() / pixels;
  Buffer left, right;
  LYCIA_ASSIGN_OR_RETURN(left, RandomBuffer(device, dtype, pixels * back));
  LYCIA_ASSIGN_OR_RETURN(right, RandomBuffer(device, dtype, back * s.C));
  LYCIA_ASSIGN_OR_RETURN(o.product, device.Allocate(PackedMatrixBytes(dtype, back, s.C), MemoryKind::kDevice));
  LYCIA_ASSIGN_OR_RETURN(o.packed_back, device.Allocate(PackedMatrixBytes(dtype, s.K, depth), MemoryKind::kDevice));
  const PackedMatrix matrix = {o.product.data(), dtype, back, s.C}, whole = {o.packed_back.data(), dtype, s.K, depth};
  PackMatrix(stream, {.b = {right.data(), dtype, back, s.C, s.C}, .to = matrix});
  PackMatrix(stream, {.b = filters, .to = whole});
  return MedianInTurn(
      options.seconds,
      {[&] { ConvBackwardInput(stream, {.shape = s, .dout = out_tensor, .packed = packed, .din = in_tensor}); },
       [&] {
         Gemm(stream, {.a = {left.data(), dtype, pixels, back, back}, .c = {o.in.data(), dtype, pixels, s.C, s.C}, .packed_b = matrix});
       },
       [&] {
         Gemm(stream, {.a = out, .c = columns, .packed_b = whole});
         if (dtype == DType::kBF16)
           return lowering.Raise(stream, static_cast<const BFloat16*>(columns.data), static_cast<BFloat16*>(o.in.data()));
         lowering.Raise(stream, static_cast<const float*>(columns.data), static_cast<float*>(o.in.data()));
       }});
}

}  // namespace

std::vector<ConvLayer> ResNet50Layers(std::int64_t images) {
  std::vector<ConvLayer> layers;
  const auto add = [&](const std::string& name, std::int64_t side, std::int64_t C, std::int64_t K, std::int64_t filter, std::int64_t stride,
                       int uses) {
    const ConvAxis axis = {.in = side, .filter = filter, .stride = stride, .pad_before = filter / 2, .pad_after = filter / 2};
    layers.push_back({name, {.N = images, .C = C, .K = K, .height = axis, .width = axis}, uses});
  };
  add("stem 7x7 /2", 224, 3, 64, 7, 2, 1);
  std::int64_t in = 64, side = 56;
  int blocks[] = {3, 4, 6, 3};
  for (int stage = 0; stage < 4; ++stage) {
    const std::string name = StrCat("res", stage + 2);
    const std::int64_t width = std::int64_t{64} << stage, out = 4 * width;
    const int more = blocks[stage] - 1;
    const std::int64_t stride = stage == 0 ? 1 : 2;
    add(name + " 1x1 in first", side, in, width, 1, 1, 1);
    add(name + (stride == 2 ? " 3x3 /2" : " 3x3"), side, width, width, 3, stride, stride == 2 ? 1 : blocks[stage]);
    add(name + (stride == 2 ? " 1x1 skip /2" : " 1x1 skip"), side, in, out, 1, stride, 1);
    side /= stride;
    add(name + " 1x1 in", side, out, width, 1, 1, more);
    if (stride == 2) add(name + " 3x3", side, width, width, 3, 1, more);
    add(name + " 1x1 out", side, width, out, 1, 1, blocks[stage]);
    in = out;
  }
  return layers;
}

StatusOr<std::vector<ConvSpeed>> MeasureConvolutions(const ConvBenchOptions& options) {
  const std::unique_ptr<Device> device = NewCpuDevice(options.cpu);
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream, device->NewStream());
  const std::vector<std::string> uses =
      options.uses.empty() ? std::vector<std::string>{"forward", "input_gradient", "weight_gradient"} : options.uses;
  std::vector<ConvSpeed> rows;
  for (const DType dtype : options.dtypes) {
    const double peak = RegisterPeakGflops(cpu::SelectedKernel(dtype), *stream->pool());
    for (const ConvLayer& layer : options.layers) {
      if (layer.shape.groups != 1)
        return InvalidArgument("bench conv: ", layer.name, " has groups; only whole convolutions have a plain product");
      LYCIA_RETURN_IF_ERROR(CheckConvShape(layer.shape));
      for (const std::string& use : uses) {
        LYCIA_ASSIGN_OR_RETURN(const auto seconds, TimeUse(options, *device, *stream, layer, dtype, use));
        const double gflop = layer.shape.flops() / 1e9;
        rows.push_back({layer.name, use, layer.shape, dtype, cpu::SelectedKernel(dtype).name, layer.uses, gflop / seconds[0],
                        gflop / seconds[1], gflop / seconds[2], peak});
      }
    }
  }
  return rows;
}

std::string ConvSpeedTable(const std::vector<ConvSpeed>& rows) {
  std::string text = absl::StrFormat("%-18s %-15s %-5s %-12s %4s %9s %9s %7s %9s %7s %9s\n", "layer", "use", "dtype", "isa", "uses",
                                     "GFLOP/s", "product", "share", "lowered", "ratio", "of peak");
  for (const ConvSpeed& row : rows) {
    text += absl::StrFormat("%-18s %-15s %-5s %-12s %4d %9.1f %9.1f %6.1f%% %9.1f %7.2f %8.1f%%\n", row.layer, row.use, Name(row.dtype),
                            row.isa, row.uses, row.gflops, row.product_gflops, 100 * row.share_of_product(), row.lowered_gflops,
                            row.gflops / row.lowered_gflops, 100 * row.share_of_peak());
  }
  return text;
}

std::string ConvSpeedJson(const std::vector<ConvSpeed>& rows) {
  std::string text = "[";
  for (const ConvSpeed& row : rows) {
    text += absl::StrFormat(
        "%s\n{\"layer\": %s, \"use\": %s, \"shape\": %s, \"dtype\": \"%s\", \"isa\": %s, \"uses\": %d, \"gflops\": %.2f, "
        "\"product_gflops\": %.2f, \"lowered_gflops\": %.2f, \"peak_gflops\": %.2f}",
        text.size() == 1 ? "" : ",", JsonQuote(row.layer), JsonQuote(row.use), JsonQuote(row.shape.ToString()), Name(row.dtype),
        JsonQuote(row.isa), row.uses, row.gflops, row.product_gflops, row.lowered_gflops, row.peak_gflops);
  }
  return text + "\n]\n";
}

}  // namespace lycia
