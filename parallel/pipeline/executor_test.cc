// The executor on stages whose numbers name every stage and sample they have passed, so that a message that goes astray, comes late or
// lands in a slot still in use changes the result.
#include "parallel/pipeline/executor.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "parallel/pipeline/relay_stage_for_test.h"
#include "parallel/schedule/csv.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/passes.h"
#include "runtime/comm/transports.h"

namespace lycia {
namespace {

using schedule::Op;
using schedule::Schedule;

constexpr std::int64_t kSamples = RelayStage::kSamples;
constexpr std::int64_t kFirstSample = 10;  // of this replica

// Tokens are the sample's index, labels its index modulo 5.
class Actions final : public StepActions {
 public:
  void LoadInputs(Stream&, const SampleRange& samples, void* to) override { Fill(samples, to, 1000); }
  void LoadLabels(Stream&, const SampleRange& samples, void* to) override { Fill(samples, to, 5); }
  void SynchronizeGradients(Stream&, int sync_set) override { syncs.push_back(sync_set); }
  void UpdateSet(Stream&, int sync_set) override { syncs.push_back(-2 - sync_set); }
  void Update(Stream&) override { syncs.push_back(-1); }
  double* SampleLosses(const SampleRange& samples) override { return losses.data() + samples.begin - kFirstSample; }

  std::vector<int> syncs;  // in order; -1 is the update
  std::vector<double> losses = std::vector<double>(64, 0.0);

 private:
  static void Fill(const SampleRange& samples, void* to, std::int64_t modulus) {
    for (std::int64_t i = 0; i < samples.count; ++i)
      static_cast<std::int32_t*>(to)[i] = static_cast<std::int32_t>((samples.begin + i) % modulus);
  }
};

class Recorder final : public StepObserver {
 public:
  void Begin(const schedule::Instruction&, const std::string& text) override { texts.push_back(text); }
  void End(const schedule::Instruction&) override { ++ended; }
  std::vector<std::string> texts;
  std::size_t ended = 0;
};

struct Worker {
  const Schedule& training;
  const Schedule evaluation = schedule::Complete(schedule::ForwardOnly(training, training.shape.micro_batches));
  std::unique_ptr<Device> device;
  std::unique_ptr<Stream> stream;
  std::map<std::pair<int, int>, std::unique_ptr<RelayStage>> stages;
  Arena arena;
  std::unique_ptr<Executor> executor;
  Recorder recorder;
  Actions actions;

  Worker(const Schedule& schedule, std::unique_ptr<Device> on) : training(schedule), device(std::move(on)) {}

