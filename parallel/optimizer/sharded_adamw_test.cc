// The optimizer on several ranks against the formulas of docs/numerics.md in plain loops over the whole model.
#include "parallel/optimizer/sharded_adamw.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/comm/transports.h"
#include "runtime/core/philox.h"

namespace lycia {
namespace {

constexpr std::int64_t kSamples = 4;
constexpr int kRanks = 4;

// Two stages with a shared tensor. "big" spans three norm blocks, so its group is cut inside it.
std::vector<std::vector<ParameterSpec>> Stages() {
  return {{{.name = "big", .shape = {2 * kNormBlock + 100}, .initial = Initial::kNormal, .std = 0.5, .decay = true},
           {.name = "shared", .shape = {7, 3}, .initial = Initial::kNormal, .std = 0.5, .decay = true, .use = 0}},
          {{.name = "last", .shape = {9}, .initial = Initial::kOne},
           {.name = "shared", .shape = {7, 3}, .initial = Initial::kNormal, .std = 0.5, .decay = true, .use = 1}}};
}

// Who holds what. kOnePipe: ranks 0, 2 hold stage 0 and ranks 1, 3 stage 1 (one pipe of two workers, two replicas).
// kTwoCopies: every rank holds both stages (Chimera of two workers, two replicas).
enum class Placement { kOnePipe, kTwoCopies };
bool Holds(Placement placement, int rank, int stage) { return placement == Placement::kTwoCopies || rank % 2 == stage; }

// Gradient that a rank computes for one use of a parameter. Different everywhere.
double GradientOf(const std::string& name, int use, int rank, std::int64_t step, std::int64_t i) {
  return std::sin(static_cast<double>(i % 97) * 0.7 + static_cast<double>(name.size()) + 2.0 * use + 3.0 * rank +
                  5.0 * static_cast<double>(step));
}
double LossOf(int rank) { return 1.25 + rank; }

// One rank's optimizer with everything it stands on.
struct Rank {
  std::unique_ptr<Device> device = NewCpuDevice();
  std::unique_ptr<Stream> stream = *device->NewStream();
  ParameterGroups groups = *DeriveParameterGroups(Stages());
  Arena arena;
  std::unique_ptr<ParameterStore> store;
  std::unique_ptr<ShardedAdamW> adamw;
  std::map<int, std::unique_ptr<Communicator>> holders;
  std::vector<ParameterSpec> uses;

  Status Open(Placement placement, const AdamWOptions& options, DType dtype, Communicator& world,
              const std::optional<LossScaleOptions>& loss_scale = std::nullopt) {
    std::vector<int> local;
    std::map<int, GroupMember> members;
    std::map<int, Communicator*> communicators;
    for (int stage = 0; stage < 2; ++stage) {
      if (!Holds(placement, world.rank(), stage)) continue;
      const std::vector<ParameterSpec> of_stage = Stages()[static_cast<std::size_t>(stage)];
      uses.insert(uses.end(), of_stage.begin(), of_stage.end());
    }
    for (int g = 0; g < static_cast<int>(groups.groups.size()); ++g) {
      std::vector<int> colors(kRanks, -1);
      for (int r = 0; r < kRanks; ++r) {
        for (const int stage : groups.groups[static_cast<std::size_t>(g)].stages) {
          if (Holds(placement, r, stage)) colors[static_cast<std::size_t>(r)] = 0;
        }
      }
      LYCIA_ASSIGN_OR_RETURN(holders[g], world.Split(colors));
      if (holders[g] == nullptr) continue;
      local.push_back(g);
      members[g] = {holders[g]->rank(), holders[g]->size()};
      communicators[g] = holders[g].get();
    }
    ArenaPlan plan;
    store = std::make_unique<ParameterStore>(groups, local, uses, dtype, true, plan);
    adamw = std::make_unique<ShardedAdamW>(
        *store, ShardedAdamW::Args{.options = options, .members = members, .samples = kSamples, .dtype = dtype, .loss_scale = loss_scale},
        plan);
    LYCIA_ASSIGN_OR_RETURN(arena, Arena::Allocate(*device, plan));
    store->Bind(arena);
    LYCIA_RETURN_IF_ERROR(adamw->Bind(*device, arena, &world, communicators));
    Initialise();
    adamw->PublishWeights(*stream);
    return stream->Synchronize();
  }

