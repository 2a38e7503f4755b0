// One matrix product through oneDNN, timed: c [m, n] f32 = a [m, k] b [k, n], f32 or bf16, b in the library's own packed order.
//   dnnl_gemm f32|bf16 M N K MILLISECONDS
// prints the implementation's name and the median GFLOP/s. Threads: OMP_NUM_THREADS. Asks for AMX tiles, as a program that uses them must.
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <dnnl.hpp>
#include <string>
#include <vector>

namespace {

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Values between -1 and 1; bf16 keeps their upper halves.
void Fill(const dnnl::memory& memory, bool bf16) {
  const std::size_t bytes = memory.get_desc().get_size();
  for (std::size_t i = 0; i < bytes / (bf16 ? 2 : 4); ++i) {
    const float value = static_cast<float>(std::rand() % 2001 - 1000) / 1000.0f;
    if (bf16) {
      std::uint32_t bits = 0;
      __builtin_memcpy(&bits, &value, 4);
      static_cast<std::uint16_t*>(memory.get_data_handle())[i] = static_cast<std::uint16_t>(bits >> 16);
    } else {
      static_cast<float*>(memory.get_data_handle())[i] = value;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) return std::fprintf(stderr, "usage: dnnl_gemm f32|bf16 M N K MILLISECONDS\n"), 2;
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  (void)syscall(SYS_arch_prctl, kRequestPermission, kTileData);
  const bool bf16 = std::string(argv[1]) == "bf16";
  const std::int64_t m = std::atoll(argv[2]), n = std::atoll(argv[3]), k = std::atoll(argv[4]);
  const double seconds = std::atof(argv[5]) / 1000;
  using Tag = dnnl::memory::format_tag;
  using Type = dnnl::memory::data_type;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const Type type = bf16 ? Type::bf16 : Type::f32;
  const dnnl::matmul::primitive_desc description({{{m, k}, type, Tag::ab}, {{k, n}, type, Tag::any}, {{m, n}, Type::f32, Tag::ab}}, engine);
  const dnnl::memory a(description.src_desc(), engine), b(description.weights_desc(), engine), c(description.dst_desc(), engine);
  Fill(a, bf16);
  Fill(b, bf16);
  const dnnl::matmul product(description);
  const auto call = [&] {
    product.execute(stream, {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}});
    stream.wait();
  };
  call();
  const double first = Now();
  call();
  const int group = std::max(1, static_cast<int>(2e-3 / (Now() - first)));
  std::vector<double> times;
  for (const double start = Now(); times.size() < 3 || Now() - start < seconds;) {
    const double begin = Now();
    for (int i = 0; i < group; ++i) call();
    times.push_back((Now() - begin) / group);
  }
  std::sort(times.begin(), times.end());
  std::printf("%s %.2f\n", description.impl_info_str(),
              2.0 * static_cast<double>(m * n) * static_cast<double>(k) / times[times.size() / 2] / 1e9);
}
