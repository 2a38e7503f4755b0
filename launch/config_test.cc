// A wrong configuration must end before training with one line that says where, what and what would work; a right one must be read back
// as it was written.
#include "launch/config.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "bazel/build_config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launch/cli.h"

namespace lycia {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

StatusOr<Config> Parse(std::string_view text, std::vector<std::string> overrides = {}) { return ParseConfig(text, "run.toml", overrides); }

// The message of the mistake; checks that it is one line of bad input.
std::string Mistake(const Status& status) {
  EXPECT_EQ(ExitCode(status), kExitBadInput) << status;
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("\n")));
  return std::string(status.message());
}
std::string Mistake(std::string_view text, std::vector<std::string> overrides = {}) { return Mistake(Parse(text, overrides).status()); }

// The mistake that ResolveConfig finds after `overrides`.
std::string Misfit(int ranks, std::vector<std::string> overrides) {
  StatusOr<Config> config = Parse("", overrides);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? Mistake(ResolveConfig(ranks, *config)) : "";
}

TEST(Config, ReadsEveryTypeFromItsSection) {
  const StatusOr<Config> config = Parse(R"(
[model]
layers = 6
tied = false
dropout = 0.25
[train]
lr = 1          # an integer serves as a number
[data]
files = ["a.txt", "b.txt"]
[parallel]
schedule = "chimera"
partition = [2, 1, 1, 2]
[generate]
prompt = "To be,\n\"or\""
)");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->model.layers, 6);
  EXPECT_FALSE(config->model.tied);
  EXPECT_EQ(config->model.dropout, 0.25);
  EXPECT_EQ(config->train.lr, 1.0);
  EXPECT_EQ(config->data.files, (std::vector<std::string>{"a.txt", "b.txt"}));
  EXPECT_EQ(config->parallel.schedule, "chimera");
  EXPECT_EQ(config->parallel.partition, (std::vector<std::int64_t>{2, 1, 1, 2}));
  EXPECT_EQ(config->generate.prompt, "To be,\n\"or\"");
  EXPECT_EQ(config->train.batch, TrainConfig().batch);  // untouched keys keep their defaults
}

TEST(Config, AnUnknownKeyIsRefusedWithItsLineAndTheNearestOne) {
  EXPECT_EQ(Mistake("[train]\nstep = 3\n"), "run.toml:2: unknown key 'train.step'; did you mean 'train.steps'?");
  EXPECT_THAT(Mistake("[train]\nsteps = 3\n\nmicrobatch = 2\n"), AllOf(HasSubstr("run.toml:4:"), HasSubstr("'train.micro_batch'")));
  EXPECT_THAT(Mistake("[model]\nlr = 3\n"), HasSubstr("did you mean 'train.lr'?"));
  EXPECT_THAT(Mistake("[trian]\nlr = 3\n"), AllOf(HasSubstr("run.toml:1: unknown section [trian]"), HasSubstr("'train'")));
  EXPECT_THAT(Mistake("steps = 3\n"), HasSubstr("run.toml:1: unknown key 'steps'; did you mean 'train.steps'?"));
  EXPECT_THAT(Mistake("[train]\nfrobnicate = 1\n"), AllOf(HasSubstr("'train.frobnicate'"), Not(HasSubstr("did you mean"))));
  EXPECT_THAT(Mistake("", {"train.learning=1"}), HasSubstr("--set train.learning=1: unknown key"));
  EXPECT_THAT(Mistake("[train.lr]\nx = 1\n"), HasSubstr("train.lr must be a number, not a table"));
  EXPECT_THAT(Mistake("train = 3\n"), HasSubstr("write [train]"));
}

TEST(Config, TheFirstMistakeInTheFileIsTheOneReported) {
  EXPECT_THAT(Mistake("[train]\nzzzzz = 1\n[data]\naaaaa = 1\n"), HasSubstr("run.toml:2:"));
}

