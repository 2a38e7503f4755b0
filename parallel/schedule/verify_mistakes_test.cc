// Each kind of mistake in a schedule, made one at a time: Verify must catch it and say what and where it is.
#include <functional>
#include <ostream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/schedule/edit_for_test.h"
#include "parallel/schedule/passes.h"
#include "parallel/schedule/verify.h"

namespace lycia::schedule {
namespace {

using ::testing::HasSubstr;

struct Mistake {
  const char* what;
  std::function<void(Schedule&)> make;
  const char* message;  // what the error must say
};

void PrintTo(const Mistake& mistake, std::ostream* out) { *out << mistake.what; }

class MistakeTest : public ::testing::TestWithParam<Mistake> {};

// Chimera, 4 workers, 4 micro-batches, tied: pipe 0 has 0, 1; pipe 1 has 2, 3.
TEST_P(MistakeTest, IsCaughtAndNamed) {
  Schedule schedule = Complete(Must("chimera", 4, 4), {.tied = {SyncSet{{0, 3}}}});
  ASSERT_TRUE(Verify(schedule).ok());
  GetParam().make(schedule);
  const Status status = Verify(schedule);
  ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << "not caught";
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().message));
}

// Errors at an instruction name worker, index and instruction, and mark it in the programs.
const Mistake kMistakes[] = {
    {"drop a forward", [](Schedule& s) { Drop(s, 1, "p0.1F0"); }, "worker 1, instruction"},
    {"drop a backward", [](Schedule& s) { Drop(s, 0, "p0.0B1"); }, "micro-batch 1 of pipe 0 lacks B on stage 0"},
    {"drop the only forward and backward of a micro-batch", [](Schedule& s) { Drop(s, 0, "p0.0F1"), Drop(s, 0, "p0.0B1"); },
     "micro-batch 1 of pipe 0 lacks F on stage 0"},
    {"duplicate a forward", [](Schedule& s) { Duplicate(s, 1, "p0.1F0"); }, "(p0.1F0): second forward"},
    {"duplicate a backward", [](Schedule& s) { Duplicate(s, 1, "p0.1B0"); }, "(p0.1B0): this backward was done before"},
    {"backward before forward", [](Schedule& s) { Swap(s, 3, "p0.3F0", "p0.3B0"); }, "(p0.3B0): the backward comes before its forward"},
    {"wrong worker",
     [](Schedule& s) {
       s.program[0].insert(s.program[0].begin(), At(s, 1, "p0.1F0"));
       Drop(s, 1, "p0.1F0");
     },
     "worker 0, instruction 0 (p0.1F0): the stage is on worker 1"},
    {"wrong pipe", [](Schedule& s) { At(s, 1, "p0.1F0").pipe = 1; }, "the micro-batch belongs to pipe 0"},
    {"stage out of range", [](Schedule& s) { At(s, 1, "p0.1F0").stage = 4; }, "the stage is not one of 4"},
    {"micro-batch out of range", [](Schedule& s) { At(s, 1, "p0.1F0").micro_batch = 4; }, "the micro-batch is not one of 4"},
    {"half a backward", [](Schedule& s) { At(s, 1, "p0.1B0").parts = 2; }, "lacks B of part 1"},
    {"input gradient without weight gradient", [](Schedule& s) { At(s, 1, "p0.1B0").op = Op::kBackwardInput; }, "lacks W of part 0"},
    {"weight gradient first", [](Schedule& s) { At(s, 1, "p0.1B0").op = Op::kBackwardWeight; }, "comes before its input gradient"},
    {"split and full backward",
     [](Schedule& s) {
       Duplicate(s, 1, "p0.1B0");
       At(s, 1, "p0.1B0").op = Op::kBackwardInput;
     },
     "both a full and a split backward"},
    {"cycle between workers", [](Schedule& s) { Swap(s, 0, "p1.3F2", "p0.0F0"), Swap(s, 3, "p1.0F2", "p0.3F0"); }, "waits in a cycle"},

    {"slot out of range", [](Schedule& s) { At(s, 0, "p0.0F1").stash_slot = 2; }, "(p0.0F1): stash slot 2 is not one of the 2"},
    {"slot not assigned", [](Schedule& s) { At(s, 0, "p0.0F1").stash_slot = -1; }, "stash slot -1"},
    {"slot shared", [](Schedule& s) { At(s, 0, "p0.0F1").stash_slot = 0; }, "(p0.0F1): stash slot 0 still holds micro-batch 0"},
    {"backward from another slot", [](Schedule& s) { At(s, 0, "p0.0B0").stash_slot = 1; }, "not the one that its forward filled, 0"},
    {"too few slots", [](Schedule& s) { s.stash_slots[0][0] = 1; }, "is not one of the 1 of pipe 0, stage 0"},
    {"no slot table", [](Schedule& s) { s.stash_slots.clear(); }, "run AssignSlots"},
    {"load into another slot", [](Schedule& s) { At(s, 0, "p0.0LOAD1").stash_slot = 0; }, "its load went to another stash slot"},
    {"load into another input slot", [](Schedule& s) { At(s, 0, "p0.0LOAD1").input_slot = 0; }, "its load went to another input slot"},
    {"backward from another input slot", [](Schedule& s) { At(s, 0, "p0.0B0").input_slot = 1; },
     "(p0.0B0): input slot 1 is not the one that its forward filled, 0"},
    {"no handoff table", [](Schedule& s) { s.handoff_slots.clear(); }, "handoff_slots does not list every pipe and stage"},

    {"drop a load", [](Schedule& s) { Drop(s, 0, "p0.0LOAD1"); }, "(p0.0F1): no load comes before it"},
    {"duplicate a load", [](Schedule& s) { Duplicate(s, 0, "p0.0LOAD1"); }, "loads the micro-batch a second time"},
    {"load inside", [](Schedule& s) { s.program[1].insert(s.program[1].begin(), Compute(Op::kLoad, 0, 1, 0)); },
     "only the first and the last"},
    {"early load", [](Schedule& s) { Move(s, 0, "p0.0LOAD1", "p0.0F0"); }, "its load is not right before it"},

    {"drop a send", [](Schedule& s) { Drop(s, 0, "p0.0SENDF1"); },
     "(p0.0F1): the activation of micro-batch 1, pipe 0, stage 0 -> 1 is never sent"},
    {"drop a receive", [](Schedule& s) { Drop(s, 1, "p0.1RECVB1"); },
     "(p0.1B1): the gradient of micro-batch 1, pipe 0, stage 2 -> 1 is never received"},
    {"duplicate a send", [](Schedule& s) { Duplicate(s, 0, "p0.0SENDF1"); }, "is sent twice"},
    {"duplicate a receive", [](Schedule& s) { Duplicate(s, 1, "p0.1RECVF1"); }, "is received twice"},
    {"send before compute", [](Schedule& s) { Swap(s, 0, "p0.0F1", "p0.0SENDF1"); }, "(p0.0SENDF1): the activation of micro-batch 1"},
    {"receive after compute", [](Schedule& s) { Swap(s, 1, "p0.1RECVF1", "p0.1F1"); }, "is received after it is needed"},
    {"swapped sends", [](Schedule& s) { Swap(s, 0, "p0.0SENDF0", "p0.0SENDF1"); }, "is sent before it is made"},
    {"sends in another order than receives", [](Schedule& s) { Move(s, 0, "p0.0SENDF0", "p1.3RECVF2"); },
     "message 0 from worker 0 to worker 1"},
    {"send beyond the last stage", [](Schedule& s) { s.program[0].insert(s.program[0].begin(), Compute(Op::kSendGradient, 0, 0, 0)); },
     "there is no stage before the first"},
    {"receive too early", [](Schedule& s) { Move(s, 0, "p1.3RECVF2", "p0.0LOAD0"); }, "deadlock with 1 credit(s) per channel"},

    {"drop a sync", [](Schedule& s) { Drop(s, 1, "SYNC{2}"); }, "worker 1, instruction"},
    {"duplicate a sync", [](Schedule& s) { Duplicate(s, 1, "SYNC{2}"); }, "joins the set a second time"},
    {"sync of a stranger", [](Schedule& s) { At(s, 1, "SYNC{2}").sync_set = 0; }, "the worker holds no stage of the set"},
    {"sync without a set", [](Schedule& s) { At(s, 1, "SYNC{2}").sync_set = 9; }, "there are 5 sync sets"},
    {"sync before the last gradient", [](Schedule& s) { Move(s, 0, "SYNC{0}", "p0.0B1"); },
     "(p0.0B1): the gradient of stage 0 was synchronised before"},
    {"tied sync before the last gradient", [](Schedule& s) { Move(s, 0, "SYNC{0,3}", "p0.0B1"); },
     "the gradient of stage 0 was synchronised before"},
    {"syncs in another order on one worker", [](Schedule& s) { Swap(s, 0, "SYNC{0}", "SYNC{3}"); },
     "(SYNC{3}): joins sync set 3 after set 0, worker 0 before it"},
    {"stage without a set",
     [](Schedule& s) {
       s.sync_sets[1] = SyncSet{{1, 2}};
     },
     "stage 1 has no sync set"},
    {"set twice", [](Schedule& s) { s.sync_sets[4] = s.sync_sets[0]; }, "sync set 4 is there twice"},
    {"set not in order",
     [](Schedule& s) {
       s.sync_sets[4] = SyncSet{{3, 0}};
     },
     "not an ascending list"},
    {"no update", [](Schedule& s) { s.program[2].pop_back(); }, "does not end with an update"},
    {"update early", [](Schedule& s) { Swap(s, 2, "UPDATE", "SYNC{2}"); }, "instructions follow the update"},

    {"lost micro-batch", [](Schedule& s) { s.pipe_of_micro_batch.pop_back(); }, "not every micro-batch has a pipe"},
    {"lost worker", [](Schedule& s) { s.program.pop_back(); }, "3 programs for 4 workers"},
    {"lost placement", [](Schedule& s) { s.worker_of[1].pop_back(); }, "pipe 1 places not all stages"},
    {"placement out of range", [](Schedule& s) { s.worker_of[1][0] = 4; }, "on worker 4 of 4"},
};

