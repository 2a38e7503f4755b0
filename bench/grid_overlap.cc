// How much of a grid's collectives is under way during compute, on one core:
//
//   bazel run //bench:grid_overlap          # prints one JSON object a line
//
// One rank of a grid runs steps of a GPT (a forward and a backward) with real products. Its collectives move nothing; each takes the time
// of a link on which those of one communicator follow one another: 20 us and its bytes at 0.25 GB/s, during which no processor is used.
// Steps with and without overlap alternate, the best of each counts. `hidden` is what overlap saves, as a share of what it could save at
// most: the shorter of the time of all collectives and that of compute.
//
//   weights stay (x y > 1, z = 1)   only dX is hidden
//   weights move (z > 1)            the next weights and the last gradients, too: at least half must be hidden where nothing else moves
//
// Ends with code 1 where the limit is missed.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "models/grid_gpt.h"
#include "parallel/pipeline/layer_stage.h"
#include "parallel/pipeline/stage_memory_for_test.h"
#include "runtime/comm/transports.h"
#include "tests/grid/passing_for_test.h"

namespace lycia {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::nanoseconds;

constexpr nanoseconds kLatency{20'000};
constexpr std::int64_t kNsPerByte = 4;
constexpr int kRounds = 9;
constexpr double kLeastHidden = 0.5;

// The k-th collective is done at done_at_[k].
class LinkCommunicator final : public PassingCommunicator, EventSource {
 public:
  LinkCommunicator(std::unique_ptr<Communicator> inner, nanoseconds* taken) : PassingCommunicator(std::move(inner)), taken_(taken) {}
  Event AllGather(const AllGatherArgs& args, const Event& after) override {
    inner_->AllGather(args, after);
    return Took(args.out.bytes() / size() * (size() - 1));
  }
  Event ReduceScatter(const ReduceScatterArgs& args, const Event& after) override {
    inner_->ReduceScatter(args, after);
    return Took(args.in.bytes() / size() * (size() - 1));
  }
  Event AllReduce(const AllReduceArgs& args, const Event& after) override {
    inner_->AllReduce(args, after);
    return Took(args.out.bytes() / size() * (size() - 1) * 2);
  }

 private:
  Event Took(std::int64_t bytes) {
    const nanoseconds time = kLatency + nanoseconds(bytes * kNsPerByte);
    *taken_ += time;
    const Clock::time_point begins = done_at_.empty() ? Clock::now() : std::max(done_at_.back(), Clock::now());
    done_at_.push_back(begins + time);
    return {this, done_at_.size()};
  }
  bool Done(std::uint64_t ticket) const override { return done_at_[ticket - 1] <= Clock::now(); }
  Status Wait(std::uint64_t ticket, WaitGuard*) override {
    std::this_thread::sleep_until(done_at_[ticket - 1]);
    return OkStatus();
  }

  nanoseconds* const taken_;
  std::vector<Clock::time_point> done_at_;
};

// One rank with all layers.
class Rank {
 public:
  Rank(int x, int y, int z, bool overlap) {
    const std::unique_ptr<Communicator> world = OpenDryRunWorld(0, x * y * z);
    const Mesh mesh = Mesh::Create({.x = x, .y = y, .z = z}, x * y * z).value();
    grid_ = Grid::Create(*world, mesh, [this](GridGroup, std::unique_ptr<Communicator> made) {
              return std::make_unique<LinkCommunicator>(std::move(made), &link_);
            }).value();
    const GridGptOptions options = {.model = {.layers = 4, .heads = 8, .hidden = 256, .context = 128, .vocab = 1024, .ffn = 1024},
                                    .grid = grid_.get(),
                                    .samples = 4,
                                    .sequence = 128,
                                    .policy = {.overlap = overlap}};
    std::vector<std::unique_ptr<GridLayer>> grid_layers = GridGptLayers(options).value();
    std::vector<std::unique_ptr<Layer>> layers;
    for (std::unique_ptr<GridLayer>& layer : grid_layers) layers.push_back(std::move(layer));
    stage_ = LayerStage::Create(std::move(layers), {{DType::kI32, {4 / z, 128}}}, {}).value();
    memory_ = std::make_unique<StageMemoryOf<float>>(*stage_, 1);
    std::memset(stage_->input(kSlots), 0, static_cast<std::size_t>(4 / z * 128 * 4));
    std::memset(stage_->labels(kSlots), 0, static_cast<std::size_t>(4 / z * 128 * 4));
    stream_ = device_->NewStream().value();
  }

  // Milliseconds.
  double Step() {
    std::vector<double> losses(4);
    StageContext context{.stream = stream_.get(), .samples = {0, 4}, .sample_losses = losses.data()};
    link_ = nanoseconds(0);
    const Clock::time_point begin = Clock::now();
    stage_->Forward(context, kSlots, nullptr);
    stage_->Backward(context, kSlots, nullptr, nullptr);
    LYCIA_CHECK_OK(stream_->Synchronize());
    return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
  }
  double link_ms() const { return std::chrono::duration<double, std::milli>(link_).count(); }

 private:
  static constexpr StageSlots kSlots{.stash = 0, .input = 0, .handoff = 0};
  const std::unique_ptr<Device> device_ = NewCpuDevice();
  nanoseconds link_{0};
  std::unique_ptr<Grid> grid_;
  std::unique_ptr<LayerStage> stage_;
  std::unique_ptr<StageMemoryOf<float>> memory_;
  std::unique_ptr<Stream> stream_;
};

bool Measure(int x, int y, int z) {
  Rank serial(x, y, z, false), overlapping(x, y, z, true);
  double serial_ms = serial.Step(), overlapping_ms = overlapping.Step();
  for (int round = 0; round < kRounds; ++round) {
    serial_ms = std::min(serial_ms, serial.Step());
    overlapping_ms = std::min(overlapping_ms, overlapping.Step());
  }
  LYCIA_CHECK_EQ(serial.link_ms(), overlapping.link_ms());
  const double link_ms = serial.link_ms(), hidden = (serial_ms - overlapping_ms) / std::min(link_ms, serial_ms - link_ms);
  const bool met = x * y > 1 || hidden >= kLeastHidden;
  double load = 0;
  ::getloadavg(&load, 1);
  std::printf(
      "{\"bench\":\"grid_overlap\",\"grid\":\"%d,%d,%d\",\"serial_ms\":%.1f,\"overlap_ms\":%.1f,\"link_ms\":%.1f,\"hidden\":%.2f,"
      "\"load\":%.1f,\"met\":%s}\n",
      x, y, z, serial_ms, overlapping_ms, link_ms, hidden, load, met ? "true" : "false");
  return met;
}

}  // namespace
}  // namespace lycia

int main() {
  bool met = true;
  for (const auto& [x, y, z] : {std::array{1, 1, 2}, {1, 1, 4}, {1, 4, 1}, {2, 2, 1}, {1, 2, 2}, {2, 2, 2}}) {
    met = lycia::Measure(x, y, z) && met;
  }
  return met ? 0 : 1;
}
