// Overlap changes when collectives happen, and nothing else.
//
// What would a wrong implementation still pass? Equal results alone: a run that never overlaps has them, and one whose collectives happen
// to be quick enough. So the order of starts and waits is asserted, and results are compared where every collective happens as early, and
// where it happens as late, as its event allows.
#include <algorithm>
#include <cstring>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/comm/transports.h"
#include "tests/grid/grid_bytes_for_test.h"
#include "tests/grid/overlap_for_test.h"

namespace lycia {
namespace {

using ::testing::HasSubstr;

// All dimensions differ: B 6, T 8, H 12, C 24, F 40, V 30.
GridCase Case(int x, int y, int z) {
  GridCase c{.x = x, .y = y, .z = z};
  c.options.model = {.layers = 2, .heads = 12, .hidden = 24, .context = 9, .vocab = 30, .ffn = 40, .dropout = 0.2, .init_std = 0.3};
  c.options.samples = 6;
  c.options.sequence = 8;
  return c;
}

std::vector<GridCase> Cases() {
  std::vector<GridCase> cases = {Case(2, 2, 2), Case(3, 2, 1), Case(1, 1, 2), Case(1, 2, 3)};
  const auto add = [&](int x, int y, int z) -> GridCase& { return cases.emplace_back(Case(x, y, z)); };
  add(2, 2, 2).split = true;
  add(2, 2, 2).options.policy = {.cache_inputs = false, .cache_weights = true};
  GridCase& again = add(2, 2, 2);
  again.split = true;
  again.options.policy = {.cache_inputs = false, .cache_output_gradients = false};
  add(2, 1, 2).options.policy = {.cache_inputs = false, .cache_output_gradients = false};
  for (const bool cached : {false, true}) {
    for (const Recompute recompute : {Recompute::kLayers, Recompute::kStage}) {
      GridCase& c = add(1, 2, 2);
      c.recompute = recompute;
      c.options.policy.cache_weights = cached;
      c.split = recompute == Recompute::kStage && !cached;
    }
  }
  GridCase& apart = add(1, 1, 3);
  apart.options.tied_in_one_stage = false;
  apart.split = true;
  add(1, 1, 2).options.model.tied = false;
  add(2, 1, 3).options.weights_each_step = true;
  for (const bool split : {false, true}) {  // shared key and value heads: two weights, gathered in different groups
    GridCase& shared = add(2, 2, 2);
    shared.options.model.kv_heads = 1;
    shared.split = split;
  }
  return cases;
}

bool SameBits(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

void ExpectSameBits(const GridResult& actual, const GridResult& expected) {
  EXPECT_TRUE(SameBits({actual.loss}, {expected.loss})) << actual.loss << " " << expected.loss;
  EXPECT_TRUE(SameBits(actual.logits, expected.logits));
  ASSERT_EQ(actual.gradients.size(), expected.gradients.size());
  for (const auto& [name, gradient] : expected.gradients) EXPECT_TRUE(SameBits(actual.gradients.at(name), gradient)) << name;
}

using TrafficOfRanks = std::vector<std::map<std::string, Counter>>;

// One step; what each rank moved.
TrafficOfRanks Step(GridCase c, bool overlap, GridResult& result, const GridFaults& faults = {}) {
  c.options.policy.overlap = overlap;
  TrafficOfRanks traffic(static_cast<std::size_t>(c.ranks()));
  const Status run = RunGrid(c, result, faults, [&](const GridRank& rank) {
    traffic[static_cast<std::size_t>(rank.grid().rank())] = Traffic(rank.grid());
    return OkStatus();
  });
  EXPECT_TRUE(run.ok()) << run;
  return traffic;
}

GridFaults Extreme(Happens happens) {
  return {.wrap = [happens](GridGroup, std::unique_ptr<Communicator> made) {
    return std::make_unique<ExtremeCommunicator>(std::move(made), happens);
  }};
}

TEST(GridOverlap, SameBitsAndBytesAsInSerial) {
  for (const GridCase& c : Cases()) {
    SCOPED_TRACE(c.ToString());
    GridResult serial, overlapped, early, late;
    const TrafficOfRanks traffic = Step(c, false, serial);
    ASSERT_FALSE(serial.gradients.empty());
    EXPECT_EQ(Step(c, true, overlapped), traffic);
    ExpectSameBits(overlapped, serial);
    Step(c, true, early, Extreme(Happens::kAtOnce));
    ExpectSameBits(early, serial);
    Step(c, true, late, Extreme(Happens::kAtLast));
    ExpectSameBits(late, serial);
    const Status same = CompareWithTruth(c, serial, 1e-10);
    EXPECT_TRUE(same.ok()) << same;
  }
}

TEST(GridOverlap, SameBitsInSinglePrecision) {
  for (const bool split : {false, true}) {
    GridCase c = Case(2, 2, 2), serial = c;
    c.split = serial.split = split;
    serial.options.policy.overlap = false;
    GridResult a, b;
    ASSERT_TRUE(RunGridInF32(c, a).ok());
    ASSERT_TRUE(RunGridInF32(serial, b).ok());
    ExpectSameBits(a, b);
  }
}

// What rank 5 did in a step of one micro-batch; all ranks do the same.
Moments Record(const GridCase& c) {
  std::vector<Moments> logs(static_cast<std::size_t>(c.ranks()));
  GridResult result;
  const truth::TokenBatch batch = RandomBatch(c);
  const Status run = RunThreadRanks(c.ranks(), [&](Communicator& world) -> Status {
    Moments* log = &logs[static_cast<std::size_t>(world.rank())];
    const GridFaults recorded{
        .wrap = [log](GridGroup group,
                      std::unique_ptr<Communicator> made) { return std::make_unique<RecordingCommunicator>(std::move(made), group, log); },
        .wrap_stream = [log](std::unique_ptr<Stream> stream) { return std::make_unique<RecordingStream>(std::move(stream), log); }};
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<GridRank> rank, GridRank::Create(world, c, recorded));
    return rank->Step(batch, result);
  });
  EXPECT_TRUE(run.ok()) << run;
  const auto text = [](const Moments& log) {
    std::string all;
    for (const Moment& moment : log) all += moment.ToString() + "\n";
    return all;
  };
  for (const Moments& log : logs) EXPECT_EQ(text(log), text(logs[0]));
  return logs[5];
}

// Where the collectives of one kind started and were waited for, in the order of their starts.
struct Span {
  std::size_t start = 0, wait = 0;
};
std::vector<Span> Spans(const Moments& log, Tag tag, Operation operation) {
  std::vector<Span> spans;
  for (std::size_t i = 0; i < log.size(); ++i) {
    if (log[i].kind != Moment::kStart || log[i].tag != tag || log[i].operation != operation) continue;
    const auto wait = std::find_if(log.begin(), log.end(), [&](const Moment& moment) {
      return moment.kind == Moment::kWait && moment.group == log[i].group && moment.number == log[i].number;
    });
    EXPECT_NE(wait, log.end()) << log[i].ToString() << " is never waited for";
    spans.push_back({i, static_cast<std::size_t>(wait - log.begin())});
  }
  return spans;
}

// Products of two blocks: embedding, 4 a block, head. On 2 x 2 x 2 each gathers X (not the embedding) and W and scatters Y; a product is
// computed after the wait for its X and before Y's reduce-scatter starts. In the backward: after the wait for dY, before dX's.
constexpr std::size_t kProducts = 10, kBackward = kProducts - 1;

TEST(GridOverlap, TheNextWeightsAreUnderWayDuringAProduct) {
  GridCase c = Case(2, 2, 2);
  c.micro_batches = 1;
  const Moments log = Record(c);
  const std::vector<Span> weights = Spans(log, Tag::kWeight, Operation::kAllGather);
  const std::vector<Span> gathers = Spans(log, Tag::kActivation, Operation::kAllGather);  // X, then dY, then the embedding's dY
  const std::vector<Span> scatters = Spans(log, Tag::kActivation, Operation::kReduceScatter);
  ASSERT_EQ(weights.size(), kProducts + kBackward);
  ASSERT_EQ(gathers.size(), kBackward + kProducts);
  ASSERT_EQ(scatters.size(), kProducts + kBackward);
  for (std::size_t k = 0; k + 1 < weights.size(); ++k) {
    SCOPED_TRACE(k);
    if (k == kProducts - 1) {  // a call begins: nothing is before it
      EXPECT_LT(scatters[k].wait, weights[k + 1].start);
      continue;
    }
    if (k > 0) {
      EXPECT_LT(weights[k + 1].start, gathers[k - 1].wait);
      EXPECT_LT(gathers[k - 1].wait, scatters[k].start);
    }
    EXPECT_LT(weights[k + 1].start, scatters[k].start);
    EXPECT_LT(scatters[k].start, weights[k + 1].wait);
    EXPECT_LT(weights[k].wait, scatters[k].start);  // its own are there
  }
}

// Shared key heads: the query weights along z and the key weights along (z, y) start together; neither waits for the other.
TEST(GridOverlap, BothWeightsOfSharedKeyHeadsAreUnderWay) {
  GridCase c = Case(2, 2, 2);
  c.options.model.kv_heads = 1;
  const Moments log = Record(c);
  int pairs = 0;
  for (std::size_t i = 1; i < log.size(); ++i) {
    if (log[i].kind != Moment::kStart || log[i].group != GridGroup::kZY || log[i].tag != Tag::kWeight) continue;
    ++pairs;
    EXPECT_EQ(log[i - 1].ToString().substr(0, 14), "start z weight") << log[i - 1].ToString() << " before " << log[i].ToString();
  }
  EXPECT_EQ(pairs, 2 * 2 * c.micro_batches);  // blocks, forward and backward
}

TEST(GridOverlap, GradientsAreUnderWayDuringTheNextProducts) {
  GridCase c = Case(2, 2, 2);
  c.micro_batches = 1;
  c.options.model.tied = false;  // so that each product sends its own
  const Moments log = Record(c);
  const std::vector<Span> scatters = Spans(log, Tag::kActivation, Operation::kReduceScatter);
  const std::vector<Span> gradients = Spans(log, Tag::kGradient, Operation::kReduceScatter);  // of head, blocks, embedding
  ASSERT_EQ(scatters.size(), kProducts + kBackward);
  ASSERT_EQ(gradients.size(), kProducts);
  for (std::size_t k = 0; k < kBackward; ++k) {
    SCOPED_TRACE(k);
    const Span dx = scatters[kProducts + k], dw = gradients[k];
    const std::ptrdiff_t zeroed =
        std::count_if(log.begin() + static_cast<std::ptrdiff_t>(dx.start), log.begin() + static_cast<std::ptrdiff_t>(dw.start),
                      [](const Moment& moment) { return moment.kind == Moment::kZero; });
    EXPECT_EQ(zeroed, 1) << "dW's product is between the start of dX's reduce-scatter and its own";
    EXPECT_LT(dw.start, dx.wait);
    if (k + 1 < kBackward) {
      EXPECT_LT(scatters[kProducts + k + 1].start, dw.wait) << "the next dX is computed";
      EXPECT_LT(gradients[k + 1].start, dw.wait) << "the next dW is computed";
    }
  }
}

// Zero bubble: weight gradients alone, one after the other.
TEST(GridOverlap, SplitWeightGradientsAreUnderWayDuringTheNext) {
  GridCase c = Case(2, 2, 2);
  c.micro_batches = 1;
  c.split = true;
  const std::vector<Span> gradients = Spans(Record(c), Tag::kGradient, Operation::kReduceScatter);
  ASSERT_EQ(gradients.size(), kProducts - 1);  // the tied table's is the embedding's, which zeroes the head's part right behind
  for (std::size_t k = 0; k + 2 < kProducts - 1; ++k) EXPECT_LT(gradients[k + 1].start, gradients[k].wait);
}

TEST(GridOverlap, SerialWaitsWhereItStarts) {
  for (const bool split : {false, true}) {
    GridCase c = Case(2, 2, 2);
    c.split = split;
    c.options.model.kv_heads = 1;
    c.options.policy = {.cache_inputs = false, .overlap = false};
    const Moments log = Record(c);
    std::size_t collectives = 0;
    for (std::size_t i = 0; i < log.size(); ++i) {
      if (log[i].kind != Moment::kStart) continue;
      ++collectives;
      ASSERT_LT(i + 1, log.size());
      EXPECT_EQ(log[i + 1].kind, Moment::kWait) << log[i].ToString();
      EXPECT_EQ(log[i + 1].group, log[i].group);
      EXPECT_EQ(log[i + 1].number, log[i].number);
    }
    EXPECT_GT(collectives, 100u);
  }
}

// Fails its stream in the forward.
class Fails final : public Layer {
 public:
  explicit Fails(std::unique_ptr<Layer> inner, bool here) : inner_(std::move(inner)), here_(here) {}
  const std::string& name() const override { return inner_->name(); }
  StatusOr<std::vector<TensorSpec>> Plan(std::span<const TensorSpec> in, LayerPlan& plan) override { return inner_->Plan(in, plan); }
  void Forward(const LayerContext& context) const override {
    inner_->Forward(context);
    if (here_ && name() == "h.0.attn") context.stream().Fail(absl::InternalError("on purpose"));
  }
  void BackwardInput(const LayerContext& context) const override { inner_->BackwardInput(context); }
  void BackwardWeight(const LayerContext& context) const override { inner_->BackwardWeight(context); }
  void Backward(const LayerContext& context) const override { inner_->Backward(context); }
  void Fetch(const LayerContext& context, TransferHandle transfer, TransferPlace& place) const override {
    inner_->Fetch(context, transfer, place);
  }