TEST(Config, AWrongTypeOrValueNamesItsPlace) {
  EXPECT_EQ(Mistake("[train]\n\nlr = \"fast\"\n"), "run.toml:3: train.lr must be a number, not a string");
  EXPECT_THAT(Mistake("[train]\nsteps = 1.5\n"), HasSubstr("train.steps must be an integer, not a number with a fraction"));
  EXPECT_THAT(Mistake("[train]\nsteps = -1\n"), HasSubstr("must be at least 1, not -1"));
  EXPECT_THAT(Mistake("[train]\nbeta1 = 1.0\n"), HasSubstr("must be below 1, not 1.0"));
  EXPECT_THAT(Mistake("[train]\neps = 0\n"), HasSubstr("must be above 0, not 0.0"));
  EXPECT_THAT(Mistake("[train]\nlr = nan\n"), HasSubstr("must be finite"));
  EXPECT_THAT(Mistake("[train]\nprecision = \"f8\"\n"), HasSubstr("must be one of bf16, f16, f32, f64, not 'f8'"));
  EXPECT_THAT(Mistake("[parallel]\nschedule = \"chimaera\"\n"),
              AllOf(HasSubstr("must be one of gpipe, 1f1b, "), HasSubstr(", auto, not 'chimaera'")));
  EXPECT_THAT(Mistake("[parallel]\npartition = [1, -2]\n"), HasSubstr("must be at least 0, not -2"));
  EXPECT_THAT(Mistake("[data]\nfiles = [1]\n"), HasSubstr("data.files must be a list of strings"));
  EXPECT_THAT(Mistake("[train\n"), HasSubstr("run.toml:1: not valid TOML"));
  EXPECT_THAT(Mistake("[train]\nlr = 1\nlr = 2\n"), HasSubstr("run.toml:3: not valid TOML"));
}

