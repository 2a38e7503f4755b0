#include "launch/checkpoint/test_ranks.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/core/philox.h"
#include "runtime/io/directory.h"

namespace lycia {
namespace {

constexpr unsigned char kGarbage = 0xA5;

}  // namespace

std::vector<TestTensor> TestTensors(std::int64_t scale) {
  return {{"weight/wte.weight", {DType::kF32, {17 * scale, 8}}},
          {"adam_m/wte.weight", {DType::kF32, {17 * scale, 8}}},
          {"adam_v/wte.weight", {DType::kF64, {17 * scale, 8}}},
          {"weight/h.0.attn.c_attn.weight", {DType::kBF16, {3, 5, 2, 3}}},
          {"weight/h.0.ln_1.bias", {DType::kF16, {7}}},
          {"state/position", {DType::kI64, {}}},
          {"state/empty", {DType::kF32, {0, 4}}},
          {"state/tokens", {DType::kI32, {3, 3}}},
          {"state/bytes", {DType::kU8, {13}}}};
}

CheckpointState TestState(std::int64_t step) {
  CheckpointState state;
  state.step = step;
  state.integers = {{"samples", step * 8}, {"seed", -1}};
  state.reals = {{"learning_rate", 1e-3 / static_cast<double>(step + 3)}, {"minus_zero", -0.0}, {"tiny", 5e-324}};
  state.texts = {{"config", "name = \"x\"\n# \xC3\xA9\n"}, {"layout", "test"}};
  return state;
}

namespace {

std::vector<Piece> RandomCuts(const std::vector<TestTensor>& tensors, const TestRank::Place& place) {
  std::vector<Piece> pieces;
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const std::int64_t elements = tensors[t].spec.elements();
    std::vector<std::int64_t> cuts = {0, elements};
    const RandomStream random(place.split, tensors[t].name, 0);
    for (int i = 1; i < place.ranks; ++i) cuts.push_back(random.Bits(static_cast<std::uint64_t>(i)) % (elements + 1));
    std::sort(cuts.begin(), cuts.end());
    const std::size_t r = static_cast<std::size_t>(place.rank);
    pieces.push_back({tensors[t].name, tensors[t].spec.dtype, tensors[t].spec.shape, cuts[r], cuts[r + 1], nullptr});
  }
  return pieces;
}

}  // namespace

TestRank::TestRank(const std::vector<TestTensor>& tensors, const Place& place) : TestRank(RandomCuts(tensors, place)) {}

TestRank::TestRank(std::vector<Piece> pieces) : pieces_(std::move(pieces)) {
  for (Piece& piece : pieces_) {
    storage_.emplace_back(static_cast<std::size_t>(piece.bytes()), kGarbage);
    piece.data = storage_.back().data();
  }
}

constexpr std::int64_t kPadding = -1;

template <typename F>
void TestRank::ForEachByte(F visit) const {
  for (std::size_t p = 0; p < pieces_.size(); ++p) {
    const Piece& piece = pieces_[p];
    const std::uint64_t tensor_key = RandomStream::KeyOf(0, piece.name);
    const Block block = piece.block.rows.empty() ? WholeTensor(piece.logical_shape.elements()) : piece.block;
    for (const ElementRun& run : Runs(block, piece.begin, piece.end)) {
      const std::int64_t size = SizeOf(piece.dtype), first = run.local * size;
      for (std::int64_t b = 0; b < run.count * size; ++b) {
        visit(p, static_cast<std::size_t>(first + b), tensor_key, run.tensor < 0 ? kPadding : run.tensor * size + b);
      }
    }
  }
}

namespace {

unsigned char TrueByte(std::int64_t step, std::uint64_t tensor_key, std::int64_t position) {
  std::uint64_t x = tensor_key + static_cast<std::uint64_t>(step) * 0x9E3779B97F4A7C15u;
  x += static_cast<std::uint64_t>(position) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 30)) * 0x94D049BB133111EBu;
  return static_cast<unsigned char>(x >> 56);
}

}  // namespace

void TestRank::Fill(std::int64_t step) {
  ForEachByte([&](std::size_t p, std::size_t b, std::uint64_t key, std::int64_t position) {
    storage_[p][b] = position == kPadding ? kGarbage : TrueByte(step, key, position);
  });
}

void TestRank::Clear() {
  for (auto& bytes : storage_) std::fill(bytes.begin(), bytes.end(), 0);
}

std::string TestRank::Difference(std::int64_t step) const {
  std::string difference;
  ForEachByte([&](std::size_t p, std::size_t b, std::uint64_t key, std::int64_t position) {
    const int want = position == kPadding ? 0 : TrueByte(step, key, position), have = storage_[p][b];
    if (want == have || !difference.empty()) return;
    difference = absl::StrCat(pieces_[p].name, " byte ", position, " is ", have, " and at step ", step, " was ", want);
  });
  return difference;
}

TestRun::TestRun(const Options& options) : device_(NewCpuDevice()), stream_(*device_->NewStream()) {
  for (int rank = 0; rank < options.ranks; ++rank) {
    if (options.pieces) {
      ranks_.emplace_back(options.pieces(rank));
    } else {
      ranks_.emplace_back(TestTensors(options.scale), TestRank::Place{rank, options.ranks, options.split});
    }
    staging_.emplace_back(static_cast<std::size_t>(StagingBytes(ranks_.back().pieces())));
    CheckpointWriter::Options writer;
    writer.directory = options.directory;
    writer.run = options.run;
    writer.rank = rank;
    writer.ranks = options.ranks;
    writer.keep = options.keep;
    writer.peer_timeout_ns = options.peer_timeout_ns;
    writer.like = TestState(0);
    auto created = CheckpointWriter::Create(writer, ranks_.back().pieces(), staging_.back().data());
    LYCIA_CHECK_OK(created.status());
    writers_.push_back(*std::move(created));
  }
}

Status TestRun::Begin(std::int64_t step) {
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    ranks_[rank].Fill(step);
    LYCIA_RETURN_IF_ERROR(writers_[rank]->Save(TestState(step), *stream_));
    ranks_[rank].Clear();  // what Save took must not change with the original
  }
  return OkStatus();
}

std::vector<Status> TestRun::Wait() {
  std::vector<Status> statuses;
  for (auto& writer : writers_) statuses.push_back(writer->Wait());
  return statuses;
}

Status TestRun::Save(std::int64_t step) {
  LYCIA_RETURN_IF_ERROR(Begin(step));
  Status first;
  for (const Status& status : Wait()) first.Update(status);
  return first;
}

std::vector<std::string> NamesIn(const std::string& directory) {
  std::vector<std::string> names;
  const StatusOr<std::vector<DirectoryEntry>> entries = ListDirectory(directory);
  if (!entries.ok()) return names;
  for (const DirectoryEntry& entry : *entries) names.push_back(entry.name);
  return names;
}

std::string LoadDifference(const Checkpoint& checkpoint, TestRank loaded) {
  if (!(checkpoint.state() == TestState(checkpoint.step()))) return "the state differs";
  const Status status = checkpoint.Load(loaded.pieces());
  return status.ok() ? loaded.Difference(checkpoint.step()) : std::string(status.message());
}

std::string LoadDifference(const Checkpoint& checkpoint, int ranks, std::uint64_t split, std::int64_t scale) {
  for (int rank = 0; rank < ranks; ++rank) {
    const std::string difference = LoadDifference(checkpoint, TestRank(TestTensors(scale), {rank, ranks, split}));
    if (!difference.empty()) return absl::StrCat("rank ", rank, " of ", ranks, ": ", difference);
  }
  return "";
}

}  // namespace lycia