 private:
  std::unique_ptr<Layer> inner_;
  bool here_;
};

// Weights are on their way when a rank fails. Whoever fails waits for what it has started: its memory is given up behind that.
TEST(GridOverlap, NothingIsUnderWayInMemoryThatAFailureGivesUp) {
  for (const bool all : {true, false}) {
    const GridCase c = Case(1, 1, 3);
    std::vector<Moments> logs(3);
    GridResult result;
    const truth::TokenBatch batch = RandomBatch(c);
    const Status run = RunThreadRanks(3, [&](Communicator& world) -> Status {
      Moments* log = &logs[static_cast<std::size_t>(world.rank())];
      const bool here = all || world.rank() == 1;
      const GridFaults faults{
          .wrap = [log](
                      GridGroup group,
                      std::unique_ptr<Communicator> made) { return std::make_unique<RecordingCommunicator>(std::move(made), group, log); },
          .wrap_layer = [here](std::unique_ptr<Layer> layer) { return std::make_unique<Fails>(std::move(layer), here); }};
      LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<GridRank> rank, GridRank::Create(world, c, faults));
      return rank->Step(batch, result);
    });
    EXPECT_THAT(std::string(run.message()), HasSubstr("on purpose"));
    EXPECT_EQ(Spans(logs[1], Tag::kWeight, Operation::kAllGather).size(), 4u);  // table, QKV, projection; the MLP's first is under way
  }
}

}  // namespace
}  // namespace lycia
