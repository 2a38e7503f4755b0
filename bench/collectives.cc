// Times our collectives and prints nccl-tests' table: `collectives --ranks=4` (threads) or `mpirun -n 4 collectives` (processes).
//
// size is the larger of the two buffers; algbw = size / time; busbw = algbw * 2(n-1)/n for all-reduce and (n-1)/n for the other two.
// An all-reduce's second line is MPI's own MPI_Allreduce on the same operands, where this is a run under MPI.
// time is the median over the iterations of the slowest rank's time; operands are small whole numbers, so every sum can be checked exactly.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "bench/mpi_sum.h"
#include "runtime/comm/transports.h"

namespace lycia {
namespace {

struct Options {
  int ranks = 4;
  std::int64_t min_bytes = 1024;
  std::int64_t max_bytes = std::int64_t{16} << 20;
  int iterations = 20;
};

// "--name=value"; false if the argument is another one.
bool Take(const char* argument, const char* name, std::int64_t* value) {
  const std::size_t length = std::strlen(name);
  if (std::strncmp(argument, name, length) != 0 || argument[length] != '=') return false;
  *value = std::strtoll(argument + length + 1, nullptr, 10);
  return *value > 0;
}

StatusOr<Options> Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    std::int64_t value = 0;
    if (Take(argv[i], "--ranks", &value)) {
      options.ranks = static_cast<int>(value);
    } else if (Take(argv[i], "--iterations", &value)) {
      options.iterations = static_cast<int>(value);
    } else if (!Take(argv[i], "--min-bytes", &options.min_bytes) && !Take(argv[i], "--max-bytes", &options.max_bytes)) {
      return InvalidArgument("unknown argument ", argv[i], "; use --ranks=N --min-bytes=N --max-bytes=N --iterations=N");
    }
  }
  return options;
}

std::int64_t NowNs() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

Tensor View(std::vector<float>& values, std::int64_t begin, std::int64_t elements) {
  return {values.data() + begin, DType::kF32, {elements}};
}

// One line of the table: what is called, on which operands, and what must come out.
struct Measured {
  double us = 0;
  std::int64_t wrong = 0;
};

struct Measurement {
  Operation operation = Operation::kAllReduce;
  bool rival = false;  // MPI's own
  std::int64_t elements = 0;
  bool in_place = false;
  int iterations = 0;
};

Status Call(Communicator& world, const Measurement& m, std::vector<float>& in, std::vector<float>& out) {
  const auto [operation, rival, elements, in_place, iterations] = m;
  const std::int64_t n = static_cast<std::int64_t>(in.size()), part = n / world.size(), own = part * world.rank();
  std::vector<float>& to = in_place ? in : out;
  if (rival) return MpiSum(in.data(), to.data(), n);
  switch (operation) {
    case Operation::kAllReduce: return world.AllReduce({.in = View(in, 0, n), .out = View(to, 0, n)}, {}).Wait();
    case Operation::kAllGather: return world.AllGather({.in = View(in, own, part), .out = View(to, 0, n)}, {}).Wait();
    default: return world.ReduceScatter({.in = View(in, 0, n), .out = View(to, in_place ? own : 0, part)}, {}).Wait();
  }
}

// Element i of rank r is (i + r) mod 8.
std::int64_t CountWrong(Communicator& world, Operation operation, const std::vector<float>& result, bool in_place) {
  const std::int64_t size = world.size(), n = static_cast<std::int64_t>(result.size()), part = n / size, own = part * world.rank();
  const bool scattered = operation == Operation::kReduceScatter;
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < (scattered ? part : n); ++i) {
    const std::int64_t element = scattered ? own + i : i;
    std::int64_t want = operation == Operation::kAllGather ? (element + element / part) % 8 : 0;
    for (std::int64_t r = 0; r < size && operation != Operation::kAllGather; ++r) want += (element + r) % 8;
    const float got = result[static_cast<std::size_t>(scattered && in_place ? own + i : i)];
    if (got != static_cast<float>(want)) ++wrong;
  }
  return wrong;
}

