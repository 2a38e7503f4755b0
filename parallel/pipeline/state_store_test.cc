// What would a wrong store still pass? One rank that has seen all samples. So several ranks see some of them each, in more than one stage.
#include "parallel/pipeline/state_store.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/comm/transports.h"
#include "runtime/device/arena.h"

namespace lycia {
namespace {

constexpr std::int64_t kSamples = 12;
constexpr auto kNoGrid = [](int) -> Communicator* { return nullptr; };

// Stage 2 has two states, one over 3 samples and one over 2; stage 5 one over all; stage 7 none.
std::map<int, std::vector<StateSpec>> Specs() {
  return {{2, {{.name = "a", .shape = {5}, .samples = 3}, {.name = "b", .shape = {2, 3}, .initial = Initial::kOne, .samples = 2}}},
          {5, {{.name = "c", .shape = {1}, .initial = Initial::kOne, .samples = kSamples}}},
          {7, {}}};
}

struct Store {
  Store(const std::map<int, std::vector<StateSpec>>& specs, DType dtype) : states(specs, kSamples, dtype, plan) {
    arena = *Arena::Allocate(*device, plan);
    states.Bind(arena);
  }
  std::unique_ptr<Device> device = NewCpuDevice();
  std::unique_ptr<Stream> stream = *device->NewStream();
  ArenaPlan plan;
  StateStore states;
  Arena arena;
};

template <typename T>
std::vector<T> Values(const Tensor& tensor) {
  return {tensor.as<T>(), tensor.as<T>() + tensor.elements()};
}

TEST(StateStore, HoldsWhatStagesDeclare) {
  Store store(Specs(), DType::kF32);
  EXPECT_EQ(store.states.stages(), (std::vector<int>{2, 5}));
  ASSERT_EQ(store.states.entries(2).size(), 2u);
  EXPECT_EQ(store.states.entries(2)[1].spec.name, "b");
  EXPECT_EQ(store.states.entry("b").state.shape, (Shape{2, 3}));
  EXPECT_EQ(store.states.entry("a").observations.shape, (Shape{4, 5}));
  EXPECT_EQ(store.states.entry("b").observations.shape, (Shape{6, 2, 3}));
  EXPECT_EQ(store.states.entry("c").observations.shape, (Shape{1, 1}));
  store.states.Initialise(*store.stream);
  EXPECT_EQ(Values<float>(store.states.entry("a").state), std::vector<float>(5, 0));
  EXPECT_EQ(Values<float>(store.states.entry("b").state), std::vector<float>(6, 1));
  EXPECT_EQ(Values<float>(store.states.entry("c").state), std::vector<float>(1, 1));
}

// The k-th number of a row, as if observed.
template <typename T>
T Observed(const std::string& name, std::int64_t row, std::int64_t k) {
  return static_cast<T>(1) / static_cast<T>(3 + row * 31 + k * 7 + name[0]) - static_cast<T>(0.004);
}

// Rows come back where they belong, with the bits of the rank that saw them, also in a second step and in any order of ranks.
template <typename T>
void GatherAmong(int ranks) {
  const DType dtype = DTypeOf<T>::value;
  const Status ran = RunThreadRanks(ranks, [&](Communicator& world) -> Status {
    Store store(Specs(), dtype);
    store.states.Initialise(*store.stream);
    for (int step = 0; step < 2; ++step) {
      store.states.BeginStep(*store.stream);
      for (const int stage : store.states.stages()) {
        for (const StateStore::Entry& entry : store.states.entries(stage)) {
          const std::int64_t rows = entry.observations.shape.dim(0), of_row = entry.observations.elements() / rows;
          EXPECT_EQ(Values<T>(entry.observations), std::vector<T>(static_cast<std::size_t>(rows * of_row), 0));
          for (std::int64_t row = 0; row < rows; ++row) {
            if ((row * 5 + step) % ranks != world.rank()) continue;
            for (std::int64_t k = 0; k < of_row; ++k)
              entry.observations.as<T>()[row * of_row + k] = Observed<T>(entry.spec.name, row + step, k);
          }
        }
      }
      for (const int stage : store.states.stages()) store.states.Gather(*store.stream, stage, world, kNoGrid);
      LYCIA_RETURN_IF_ERROR(store.stream->Synchronize());
      for (const int stage : store.states.stages()) {
        for (const StateStore::Entry& entry : store.states.entries(stage)) {
          const std::int64_t of_row = entry.observations.elements() / entry.observations.shape.dim(0);
          for (std::int64_t i = 0; i < entry.observations.elements(); ++i) {
            EXPECT_EQ(entry.observations.as<T>()[i], Observed<T>(entry.spec.name, i / of_row + step, i % of_row))
                << entry.spec.name << "[" << i << "] on rank " << world.rank() << " of " << ranks;
          }
        }
      }
      // Nothing but Layer::MergeStates moves a state.
      EXPECT_EQ(Values<T>(store.states.entry("b").state), std::vector<T>(6, 1));
    }
    return OkStatus();
  });
  EXPECT_TRUE(ran.ok()) << ran;
}

TEST(StateStore, RowsOfAllRanksComeTogetherWithTheirBits) {
  for (const int ranks : {1, 2, 3, 5}) {
    GatherAmong<float>(ranks);
    GatherAmong<double>(ranks);
  }
}

// On a grid of 2 x 2 beside two replicas: what is cut along one axis is observed along the other, and nobody else's rows join.
TEST(StateStore, RowsOfAGridComeFromTheirOwnGroups) {
  const Status ran = RunThreadRanks(8, [&](Communicator& world) -> Status {
    const int rank = world.rank(), x = rank % 2, y = rank / 2 % 2, replica = rank / 4;
    const auto split = [&](auto color) {
      std::vector<int> colors;
      for (int r = 0; r < 8; ++r) colors.push_back(color(r));
      return world.Split(colors);
    };
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> holders, split([](int r) { return r % 4; }));
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> along_x, split([](int r) { return r / 2; }));
    LYCIA_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> along_y, split([](int r) { return r / 4 * 2 + r % 2; }));
    // Three states, that of group 1 between two of group 0.
    const auto spec = [](const char* name, int along) { return StateSpec{.name = name, .shape = {2}, .samples = 3, .along = along}; };
    Store store({{4, {spec("a", 0), spec("b", 1), spec("c", 0)}}}, DType::kF64);
    store.states.BeginStep(*store.stream);
    for (const StateStore::Entry& entry : store.states.entries(4)) {
      const int row = 2 * replica + (entry.spec.along == 0 ? x : y), part = entry.spec.along == 0 ? y : x;
      for (int k = 0; k < 2; ++k) entry.observations.as<double>()[2 * row + k] = 100 * part + 10 * row + k + entry.spec.name[0];
    }
    store.states.Gather(*store.stream, 4, *holders, [&](int along) { return along == 0 ? along_x.get() : along_y.get(); });
    LYCIA_RETURN_IF_ERROR(store.stream->Synchronize());
    for (const StateStore::Entry& entry : store.states.entries(4)) {
      const int part = entry.spec.along == 0 ? y : x;
      for (int i = 0; i < 8; ++i) {
        EXPECT_EQ(entry.observations.as<double>()[i], 100 * part + 10 * (i / 2) + i % 2 + entry.spec.name[0])
            << entry.spec.name << "[" << i << "] on rank " << rank;
      }
    }
    return OkStatus();
  });
  EXPECT_TRUE(ran.ok()) << ran;
}

