#!/usr/bin/env bash
# tests/gpu/build.sh OUT: builds the program OUT with nvcc and g++ alone, without Bazel, MPI or shared Abseil, to be copied to a machine with a
# GPU and run there: ./OUT [--gtest_filter=...]. It needs only a driver and the C library there. CUDA_HOME: the toolkit (default /usr/local/cuda).
# Packages: libabsl-dev, libgtest-dev, pkg-config, g++.
set -euo pipefail
if [[ $# -ne 1 ]]; then
  echo "usage: tests/gpu/build.sh OUT" >&2
  exit 2
fi
out=$(realpath -m "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
cuda=${CUDA_HOME:-/usr/local/cuda}
if [[ ! -x $cuda/bin/nvcc ]]; then
  echo "tests/gpu/build.sh: no nvcc in $cuda/bin; install the CUDA toolkit or set CUDA_HOME" >&2
  exit 2
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What Bazel generates (bazel/build_config.bzl).
mkdir "$work/bazel"
cat >"$work/bazel/build_config.h" <<'HEADER'
#pragma once
namespace lycia {
inline constexpr bool kCudaEnabled = true, kNcclEnabled = false, kMpiEnabled = false;
}
HEADER

host_sources=(
  runtime/core/{philox,tensor}.cc
  runtime/device/{arena,cpu_device,cuda_device,cuda_error,cuda_event,device,event,thread_pool}.cc
  runtime/device/testing/count_allocations.cc
  runtime/device/device_test.cc
  kernels/attention/{attention,attention_cpu,attention_{forward,backward}_{cpu,pairs}}.cc
  kernels/attention/{attention_cuda_launch,attention_backward_cuda_launch}.cc
  kernels/cuda/tensor_map_cuda.cc
  kernels/gemm/gemm_kernels.cc
  kernels/gemm/micro/kernel_{portable,avx2,avx512,avx512_bf16,amx}.cc
  kernels/norm/{layer_norm_cpu,layer_norm_cuda_launch}.cc
  kernels/optimizer/{adamw_cpu,squared_norm_cpu}.cc
  tests/gpu/{attention_test,bench_attention_cuda,bench_cuda,kernels_test,main}.cc
)
device_sources=(
  runtime/device/cuda_elapse.cu
  kernels/attention/attention_{forward,backward}_cuda.cu
  kernels/norm/{layer_norm_cuda,layer_norm_weight_cuda}.cu
  kernels/optimizer/{adamw_cuda,squared_norm_cuda}.cu
)
compile() {
  local source=$1
  local object="$work/${source//\//_}.o"
  if [[ $source == *.cu ]]; then
    "$cuda/bin/nvcc" -c -O3 -std=c++20 -gencode=arch=compute_90a,code=sm_90a --expt-relaxed-constexpr -lineinfo -I. -I"$work" "$source" -o "$object"
  else
    # The flags of kernels/gemm/micro/BUILD.
    local isa=() avx512=(-mavx2 -mfma -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
    case $source in
      */kernel_avx2.cc) isa=(-mavx2 -mfma) ;;
      */kernel_avx512.cc) isa=("${avx512[@]}") ;;
      */kernel_avx512_bf16.cc) isa=("${avx512[@]}" -mavx512bf16) ;;
      */kernel_amx.cc) isa=("${avx512[@]}" -mamx-tile -mamx-bf16) ;;
    esac
    g++ -c -O2 -std=c++20 -DNDEBUG -Wno-psabi "${isa[@]}" -I. -I"$work" -isystem "$cuda/include" "$source" -o "$object"
  fi
}
export -f compile
export work cuda
printf '%s\n' "${device_sources[@]}" "${host_sources[@]}" | xargs -P "${JOBS:-2}" -I{} bash -c 'set -e; compile "$1"' _ {}

runtime=$(find -L "$cuda/lib64" "$cuda/lib" -name libcudart_static.a 2>/dev/null | head -n 1)
absl=$(pkg-config --libs absl_status absl_statusor absl_strings absl_str_format absl_cord)
mkdir -p "$(dirname "$out")"
# The order that pkg-config prints is kept; only the C library and what belongs to it stays shared.
# shellcheck disable=SC2086
g++ "$work"/*.o -o "$out" -static-libstdc++ -static-libgcc -Wl,-Bstatic -lgtest $absl -Wl,-Bdynamic "$runtime" -ldl -lrt -lpthread
echo "built $out"
