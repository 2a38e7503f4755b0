// How long checkpoints of GPT-2 124M on a tensor grid take to write and to read on other grids, as ranks of one process:
//
//   bazel run //bench:grid_checkpoint -- DIRECTORY 2x2x2 1x4x2 4x1x1     # the first grid (x, y, z) writes, each of the others loads
//
// Weights and both optimizer states, f32: 1.5 GB, all pieces of all ranks. "all ranks" is the sum over ranks, one after another, "largest"
// that of the slowest rank. "export" reads every weight as an exported model would, 4 MiB at a time. Every element loaded is compared. The
// files are removed. Ends with code 1 where an element differs, with 2 for bad arguments.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/names.h"
#include "launch/checkpoint/writer.h"
#include "models/grid_gpt.h"
#include "runtime/comm/transports.h"
#include "runtime/device/device.h"
#include "runtime/io/directory.h"

namespace lycia {
namespace {

constexpr GptConfig kGpt2{.layers = 12, .heads = 12, .hidden = 768, .context = 1024, .vocab = 50257, .ffn = 3072};

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Sizes {
  int x = 1, y = 1, z = 1;
};

// What one rank of a grid saves.
StatusOr<std::vector<Piece>> PiecesOf(const Sizes& sizes, int rank) {
  const int ranks = sizes.x * sizes.y * sizes.z;
  const std::unique_ptr<Communicator> world = OpenDryRunWorld(rank, ranks);
  LYCIA_ASSIGN_OR_RETURN(const Mesh mesh, Mesh::Create({.x = sizes.x, .y = sizes.y, .z = sizes.z}, ranks));
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Grid> grid, Grid::Create(*world, mesh));
  const GridGptOptions options{.model = kGpt2, .grid = grid.get(), .samples = sizes.z, .sequence = kGpt2.context};
  LYCIA_ASSIGN_OR_RETURN(const GridGptShape shape, FitGpt(options));
  LYCIA_ASSIGN_OR_RETURN(const std::vector<std::unique_ptr<GridLayer>> layers, GridGptLayers(options));
  std::vector<TensorSpec> in = {{DType::kI32, {shape.sizes.samples, options.sequence}}};
  std::vector<Piece> pieces;
  for (const std::unique_ptr<GridLayer>& layer : layers) {
    LayerPlan plan(DType::kF32);
    LYCIA_ASSIGN_OR_RETURN(in, layer->Plan(in, plan));
    const bool is_head = layer == layers.back();
    for (const GridParameter& parameter : layer->grid_parameters()) {
      if (parameter.exchange == Exchange::kHandOver || (is_head && parameter.tensor == "wte.weight")) continue;
      const IndexRange owned = parameter.Owned(*grid);
      for (const char* kind : {"weight/", "adam_m/", "adam_v/"}) {
        pieces.push_back({.name = kind + parameter.tensor,
                          .dtype = DType::kF32,
                          .logical_shape = parameter.tensor_shape,
                          .begin = owned.first,
                          .end = owned.first + owned.count,
                          .block = parameter.block});
      }
    }
  }
  return pieces;
}

float TrueValue(std::size_t name_hash, std::int64_t element) {
  return static_cast<float>((static_cast<std::uint64_t>(name_hash) + static_cast<std::uint64_t>(element) * 0x9E3779B97F4A7C15u) >> 41);
}

template <typename F>
void ForEachElement(const Piece& piece, const F& visit) {
  for (const ElementRun& run : Runs(piece.block, piece.begin, piece.end)) {
    for (std::int64_t i = 0; i < run.count; ++i)
      visit(static_cast<float*>(piece.data)[run.local + i], run.tensor < 0 ? -1 : run.tensor + i);
  }
}

struct Memory {
  explicit Memory(std::vector<Piece>& pieces) {
    std::int64_t bytes = 0;
    for (const Piece& piece : pieces) bytes += piece.bytes();
    data.resize(static_cast<std::size_t>(bytes));
    char* at = data.data();
    for (Piece& piece : pieces) {
      piece.data = at;
      at += piece.bytes();
    }
  }
  std::vector<char> data;
};

Status Save(const std::string& directory, const Sizes& sizes) {
  const int ranks = sizes.x * sizes.y * sizes.z;
  const std::unique_ptr<Device> device = NewCpuDevice();
  LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream, device->NewStream());
  std::vector<std::unique_ptr<CheckpointWriter>> writers;
  std::vector<std::unique_ptr<Memory>> memory;
  std::vector<std::vector<char>> staging;
  for (int rank = 0; rank < ranks; ++rank) {
    LYCIA_ASSIGN_OR_RETURN(std::vector<Piece> pieces, PiecesOf(sizes, rank));
    memory.push_back(std::make_unique<Memory>(pieces));
    for (const Piece& piece : pieces) {
      const std::size_t name = std::hash<std::string>()(piece.name);
      ForEachElement(piece, [&](float& value, std::int64_t element) { value = element < 0 ? 0 : TrueValue(name, element); });
    }
    staging.emplace_back(static_cast<std::size_t>(StagingBytes(pieces)));
    LYCIA_ASSIGN_OR_RETURN(auto writer, CheckpointWriter::Create({.directory = directory, .run = "bench", .rank = rank, .ranks = ranks},
                                                                 std::move(pieces), staging.back().data()));
    writers.push_back(std::move(writer));
  }
  const double start = Seconds();
  for (auto& writer : writers) LYCIA_RETURN_IF_ERROR(writer->Save({.step = 1}, *stream));
  for (auto& writer : writers) LYCIA_RETURN_IF_ERROR(writer->Wait());
  std::printf("%dx%dx%d writes: %.2f s, synced\n", sizes.x, sizes.y, sizes.z, Seconds() - start);
  return OkStatus();
}

