// Numbers of clusters and their members, in kernels that follow one another on the stream: a row that is its cluster's first counts one,
// and the sum before it is its number (scan.cuh); every row takes the number of its first; then rows are sorted by it, eight bits at a
// time, stable (a counting sort: digits counted run by run, scanned, rows put in place), two passes up to 65,536 rows. Counts are atomic
// sums of integers, whose order does not matter; nothing else is shared. Bytes moved: about 60 a row. Bound by its launches, ten for two
// passes, below some 10^5 rows. Not yet run on a GPU.
#include <cuda_runtime.h>

#include "kernels/cuda/scan.cuh"
#include "kernels/reuse/number_clusters_cuda.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

inline constexpr int kRowThreads = 256;
inline constexpr int kSortWarps = 4;

struct FirstRows {
  const std::int32_t* firsts;
  IndexMap map;
  __device__ std::int32_t Value(std::int64_t m) const { return firsts[m] == m; }
  __device__ void Put(std::int64_t m, std::int32_t before, std::int32_t value) const {
    if (value == 0) return;
    map.ids[m] = before;
    map.representatives[before] = static_cast<std::int32_t>(m);
    map.counts[before] = 0;
  }
  __device__ void Finish(std::int32_t total) const {
    *map.size = total;
    map.offsets[total] = static_cast<std::int32_t>(map.extent);
  }
};

__global__ void __launch_bounds__(kRowThreads) NumberRowsKernel(IndexMap map, const std::int32_t* firsts) {
  const std::int64_t m = std::int64_t{blockIdx.x} * kRowThreads + threadIdx.x;
  if (m >= map.extent) return;
  const std::int32_t first = firsts[m], id = map.ids[first];
  if (first != m) map.ids[m] = id;
  atomicAdd(&map.counts[id], 1);
}

// One pass of the sort.
struct SortPass {
  const std::int32_t* ids;
  const std::int32_t* from;  // rows in the order before; null: their own
  std::int32_t* to;
  std::int32_t* digits;  // [kDigits, runs]
  std::int64_t rows, runs;
  int shift;

  __device__ std::int32_t RowAt(std::int64_t i) const { return from == nullptr ? static_cast<std::int32_t>(i) : from[i]; }
  __device__ int DigitOf(std::int32_t row) const { return ids[row] >> shift & (kDigits - 1); }
};

// Warps of a block each count their run.
__global__ void __launch_bounds__(32 * kSortWarps) CountDigitsKernel(SortPass pass) {
  __shared__ std::int32_t counts[kSortWarps][kDigits];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t run = std::int64_t{blockIdx.x} * kSortWarps + warp;
  for (int digit = lane; digit < kDigits; digit += 32) counts[warp][digit] = 0;
  __syncwarp();
  for (std::int64_t i = run * kSortRun + lane; i < (run + 1) * kSortRun && i < pass.rows; i += 32) {
    atomicAdd(&counts[warp][pass.DigitOf(pass.RowAt(i))], 1);
  }
  __syncwarp();
  if (run >= pass.runs) return;
  for (int digit = lane; digit < kDigits; digit += 32) pass.digits[digit * pass.runs + run] = counts[warp][digit];
}

struct DigitCounts {
  std::int32_t* digits;
  __device__ std::int32_t Value(std::int64_t i) const { return digits[i]; }
  __device__ void Put(std::int64_t i, std::int32_t before, std::int32_t) const { digits[i] = before; }
  __device__ void Finish(std::int32_t) const {}
};

// A warp puts its run in place, 32 rows at a time: rows of one digit keep their order. In the last pass a cluster's first row says where
// its members begin.
__global__ void __launch_bounds__(32 * kSortWarps)
    PlaceRowsKernel(SortPass pass, const std::int32_t* representatives, std::int32_t* offsets, bool last) {
  __shared__ std::int32_t next[kSortWarps][kDigits];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t run = std::int64_t{blockIdx.x} * kSortWarps + warp;
  if (run >= pass.runs) return;
  for (int digit = lane; digit < kDigits; digit += 32) next[warp][digit] = pass.digits[digit * pass.runs + run];
  __syncwarp();
  for (std::int64_t first = run * kSortRun; first < (run + 1) * kSortRun && first < pass.rows; first += 32) {
    const bool valid = first + lane < pass.rows;
    const std::int32_t row = valid ? pass.RowAt(first + lane) : 0;
    const int digit = pass.DigitOf(row);
    unsigned peers = __ballot_sync(0xffffffffu, valid);
#pragma unroll
    for (int bit = 0; bit < kDigitBits; ++bit) {
      const bool set = (digit >> bit & 1) != 0;
      const unsigned votes = __ballot_sync(0xffffffffu, set);
      peers &= set ? votes : ~votes;
    }
    const int rank = __popc(peers & ((1u << lane) - 1));
    const std::int32_t at = next[warp][digit] + rank;
    __syncwarp();
    if (valid && rank == 0) next[warp][digit] = at + __popc(peers);
    __syncwarp();
    if (!valid) continue;
    pass.to[at] = row;
    if (!last) continue;
    const std::int32_t id = pass.ids[row];
    if (representatives[id] == row) offsets[id] = at;
  }
}

unsigned Blocks(std::int64_t count, int each) { return static_cast<unsigned>((count + each - 1) / each); }

}  // namespace

void NumberClusters(Stream& stream, const IndexMap& map, const ClusterWorkspace& workspace) {
  const StreamTarget target = TargetOf(stream);
  const std::int64_t rows = map.extent, runs = SortRuns(rows);
  if (rows == 0) {
    stream.Zero(map.size, sizeof(*map.size));
    stream.Zero(map.offsets, sizeof(*map.offsets));
    return;
  }
  static_assert(kScanTile == 1024, "cluster_workspace.h counts on it");
  LaunchScan(stream, "NumberClusters", rows, FirstRows{workspace.firsts, map}, workspace.sums);
  const cudaLaunchConfig_t by_row = LaunchConfig(target, dim3(Blocks(rows, kRowThreads)), dim3(kRowThreads));
  const cudaLaunchConfig_t by_run = LaunchConfig(target, dim3(Blocks(runs, kSortWarps)), dim3(32 * kSortWarps));
  const auto launched = [&](cudaError_t error) {
    if (error != cudaSuccess) stream.Fail(ToStatus(error, "NumberClusters", __FILE__, __LINE__, map.ToString()));
  };
  launched(cudaLaunchKernelEx(&by_row, NumberRowsKernel, map, static_cast<const std::int32_t*>(workspace.firsts)));
  const int passes = SortPasses(rows);
  for (int p = 0; p < passes && stream.ok(); ++p) {
    SortPass pass{.ids = map.ids, .digits = workspace.digits, .rows = rows, .runs = runs, .shift = p * kDigitBits};
    const bool last = p + 1 == passes;
    pass.from = p == 0 ? nullptr : workspace.order + (p - 1) % 2 * rows;
    pass.to = last ? map.members : workspace.order + p % 2 * rows;
    launched(cudaLaunchKernelEx(&by_run, CountDigitsKernel, pass));
    LaunchScan(stream, "NumberClusters, sort", kDigits * runs, DigitCounts{workspace.digits}, workspace.sums);
    launched(cudaLaunchKernelEx(&by_run, PlaceRowsKernel, pass, static_cast<const std::int32_t*>(map.representatives), map.offsets, last));
  }
}

}  // namespace lycia::cuda
