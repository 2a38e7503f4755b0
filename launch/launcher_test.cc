// A process must find out how it was started from what launchers tell, and must not mistake one launcher's word for another's.
#include "launch/launcher.h"

#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lycia {
namespace {

using ::testing::HasSubstr;
using Variables = std::map<std::string, std::string>;
using Kind = Launcher::Kind;

Environment Of(const Variables& variables) {
  return [variables](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

// What a command with --ranks makes of it.
StatusOr<Launcher> Find(const std::vector<std::string>& words, const Variables& variables, const MpiPresence& mpi = {}) {
  CommandSpec spec{.name = "train", .flags = {{.name = "ranks", .value = "N"}}};
  for (const FlagSpec& flag : LauncherFlags()) spec.flags.push_back(flag);
  LYCIA_ASSIGN_OR_RETURN(const Arguments arguments, ParseArguments(spec, words));
  return LauncherOf(arguments, Of(variables), mpi);
}

// "processes 2/4 tcp://a:1", or the failure's words.
std::string Shown(const StatusOr<Launcher>& found) {
  if (!found.ok()) {
    EXPECT_TRUE(absl::IsInvalidArgument(found.status()));
    return std::string(found.status().message());
  }
  if (found->kind == Kind::kAlone) return "alone";
  if (found->kind == Kind::kMpi) return "mpi";
  return StrCat("processes ", found->rank, "/", found->ranks, " ", found->rendezvous.ToString());
}

const Variables kTorchrun = {{"RANK", "2"}, {"WORLD_SIZE", "4"}, {"LOCAL_RANK", "0"}, {"MASTER_ADDR", "node1"}, {"MASTER_PORT", "29500"}};
const Variables kSrun = {{"SLURM_JOB_ID", "123"},       {"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "3"},
                         {"SLURM_STEP_NUM_TASKS", "8"}, {"SLURM_LOCALID", "1"}, {"SLURM_STEP_NODELIST", "gpu[007-010,12]"}};

Variables With(Variables variables, const Variables& more) {
  for (const auto& [name, value] : more) variables[name] = value;
  return variables;
}

TEST(Launcher, NothingToldIsAlone) {
  EXPECT_EQ(Shown(Find({}, {})), "alone");
  EXPECT_EQ(Shown(Find({"--ranks=4"}, {})), "alone");
  // A batch script of Slurm is no task of a step; neither is a step of one task a job of ranks, nor a world of one.
  EXPECT_EQ(Shown(Find({"--ranks=4"}, {{"SLURM_JOB_ID", "1"}, {"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}})), "alone");
  EXPECT_EQ(Shown(Find({}, With(kSrun, {{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}}))), "alone");
  EXPECT_EQ(Shown(Find({}, {{"RANK", "0"}, {"WORLD_SIZE", "1"}})), "alone");
  EXPECT_EQ(Shown(Find({}, {{"WORLD_SIZE", "4"}})), "alone");
}

TEST(Launcher, FlagsSayItAll) {
  EXPECT_EQ(Shown(Find({"--rank=1", "--ranks=3", "--rendezvous=tcp://10.0.0.1:4000"}, {})), "processes 1/3 tcp://10.0.0.1:4000");
  EXPECT_EQ(Shown(Find({"--rank=0", "--ranks=1", "--rendezvous=file:/a b"}, {})), "processes 0/1 file:/a b");
  // Before anything that a launcher says, and MPI is then not asked.
  EXPECT_EQ(Shown(Find({"--rank=1", "--ranks=3", "--rendezvous=tcp://h:1"}, With(kTorchrun, kSrun), {true, true})),
            "processes 1/3 tcp://h:1");
}

TEST(Launcher, HalfOfTheFlagsIsAnError) {
  EXPECT_THAT(Shown(Find({"--rank=1", "--ranks=3"}, {})), HasSubstr("--rank=1 needs --rendezvous=tcp://HOST:PORT"));
  EXPECT_THAT(Shown(Find({"--rank=1", "--rendezvous=tcp://h:1"}, {})), HasSubstr("--ranks=N must say of how many"));
  EXPECT_THAT(Shown(Find({"--rendezvous=tcp://h:1"}, {})), HasSubstr("nothing says which rank this is"));
  EXPECT_THAT(Shown(Find({"--rank=3", "--ranks=3", "--rendezvous=tcp://h:1"}, {})), HasSubstr("must be an integer from 0 to 2"));
  EXPECT_THAT(Shown(Find({"--rendezvous="}, {})), HasSubstr("names no place"));
}

TEST(Launcher, ARendezvousTakesTheLaunchersRank) {
  const std::vector<std::string> words = {"--rendezvous=file:/shared"};
  EXPECT_EQ(Shown(Find(words, kTorchrun)), "processes 2/4 file:/shared");
  EXPECT_EQ(Shown(Find(words, kSrun)), "processes 3/8 file:/shared");
  EXPECT_EQ(Shown(Find(words, {{"OMPI_COMM_WORLD_RANK", "5"}, {"OMPI_COMM_WORLD_SIZE", "6"}}, {true, true})), "processes 5/6 file:/shared");
  EXPECT_EQ(Shown(Find({}, With(kSrun, {{"LYCIA_RENDEZVOUS", "tcp://x:7"}}), {true, true})), "processes 3/8 tcp://x:7");
}

TEST(Launcher, MpiComesBeforeVariablesThatItsDaemonsInherit) {
  EXPECT_EQ(Shown(Find({}, With(kSrun, {{"OMPI_COMM_WORLD_RANK", "5"}}), {true, true})), "mpi");
  // In a build without MPI srun's own word counts, under --mpi=pmix too, but not that of mpirun's daemons.
  EXPECT_EQ(Shown(Find({}, With(kSrun, {{"PMIX_RANK", "3"}}), {true, false})), "processes 3/8 tcp://gpu007:15861");
  EXPECT_THAT(Shown(Find({}, With(kSrun, {{"OMPI_COMM_WORLD_RANK", "5"}}), {true, false})), HasSubstr("this build has no MPI"));
  // PMI's are srun's own under --mpi=pmi2, and those of MPICH's mpirun where they tell another place.
  EXPECT_EQ(Shown(Find({}, With(kSrun, {{"PMI_RANK", "3"}, {"PMI_SIZE", "8"}}), {true, false})), "processes 3/8 tcp://gpu007:15861");
  EXPECT_THAT(Shown(Find({}, With(kSrun, {{"PMI_RANK", "5"}, {"PMI_SIZE", "16"}}), {true, false})), HasSubstr("this build has no MPI"));
}

TEST(Launcher, Torchrun) {
  const StatusOr<Launcher> found = Find({}, kTorchrun);
  EXPECT_EQ(Shown(found), "processes 2/4 tcp://node1:29500");
  EXPECT_EQ(found->local_rank, 0);
  // Its agent listens at MASTER_PORT itself.
  EXPECT_EQ(Shown(Find({}, With(kTorchrun, {{"TORCHELASTIC_USE_AGENT_STORE", "True"}}))), "processes 2/4 tcp://node1:29501");
  EXPECT_THAT(Shown(Find({}, With(kTorchrun, {{"TORCHELASTIC_USE_AGENT_STORE", "True"}, {"MASTER_PORT", "65535"}}))),
              HasSubstr("give torchrun a lower --master-port"));
  EXPECT_EQ(Shown(Find({}, With(kSrun, kTorchrun))), "processes 2/4 tcp://node1:29500");  // torchrun as a task of srun
  EXPECT_THAT(Shown(Find({}, {{"RANK", "1"}, {"WORLD_SIZE", "2"}})), HasSubstr("but not MASTER_ADDR and MASTER_PORT"));
  EXPECT_THAT(Shown(Find({}, With(kTorchrun, {{"RANK", "4"}}))), HasSubstr("RANK=4 in the environment must be an integer from 0 to 3"));
  EXPECT_THAT(Shown(Find({}, With(kTorchrun, {{"MASTER_PORT", "http"}}))), HasSubstr("MASTER_PORT=http must be"));
}

TEST(Launcher, Srun) {
  const StatusOr<Launcher> found = Find({}, kSrun);
  EXPECT_EQ(Shown(found), "processes 3/8 tcp://gpu007:15861");
  EXPECT_EQ(found->local_rank, 1);
  EXPECT_EQ(found->job, "slurm-123-0-");
  // Another job, another step, another life of the job: neither the port nor the name are the same.
  const StatusOr<Launcher> next = Find({}, With(kSrun, {{"SLURM_STEP_ID", "1"}})),
                           again = Find({}, With(kSrun, {{"SLURM_RESTART_COUNT", "1"}}));
  EXPECT_NE(next->rendezvous.port, found->rendezvous.port);
  EXPECT_NE(again->job, found->job);
  EXPECT_EQ(Shown(Find({}, With(kSrun, {{"MASTER_ADDR", "10.1.1.1"}, {"MASTER_PORT", "4001"}}))), "processes 3/8 tcp://10.1.1.1:4001");
  EXPECT_EQ(Shown(Find({}, With(kSrun, {{"SLURM_STEP_RESV_PORTS", "12005-12012"}}))), "processes 3/8 tcp://gpu007:12005");
}

TEST(Launcher, SettingsOfTheEnvironment) {
  const StatusOr<Launcher> found = Find({}, With(kTorchrun, {{"LYCIA_ADDRESS", "192.168.0.7"}, {"LYCIA_SHARED_MEMORY", "off"}}));
  EXPECT_EQ(found->address, "192.168.0.7");
  EXPECT_FALSE(found->shared_memory);
  EXPECT_TRUE(Find({}, kTorchrun)->shared_memory);
  EXPECT_TRUE(Find({}, With(kTorchrun, {{"LYCIA_SHARED_MEMORY", "on"}}))->shared_memory);
  EXPECT_THAT(Shown(Find({}, {{"LYCIA_SHARED_MEMORY", "Off"}})), HasSubstr("LYCIA_SHARED_MEMORY=Off in the environment must be on or off"));
}

TEST(Launcher, RanksAsThreadsAndAsProcessesExcludeEachOther) {
  CommandSpec spec{.name = "train", .flags = {{.name = "ranks", .value = "N"}, {.name = "rank", .value = "R"}}};
  const std::vector<std::string> threads = {"--ranks=4"}, processes = {"--rank=1", "--ranks=4"};
  const Arguments of_threads = *ParseArguments(spec, threads), of_processes = *ParseArguments(spec, processes);
  const Launcher alone, rank{.kind = Kind::kProcesses};
  EXPECT_TRUE(CheckRanksFlag(of_threads, alone, 4).ok());
  EXPECT_TRUE(CheckRanksFlag(of_processes, rank, 4).ok());
  EXPECT_THAT(std::string(CheckRanksFlag(of_threads, rank, 4).message()), HasSubstr("one rank of 4; leave --ranks out"));
}

TEST(Launcher, TheRankThatTellsBadCommandLines) {
  const std::vector<std::string> none, flag = {"train", "--rank=3"}, words = {"train", "--ranks", "4", "--rank", "1"};
  EXPECT_EQ(ToldRank(none, Of({})), 0);
  EXPECT_EQ(ToldRank(flag, Of(kTorchrun)), 3);
  EXPECT_EQ(ToldRank(words, Of(kTorchrun)), 1);
  EXPECT_EQ(ToldRank(none, Of(kTorchrun)), 2);
  EXPECT_EQ(ToldRank(none, Of(kSrun)), 3);
}

TEST(Rendezvous, IsReadBackAsItIsWritten) {
  for (const char* text : {"tcp://node1:29500", "tcp://[fe80::1]:1", "tcp://10.0.0.1:65535", "file:/shared/lycia", "file:relative"}) {
    const StatusOr<Rendezvous> read = ParseRendezvous(text);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->ToString(), text);
  }
  EXPECT_EQ(ParseRendezvous("tcp://[::1]:80")->host, "::1");
}

TEST(Rendezvous, WhatIsNoPlaceIsRefused) {
  for (const char* text : {"", "node1:29500", "http://node1:1", "tcp://", "tcp://node1", "tcp://:29500", "tcp://node1:", "tcp://node1:0",
                           "tcp://node1:65536", "tcp://node1:29500/x", "tcp://fe80::1:1", "tcp://a b:1", "file:"}) {
    const Status refused = ParseRendezvous(text).status();
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << text;
  }
}

TEST(Rendezvous, TheFirstHostOfSlurmsLists) {
  for (const auto& [list, first] : std::vector<std::pair<const char*, const char*>>{{"node1", "node1"},
                                                                                    {"node1,node2", "node1"},
                                                                                    {"node[3-5,7]", "node3"},
                                                                                    {"node[07,09-12],other", "node07"},
                                                                                    {"rack[2-3]n[01-16]-ib0,x", "rack2n01-ib0"},
                                                                                    {"a-b.c[5]", "a-b.c5"}}) {
    ASSERT_TRUE(FirstHost(list).ok()) << list;
    EXPECT_EQ(*FirstHost(list), first);
  }
  for (const char* list : {"", ",a", "node[", "node[]", "node[-3]", "node[1"})
    EXPECT_TRUE(absl::IsInvalidArgument(FirstHost(list).status())) << list;
}

}  // namespace
}  // namespace lycia