Status LoadOn(const std::string& path, const Sizes& sizes) {
  double sum = 0, largest = 0;
  for (int rank = 0; rank < sizes.x * sizes.y * sizes.z; ++rank) {
    LYCIA_ASSIGN_OR_RETURN(std::vector<Piece> pieces, PiecesOf(sizes, rank));
    const Memory memory(pieces);
    const double start = Seconds();
    LYCIA_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(path, Verify::kSizes));
    LYCIA_RETURN_IF_ERROR(checkpoint.Load(pieces));
    const double seconds = Seconds() - start;
    sum += seconds;
    largest = std::max(largest, seconds);
    std::int64_t wrong = 0;
    for (const Piece& piece : pieces) {
      const std::size_t name = std::hash<std::string>()(piece.name);
      ForEachElement(piece, [&](float value, std::int64_t element) { wrong += value != (element < 0 ? 0 : TrueValue(name, element)); });
    }
    if (wrong > 0) return absl::DataLossError(absl::StrCat(wrong, " elements of rank ", rank, " differ"));
  }
  std::printf("%dx%dx%d loads: all ranks %.2f s, largest %.2f s\n", sizes.x, sizes.y, sizes.z, sum, largest);
  return OkStatus();
}

Status ReadEverything(const std::string& path) {
  double start = Seconds();
  LYCIA_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(path, Verify::kSizes));
  std::printf("open: %.2f s\n", Seconds() - start);
  start = Seconds();
  LYCIA_RETURN_IF_ERROR(Checkpoint::Open(path, Verify::kChecksums).status());
  std::printf("open with checksums: %.2f s\n", Seconds() - start);
  start = Seconds();
  constexpr std::int64_t kChunk = 1 << 20;
  std::vector<float> chunk(static_cast<std::size_t>(kChunk));
  for (const LogicalTensor& tensor : checkpoint.tensors()) {
    if (!tensor.name.starts_with("weight/")) continue;
    for (std::int64_t at = 0; at < tensor.spec.elements(); at += kChunk) {
      LYCIA_RETURN_IF_ERROR(checkpoint.ReadRange(tensor.name, at, std::min(at + kChunk, tensor.spec.elements()), chunk.data()));
    }
  }
  std::printf("export: %.2f s\n", Seconds() - start);
  return OkStatus();
}

Status Run(int argc, char** argv) {
  std::vector<Sizes> grids;
  for (int i = 2; i < argc; ++i) {
    Sizes& sizes = grids.emplace_back();
    if (std::sscanf(argv[i], "%dx%dx%d", &sizes.x, &sizes.y, &sizes.z) != 3) return InvalidArgument(argv[i], " is no grid XxYxZ");
  }
  if (grids.empty()) return InvalidArgument("usage: grid_checkpoint DIRECTORY XxYxZ [XxYxZ ...]");
  const std::string directory = argv[1], path = CheckpointPath(directory, 1);
  LYCIA_RETURN_IF_ERROR(Save(directory, grids[0]));
  Status status = ReadEverything(path);
  for (std::size_t i = 0; status.ok() && i < grids.size(); ++i) status = LoadOn(path, grids[i]);
  const Status removed = RemoveTree(directory, StepDirectoryName(1));
  return status.ok() ? removed : status;
}

}  // namespace
}  // namespace lycia

int main(int argc, char** argv) {
  const lycia::Status status = lycia::Run(argc, argv);
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.code() == absl::StatusCode::kInvalidArgument ? 2 : 1;
}