INSTANTIATE_TEST_SUITE_P(All, MistakeTest, ::testing::ValuesIn(kMistakes));

class PartsMistakeTest : public MistakeTest {};

// 1F1B on two workers with one micro-batch: forwards in three parts, backwards in two.
TEST_P(PartsMistakeTest, IsCaughtAndNamed) {
  Schedule schedule = Complete(Cut(Must("1f1b", 2, 1), 3, 2));
  ASSERT_TRUE(Verify(schedule).ok()) << Verify(schedule);
  GetParam().make(schedule);
  EXPECT_THAT(std::string(Verify(schedule).message()), HasSubstr(GetParam().message));
}

const Mistake kPartsMistakes[] = {
    {"drop a part", [](Schedule& s) { Drop(s, 1, "p0.1F0/2"); }, "(p0.1B0/1): the backward comes before part 2 of its forward"},
    {"drop all parts but one", [](Schedule& s) { Drop(s, 1, "p0.1F0/1"), Drop(s, 1, "p0.1F0/2"); },
     "(p0.1B0/0): the backward comes before part 1 of its forward"},
    {"duplicate a part", [](Schedule& s) { Duplicate(s, 1, "p0.1F0/1"); }, "(p0.1F0/1): second forward of this micro-batch"},
    {"a part out of range", [](Schedule& s) { At(s, 1, "p0.1F0/1").part = 3; }, "(p0.1F0/3): the part is not one of its parts"},
    {"parts of another size", [](Schedule& s) { At(s, 1, "p0.1F0/1").parts = 2; }, "earlier forwards of this micro-batch have 3 parts"},
    {"a stage that cuts forwards differently",
     [](Schedule& s) {
       Drop(s, 1, "p0.1F0/2");
       At(s, 1, "p0.1F0/0").parts = At(s, 1, "p0.1F0/1").parts = 2;
     },
     "micro-batch 0 has 2 parts here and 3 on stage 0 (worker 0); all stages must cut it alike"},
    {"a stage that cuts backwards differently", [](Schedule& s) { Drop(s, 1, "p0.1B0/1"), At(s, 1, "p0.1B0/0").parts = 1; },
     "micro-batch 0 has 1 parts here and 2 on stage 0"},
    {"a second load", [](Schedule& s) { Duplicate(s, 0, "p0.0LOAD0"); }, "loads the micro-batch a second time"},
    {"a load of a part", [](Schedule& s) { At(s, 0, "p0.0LOAD0").parts = 3; }, "a load is of a whole micro-batch"},
    {"a load before a later part", [](Schedule& s) { Move(s, 0, "p0.0LOAD0", "p0.0F0/1"); }, "(p0.0F0/0): no load comes before it"},
    {"a part in another slot", [](Schedule& s) { At(s, 1, "p0.1F0/1").stash_slot = 1, s.stash_slots[0][1] = 2; },
     "not the one that its forward filled, 0"},
    {"a message of another part", [](Schedule& s) { At(s, 0, "p0.0SENDF0/1").part = 2; }, "part 2, pipe 0, stage 0 -> 1 is sent twice"},
    {"a message of a part that is none", [](Schedule& s) { At(s, 0, "p0.0SENDF0/1").part = 3; }, "the part is not one of its parts"},
    {"a message cut differently", [](Schedule& s) { At(s, 0, "p0.0SENDF0/1").parts = 2; }, "is never made: it has 3 parts"},
    {"parts received in another order", [](Schedule& s) { Move(s, 1, "p0.1RECVF0/1", "p0.1RECVF0/0"); },
     "is sent as the activation of micro-batch 0 part 0"},
    {"all sends behind the last part", [](Schedule& s) { Move(s, 0, "p0.0SENDF0/0", "p0.0SENDF0/2"); },
     "message 0 from worker 0 to worker 1"},
};

