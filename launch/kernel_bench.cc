#include "launch/kernel_bench.h"

#include <time.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/parallel.h"
#include "kernels/elementwise/elementwise.h"
#include "launch/kernel_bench_family.h"

namespace lycia {
namespace {

double MedianOf(std::vector<double>& times) {
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

// A kernel family is measured by adding its function here.
constexpr struct {
  const char* name;
  void (*measure)(internal::KernelBench&);
} kFamilies[] = {{"gemm", internal::MeasureGemm},           {"attention", internal::MeasureAttention},
                 {"norms", internal::MeasureNorms},         {"activations", internal::MeasureActivations},
                 {"embedding", internal::MeasureEmbedding}, {"loss", internal::MeasureLoss},
                 {"optimizer", internal::MeasureOptimizer}};

Status Check(const KernelBenchOptions& options) {
  if (options.tokens < 4 || options.tokens % 4 != 0) {
    return InvalidArgument("tokens = ", options.tokens, " must be a multiple of 4, the samples that they belong to");
  }
  if (options.cpu_clock && options.cpu.threads > 1) {
    return InvalidArgument("processor time with ", options.cpu.threads,
                           " threads: the kernel counts the others' time late; use one thread");
  }
  return OkStatus();
}

}  // namespace

namespace internal {

bool KernelBench::WantsAny(const std::vector<std::string_view>& names) const {
  return std::any_of(names.begin(), names.end(), [&](std::string_view name) { return Wants(name); });
}

Tensor KernelBench::Make(DType dtype, const Shape& shape, double std) {
  const TensorSpec spec{dtype, shape};
  StatusOr<Buffer> buffer = device_.Allocate(spec.bytes(), MemoryKind::kDevice);
  if (!buffer.ok()) {
    if (status_.ok()) status_ = Annotate(buffer.status(), StrCat("operands of ", family_));
    return {nullptr, dtype, shape};
  }
  buffers_.push_back(*std::move(buffer));
  const Tensor tensor{buffers_.back().data(), dtype, shape};
  if (dtype == DType::kU8 || tensor.elements() == 0) return tensor;
  if (dtype == DType::kI32) {
    for (std::int64_t i = 0; i < tensor.elements(); ++i) tensor.as<std::int32_t>()[i] = static_cast<std::int32_t>(i * 7919 % 50000);
    return tensor;
  }
  // A short run of random numbers, repeated: values do not matter to the time.
  const std::int64_t some = std::min<std::int64_t>(tensor.elements(), 1 << 16), bytes = some * SizeOf(dtype);
  FillNormal(stream_, {.out = {tensor.data, dtype, {some}}, .random = RandomStream(1, "bench", 0), .std = std});
  for (std::int64_t done = bytes; done < tensor.bytes(); done += bytes) {
    std::memcpy(static_cast<char*>(tensor.data) + done, tensor.data, static_cast<std::size_t>(std::min(bytes, tensor.bytes() - done)));
  }
  return tensor;
}

double KernelBench::Now() const {
  timespec now;
  ::clock_gettime(options_.cpu_clock ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double KernelBench::MedianSeconds(absl::FunctionRef<void()> call) const {
  call();  // pages are touched, caches filled
  const double first = Now();
  call();
  const double once = std::max(Now() - first, 1e-9);
  const int group = std::max(1, static_cast<int>(2e-3 / once));
  std::vector<double> times;
  for (const double start = Now(); times.size() < 3 || Now() - start < options_.seconds;) {
    const double begin = Now();
    for (int i = 0; i < group; ++i) call();
    times.push_back((Now() - begin) / group);
  }
  return MedianOf(times);
}

void KernelBench::MeasureFlops(const Row& row, double flops, std::string_view isa, double peak, absl::FunctionRef<void()> run) {
  if (!status_.ok() || !Wants(row.name)) return;
  rows_.push_back({.name = std::string(row.name),
                   .m = row.m,
                   .n = row.n,
                   .k = row.k,
                   .dtype = row.dtype,
                   .isa = std::string(isa),
                   .gflops = flops / MedianSeconds(run) / 1e9,
                   .peak_gflops = peak});
}

void KernelBench::MeasureBytes(const Row& row, double bytes, absl::FunctionRef<void()> run) {
  if (!status_.ok() || !Wants(row.name)) return;
  const auto half = static_cast<std::int64_t>(bytes / 2);
  if (copy_.bytes() < 2 * half) {
    StatusOr<Buffer> buffer = device_.Allocate(2 * half, MemoryKind::kDevice);
    if (!buffer.ok()) {
      status_ = Annotate(buffer.status(), StrCat("the copy beside ", row.name));
      return;
    }
    copy_ = *std::move(buffer);
    std::memset(copy_.data(), 1, static_cast<std::size_t>(copy_.bytes()));  // what nobody wrote would be read from one page of zeros
  }
  run();
  Copy(half);  // pages are touched
  std::vector<double> times, copies;
  for (const double start = Now(); times.size() < 3 || Now() - start < 2 * options_.seconds;) {
    const double begin = Now();
    run();
    const double middle = Now();
    Copy(half);
    times.push_back(std::max(middle - begin, 1e-9));
    copies.push_back(std::max(Now() - middle, 1e-9));
  }
  const char* const kVectors[] = {"x86-64", "AVX2", "AVX-512"};
  rows_.push_back({.name = std::string(row.name),
                   .m = row.m,
                   .n = row.n,
                   .k = row.k,
                   .dtype = row.dtype,
                   .isa = kVectors[static_cast<int>(cpu::BestIsa())],
                   .gbps = bytes / MedianOf(times) / 1e9,
                   .peak_gbps = bytes / MedianOf(copies) / 1e9});
}

void KernelBench::Copy(std::int64_t bytes) {
  cpu::ForEachPart(stream_, {.count = bytes, .unit = 4096, .bytes_each = 2}, [&](std::int64_t begin, std::int64_t end, int) {
    char* from = static_cast<char*>(copy_.data()) + begin;
    std::memcpy(from + bytes, from, static_cast<std::size_t>(end - begin));
  });
}

}  // namespace internal

std::vector<std::string> KernelFamilyNames() {
  std::vector<std::string> names;
  for (const auto& family : kFamilies) names.emplace_back(family.name);
  return names;
}

StatusOr<std::vector<KernelSpeed>> MeasureKernels(const KernelBenchOptions& options) {
  LYCIA_RETURN_IF_ERROR(Check(options));
  const std::unique_ptr<Device> device = NewCpuDevice(options.cpu);
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream, device->NewStream());
  internal::KernelBench bench(options, *device, *stream);
  for (const auto& [name, measure] : kFamilies) {
    bench.Begin(name);
    measure(bench);
    bench.Release();
    LYCIA_RETURN_IF_ERROR(bench.status());
    LYCIA_RETURN_IF_ERROR(stream->Synchronize());
  }
  return std::move(bench.rows());
}

}  // namespace lycia
