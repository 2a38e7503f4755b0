#include "launch/gpu_report.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "bazel/build_config.h"
#include "runtime/core/status.h"
#include "runtime/device/cuda_machine.h"

namespace lycia {
namespace {

std::string CudaVersion(int version) { return StrCat(version / 1000, ".", version % 1000 / 10); }
double GiB(std::int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

GpuLine DescribeGpu(std::size_t ordinal, const cuda::GpuMachine::Gpu& gpu) {
  return {StrCat("cuda:", ordinal),
          absl::StrFormat("%s, compute capability %d.%d, %d multiprocessors, %.1f of %.1f GiB free", gpu.name, gpu.major, gpu.minor,
                          gpu.multiprocessors, GiB(gpu.free_bytes), GiB(gpu.total_bytes)),
          gpu.why_not};
}

// "0 yes, 2 no"
GpuLine DescribeReader(std::size_t reader, const std::vector<bool>& reads) {
  std::string text;
  bool all = true;
  for (std::size_t owner = 0; owner < reads.size(); ++owner) {
    if (owner == reader) continue;
    text += StrCat(text.empty() ? "" : ", ", owner, reads[owner] ? " yes" : " no");
    all = all && reads[owner];
  }
  return {StrCat("cuda:", reader, " reads"), text,
          all ? "" : "ranks on these devices cannot be threads of one process: start a process for each (NCCL)"};
}

std::vector<GpuLine> DescribeCopies(const cuda::GpuMachine& machine, std::int64_t bytes) {
  const StatusOr<std::vector<std::vector<double>>> copies = cuda::MeasureCopies(machine, bytes);
  if (!copies.ok()) return {{"copies", std::string(copies.status().message()), ""}};
  const std::size_t host = machine.gpus.size();
  const auto name = [&](std::size_t memory) { return memory == host ? std::string("host") : StrCat("cuda:", memory); };
  std::vector<GpuLine> lines;
  for (std::size_t from = 0; from < copies->size(); ++from) {
    std::string text;
    for (std::size_t to = 0; to < copies->size(); ++to) {
      const double speed = (*copies)[from][to];
      if (speed == 0) continue;
      text += absl::StrFormat("%sto %s %.1f", text.empty() ? "" : ", ", name(to), speed);
    }
    if (!text.empty()) lines.push_back({StrCat("GB/s from ", name(from)), text, ""});
  }
  return lines;
}

}  // namespace

std::vector<GpuLine> GpuReport(std::int64_t copy_bytes) {
  if constexpr (kCudaEnabled) {
    const StatusOr<cuda::GpuMachine> machine = cuda::DescribeMachine();
    if (!machine.ok()) return {{"gpus", StrCat("none: ", machine.status().message()), ""}};
    std::vector<GpuLine> lines = {{"driver",
                                   StrCat("CUDA ", CudaVersion(machine->driver), "; this build's runtime ", CudaVersion(machine->runtime)),
                                   machine->driver < machine->runtime ? "the driver is older than the runtime; update it" : ""}};
    if (machine->gpus.empty()) lines.push_back({"gpus", "none", ""});
    for (std::size_t g = 0; g < machine->gpus.size(); ++g) lines.push_back(DescribeGpu(g, machine->gpus[g]));
    for (std::size_t g = 0; g < machine->reads.size() && machine->gpus.size() > 1; ++g)
      lines.push_back(DescribeReader(g, machine->reads[g]));
    for (GpuLine& line : DescribeCopies(*machine, copy_bytes)) lines.push_back(std::move(line));
    return lines;
  } else {
    return {{"gpus", "this build has no CUDA", ""}};
  }
}

}  // namespace lycia
