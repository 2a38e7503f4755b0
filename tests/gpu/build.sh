#!/usr/bin/env bash
# tests/gpu/build.sh OUT: builds the program OUT with nvcc and g++ alone, without Bazel, MPI or shared Abseil, to be copied to a machine with a
# GPU and run there: ./OUT [--gtest_filter=...]. It needs only a driver and the C library there, and libcublasLt.so.13 on LD_LIBRARY_PATH for the
# matrix products (they fail, and say so, without it). The kernels run from compute capability 8.0 on (GPUS=hopper: on 9.0 alone, in half of
# the time to build). The trainer's tests are not in it: launch/package brings them, and everything else. CUDA_HOME: the toolkit (default
# /usr/local/cuda).
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
  runtime/device/{arena,cpu_device,cuda_device,cuda_error,cuda_event,cuda_fault,device,event,thread_pool}.cc
  runtime/device/testing/count_allocations.cc
  runtime/device/device_test.cc
  runtime/comm/{collective,collective_exchange,communicator,counted_communicator,counters,engine,fold,host_mover}.cc
  runtime/comm/{cuda_mover,cuda_thread_world,fold_cuda_launch}.cc
  runtime/comm/{shared_collective,shared_segment,thread_wire,thread_world,wire_channel,wire_communicator}.cc
  runtime/comm/{channel_conformance,communicator_conformance,conformance_counters,sum_conformance}.cc
  kernels/activation/{gelu,relu,swiglu}_cpu.cc
  kernels/attention/{attention,attention_cpu,attention_turns,attention_{forward,backward}_{cpu,pairs}}.cc
  kernels/attention/{attention_cuda,attention_cuda_launch,attention_backward_cuda_launch,attention_mma_launch}.cc
  kernels/conv/{conv_blocked,conv_check,conv_cpu,conv_cuda,conv_depthwise,conv_direct,conv_shape,patches}.cc
  kernels/conv/testing/conv_shapes.cc
  kernels/cuda/tensor_map_cuda.cc
  kernels/elementwise/{dropout,elementwise}_cpu.cc
  kernels/embedding/embedding_cpu.cc
  kernels/gemm/{bias_gradient,blas_library_cuda,blocking,driver,gemm_cuda,gemm_cuda_plan,gemm_kernels}.cc
  kernels/gemm/micro/kernel_{portable,avx2,avx512,avx512_bf16,amx}.cc
  kernels/image/normalize_cpu.cc
  kernels/loss/{cross_entropy,label_hits}_cpu.cc
  kernels/norm/{batch_norm_cpu,layer_norm_cpu,layer_norm_cuda_launch,rms_norm_cpu}.cc
  kernels/optimizer/{adamw_cpu,squared_norm_cpu}.cc
  kernels/parts/{bias,embedding_part,loss_part,norm_part}_cpu.cc
  kernels/pool/{pool_cpu,pool_shape}.cc
  kernels/reuse/{build_index_map,build_patch_map,cluster_means,gather,mapped_conv,measures,scatter}_cpu.cc
  kernels/reuse/{cluster_rows,index_map,mapped_conv_cuda,mapped_gemm_cuda,patch_check,projection_keys,reuse_rule}.cc
  kernels/rotary/rotary_cpu.cc
  kernels/testing/{compare,test_tensor}.cc
  tests/gpu/{activation,any_attention,attention,conv,elementwise,gemm,image,mma,norm,optimizer,parts,reuse,reuse_conv,reuse_gemm,reuse_map,reuse_patches,token}_test.cc
  tests/gpu/{bench_attention_cuda,bench_conv_cuda,bench_cuda,bench_gemm_cuda,bench_kernels_cuda,bench_reuse_cuda,comm_test,device_kinds,main}.cc
)
device_sources=(
  runtime/comm/fold_cuda.cu
  runtime/device/cuda_elapse.cu
  kernels/activation/activation_cuda.cu
  kernels/attention/attention_{,mma_,plain_}{forward,backward}_cuda.cu
  kernels/cuda/testing/tile_products_cuda.cu
  kernels/conv/conv_{hopper,hopper_weight,plain_forward,plain_input,plain_weight}_cuda.cu
  kernels/elementwise/elementwise_cuda.cu
  kernels/embedding/embedding_cuda.cu
  kernels/gemm/{bias_gradient,gemm_pass}_cuda.cu
  kernels/image/normalize_cuda.cu
  kernels/loss/{cross_entropy,label_hits}_cuda.cu
  kernels/norm/{batch_norm,batch_norm_backward,layer_norm,norm_weight,rms_norm}_cuda.cu
  kernels/optimizer/{adamw,squared_norm}_cuda.cu
  kernels/parts/{embedding,loss,norm}_part_cuda.cu
  kernels/pool/pool_cuda.cu
  kernels/reuse/{build_{index,patch}_map,cluster_means,gather_scatter,mapped_conv_{plain,strips},mapped_gemm_{hopper,plain},measures,number_clusters}_cuda.cu
  kernels/rotary/rotary_cuda.cu
)
compile() {
  local source=$1
  local object="$work/${source//\//_}.o"
  if [[ $source == *.cu ]]; then
    # As in bazel/nvcc.bzl.
    local gpus=("-gencode=arch=compute_90a,code=sm_90a")
    case $source in
      *hopper* | kernels/attention/attention_forward_cuda.cu | kernels/attention/attention_backward_cuda.cu) ;;
      *) if [[ ${GPUS:-all} == all ]]; then gpus+=("-gencode=arch=compute_80,code=[sm_80,compute_80]"); fi ;;
    esac
    "$cuda/bin/nvcc" -c -O3 -std=c++20 "${gpus[@]}" --expt-relaxed-constexpr -lineinfo -I. -I"$work" "$source" -o "$object"
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
absl=$(pkg-config --libs absl_status absl_statusor absl_strings absl_str_format absl_cord absl_hash absl_raw_hash_set)
mkdir -p "$(dirname "$out")"
# The order that pkg-config prints is kept; only the C library and what belongs to it stays shared.
# shellcheck disable=SC2086
g++ "$work"/*.o -o "$out" -static-libstdc++ -static-libgcc -Wl,-Bstatic -lgtest $absl -Wl,-Bdynamic "$runtime" -ldl -lrt -lpthread
echo "built $out"