INSTANTIATE_TEST_SUITE_P(All, PartsMistakeTest, ::testing::ValuesIn(kPartsMistakes));

class UpdateMistakeTest : public MistakeTest {};

// Chimera with updates of each set: worker 1 holds stages 1 and 2.
TEST_P(UpdateMistakeTest, IsCaughtAndNamed) {
  Schedule schedule = Complete(Must("chimera", 4, 4), {.sync = GradientSyncMode::kEager, .update = UpdateMode::kEager});
  ASSERT_TRUE(Verify(schedule).ok()) << Verify(schedule);
  GetParam().make(schedule);
  EXPECT_THAT(std::string(Verify(schedule).message()), HasSubstr(GetParam().message));
}

const Mistake kUpdateMistakes[] = {
    {"drop", [](Schedule& s) { Drop(s, 1, "UPDATE{2}"); }, "sync set 2 has no update, others have"},
    {"duplicate", [](Schedule& s) { Duplicate(s, 1, "UPDATE{2}"); }, "(UPDATE{2}): updates the set a second time"},
    {"before its sync", [](Schedule& s) { Move(s, 1, "UPDATE{2}", "SYNC{2}"); },
     "(UPDATE{2}): updates before its gradient is synchronised"},
    {"of another set", [](Schedule& s) { At(s, 1, "UPDATE{2}").sync_set = 0; }, "the worker holds no stage of the set"},
    {"of no set", [](Schedule& s) { At(s, 1, "UPDATE{2}").sync_set = 4; }, "there are 4 sync sets"},
    {"plain instead", [](Schedule& s) { At(s, 1, "UPDATE{2}").sync_set = -1; }, "(UPDATE): instructions follow the update"},
    {"no plain one at the end", [](Schedule& s) { Drop(s, 1, "UPDATE"); }, "does not end with an update"},
};

