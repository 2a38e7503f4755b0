// One convolution through oneDNN, timed, in the layouts that it likes best: of images channels last or its own blocks, of weights its own.
//   dnnl_conv f32|bf16 forward|input_gradient|weight_gradient N H W C R S K STRIDE PAD MILLISECONDS
// prints the layout, the implementation's name and the median GFLOP/s. The weights' gradient is f32. Threads: OMP_NUM_THREADS. Asks for AMX
// tiles, as a program that uses them must.
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dnnl.hpp>
#include <functional>
#include <string>
#include <vector>

namespace {

using Dims = dnnl::memory::dims;
using Tag = dnnl::memory::format_tag;
using Type = dnnl::memory::data_type;

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Values between -1 and 1; bf16 keeps their upper halves.
dnnl::memory Filled(const dnnl::memory::desc& description, bool bf16, const dnnl::engine& engine) {
  dnnl::memory memory(description, engine);
  for (std::size_t i = 0; i < description.get_size() / (bf16 ? 2 : 4); ++i) {
    const float value = static_cast<float>(std::rand() % 2001 - 1000) / 1000.0f;
    if (bf16) {
      std::uint32_t bits = 0;
      std::memcpy(&bits, &value, 4);
      static_cast<std::uint16_t*>(memory.get_data_handle())[i] = static_cast<std::uint16_t>(bits >> 16);
    } else {
      static_cast<float*>(memory.get_data_handle())[i] = value;
    }
  }
  return memory;
}

double MedianSeconds(const std::function<void()>& call, double seconds) {
  call();
  std::vector<double> times;
  for (const double start = Now(); times.size() < 3 || Now() - start < seconds;) {
    const double begin = Now();
    call();
    times.push_back(Now() - begin);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

struct Job {
  bool bf16;
  std::string use;
  Dims in, weight, out, strides, pads;
};

struct Measured {
  double seconds = 0;
  std::string implementation;
};

Measured Measure(const Job& job, Tag images, double seconds, const dnnl::engine& engine) {
  dnnl::stream stream(engine);
  const Type type = job.bf16 ? Type::bf16 : Type::f32;
  const dnnl::memory::desc in(job.in, type, images), out(job.out, type, images), weight(job.weight, type, Tag::any);
  const dnnl::memory::desc weight_gradient(job.weight, Type::f32, Tag::any);
  const auto algorithm = dnnl::algorithm::convolution_direct;
  const dnnl::convolution_forward::primitive_desc forward(
      {dnnl::prop_kind::forward_training, algorithm, in, weight, out, job.strides, job.pads, job.pads}, engine);
  const auto time = [&](const dnnl::primitive& primitive, const std::unordered_map<int, dnnl::memory>& arguments, const char* name) {
    return Measured{MedianSeconds(
                        [&] {
                          primitive.execute(stream, arguments);
                          stream.wait();
                        },
                        seconds),
                    name};
  };
  if (job.use == "forward") {
    return time(dnnl::convolution_forward(forward),
                {{DNNL_ARG_SRC, Filled(forward.src_desc(), job.bf16, engine)},
                 {DNNL_ARG_WEIGHTS, Filled(forward.weights_desc(), job.bf16, engine)},
                 {DNNL_ARG_DST, dnnl::memory(forward.dst_desc(), engine)}},
                forward.impl_info_str());
  }
  if (job.use == "input_gradient") {
    const dnnl::convolution_backward_data::primitive_desc backward({algorithm, in, weight, out, job.strides, job.pads, job.pads}, engine,
                                                                   forward);
    return time(dnnl::convolution_backward_data(backward),
                {{DNNL_ARG_DIFF_DST, Filled(backward.diff_dst_desc(), job.bf16, engine)},
                 {DNNL_ARG_WEIGHTS, Filled(backward.weights_desc(), job.bf16, engine)},
                 {DNNL_ARG_DIFF_SRC, dnnl::memory(backward.diff_src_desc(), engine)}},
                backward.impl_info_str());
  }
  const dnnl::convolution_backward_weights::primitive_desc backward({algorithm, in, weight_gradient, out, job.strides, job.pads, job.pads},
                                                                    engine, forward);
  return time(dnnl::convolution_backward_weights(backward),
              {{DNNL_ARG_SRC, Filled(backward.src_desc(), job.bf16, engine)},
               {DNNL_ARG_DIFF_DST, Filled(backward.diff_dst_desc(), job.bf16, engine)},
               {DNNL_ARG_DIFF_WEIGHTS, dnnl::memory(backward.diff_weights_desc(), engine)}},
              backward.impl_info_str());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 13) {
    return std::fprintf(stderr, "usage: dnnl_conv f32|bf16 forward|input_gradient|weight_gradient N H W C R S K STRIDE PAD MILLISECONDS\n"),
           2;
  }
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  (void)syscall(SYS_arch_prctl, kRequestPermission, kTileData);
  std::vector<std::int64_t> x;
  for (int i = 3; i < 12; ++i) x.push_back(std::atoll(argv[i]));
  const std::int64_t n = x[0], h = x[1], w = x[2], c = x[3], r = x[4], s = x[5], k = x[6], stride = x[7], pad = x[8];
  const std::int64_t p = (h + 2 * pad - r) / stride + 1, q = (w + 2 * pad - s) / stride + 1;
  const Job job = {std::string(argv[1]) == "bf16", argv[2], {n, c, h, w}, {k, c, r, s}, {n, k, p, q}, {stride, stride}, {pad, pad}};
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const double seconds = std::atof(argv[12]) / 2000;
  const Measured last = Measure(job, Tag::nhwc, seconds, engine), own = Measure(job, Tag::any, seconds, engine);
  const bool is_last = last.seconds <= own.seconds;
  const Measured& best = is_last ? last : own;
  std::printf("%s/%s %.2f\n", is_last ? "nhwc" : "own", best.implementation.c_str(),
              2.0 * static_cast<double>(n * p * q * k) * static_cast<double>(r * s * c) / best.seconds / 1e9);
}