// The statistics of one rank are no numbers, and all ranks hear of it.
TEST(StateStore, ANanReachesAllRanks) {
  const Status ran = RunThreadRanks(3, [&](Communicator& world) -> Status {
    Store store(Specs(), DType::kF64);
    store.states.BeginStep(*store.stream);
    if (world.rank() == 1) store.states.entry("a").observations.as<double>()[7] = std::numeric_limits<double>::quiet_NaN();
    store.states.Gather(*store.stream, 2, world, kNoGrid);
    LYCIA_RETURN_IF_ERROR(store.stream->Synchronize());
    EXPECT_TRUE(std::isnan(store.states.entry("a").observations.as<double>()[7]));
    return OkStatus();
  });
  EXPECT_TRUE(ran.ok()) << ran;
}

TEST(StateStore, SamplesThatDoNotDivideAreRefused) {
  const std::vector<StateSpec> states = Specs().at(2);
  EXPECT_TRUE(CheckStates(states, 6).ok());
  EXPECT_TRUE(CheckStates({}, 1).ok());
  EXPECT_EQ(CheckStates(states, 3).message(),
            "b takes its statistics over 2 samples (model.norm_samples), which do not divide 3 samples of a micro-batch "
            "(train.micro_batch); make one a divisor of the other");
  EXPECT_EQ(CheckStates(states, 2).code(), absl::StatusCode::kInvalidArgument);
}

TEST(StateStoreDeathTest, UnknownNamesAndUnevenBatchesAreOurMistake) {
  Store store(Specs(), DType::kF32);
  EXPECT_DEATH((void)store.states.entry("d"), "no stage of this rank has the state d");
  ArenaPlan plan;
  EXPECT_DEATH(StateStore(Specs(), 8, DType::kF32, plan), "CHECK failed");
}

}  // namespace
}  // namespace lycia