INSTANTIATE_TEST_SUITE_P(All, UpdateMistakeTest, ::testing::ValuesIn(kUpdateMistakes));

// An update waits for all members; where one of them waits for a message from behind the update, neither goes on.
TEST(UpdatesTest, AnUpdateThatWaitsForItselfIsADeadlock) {
  Schedule schedule = Complete(Must("1f1b", 2, 1), {.update = UpdateMode::kEager, .tied = {SyncSet{{0, 1}}}});
  ASSERT_TRUE(Verify(schedule).ok()) << Verify(schedule);
  // Worker 1: B0 SENDB0 SYNC..; worker 0 needs that message before it can join {0,1}.
  Move(schedule, 1, "SYNC{1}", "p0.1SENDB0");
  Move(schedule, 1, "SYNC{0,1}", "p0.1SENDB0");
  EXPECT_TRUE(Verify(schedule).ok()) << Verify(schedule);
  Move(schedule, 1, "UPDATE{1}", "p0.1SENDB0");
  EXPECT_TRUE(Verify(schedule).ok()) << Verify(schedule);
  Move(schedule, 1, "UPDATE{0,1}", "p0.1SENDB0");
  EXPECT_THAT(std::string(Verify(schedule).message()), HasSubstr("(UPDATE{0,1}) waits for gradient synchronisation of set 2"));
}

}  // namespace
}  // namespace lycia::schedule