TEST(Config, OverridesWinInTheirOrderAndTakeBareWords) {
  const StatusOr<Config> config =
      Parse("[train]\nlr = 0.5\n[parallel]\npartition = [4]\n",
            {"train.lr=0.25", "train.lr=0.125", "output.dir=runs/a.b", "data.files=a.txt", "parallel.partition=auto"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->train.lr, 0.125);
  EXPECT_EQ(config->output.dir, "runs/a.b");
  EXPECT_EQ(config->data.files, std::vector<std::string>{"a.txt"});
  EXPECT_TRUE(config->parallel.partition.empty());
  EXPECT_EQ(Parse("", {"output.dir=2024"})->output.dir, "2024");  // a string key takes what looks like a number
  EXPECT_THAT(Mistake("", {"train.lr"}), HasSubstr("section.key=value"));
  EXPECT_THAT(Mistake("", {"train.steps=many"}), HasSubstr("--set train.steps=many: train.steps must be an integer, not a string"));
  EXPECT_THAT(Mistake("", {"train.steps="}), HasSubstr("no valid TOML value"));
  EXPECT_THAT(Mistake("", {"data.files=[\"a\""}), HasSubstr("no valid TOML value"));
  EXPECT_THAT(Mistake("", {"train.steps=3\ntrain = 4"}).substr(0, 6), "--set ");  // one value only, not a second line of TOML
}

TEST(Config, AMissingFileIsBadInput) {
  EXPECT_THAT(Mistake(LoadConfig("/nowhere/run.toml", {}).status()), HasSubstr("/nowhere/run.toml is missing"));
}

TEST(ResolveConfig, FillsWhatZeroLeavesOpen) {
  StatusOr<Config> config = Parse("", {"parallel.stages=2", "parallel.schedule=chimera", "train.batch=24", "train.micro_batch=2"});
  ASSERT_TRUE(ResolveConfig(6, *config).ok()) << ResolveConfig(6, *config);
  EXPECT_EQ(config->model.vocab, 256);
  EXPECT_EQ(config->model.ffn, 4 * config->model.hidden);
  EXPECT_EQ(config->parallel.data, 3);
  EXPECT_EQ(config->parallel.pipes, 2);
  EXPECT_EQ(MicroBatchesPerReplica(*config), 4);
  const std::string once = ToToml(*config);
  ASSERT_TRUE(ResolveConfig(6, *config).ok());  // what was resolved stays resolved
  EXPECT_EQ(ToToml(*config), once);
}

TEST(ResolveConfig, ALlamaIsRotaryAndItsMlpHasThreeMatrices) {
  StatusOr<Config> config = Parse("", {"model.kind=llama", "model.hidden=384"});
  ASSERT_TRUE(config.ok() && ResolveConfig(1, *config).ok());
  EXPECT_EQ(config->model.position, "rotary");
  EXPECT_EQ(config->model.ffn, 1024);  // 8/3 of 384; 1,536 of a GPT
  config = Parse("", {"model.kind=llama", "model.hidden=392", "model.heads=4"});
  ASSERT_TRUE(config.ok() && ResolveConfig(1, *config).ok());
  EXPECT_EQ(config->model.ffn, 1280);
  config = Parse("", {"model.hidden=384"});
  ASSERT_TRUE(config.ok() && ResolveConfig(1, *config).ok());
  EXPECT_EQ(config->model.position, "learned");
  EXPECT_EQ(config->model.ffn, 1536);
  EXPECT_THAT(Misfit(1, {"model.kind=llama", "model.position=learned"}), AllOf(HasSubstr("rotary positions"), HasSubstr("kind = \"gpt\"")));
  EXPECT_THAT(Misfit(1, {"model.kind=llama", "model.hidden=12", "model.heads=4"}), HasSubstr("is odd"));
}

TEST(ResolveConfig, SizesThatDoNotFitAreRefusedWithWhatWould) {
  EXPECT_THAT(Misfit(1, {"model.heads=5", "model.hidden=128"}), AllOf(HasSubstr("heads = 5"), HasSubstr("use heads = 4 or hidden = 130")));
  EXPECT_THAT(Misfit(1, {"model.heads=8", "model.kv_heads=3"}),
              AllOf(HasSubstr("model.kv_heads = 3 does not divide model.heads = 8"), HasSubstr("use kv_heads = 2, or 0")));
  EXPECT_THAT(Misfit(1, {"model.heads=4", "model.kv_heads=8"}), HasSubstr("use kv_heads = 4"));
  EXPECT_THAT(Misfit(1, {"model.heads=4", "model.kv_heads=3"}), HasSubstr("use kv_heads = 2"));  // as near as 4: the smaller one
  EXPECT_THAT(Misfit(1, {"model.vocab=100"}), HasSubstr("256"));
  EXPECT_THAT(Misfit(1, {"train.precision=f16"}), AllOf(HasSubstr("on GPUs only"), HasSubstr("use \"bf16\"")));
  EXPECT_THAT(Misfit(1, {"train.tf32=true"}), AllOf(HasSubstr("device = \"cpu\""), HasSubstr("leave it out")));
  EXPECT_THAT(Misfit(1, {"train.loss_scale=1024"}), AllOf(HasSubstr("is of f16"), HasSubstr("leave it out")));
  EXPECT_THAT(Mistake("[train]\nloss_scale = -1\n"), HasSubstr("train.loss_scale"));
  EXPECT_THAT(Misfit(1, {"train.loss_scale_initial=0.5"}), AllOf(HasSubstr("train.loss_scale_min = 1"), HasSubstr("e.g. 65536")));
  EXPECT_THAT(Misfit(1, {"parallel.device=emulated", "train.precision=f16", "train.loss_scale_initial=1e30"}), HasSubstr("e.g. 65536"));
  EXPECT_THAT(Misfit(2, {"train.batch=10", "train.micro_batch=4"}), AllOf(HasSubstr("2 replicas = 8"), HasSubstr("use batch = 8 or 16")));
  EXPECT_THAT(Misfit(1, {"train.batch=2", "train.micro_batch=4"}), HasSubstr("use batch = 4"));
  EXPECT_THAT(Misfit(3, {"parallel.schedule=chimera", "parallel.stages=3"}), AllOf(HasSubstr("even"), HasSubstr("use 2 or 4")));
  EXPECT_THAT(Misfit(4, {"parallel.schedule=chimera", "parallel.stages=4", "parallel.pipes=3"}), HasSubstr("use one of 2, 4"));
  EXPECT_THAT(Misfit(2, {"parallel.stages=2", "parallel.pipes=2"}), HasSubstr("pipes"));
  EXPECT_THAT(Misfit(6, {"parallel.stages=4"}), AllOf(HasSubstr("6 ranks"), HasSubstr("start 4 or 8 ranks")));
  EXPECT_THAT(Misfit(4, {"parallel.stages=2", "parallel.data=3"}), AllOf(HasSubstr("needs 6 ranks"), HasSubstr("there are 4")));
  EXPECT_THAT(Misfit(6, {"parallel.stages=2", "parallel.x=2", "parallel.z=2"}),
              AllOf(HasSubstr("stages = 2 times the tensor grid parallel.x, y, z = 2 x 1 x 2"), HasSubstr("start 8 ranks")));
  EXPECT_THAT(Misfit(12, {"parallel.stages=4", "parallel.y=2"}), AllOf(HasSubstr("start 8 or 16 ranks"), HasSubstr("use stages = 3")));
  EXPECT_THAT(Misfit(4, {"parallel.y=4", "parallel.data=2"}), AllOf(HasSubstr("needs 8 ranks"), HasSubstr("there are 4")));
  EXPECT_THAT(Misfit(2, {"parallel.y=2", "parallel.device=emulated"}), HasSubstr("parallel.x, y, z = 1, 2, 1"));
  EXPECT_THAT(Misfit(2, {"parallel.y=2", "reuse.mode=exact"}),
              AllOf(HasSubstr("reuse.mode = \"exact\""), HasSubstr("the tensor grid 1 x 2 x 1 cuts them; use reuse.mode = \"off\"")));
  EXPECT_THAT(Misfit(2, {"parallel.stages=2", "parallel.device=emulated", "reuse.mode=lsh"}), HasSubstr("no rows that could repeat"));
  EXPECT_THAT(Misfit(8, {"parallel.y=2", "parallel.stages=4", "parallel.schedule=chimera-halving", "train.micro_batch=2"}),
              HasSubstr("parts, which a tensor grid cannot"));
  EXPECT_THAT(Misfit(2, {"parallel.stages=2", "parallel.order=pipeline,date"}), HasSubstr("parallel.order"));
  EXPECT_THAT(Misfit(2, {"parallel.stages=2", "parallel.partition=[1, 1]"}), AllOf(HasSubstr("gives 2 blocks"), HasSubstr("layers = 4")));
  EXPECT_THAT(Misfit(1, {"train.lr=0.1", "train.min_lr=0.2"}), HasSubstr("min_lr"));
  EXPECT_THAT(Misfit(1, {"train.steps=5", "train.warmup_steps=6"}), HasSubstr("at most 5"));
  EXPECT_THAT(Misfit(1, {"output.trace_step=1000"}), HasSubstr("never reached"));
  EXPECT_THAT(Misfit(1, {"output.dir="}), HasSubstr("output.dir is empty"));
  EXPECT_THAT(Misfit(1, {"output.metrics=../m"}), HasSubstr("without '/'"));
}

// A schedule that a user wrote: two workers, two micro-batches, one stage each.
class ConfigScheduleFile : public ::testing::Test {
 protected:
  std::string Write(const std::string& csv) {
    std::ofstream(path_) << csv;
    return "parallel.schedule_file=" + path_;
  }
  const std::string path_ = ::testing::TempDir() + "/schedule_" + std::to_string(getpid()) + ".csv";
  const std::vector<std::string> sizes_ = {"parallel.stages=2", "train.batch=2", "train.micro_batch=1"};
  std::string Misfit(const std::string& csv, std::vector<std::string> more = {}, int ranks = 2) {
    std::vector<std::string> overrides = sizes_;
    overrides.push_back(Write(csv));
    overrides.insert(overrides.end(), more.begin(), more.end());
    return lycia::Misfit(ranks, overrides);
  }
};

constexpr const char* kGoodFile = "p0.0F0,p0.0F1,p0.0B0,p0.0B1\np0.1F0,p0.1B0,p0.1F1,p0.1B1\n";

TEST_F(ConfigScheduleFile, IsReadAndFixesPipesAndChunks) {
  std::vector<std::string> overrides = sizes_;
  overrides.push_back(Write(kGoodFile));
  StatusOr<Config> config = Parse("", overrides);
  ASSERT_TRUE(ResolveConfig(2, *config).ok()) << ResolveConfig(2, *config);
  EXPECT_EQ(config->parallel.schedule_csv, kGoodFile);
  EXPECT_EQ(config->parallel.pipes, 1);
  EXPECT_EQ(config->parallel.chunks, 1);
  ASSERT_TRUE(ResolveConfig(2, *config).ok());
}

TEST_F(ConfigScheduleFile, MistakesAreThoseOfAUser) {
  EXPECT_THAT(lycia::Misfit(2, {"parallel.stages=2", "parallel.schedule_file=/nowhere.csv"}), HasSubstr("/nowhere.csv is missing"));
  EXPECT_THAT(Misfit("p0.0F0,oops\n"), AllOf(HasSubstr("parallel.schedule_file: "), HasSubstr("oops")));
  EXPECT_THAT(Misfit(kGoodFile, {"parallel.stages=4"}, 4), AllOf(HasSubstr("has 2 rows"), HasSubstr("use parallel.stages = 2")));
  EXPECT_THAT(Misfit(kGoodFile, {"train.batch=3"}), AllOf(HasSubstr("has 2 micro-batches"), HasSubstr("a replica has 3")));
  EXPECT_THAT(Misfit(kGoodFile, {"parallel.pipes=2"}), AllOf(HasSubstr("pipes = 1"), HasSubstr("parallel.pipes = 2")));
  EXPECT_THAT(Misfit("p0.0B0,p0.0F0,p0.0F1,p0.0B1\np0.1F0,p0.1B0,p0.1F1,p0.1B1\n"), HasSubstr("backward comes before its forward"));
  EXPECT_THAT(Misfit("p0.0F0,p0.0F1,p0.0B0/0,p0.0B0/1,p0.0B1\np0.1F0,p0.1B0/0,p0.1B0/1,p0.1F1,p0.1B1\n"),
              AllOf(HasSubstr("in 2 parts"), HasSubstr("train.micro_batch = 1"), HasSubstr("use train.micro_batch = 2")));
}

TEST(ResolveConfig, AnEagerUpdateNeedsNoClipping) {
  EXPECT_THAT(Misfit(1, {"train.update=eager"}), AllOf(HasSubstr("train.clip = 1"), HasSubstr("use train.clip = 0")));
  StatusOr<Config> config = Parse("", {"train.update=eager", "train.clip=0"});
  EXPECT_TRUE(ResolveConfig(1, *config).ok());
}

TEST(ResolveConfig, AnEmulatedDeviceTakesWhatItCanUse) {
  const std::vector<std::string> emulated = {"parallel.device=emulated", "parallel.stages=2"};
  StatusOr<Config> config = Parse("", emulated);
  EXPECT_TRUE(ResolveConfig(2, *config).ok()) << ResolveConfig(2, *config);
  const auto misfit = [&](std::vector<std::string> more) {
    more.insert(more.begin(), emulated.begin(), emulated.end());
    return Misfit(2, more);
  };
  EXPECT_THAT(misfit({"emulate.cost=F=10,Q=20"}), AllOf(HasSubstr("emulate.cost"), HasSubstr("Q=20")));
  EXPECT_THAT(misfit({"checkpoint.resume=true"}), HasSubstr("no checkpoint to resume from"));
  EXPECT_THAT(misfit({"init.from=weights.safetensors"}), HasSubstr("leave it out"));
  EXPECT_THAT(misfit({"output.trace_step=2"}), HasSubstr("use \"wall\""));
  EXPECT_THAT(Mistake("", {"emulate.clock=sundial"}), HasSubstr("must be one of logical, wall"));
  EXPECT_THAT(Mistake("", {"emulate.latency=-1"}), HasSubstr("must be at least 0"));
}

TEST(ResolveConfig, AGpuTakesWhatThereIsOnOne) {
  StatusOr<Config> config = Parse("", {"parallel.device=cuda"});
  const Status plain = ResolveConfig(1, *config);
  if constexpr (!kCudaEnabled) {
    EXPECT_THAT(std::string(plain.message()), HasSubstr("build has no CUDA"));
    return;
  }
  EXPECT_TRUE(plain.ok()) << plain;
  for (const std::string more : {"model.kind=resnet50", "model.kind=llama", "train.precision=f16", "train.tf32=true", "reuse.mode=exact",
                                "reuse.mode=lsh"}) {
    std::vector<std::string> overrides = {"parallel.device=cuda", more};
    if (more == "model.kind=resnet50") overrides.push_back("data.format=generated");
    if (more == "reuse.mode=lsh") overrides.push_back("train.precision=f16");
    StatusOr<Config> taken = Parse("", overrides);
    const Status resolved = ResolveConfig(1, *taken);
    EXPECT_TRUE(resolved.ok()) << more << ": " << resolved;
  }
  EXPECT_THAT(Misfit(1, {"parallel.device=cuda", "train.precision=bf16", "train.tf32=true"}), HasSubstr("precision = \"bf16\""));
  EXPECT_THAT(Misfit(1, {"parallel.device=cuda", "train.precision=f64"}), AllOf(HasSubstr("proofs"), HasSubstr("device = \"cpu\"")));
  EXPECT_THAT(Misfit(1, {"parallel.device=cuda", "train.precision=f16", "train.update=eager", "train.clip=0"}),
              AllOf(HasSubstr("has overflowed"), HasSubstr("use train.update = \"decided\"")));
  for (const char* precision : {"train.precision=f16", "train.precision=bf16"}) {
    StatusOr<Config> images = Parse("", {"parallel.device=cuda", "reuse.mode=lsh", "model.kind=cnn", "data.format=generated", precision});
    const Status resolved = ResolveConfig(1, *images);
    EXPECT_TRUE(resolved.ok()) << precision << ": " << resolved;
  }
  EXPECT_THAT(Mistake("", {"parallel.device=tpu"}), HasSubstr("must be one of cpu, cuda, emulated"));
}

TEST(PrepareOutputFolder, MakesParentsAndRefusesWhatCannotBeWritten) {
  const std::string folder = ::testing::TempDir() + "/config_test_" + std::to_string(getpid());
  ASSERT_TRUE(PrepareOutputFolder(folder + "/a/b").ok());
  std::ofstream(folder + "/a/b/file") << "x";
  EXPECT_TRUE(std::ifstream(folder + "/a/b/file").good());
  EXPECT_FALSE(std::ifstream(folder + "/a/b/.writable").good());
  // A file stands where the folder should be: refused also for root.
  EXPECT_THAT(Mistake(PrepareOutputFolder(folder + "/a/b/file")), HasSubstr("output.dir"));
  EXPECT_THAT(Mistake(PrepareOutputFolder(folder + "/a/b/file/c")), HasSubstr("output.dir"));
  EXPECT_THAT(Mistake(PrepareOutputFolder("/proc/lycia")), HasSubstr("/proc/lycia"));
}

TEST(Config, CostsToPlanByAreChecked) {
  EXPECT_THAT(Misfit(2, {"parallel.stages=2", "parallel.cost=F=1,X=2"}), AllOf(HasSubstr("parallel.cost"), HasSubstr("X=2")));
  EXPECT_THAT(Misfit(2, {"parallel.stages=2", "parallel.latency=0.5"}), AllOf(HasSubstr("parallel.latency"), HasSubstr("parallel.cost")));
  EXPECT_THAT(Misfit(2, {"parallel.stages=2", "parallel.cost=F=1", "parallel.device=emulated"}), HasSubstr("emulate.cost"));
  // Four workers of 1F1B keep up to four activations.
  const std::vector<std::string> four = {"parallel.stages=4", "parallel.schedule=1f1b", "train.batch=8"};
  auto with_limit = [&](const std::string& limit) {
    std::vector<std::string> overrides = four;
    overrides.push_back("parallel.max_activations=" + limit);
    return overrides;
  };
  StatusOr<Config> enough = Parse("", with_limit("4"));
  ASSERT_TRUE(enough.ok());
  EXPECT_TRUE(ResolveConfig(4, *enough).ok());
  EXPECT_THAT(Misfit(4, with_limit("3")), AllOf(HasSubstr("keeps 4"), HasSubstr("parallel.max_activations = 3")));
}

}  // namespace
}  // namespace lycia