  // Each owner its shard.
  void Initialise() {
    for (const int g : store->local_groups()) {
      const ShardedAdamW::Shard shard = adamw->shard(g);
      for (const Segment& s : SegmentsOf(groups.groups[static_cast<std::size_t>(g)], shard.begin, shard.end)) {
        const ParameterSpec& spec = s.parameter->spec;
        const RandomStream random(3, "init/" + spec.name, 0);
        DispatchFloat(shard.weight.dtype, [&]<typename T>() {
          for (std::int64_t i = s.begin; i < s.end; ++i) {
            const double normal = spec.initial == Initial::kNormal ? spec.std * random.Normal(static_cast<std::uint64_t>(i)) : 0;
            shard.weight.as<T>()[s.parameter->offset + i - shard.begin] = static_cast<T>(spec.initial == Initial::kOne ? 1.0 : normal);
          }
        });
      }
    }
  }

  // A step with the gradients above, scaled as the optimizer asks; `poison` replaces one element of "last" on this rank. ahead: groups
  // stepped before the decision.
  Status Step(int rank, std::int64_t step, double learning_rate, bool stop = false, double poison = 0, const std::set<int>& ahead = {}) {
    adamw->BeginStep(*stream);
    for (const ParameterSpec& spec : uses) {
      const Tensor gradient = store->gradient(spec.name, spec.use);
      DispatchFloat(gradient.dtype, [&]<typename T>() {
        for (std::int64_t i = 0; i < gradient.elements(); ++i) {
          gradient.as<T>()[i] += static_cast<T>(adamw->loss_scale() * GradientOf(spec.name, spec.use, rank, step, i));
        }
        if (poison != 0 && spec.name == "last") gradient.as<T>()[4] = static_cast<T>(poison);
      });
    }
    adamw->sample_losses()[rank] = LossOf(rank);
    for (const int g : store->local_groups()) adamw->Synchronize(*stream, g);
    // Holders of several groups need not agree on their order.
    std::vector<int> order = store->local_groups();
    if (rank % 2 == 1) std::reverse(order.begin(), order.end());
    for (const int g : order) {
      if (ahead.contains(g)) adamw->UpdateGroup(*stream, g, step, learning_rate);
    }
    adamw->Update(*stream, step, learning_rate, stop);
    return stream->Synchronize();
  }
};

// The same, serially.
struct Truth {
  struct Tensor {
    ParameterSpec spec;
    std::vector<double> w, m, v, g;
  };
  std::map<std::string, Tensor> tensors;
  double norm = 0;

  Truth() {
    for (const auto& stage : Stages()) {
      for (const ParameterSpec& spec : stage) {
        const auto n = static_cast<std::size_t>(spec.shape.elements());
        std::vector<double> w(n, spec.initial == Initial::kOne ? 1.0 : 0.0);
        const RandomStream random(3, "init/" + spec.name, 0);
        for (std::size_t i = 0; spec.initial == Initial::kNormal && i < n; ++i) w[i] = spec.std * random.Normal(i);
        tensors[spec.name] = {spec, w, std::vector<double>(n), std::vector<double>(n), std::vector<double>(n)};
      }
    }
  }

