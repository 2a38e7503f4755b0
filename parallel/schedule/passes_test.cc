// The passes against rows written by hand; that their results are right for all sizes is Verify's proof (verify_test.cc).
#include "parallel/schedule/passes.h"

#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/schedule/edit_for_test.h"
#include "parallel/schedule/generators.h"
#include "parallel/schedule/messages.h"
#include "parallel/schedule/simulate.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

using ::testing::ElementsAre;

std::string Row(const Schedule& schedule, int worker) {
  return absl::StrJoin(schedule.program[worker], " ", [&](std::string* out, const Instruction& i) { *out += ToString(schedule, i); });
}

TEST(CompleteTest, OneFOneBOnTwoWorkers) {
  const Schedule schedule = Complete(Must("1f1b", 2, 2));
  EXPECT_EQ(Row(schedule, 0), "p0.0LOAD0 p0.0F0 p0.0SENDF0 p0.0LOAD1 p0.0F1 p0.0SENDF1 p0.0RECVB0 p0.0B0 p0.0RECVB1 p0.0B1 SYNC{0} UPDATE");
  EXPECT_EQ(Row(schedule, 1), "p0.1LOAD0 p0.1RECVF0 p0.1F0 p0.1B0 p0.1SENDB0 p0.1LOAD1 p0.1RECVF1 p0.1F1 p0.1B1 p0.1SENDB1 SYNC{1} UPDATE");
}

TEST(CompleteTest, ChimeraWithOneMicroBatchStillJoinsEverySyncOfItsIdlePipe) {
  const Schedule schedule = Complete(Must("chimera", 2, 1), {.tied = {SyncSet{{1, 0}}}});
  EXPECT_EQ(Row(schedule, 0), "p0.0LOAD0 p0.0F0 p0.0SENDF0 p0.0RECVB0 p0.0B0 SYNC{0} SYNC{1} SYNC{0,1} UPDATE");
  EXPECT_EQ(Row(schedule, 1), "p0.1LOAD0 p0.1RECVF0 p0.1F0 p0.1B0 p0.1SENDB0 SYNC{0} SYNC{1} SYNC{0,1} UPDATE");
  EXPECT_THAT(schedule.stash_slots, ElementsAre(ElementsAre(1, 1), ElementsAre(0, 0)));
}

TEST(CompleteTest, OneWorkerLoadsOnceAndSendsNothing) {
  EXPECT_EQ(Row(Complete(Must("gpipe", 1, 2), {.tied = {SyncSet{{0, 0}}}}), 0),
            "p0.0LOAD0 p0.0F0 p0.0LOAD1 p0.0F1 p0.0B0 p0.0B1 SYNC{0} UPDATE");
}

TEST(CompleteTest, EvaluationHasNoGradientsAndKeepsNothing) {
  const Schedule schedule = Complete(ForwardOnly(Must("chimera", 2, 2), 4));
  EXPECT_EQ(Row(schedule, 0),
            "p0.0LOAD0 p0.0F0 p0.0SENDF0 p1.1LOAD1 p1.1RECVF1 p1.1F1 p0.0LOAD2 p0.0F2 p0.0SENDF2 p1.1LOAD3 p1.1RECVF3 p1.1F3");
  EXPECT_THAT(schedule.stash_slots, ElementsAre(ElementsAre(1, 1), ElementsAre(1, 1)));
  EXPECT_TRUE(schedule.sync_sets.empty());
}

