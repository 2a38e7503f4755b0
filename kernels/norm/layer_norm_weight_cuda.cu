// The gradients of layer norm's gamma and beta on CUDA: sums over the rows. Bound by memory bandwidth: reads 2 * rows * cols elements (x,
// dout); share of it: not yet run (tests/gpu measures it).
//
// 32 columns are tiled over the lanes of a warp, rows over the warps of a cluster of blocks. Two stages of partial sums: the warps of a
// block through its shared memory, the blocks through the shared memory of the cluster. So there is no scratch in device memory, no
// atomics, and one order of every sum. Sums are in T (f32 or f64), rows / (warps * cluster) + warps + cluster additions deep.
#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/norm/layer_norm.h"
#include "kernels/norm/layer_norm_cuda_launch.h"
#include "runtime/core/check.h"
#include "runtime/device/cuda_stream.h"

namespace lycia::cuda {
namespace {

constexpr int kWarp = 32;

// Grid: (tiles of 32 columns, blocks of the cluster) blocks of (32, warps).
template <typename T>
struct BackwardWeightPointers {
  const T *dout, *in, *mean, *rstd;  // [rows, cols], [rows, cols], [rows], [rows]
  T *dgamma, *dbeta;                 // [cols], +=
};
template <typename T>
__global__ void __launch_bounds__(ColumnLaunch::kMaxWarps* kWarp)
    BackwardWeightKernel(BackwardWeightPointers<T> p, std::int64_t rows, std::int64_t cols) {
  namespace cg = cooperative_groups;
  enum { kGamma, kBeta, kSums };
  __shared__ T of_warp[kSums][ColumnLaunch::kMaxWarps][kWarp];
  __shared__ T of_block[kSums][kWarp];
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y), warps = static_cast<int>(blockDim.y);
  const std::int64_t col = std::int64_t{blockIdx.x} * ColumnLaunch::kTileColumns + lane;

  T dgamma = 0, dbeta = 0;
  if (col < cols) {
    const std::int64_t stride = std::int64_t{gridDim.y} * warps;
#pragma unroll 4
    for (std::int64_t row = std::int64_t{blockIdx.y} * warps + warp; row < rows; row += stride) {
      const T dout = p.dout[row * cols + col];
      dgamma += dout * ((p.in[row * cols + col] - p.mean[row]) * p.rstd[row]);
      dbeta += dout;
    }
  }
  of_warp[kGamma][warp][lane] = dgamma;
  of_warp[kBeta][warp][lane] = dbeta;
  __syncthreads();
  // One warp takes both sums: a block may have no second one.
  if (warp == 0) {
    for (int s = 0; s < kSums; ++s) {
      T sum = 0;
      for (int w = 0; w < warps; ++w) sum += of_warp[s][w][lane];
      of_block[s][lane] = sum;
    }
  }
  cg::cluster_group cluster = cg::this_cluster();
  cluster.sync();
  if (cluster.block_rank() == 0 && warp == 0 && col < cols) {
    for (int s = 0; s < kSums; ++s) {
      T sum = 0;
      for (unsigned block = 0; block < cluster.num_blocks(); ++block)
        sum += *cluster.map_shared_rank(&of_block[s][lane], static_cast<int>(block));
      (s == kGamma ? p.dgamma : p.dbeta)[col] += sum;
    }
  }
  cluster.sync();  // no block leaves while another reads its shared memory
}

}  // namespace

void LayerNormBackwardWeight(Stream& stream, const LayerNormBackwardWeightArgs& args) {
  DispatchFloat(args.in.dtype, [&]<typename T>() {
    const BackwardWeightPointers<T> p{args.dout.as<T>(), args.in.as<T>(),     args.mean.as<T>(),
                                      args.rstd.as<T>(), args.dgamma.as<T>(), args.dbeta.as<T>()};
    const ConstMatrix in = AsMatrix(args.in);
    const StreamTarget target = TargetOf(stream);
    const NormProblem problem{in.rows, in.cols, sizeof(T), sizeof(T), target.multiprocessors};
    if (!stream.ok() || problem.rows == 0) return;
    const ColumnLaunch choice = ChooseColumnLaunch(problem);
    cudaLaunchConfig_t config =
        LaunchConfig(target, dim3(static_cast<unsigned>(choice.tiles(problem)), static_cast<unsigned>(choice.cluster)),
                     dim3(kWarp, static_cast<unsigned>(choice.warps)));
    cudaLaunchAttribute cluster{};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {1, static_cast<unsigned>(choice.cluster), 1};
    config.attrs = &cluster;
    config.numAttrs = 1;
    stream.Fail(LYCIA_CUDA_STATUS(cudaLaunchKernelEx(&config, BackwardWeightKernel<T>, p, in.rows, in.cols), problem.rows, " rows of ",
                                  problem.cols, " columns of ", sizeof(T), " bytes, ", choice.warps, " warps, cluster of ",
                                  choice.cluster));
  });
}

}  // namespace lycia::cuda