  Status Open(Communicator& world, int credits) {
    LYCIA_ASSIGN_OR_RETURN(stream, device->NewStream());
    Executor::Args args{.schedule = &training,
                        .evaluation = &evaluation,
                        .worker = world.rank(),
                        .pipeline = &world,
                        .credits = credits,
                        .observer = &recorder};
    for (int pipe = 0; pipe < training.shape.pipes; ++pipe) {
      for (int stage = 0; stage < training.shape.stages; ++stage) {
        if (training.worker_of[static_cast<std::size_t>(pipe)][static_cast<std::size_t>(stage)] != world.rank()) continue;
        const int slots = std::max(1, training.stash_slots[static_cast<std::size_t>(pipe)][static_cast<std::size_t>(stage)]);
        stages[{pipe, stage}] = std::make_unique<RelayStage>(stage, training.shape.stages, slots);
        args.stages[{pipe, stage}] = stages[{pipe, stage}].get();
      }
    }
    ArenaPlan plan;
    executor = std::make_unique<Executor>(std::move(args), plan);
    LYCIA_ASSIGN_OR_RETURN(arena, Arena::Allocate(*device, plan));
    return executor->Open(arena);
  }
  Status Run(const Program& program, std::int64_t step) {
    return executor->Run(program, {.stream = stream.get(), .step = step}, kFirstSample, kSamples, actions);
  }
};

// What one sample does to loss and weight gradients.
void AddSample(int stages, std::int64_t sample, std::map<int, double>& gradients, std::vector<double>& losses) {
  std::vector<double> in = {static_cast<double>(sample)};
  for (int s = 0; s < stages; ++s) in.push_back(3 * in.back() + s + 1);
  const auto label = static_cast<double>(sample % 5);
  losses[static_cast<std::size_t>(sample - kFirstSample)] = in.back() * label;
  double dy = in.back() + label;
  for (int s = stages; s-- > 0;) {
    gradients[s] += dy * in[static_cast<std::size_t>(s)];
    dy = 2 * dy + in[static_cast<std::size_t>(s)];
  }
}

struct Case {
  std::string name;
  int workers, micro_batches, pipes, credits;
};

Schedule ScheduleOf(const Case& c) {
  const Schedule compute = *schedule::Generate(c.name, {.workers = c.workers, .micro_batches = c.micro_batches, .pipes = c.pipes});
  return schedule::Complete(compute, {.tied = {{{0, c.workers - 1}}}});
}

// Two steps, an evaluation between them, on threads.
void Check(const Case& c, const Schedule& schedule) {
  const std::string label = StrCat(c.name, " D", c.workers, " N", c.micro_batches, " pipes ", c.pipes, " credits ", c.credits);
  std::map<int, double> expected, actual;
  std::vector<double> expected_losses(64, 0.0), losses(64, 0.0);
  for (std::int64_t i = 0; i < c.micro_batches * kSamples; ++i)
    AddSample(schedule.shape.stages, kFirstSample + i, expected, expected_losses);
  std::mutex mutex;
  const Status ran = RunThreadRanks(c.workers, [&](Communicator& world) -> Status {
    Worker worker(schedule, NewCpuDevice());
    LYCIA_RETURN_IF_ERROR(worker.Open(world, c.credits));
    const Program training = ProgramOf(schedule, world.rank()), evaluation = ProgramOf(worker.evaluation, world.rank());
    LYCIA_RETURN_IF_ERROR(worker.Run(training, 0));
    LYCIA_RETURN_IF_ERROR(worker.Run(evaluation, 0));
    EXPECT_EQ(std::count(worker.actions.syncs.begin(), worker.actions.syncs.end(), -1), 1) << "an evaluation updates nothing";
    LYCIA_RETURN_IF_ERROR(worker.Run(training, 1));
    LYCIA_RETURN_IF_ERROR(world.Barrier());  // a trainer's update is a rendezvous; without one, sends may be open when channels go
    std::vector<std::string> texts = training.texts;
    texts.insert(texts.end(), evaluation.texts.begin(), evaluation.texts.end());
    texts.insert(texts.end(), training.texts.begin(), training.texts.end());
    EXPECT_EQ(worker.recorder.texts, texts) << label;
    EXPECT_EQ(worker.recorder.ended, texts.size()) << label;
    std::vector<int> syncs;
    for (const auto& instruction : training.instructions) {
      if (instruction.op == Op::kGradientSync) syncs.push_back(instruction.sync_set);
    }
    syncs.push_back(-1);
    const std::vector<int> one = syncs;
    syncs.insert(syncs.end(), one.begin(), one.end());
    EXPECT_EQ(worker.actions.syncs, syncs) << label;
    const std::lock_guard<std::mutex> lock(mutex);
    for (const auto& [key, stage] : worker.stages) actual[key.second] += stage->gradient;
    for (std::size_t i = 0; i < losses.size(); ++i) losses[i] += worker.actions.losses[i];
    return OkStatus();
  });
  ASSERT_TRUE(ran.ok()) << label << ": " << ran;
  EXPECT_EQ(losses, expected_losses) << label;
  for (int s = 0; s < schedule.shape.stages; ++s) EXPECT_EQ(actual[s], 2 * expected[s]) << label << " stage " << s;  // two steps
}

TEST(Executor, EverySampleMeetsEveryStageOnce) {
  for (const char* name : {"gpipe", "1f1b", "chimera"}) {
    for (const int workers : {1, 2, 4, 6}) {
      if (workers == 1 && std::string(name) == "chimera") continue;
      for (const int micro_batches : {1, 2, 3, 5, 8, 12}) {
        for (const int credits : {1, 2}) {
          const Case c{name, workers, micro_batches, 0, credits};
          Check(c, ScheduleOf(c));
        }
      }
    }
  }
  for (const int micro_batches : {1, 4, 7, 8}) {
    const Case c{"chimera", 4, micro_batches, 4, 1};
    Check(c, ScheduleOf(c));
  }
}

// A schedule may take messages long before it uses them (one queue per pair of workers can force it to): both ends then plan more slots
// than the credits asked for.
TEST(Executor, MessagesMayBeHeldAheadOfTheirUse) {
  const Case c{"gpipe", 2, 5, 0, 1};
  Schedule schedule = ScheduleOf(c);
  for (int worker = 0; worker < 2; ++worker) {
    auto& program = schedule.program[static_cast<std::size_t>(worker)];
    const Op receive = worker == 0 ? Op::kReceiveGradient : Op::kReceiveActivation;
    const Op user = worker == 0 ? Op::kBackward : Op::kForward;
    // All receives before the first instruction that uses one.
    const auto first_use = std::find_if(program.begin(), program.end(), [&](const auto& i) { return i.op == user; });
    std::stable_partition(first_use, program.end(), [&](const auto& i) { return i.op == receive; });
  }
  Check(c, schedule);
}

// Whatever a user may write: programs as CSV, one row a worker.
void CheckCsv(const std::string& name, int micro_batches, const char* csv) {
  const StatusOr<Schedule> compute = schedule::ParseCsv(csv);
  ASSERT_TRUE(compute.ok()) << name << ": " << compute.status();
  for (const int credits : {1, 2}) {
    Check({name, compute->shape.workers, micro_batches, compute->shape.pipes, credits}, schedule::Complete(*compute));
  }
}

TEST(Executor, StagesOfOneWorkerSendToThemselves) {
  CheckCsv("two stages on one worker", 2, "p0.0F0,p0.1F0,p0.1B0,p0.0F1,p0.1F1,p0.0B0,p0.1B1,p0.0B1");
  CheckCsv("V on two workers", 2,
           "p0.0F0,p0.0F1,p0.3F0,p0.3B0,p0.3F1,p0.3B1,p0.0B0,p0.0B1\n"
           "p0.1F0,p0.2F0,p0.1F1,p0.2F1,p0.2B0,p0.1B0,p0.2B1,p0.1B1");
}

// The backward of a micro-batch runs in halves, so messages are halves too; the slot is in use until both are done.
TEST(Executor, HalvedMicroBatchesSendHalves) {
  CheckCsv("halved backwards", 2,
           "p0.0F0,p0.0F1,p0.0B0/0,p0.0B0/1,p0.0B1/0,p0.0B1/1\n"
           "p0.1F0,p0.1B0/0,p0.1F1,p0.1B0/1,p0.1B1/0,p0.1B1/1");
}

// Message 1 is sent before message 0 and used after it.
TEST(Executor, MessagesMayBeUsedInAnotherOrderThanTheyWereSent) {
  CheckCsv("other order", 2,
           "p0.0F1,p0.0F0,p0.0B0,p0.0B1\n"
           "p0.1F0,p0.1F1,p0.1B1,p0.1B0");
}

TEST(Executor, WeightGradientsMayComeLater) {
  CheckCsv("split", 3,
           "p0.0F0,p0.0F1,p0.0I0,p0.0F2,p0.0W0,p0.0I1,p0.0I2,p0.0W2,p0.0W1\n"
           "p0.1F0,p0.1I0,p0.1F1,p0.1I1,p0.1W0,p0.1W1,p0.1F2,p0.1B2");
}

// Outputs of a paired block leave at its end: the block makes several messages of one channel before it sends the first.
TEST(Executor, APairedBlockReleasesAllItsOutputsAtItsEnd) {
  Schedule compute = *schedule::ParseCsv(
      "p0.0F0,p0.0F1,p0.0F2,p0.0B0,p0.0B1,p0.0B2\n"
      "p0.1F0,p0.1F1,p0.1F2,p0.1B0,p0.1B1,p0.1B2");
  for (auto& program : compute.program) {
    for (const std::size_t i : {0, 1, 3, 4}) program[i].paired_with_next = true;
  }
  const Schedule completed = schedule::Complete(compute);
  EXPECT_EQ(ProgramOf(completed, 0).texts[6], "p0.0SENDF0");  // after three loads and forwards
  for (const int credits : {1, 2}) Check({"paired", 2, 3, 0, credits}, completed);
}

// Worker 1 believes in another order of the two micro-batches.
TEST(Executor, AMessageOfAnotherMicroBatchIsRefused) {
  const Schedule schedule = ScheduleOf({"1f1b", 2, 2, 0, 2});
  const Status ran = RunThreadRanks(2, [&](Communicator& world) -> Status {
    Schedule mine = schedule;
    for (schedule::Instruction& instruction : mine.program[1]) {
      if (instruction.micro_batch >= 0) instruction.micro_batch = 1 - instruction.micro_batch;
    }
    Worker worker(mine, NewCpuDevice());
    LYCIA_RETURN_IF_ERROR(worker.Open(world, 2));
    return worker.Run(ProgramOf(mine, world.rank()), 6);
  });
  EXPECT_EQ(ran.code(), absl::StatusCode::kInternal);
  // Steps count from 1 for people.
  EXPECT_EQ(ran.message(), "step 7, p0.1RECVF1: expected micro-batch 1 from worker 0, got 0: the two workers run different schedules");
}

// A kernel's failure ends the step with the instruction in which it happened, and ends the peers' waits.
TEST(Executor, AFailureNamesItsInstruction) {
  const Schedule schedule = ScheduleOf({"chimera", 4, 4, 0, 2});
  const Status ran = RunThreadRanks(4, [&](Communicator& world) -> Status {
    Worker worker(schedule, NewCpuDevice());
    LYCIA_RETURN_IF_ERROR(worker.Open(world, 2));
    for (auto& [key, stage] : worker.stages) stage->fail = world.rank() == 2 && key.second == 1;
    return worker.Run(ProgramOf(schedule, world.rank()), 2);
  });
  EXPECT_EQ(ran.code(), absl::StatusCode::kInternal);
  EXPECT_NE(ran.message().find("step 3, p1.1B"), absl::string_view::npos) << ran;
  EXPECT_NE(ran.message().find("arithmetic strike"), absl::string_view::npos) << ran;
}

// Without data and without peers: what a rank of any size would send.
TEST(Executor, ADryRunCountsItsMessages) {
  const Schedule schedule = ScheduleOf({"chimera", 6, 12, 0, 2});
  for (int rank = 0; rank < 6; ++rank) {
    const std::unique_ptr<Communicator> world = OpenDryRunWorld(rank, 6);
    Worker worker(schedule, NewShapeDevice());
    ASSERT_TRUE(worker.Open(*world, 2).ok());
    // Loads write to the stages' own slots, which exist even here.
    const Status ran = worker.Run(ProgramOf(schedule, rank), 0);
    ASSERT_TRUE(ran.ok()) << ran;
    std::int64_t activations = 0, gradients = 0;
    for (const auto& instruction : schedule.program[static_cast<std::size_t>(rank)]) {
      activations += instruction.op == Op::kSendActivation ? 1 : 0;
      gradients += instruction.op == Op::kSendGradient ? 1 : 0;
    }
    EXPECT_EQ(activations, rank == 0 || rank == 5 ? 6 : 12) << rank;  // of 6 micro-batches a pipe; the last stage sends none
    const std::int64_t bytes = PackedBytes(std::vector<TensorSpec>{{DType::kF64, {kSamples}}});
    EXPECT_EQ(world->counters().at(Operation::kSend, Tag::kActivation), (Counter{activations, activations * bytes})) << rank;
    EXPECT_EQ(world->counters().at(Operation::kSend, Tag::kGradient), (Counter{gradients, gradients * bytes})) << rank;
  }
}

}  // namespace
}  // namespace lycia