TEST(InsertGradientSyncTest, WorkersJoinTheSetsOfTheStagesTheyHold) {
  const Schedule schedule = InsertGradientSync(Must("chimera", 4, 4), GradientSyncMode::kLazy, {SyncSet{{0, 3}}, SyncSet{{2}}});
  const auto syncs = [&](int worker) { return Row(schedule, worker).substr(Row(schedule, worker).find("SYNC")); };
  EXPECT_EQ(syncs(0), "SYNC{0} SYNC{3} SYNC{0,3} UPDATE");
  EXPECT_EQ(syncs(1), "SYNC{1} SYNC{2} UPDATE");
  EXPECT_EQ(syncs(2), syncs(1));
  EXPECT_EQ(syncs(3), syncs(0));
  EXPECT_THAT(WorkersOfStage(schedule, 0), ElementsAre(0, 3));
  EXPECT_THAT(WorkersOfSyncSet(schedule, SyncSet{{1, 3}}), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(WorkersOfSyncSet(Must("1f1b", 4, 1), SyncSet{{0, 3}}), ElementsAre(0, 3));
}

// The slots of all (pipe, stage) of a worker are as many as its published peak of activations: nothing is wasted.
TEST(AssignSlotsTest, AsManySlotsAsThePeak) {
  for (const int D : {2, 4, 8, 16}) {
    for (const int K : {1, 2, 4}) {
      for (const int f : {1, 2}) {
        if (D / 2 % f != 0) continue;
        const Schedule schedule = AssignSlots(Must("chimera", D, K * D, 2 * f));
        const auto peaks = PeakActivations(schedule);
        std::vector<int> slots(D, 0);
        for (int pipe = 0; pipe < 2 * f; ++pipe) {
          for (int stage = 0; stage < D; ++stage) slots[schedule.worker_of[pipe][stage]] += schedule.stash_slots[pipe][stage];
        }
        for (int worker = 0; worker < D; ++worker) EXPECT_EQ(slots[worker], peaks[worker]) << "D " << D << " K " << K << " f " << f;
      }
    }
  }
  EXPECT_THAT(AssignSlots(Must("1f1b", 4, 9)).stash_slots, ElementsAre(ElementsAre(4, 3, 2, 1)));
  EXPECT_THAT(AssignSlots(Must("gpipe", 2, 9)).stash_slots, ElementsAre(ElementsAre(9, 9)));
}

TEST(AssignSlotsTest, SplitBackwardFreesWithTheWeightGradient) {
  Schedule schedule = Must("1f1b", 1, 2);
  schedule.program[0] = {Compute(Op::kForward, 0, 0, 0),       Compute(Op::kBackwardInput, 0, 0, 0),
                         Compute(Op::kForward, 0, 0, 1),       Compute(Op::kBackwardWeight, 0, 0, 0),
                         Compute(Op::kBackwardInput, 0, 0, 1), Compute(Op::kBackwardWeight, 0, 0, 1)};
  const Schedule assigned = AssignSlots(schedule);
  EXPECT_THAT(assigned.stash_slots, ElementsAre(ElementsAre(2)));
  EXPECT_EQ(assigned.program[0][3].stash_slot, 0);
  EXPECT_EQ(assigned.program[0][4].stash_slot, 1);
  // Only one micro-batch at a time is between its forward and input gradient, or between the two gradients.
  EXPECT_THAT(assigned.input_slots, ElementsAre(ElementsAre(1)));
  EXPECT_THAT(assigned.handoff_slots, ElementsAre(ElementsAre(1)));
  EXPECT_EQ(assigned.program[0][2].input_slot, 0);
  EXPECT_EQ(assigned.program[0][3].input_slot, -1);
  EXPECT_EQ(assigned.program[0][2].handoff_slot, -1);
}

// A halved micro-batch keeps its slots from the first part to the last; its load uses them too.
TEST(AssignSlotsTest, PartsShareTheSlotsOfTheirMicroBatch) {
  Schedule schedule = Must("1f1b", 1, 2);
  const auto part = [](Op op, int micro_batch, int part, int parts) {
    Instruction instruction = Compute(op, 0, 0, micro_batch);
    instruction.part = static_cast<std::uint8_t>(part);
    instruction.parts = static_cast<std::uint8_t>(parts);
    return instruction;
  };
  schedule.program[0] = {part(Op::kForward, 0, 0, 2),        part(Op::kForward, 0, 1, 2),       part(Op::kBackwardInput, 0, 0, 2),
                         part(Op::kForward, 1, 0, 1),        part(Op::kBackwardInput, 0, 1, 2), part(Op::kBackward, 1, 0, 1),
                         part(Op::kBackwardWeight, 0, 0, 2), part(Op::kBackwardWeight, 0, 1, 2)};
  const Schedule assigned = AssignSlots(InsertLoads(schedule));
  EXPECT_EQ(Row(assigned, 0), "p0.0LOAD0 p0.0F0/0 p0.0F0/1 p0.0I0/0 p0.0LOAD1 p0.0F1 p0.0I0/1 p0.0B1 p0.0W0/0 p0.0W0/1");
  const auto slots = [&](int Instruction::*kind) {
    std::vector<int> row;
    for (const Instruction& instruction : assigned.program[0]) row.push_back(instruction.*kind);
    return row;
  };
  EXPECT_THAT(slots(&Instruction::stash_slot), ElementsAre(0, 0, 0, 0, 1, 1, 0, 1, 0, 0));
  EXPECT_THAT(slots(&Instruction::input_slot), ElementsAre(0, 0, 0, 0, 1, 1, 0, 1, -1, -1));
  EXPECT_THAT(slots(&Instruction::handoff_slot), ElementsAre(-1, -1, -1, 0, -1, -1, 0, -1, 0, 0));
}

// Worker 1 needs the gradient of micro-batch 1 before the activation that was sent before it: one queue must deliver the activation first.
TEST(InsertCommunicationTest, ReceivesKeepTheOrderOfOneQueue) {
  Schedule schedule = Must("chimera", 2, 2);  // pipe 0 (down) has micro-batch 0, pipe 1 (up) micro-batch 1
  // worker 0: p0.0F0 p1.1F1 p1.1B1 p0.0B0; worker 1: p1.0F1 p0.1F0 p0.1B0 p1.0B1
  std::swap(schedule.program[1][1], schedule.program[1][3]);  // p1.0F1 p1.0B1 p0.1B0 p0.1F0
  std::swap(schedule.program[1][2], schedule.program[1][3]);  // p1.0F1 p1.0B1 p0.1F0 p0.1B0
  const Schedule sent = InsertCommunication(schedule);
  EXPECT_EQ(Row(sent, 0), "p0.0F0 p0.0SENDF0 p1.1RECVF1 p1.1F1 p1.1B1 p1.1SENDB1 p0.0RECVB0 p0.0B0");
  EXPECT_EQ(Row(sent, 1), "p1.0F1 p1.0SENDF1 p0.1RECVF0 p1.0RECVB1 p1.0B1 p0.1F0 p0.1B0 p0.1SENDB0");
  EXPECT_TRUE(Verify(Complete(schedule)).ok()) << Verify(Complete(schedule));
}

TEST(InsertCommunicationTest, StagesOfOneWorkerSendToThemselves) {
  Schedule schedule = Must("gpipe", 1, 1);
  schedule.shape.stages = schedule.shape.chunks = 2;
  schedule.worker_of = {{0, 0}};
  schedule.program[0] = {Compute(Op::kForward, 0, 0, 0), Compute(Op::kForward, 0, 1, 0), Compute(Op::kBackward, 0, 1, 0),
                         Compute(Op::kBackward, 0, 0, 0)};
  EXPECT_EQ(Row(InsertCommunication(schedule), 0), "p0.0F0 p0.0SENDF0 p0.1RECVF0 p0.1F0 p0.1B0 p0.1SENDB0 p0.0RECVB0 p0.0B0");
  EXPECT_TRUE(Verify(Complete(schedule)).ok()) << Verify(Complete(schedule));
}

TEST(InsertCommunicationTest, PairedBlocksReceiveBeforeAndSendAfter) {
  Schedule schedule = Must("1f1b", 2, 2);
  schedule.program[1] = {Compute(Op::kForward, 0, 1, 0), Compute(Op::kForward, 0, 1, 1), Compute(Op::kBackward, 0, 1, 0),
                         Compute(Op::kBackward, 0, 1, 1)};
  schedule.program[1][1].paired_with_next = true;
  EXPECT_EQ(Row(InsertCommunication(schedule), 1), "p0.1RECVF0 p0.1F0 p0.1RECVF1 p0.1F1 p0.1B0 p0.1SENDB0 p0.1B1 p0.1SENDB1");
}

TEST(CompleteTest, ForwardsInPartsLoadOnceAndSendEachPart) {
  const Schedule schedule = Complete(Cut(Must("1f1b", 2, 2), 2, 1));
  EXPECT_EQ(Row(schedule, 0),
            "p0.0LOAD0 p0.0F0/0 p0.0SENDF0/0 p0.0F0/1 p0.0SENDF0/1 p0.0LOAD1 p0.0F1/0 p0.0SENDF1/0 p0.0F1/1 p0.0SENDF1/1 "
            "p0.0RECVB0 p0.0B0 p0.0RECVB1 p0.0B1 SYNC{0} UPDATE");
  EXPECT_EQ(Row(schedule, 1),
            "p0.1LOAD0 p0.1RECVF0/0 p0.1F0/0 p0.1RECVF0/1 p0.1F0/1 p0.1B0 p0.1SENDB0 p0.1LOAD1 p0.1RECVF1/0 p0.1F1/0 p0.1RECVF1/1 p0.1F1/1 "
            "p0.1B1 p0.1SENDB1 SYNC{1} UPDATE");
  EXPECT_THAT(schedule.stash_slots, ElementsAre(ElementsAre(2, 1)));
  EXPECT_THAT(PeakActivations(schedule), ElementsAre(2, 1)) << "a forward counts once, whatever its parts";
  EXPECT_TRUE(Verify(schedule).ok()) << Verify(schedule);
}

// The slot is taken by the first part of the forward, and given back by the last part of the weight gradient.
TEST(AssignSlotsTest, ASlotIsKeptFromTheFirstPartToTheLast) {
  Schedule schedule = Must("gpipe", 1, 3);
  const auto part = [](Op op, int micro_batch, int index) {
    Instruction instruction = Compute(op, 0, 0, micro_batch);
    instruction.part = static_cast<std::uint8_t>(index);
    instruction.parts = 2;
    return instruction;
  };
  const auto whole = [](Op op, int micro_batch) { return Compute(op, 0, 0, micro_batch); };
  schedule.program[0] = {part(Op::kForward, 0, 0),        whole(Op::kForward, 1),  part(Op::kForward, 0, 1),
                         part(Op::kBackwardInput, 0, 1),  whole(Op::kBackward, 1), part(Op::kBackwardInput, 0, 0),
                         part(Op::kBackwardWeight, 0, 0), whole(Op::kForward, 2),  part(Op::kBackwardWeight, 0, 1),
                         whole(Op::kBackward, 2)};
  const Schedule complete = Complete(schedule);
  ASSERT_TRUE(Verify(complete).ok()) << Verify(complete);
  EXPECT_EQ(Row(complete, 0),
            "p0.0LOAD0 p0.0F0/0 p0.0LOAD1 p0.0F1 p0.0F0/1 p0.0I0/1 p0.0B1 p0.0I0/0 p0.0W0/0 p0.0LOAD2 p0.0F2 p0.0W0/1 "
            "p0.0B2 SYNC{0} UPDATE");
  std::vector<int> slots;
  for (const Instruction& instruction : complete.program[0]) slots.push_back(instruction.stash_slot);
  EXPECT_THAT(slots, ElementsAre(0, 0, 1, 1, 0, 0, 1, 0, 0, 1, 1, 0, 1, -1, -1));
}

// What a block's forward keeps is taken before anything that its backward used is given back, in either order of the two.
TEST(AssignSlotsTest, ABlockTakesBeforeItGivesBack) {
  Schedule schedule = Must("gpipe", 1, 2);
  schedule.program[0] = {Compute(Op::kForward, 0, 0, 0), Compute(Op::kBackward, 0, 0, 0), Compute(Op::kForward, 0, 0, 1),
                         Compute(Op::kBackward, 0, 0, 1)};
  EXPECT_THAT(PeakActivations(schedule), ElementsAre(1));
  schedule.program[0][1].paired_with_next = true;
  EXPECT_THAT(PeakActivations(schedule), ElementsAre(2));
  const Schedule complete = Complete(schedule);
  EXPECT_EQ(Row(complete, 0), "p0.0LOAD0 p0.0F0 p0.0LOAD1 p0.0B0 p0.0F1 p0.0B1 SYNC{0} UPDATE");
  EXPECT_THAT(complete.stash_slots, ElementsAre(ElementsAre(2)));
  EXPECT_TRUE(Verify(complete).ok()) << Verify(complete);
}

TEST(AssignStreamsTest, MessagesAndSyncLeaveTheComputeStream) {
  const Schedule schedule = Complete(Must("chimera", 2, 2));
  for (const Instruction& i : schedule.program[0]) {
    EXPECT_EQ(i.stream, IsSend(i.op) || IsReceive(i.op) ? 1 : i.op == Op::kGradientSync ? 2 : 0) << ToString(i);
  }
}

}  // namespace
}  // namespace lycia::schedule