  // skipped: steps before this one that were none.
  void Step(Placement placement, const AdamWOptions& o, std::int64_t step, double lr, std::int64_t skipped = 0) {
    double squares = 0;
    for (auto& [name, t] : tensors) std::fill(t.g.begin(), t.g.end(), 0.0);
    for (int stage = 0; stage < 2; ++stage) {
      const std::vector<ParameterSpec> of_stage = Stages()[static_cast<std::size_t>(stage)];
      for (const ParameterSpec& spec : of_stage) {
        for (int r = 0; r < kRanks; ++r) {
          std::vector<double>& g = tensors[spec.name].g;
          for (std::size_t i = 0; Holds(placement, r, stage) && i < g.size(); ++i) {
            g[i] += GradientOf(spec.name, spec.use, r, step, static_cast<std::int64_t>(i));
          }
        }
      }
    }
    for (const auto& [name, t] : tensors) {
      for (const double g : t.g) squares += g * g;
    }
    norm = std::sqrt(squares);
    const double clip = o.clip > 0 ? std::min(1.0, o.clip / (norm + 1e-6)) : 1.0, t1 = static_cast<double>(step + 1 - skipped);
    for (auto& [name, t] : tensors) {
      for (std::size_t i = 0; i < t.w.size(); ++i) {
        const double g = t.g[i] * clip;
        if (t.spec.decay) t.w[i] -= lr * o.weight_decay * t.w[i];
        t.m[i] = o.beta1 * t.m[i] + (1 - o.beta1) * g;
        t.v[i] = o.beta2 * t.v[i] + (1 - o.beta2) * g * g;
        t.w[i] -= lr * (t.m[i] / (1 - std::pow(o.beta1, t1))) / (std::sqrt(t.v[i] / (1 - std::pow(o.beta2, t1))) + o.eps);
      }
    }
  }
};

// Weights everywhere, and states in the own shards.
void ExpectEqual(const Rank& rank, const Truth& truth, double tolerance, int r) {
  for (const int g : rank.store->local_groups()) {
    const ParameterGroup& group = rank.groups.groups[static_cast<std::size_t>(g)];
    for (const PlacedParameter& p : group.parameters) {
      const Truth::Tensor& t = truth.tensors.at(p.spec.name);
      const Tensor weight = rank.store->weight(p.spec.name);
      for (std::size_t i = 0; i < t.w.size(); ++i)
        ASSERT_NEAR(weight.as<double>()[i], t.w[i], tolerance) << p.spec.name << "[" << i << "] rank " << r;
    }
    const ShardedAdamW::Shard shard = rank.adamw->shard(g);
    for (const Segment& s : SegmentsOf(group, shard.begin, shard.end)) {
      const Truth::Tensor& t = truth.tensors.at(s.parameter->spec.name);
      for (std::int64_t i = s.begin; i < s.end; ++i) {
        const std::int64_t at = s.parameter->offset + i - shard.begin;
        ASSERT_NEAR(shard.m.as<double>()[at], t.m[static_cast<std::size_t>(i)], tolerance)
            << s.parameter->spec.name << "[" << i << "] rank " << r;
        ASSERT_NEAR(shard.v.as<double>()[at], t.v[static_cast<std::size_t>(i)], tolerance)
            << s.parameter->spec.name << "[" << i << "] rank " << r;
      }
    }
  }
}

// Every bf16 weight that this rank holds is its master rounded, wherever that is; the masters are those of a run in f32, bit by bit.
void ExpectMasters(const Rank& bf16, const Rank& f32, int r) {
  for (const int g : bf16.store->local_groups()) {
    const Tensor weights = bf16.store->flat_weights(g), exact = f32.store->flat_weights(g);
    ASSERT_EQ(weights.dtype, DType::kBF16);
    for (std::int64_t i = 0; i < weights.elements(); ++i) {
      ASSERT_EQ(weights.as<BFloat16>()[i].bits, BFloat16(exact.as<float>()[i]).bits) << "group " << g << " element " << i << " rank " << r;
    }
    const ShardedAdamW::Shard mine = bf16.adamw->shard(g), other = f32.adamw->shard(g);
    ASSERT_EQ(mine.begin, other.begin);
    for (std::int64_t i = 0; i < mine.end - mine.begin; ++i) {
      ASSERT_EQ(mine.weight.as<float>()[i], other.weight.as<float>()[i]) << "master of group " << g << " element " << i << " rank " << r;
      ASSERT_EQ(mine.v.as<float>()[i], other.v.as<float>()[i]);
    }
  }
}

class ShardedAdamWTest : public ::testing::TestWithParam<Placement> {};

TEST_P(ShardedAdamWTest, ABF16ModelHasTheMastersOfAnF32One) {
  const Status ran = RunThreadRanks(kRanks, [&](Communicator& world) -> Status {
    Rank bf16, f32;
    LYCIA_RETURN_IF_ERROR(bf16.Open(GetParam(), {.clip = 10}, DType::kBF16, world));
    LYCIA_RETURN_IF_ERROR(f32.Open(GetParam(), {.clip = 10}, DType::kF32, world));
    ExpectMasters(bf16, f32, world.rank());
    for (std::int64_t step = 0; step < 3; ++step) {
      LYCIA_RETURN_IF_ERROR(bf16.Step(world.rank(), step, 0.01));
      LYCIA_RETURN_IF_ERROR(f32.Step(world.rank(), step, 0.01));
      EXPECT_EQ(bf16.adamw->decision().gradient_norm, f32.adamw->decision().gradient_norm);
      ExpectMasters(bf16, f32, world.rank());
    }
    return OkStatus();
  });
  EXPECT_TRUE(ran.ok()) << ran;
}

TEST_P(ShardedAdamWTest, EqualsTheFormulas) {
  for (const double clip : {0.0, 10.0, 1e6}) {  // off, active (the norm is 18 or more), inactive
    const AdamWOptions options{.clip = clip};
    const Status ran = RunThreadRanks(kRanks, [&](Communicator& world) -> Status {
      Rank rank;
      LYCIA_RETURN_IF_ERROR(rank.Open(GetParam(), options, DType::kF64, world));
      Truth truth;
      for (std::int64_t step = 0; step < 3; ++step) {
        const double lr = 0.01 / static_cast<double>(step + 1);
        LYCIA_RETURN_IF_ERROR(rank.Step(world.rank(), step, lr));
        truth.Step(GetParam(), options, step, lr);
        EXPECT_GT(truth.norm, 15);
        EXPECT_NEAR(rank.adamw->decision().gradient_norm, truth.norm, 1e-12 * truth.norm);
        EXPECT_EQ(rank.adamw->decision().loss_sum, LossOf(0) + LossOf(1) + LossOf(2) + LossOf(3));
        EXPECT_TRUE(rank.adamw->decision().finite);
        ExpectEqual(rank, truth, 1e-12, world.rank());
      }
      return OkStatus();
    });
    EXPECT_TRUE(ran.ok()) << ran;
  }
}

// Optimizer states exist once over all holders of a group, not once a rank.
TEST_P(ShardedAdamWTest, StatesAreShardedOverTheHolders) {
  std::vector<std::int64_t> elements(kRanks, 0);
  std::int64_t whole = 0;
  const Status ran = RunThreadRanks(kRanks, [&](Communicator& world) -> Status {
    Rank rank;
    LYCIA_RETURN_IF_ERROR(rank.Open(GetParam(), {}, DType::kF32, world));
    for (const int g : rank.store->local_groups()) elements[static_cast<std::size_t>(world.rank())] += rank.adamw->shard(g).m.elements();
    if (world.rank() == 0) {
      for (const ParameterGroup& group : rank.groups.groups) whole += group.elements;
    }
    return OkStatus();
  });
  ASSERT_TRUE(ran.ok()) << ran;
  EXPECT_EQ(elements[0] + elements[1] + elements[2] + elements[3], whole);
  EXPECT_LT(*std::max_element(elements.begin(), elements.end()), whole);
}

// One bad element on one rank: no rank updates anything, and the next step goes on as if the bad one had not been.
TEST_P(ShardedAdamWTest, ANonFiniteGradientOrLossUpdatesNothing) {
  constexpr double kBad[] = {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()};
  for (const double bad : kBad) {
    const Status ran = RunThreadRanks(kRanks, [&](Communicator& world) -> Status {
      const AdamWOptions options{.clip = 1};
      Rank rank;
      LYCIA_RETURN_IF_ERROR(rank.Open(GetParam(), options, DType::kF64, world));
      Truth truth;
      LYCIA_RETURN_IF_ERROR(rank.Step(world.rank(), 0, 0.01));
      truth.Step(GetParam(), options, 0, 0.01);
      LYCIA_RETURN_IF_ERROR(rank.Step(world.rank(), 1, 0.01, false, world.rank() == 1 ? bad : 0));
      EXPECT_FALSE(rank.adamw->decision().finite) << "rank " << world.rank();
      ExpectEqual(rank, truth, 1e-12, world.rank());
      LYCIA_RETURN_IF_ERROR(rank.Step(world.rank(), 2, 0.01));
      truth.Step(GetParam(), options, 2, 0.01);
      EXPECT_TRUE(rank.adamw->decision().finite);
      ExpectEqual(rank, truth, 1e-12, world.rank());
      return OkStatus();
    });
    EXPECT_TRUE(ran.ok()) << ran;
  }
}

std::string BytesOf(const Tensor& tensor) { return {static_cast<const char*>(tensor.data), static_cast<std::size_t>(tensor.bytes())}; }
// Weights and states of a rank.
std::string BytesOf(const Rank& rank) {
  std::string bytes;
  for (const int g : rank.store->local_groups()) {
    const ShardedAdamW::Shard shard = rank.adamw->shard(g);
    for (const Tensor& tensor : {rank.store->flat_weights(g), shard.weight, shard.m, shard.v}) bytes += BytesOf(tensor);
  }
  return bytes;
}

// A scale doubles and halves as its rule says, on every rank alike, and shows nowhere else; an overflow on one rank leaves every weight and
// state of every rank as it is, and the step is none to AdamW.
TEST_P(ShardedAdamWTest, ALossScaleShowsInNothingButItself) {
  struct {
    bool overflow;
    double scale;  // that the step is made with
  } constexpr kSteps[] = {{false, 1024}, {false, 1024}, {true, 2048}, {false, 1024}, {true, 1024}, {true, 512}, {false, 256}, {false, 256}};
  for (const DType dtype : {DType::kF64, DType::kBF16}) {
    for (const double clip : {0.0, 10.0}) {
      const AdamWOptions options{.clip = clip};
      const Status ran = RunThreadRanks(kRanks, [&](Communicator& world) -> Status {
        Rank rank;
        LYCIA_RETURN_IF_ERROR(rank.Open(GetParam(), options, dtype, world, LossScaleOptions{.initial = 1024, .growth_interval = 2}));
        Truth truth;
        std::int64_t step = 0, skipped = 0;
        for (const auto& [overflow, scale] : kSteps) {
          EXPECT_EQ(rank.adamw->loss_scale(), scale) << "step " << step;
          const std::string before = BytesOf(rank);
          const double bad = overflow && world.rank() == 1 ? std::numeric_limits<double>::infinity() : 0;
          LYCIA_RETURN_IF_ERROR(rank.Step(world.rank(), step, 0.01, false, bad));
          const Decision& decision = rank.adamw->decision();
          EXPECT_EQ(decision.loss_scale, scale);
          EXPECT_EQ(decision.finite, !overflow) << "step " << step << " rank " << world.rank();
          EXPECT_EQ(decision.skipped, overflow);
          if (overflow) {
            ++skipped;
            EXPECT_TRUE(BytesOf(rank) == before) << "step " << step << " rank " << world.rank();
          } else {
            truth.Step(GetParam(), options, step, 0.01, skipped);
            const double near = dtype == DType::kF64 ? 1e-12 : 1e-5;
            EXPECT_NEAR(decision.gradient_norm, truth.norm, near * truth.norm);
            if (dtype == DType::kF64) ExpectEqual(rank, truth, near, world.rank());
          }
          ++step;
        }
        EXPECT_EQ(rank.adamw->scaler()->state().skipped_steps, 3);
        return OkStatus();
      });
      EXPECT_TRUE(ran.ok()) << ran;
    }
  }
}

TEST_P(ShardedAdamWTest, PowersOfTwoAsScalesChangeNoBit) {
  const Status ran = RunThreadRanks(kRanks, [&](Communicator& world) -> Status {
    Rank plain, scaled;
    LYCIA_RETURN_IF_ERROR(plain.Open(GetParam(), {.clip = 10}, DType::kBF16, world));
    LYCIA_RETURN_IF_ERROR(scaled.Open(GetParam(), {.clip = 10}, DType::kBF16, world, FixedLossScale(4096)));
    for (std::int64_t step = 0; step < 3; ++step) {
      LYCIA_RETURN_IF_ERROR(plain.Step(world.rank(), step, 0.01));
      LYCIA_RETURN_IF_ERROR(scaled.Step(world.rank(), step, 0.01));
      EXPECT_EQ(scaled.adamw->decision().gradient_norm, plain.adamw->decision().gradient_norm);
      EXPECT_TRUE(BytesOf(scaled) == BytesOf(plain)) << "step " << step << " rank " << world.rank();
    }
    const std::string before = BytesOf(scaled);
    LYCIA_RETURN_IF_ERROR(scaled.Step(world.rank(), 3, 0.01, false, world.rank() == 3 ? std::nan("") : 0));
    EXPECT_FALSE(scaled.adamw->decision().finite || scaled.adamw->decision().skipped) << "a fixed scale gives up";
    EXPECT_TRUE(BytesOf(scaled) == before);
    return OkStatus();
  });
  EXPECT_TRUE(ran.ok()) << ran;
}

// Without clipping nothing has to be known before a group is stepped; whichever groups are, the bits are those of one update at the end.
TEST_P(ShardedAdamWTest, GroupsSteppedAheadHaveTheSameBits) {
  for (const std::set<int>& ahead : {std::set<int>{0}, {0, 1, 2}, {2}}) {
    const Status ran = RunThreadRanks(kRanks, [&](Communicator& world) -> Status {
      Rank at_once, early;
      LYCIA_RETURN_IF_ERROR(at_once.Open(GetParam(), {}, DType::kF64, world));
      LYCIA_RETURN_IF_ERROR(early.Open(GetParam(), {}, DType::kF64, world));
      for (std::int64_t step = 0; step < 3; ++step) {
        LYCIA_RETURN_IF_ERROR(at_once.Step(world.rank(), step, 0.01));
        LYCIA_RETURN_IF_ERROR(early.Step(world.rank(), step, 0.01, false, 0, ahead));
        EXPECT_EQ(early.adamw->decision().gradient_norm, at_once.adamw->decision().gradient_norm);
        for (const int g : early.store->local_groups()) {
          const Tensor a = early.store->flat_weights(g), b = at_once.store->flat_weights(g);
          EXPECT_EQ(std::memcmp(a.data, b.data, static_cast<std::size_t>(a.bytes())), 0) << "group " << g << " rank " << world.rank();
        }
      }
      return OkStatus();
    });
    EXPECT_TRUE(ran.ok()) << ran;
  }
}

// A bad gradient is then told after the fact, by everybody; groups that were not stepped ahead keep their weights.
TEST_P(ShardedAdamWTest, ANonFiniteGradientOfAGroupSteppedAheadIsReported) {
  const Status ran = RunThreadRanks(kRanks, [&](Communicator& world) -> Status {
    Rank rank;
    LYCIA_RETURN_IF_ERROR(rank.Open(GetParam(), {}, DType::kF64, world));
    const Truth initial;
    const double bad = std::numeric_limits<double>::quiet_NaN();
    LYCIA_RETURN_IF_ERROR(rank.Step(world.rank(), 0, 0.01, false, world.rank() == 1 ? bad : 0, {1}));  // "last" is of group 1
    EXPECT_FALSE(rank.adamw->decision().finite) << "rank " << world.rank();
    if (rank.store->holds(0)) {
      EXPECT_EQ(rank.store->weight("big").as<double>()[5], initial.tensors.at("big").w[5]);
    }
    if (rank.store->holds(1)) {
      EXPECT_TRUE(std::isnan(rank.store->weight("last").as<double>()[4]));
    }
    return OkStatus();
  });
  EXPECT_TRUE(ran.ok()) << ran;
}

TEST_P(ShardedAdamWTest, StopReachesEveryRank) {
  for (const std::vector<int>& asked : {std::vector<int>{}, {2}, {0, 3}}) {
    const Status ran = RunThreadRanks(kRanks, [&](Communicator& world) -> Status {
      Rank rank;
      LYCIA_RETURN_IF_ERROR(rank.Open(GetParam(), {}, DType::kF32, world));
      const bool mine = std::find(asked.begin(), asked.end(), world.rank()) != asked.end();
      LYCIA_RETURN_IF_ERROR(rank.Step(world.rank(), 0, 0.01, mine));
      EXPECT_EQ(rank.adamw->decision().stop, !asked.empty()) << "rank " << world.rank();
      return OkStatus();
    });
    EXPECT_TRUE(ran.ok()) << ran;
  }
}

INSTANTIATE_TEST_SUITE_P(Placements, ShardedAdamWTest, ::testing::Values(Placement::kOnePipe, Placement::kTwoCopies),
                         [](const auto& info) { return info.param == Placement::kOnePipe ? "OnePipe" : "TwoCopies"; });

}  // namespace
}  // namespace lycia