StatusOr<Measured> Measure(Communicator& world, const Measurement& m) {
  std::vector<float> in(static_cast<std::size_t>(m.elements)), out(in.size());
  const auto fill = [&] {
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>((i + static_cast<std::size_t>(world.rank())) % 8);
  };
  fill();
  Measured measured;
  LYCIA_RETURN_IF_ERROR(Call(world, m, in, out));
  measured.wrong = CountWrong(world, m.operation, m.in_place ? in : out, m.in_place);
  std::vector<double> times;
  for (int i = 0; i < m.iterations; ++i) {
    fill();
    LYCIA_RETURN_IF_ERROR(world.Barrier());
    const std::int64_t start = NowNs();
    LYCIA_RETURN_IF_ERROR(Call(world, m, in, out));
    double ns = static_cast<double>(NowNs() - start);
    std::vector<double> all(static_cast<std::size_t>(world.size()));
    LYCIA_RETURN_IF_ERROR(
        world.AllGather({.in = ConstTensor(&ns, DType::kF64, {1}), .out = {all.data(), DType::kF64, {world.size()}}}, {}).Wait());
    times.push_back(*std::max_element(all.begin(), all.end()) / 1000);
  }
  std::nth_element(times.begin(), times.begin() + m.iterations / 2, times.end());
  measured.us = times[static_cast<std::size_t>(m.iterations / 2)];
  std::int64_t wrong = measured.wrong;
  LYCIA_RETURN_IF_ERROR(
      world.AllReduce({.in = ConstTensor(&wrong, DType::kI64, {1}), .out = {&measured.wrong, DType::kI64, {1}}}, {}).Wait());
  return measured;
}

Status Table(Communicator& world, Operation operation, const Options& options) {
  const bool speaks = world.rank() == 0;
  const double n = world.size(), bus = operation == Operation::kAllReduce ? 2 * (n - 1) / n : (n - 1) / n;
  if (speaks) {
    std::printf("# %s, %d ranks, %s\n", std::string(Name(operation)).c_str(), world.size(), std::string(world.transport()).c_str());
    std::printf("#%62s%s%14s%s\n", "", "out-of-place", "", "in-place");
    std::printf("#%11s %13s %8s %7s %7s", "size", "count", "type", "redop", "root");
    for (int i = 0; i < 2; ++i) std::printf(" %8s %7s %7s %6s", "time", "algbw", "busbw", "#wrong");
    std::printf("\n#%11s %13s %8s %7s %7s", "(B)", "(elements)", "", "", "");
    for (int i = 0; i < 2; ++i) std::printf(" %8s %7s %7s %6s", "(us)", "(GB/s)", "(GB/s)", "");
    std::printf("\n");
  }
  for (std::int64_t bytes = options.min_bytes; bytes <= options.max_bytes; bytes *= 4) {
    const std::int64_t elements = bytes / 4 / world.size() * world.size(),
                       count = operation == Operation::kAllReduce ? elements : elements / world.size();
    if (elements == 0) continue;
    for (const bool rival : {false, true}) {
      if (rival && (operation != Operation::kAllReduce || !HasMpiSum())) continue;
      if (speaks) {
        std::printf("%12lld %13lld %8s %7s %7d", static_cast<long long>(elements * 4), static_cast<long long>(count), "float",
                    operation == Operation::kAllGather ? "none" : "sum", -1);
      }
      for (const bool in_place : {false, true}) {
        LYCIA_ASSIGN_OR_RETURN(const Measured measured, Measure(world, {.operation = operation, .rival = rival, .elements = elements,
                                                                        .in_place = in_place, .iterations = options.iterations}));
        const double algbw = static_cast<double>(elements * 4) / measured.us / 1000;
        if (speaks) std::printf(" %8.1f %7.2f %7.2f %6lld", measured.us, algbw, algbw * bus, static_cast<long long>(measured.wrong));
        if (measured.wrong != 0) return absl::DataLossError("wrong results");
      }
      if (speaks) std::printf(rival ? "  MPI_Allreduce\n" : "\n");
    }
  }
  return OkStatus();
}

Status Tables(Communicator& world, const Options& options) {
  for (const Operation operation : {Operation::kAllReduce, Operation::kAllGather, Operation::kReduceScatter}) {
    LYCIA_RETURN_IF_ERROR(Table(world, operation, options));
  }
  return OkStatus();
}

Status Run(int argc, char** argv) {
  LYCIA_ASSIGN_OR_RETURN(const Options options, Parse(argc, argv));
  if (!StartedByMpi()) return RunThreadRanks(options.ranks, [&](Communicator& world) { return Tables(world, options); });
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> world, OpenMpiWorld());
  const Status status = Tables(*world, options);
  if (!status.ok()) {
    std::fprintf(stderr, "rank %d: %s\n", world->rank(), status.ToString().c_str());
    MpiAbort(1);
  }
  return status;
}

}  // namespace
}  // namespace lycia

int main(int argc, char** argv) {
  const lycia::Status status = lycia::Run(argc, argv);
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.code() == absl::StatusCode::kInvalidArgument ? 2 : 1;
}
