// Every key of the configuration: what is written is read back, and help lists all of them.
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launch/config.h"

namespace lycia {
namespace {

using ::testing::HasSubstr;

TEST(ConfigKeys, AnyValueSurvivesToTomlAndBack) {
  // Every key away from its default, with values that a careless writer or reader would lose.
  const std::vector<std::string> overrides = {"model.layers=7",
                                              "model.heads=3",
                                              "model.kv_heads=1",
                                              "model.hidden=96",
                                              "model.context=33",
                                              "model.vocab=300",
                                              "model.ffn=100",
                                              "model.tied=false",
                                              "model.position=rotary",
                                              "model.rope_base=500000.5",
                                              "model.norm_eps=1e-4",
                                              "model.dropout=0.1",
                                              "model.init_std=1e-5",
                                              "model.kind=cnn",
                                              "model.height=28",
                                              "model.width=29",
                                              "model.channels=1",
                                              "model.classes=7",
                                              "model.norm_samples=2",
                                              "model.norm_momentum=0.25",
                                              "data.format=idx",
                                              "data.fold=3",
                                              "data.images=77",
                                              "data.shift=2",
                                              "data.mirror=true",
                                              "reuse.mode=lsh",
                                              "reuse.layers=[\"h.0.attn\"]",
                                              "reuse.width=0.75",
                                              "reuse.budget=0.5",
                                              "reuse.dispatch=always",
                                              "reuse.hash_every=7",
                                              "reuse.probe_every=8",
                                              "reuse.patience=9",
                                              "reuse.cooldown=10",
                                              "reuse.final_fraction=0.3",
                                              "data.files=[\"a b\", 'c\\d']",
                                              "data.held_out=0.333333333333333314829616256247",
                                              "data.seed=9007199254740993",
                                              "train.steps=3",
                                              "train.batch=6",
                                              "train.micro_batch=2",
                                              "train.seed=5",
                                              "train.precision=f64",
                                              "train.tf32=true",
                                              "train.lr=0.30000000000000004",
                                              "train.min_lr=1e-20",
                                              "train.warmup_steps=1",
                                              "train.weight_decay=0",
                                              "train.beta1=0.5",
                                              "train.beta2=0.25",
                                              "train.eps=1e-300",
                                              "train.clip=2",
                                              "train.eval_every=4",
                                              "train.eval_batches=2",
                                              "train.recompute=stage",
                                              "train.packed_weights=on",
                                              "train.update=eager",
                                              "train.loss_scale=512",
                                              "train.loss_scale_initial=1024.5",
                                              "train.loss_scale_growth_interval=7",
                                              "train.loss_scale_min=0.25",
                                              "train.hash_every=9",
                                              "parallel.schedule=chimera",
                                              "parallel.schedule_file=a.csv",
                                              "parallel.gradient_sync=lazy",
                                              "parallel.stages=2",
                                              "parallel.chunks=1",
                                              "parallel.data=3",
                                              "parallel.x=2",
                                              "parallel.y=3",
                                              "parallel.z=4",
                                              "parallel.cache_inputs=false",
                                              "parallel.cache_weights=true",
                                              "parallel.cache_output_gradients=false",
                                              "parallel.overlap=false",
                                              "parallel.weights_each_step=true",
                                              "parallel.pipes=2",
                                              "parallel.order=pipeline,data",
                                              "parallel.partition=[3, 4]",
                                              "parallel.threads=3",
                                              "parallel.device=emulated",
                                              "parallel.cost=F=3/2,B=2",
                                              "parallel.latency=0.25",
                                              "parallel.transmit=0.125",
                                              "parallel.sync=4",
                                              "parallel.update=3",
                                              "parallel.max_activations=6",
                                              "emulate.clock=wall",
                                              "emulate.cost=F=3/2,I=1,W=2",
                                              "emulate.latency=0.05",
                                              "emulate.bandwidth=25e9",
                                              "emulate.sync=0.5",
                                              "emulate.update=0.25",
                                              "checkpoint.every=5",
                                              "checkpoint.keep=4",
                                              "checkpoint.resume=true",
                                              "init.from=/some/where.safetensors",
                                              "output.dir=a \"quoted\" \x01 \xc3\xa9",
                                              "output.metrics=",
                                              "output.trace_step=2",
                                              "watchdog.deadline_seconds=0.5",
                                              "watchdog.address=10.0.0.1",
                                              "watchdog.start_seconds=7.5",
                                              "nccl.sums=rank-order",
                                              "nccl.serial=true",
                                              "nccl.deadline_seconds=9.25",
                                              "parallel.transport=nccl",
                                              "parallel.cuda_graphs=off",
                                              "log.every=3",
                                              "generate.tokens=1",
                                              "generate.temperature=0",
                                              "generate.top_k=40",
                                              "generate.prompt=\"\\t\\n\\\\\""};
  const StatusOr<Config> config = ParseConfig("", "run.toml", overrides);
  ASSERT_TRUE(config.ok()) << config.status();
  const std::string text = ToToml(*config), defaults = ToToml(Config());
  const StatusOr<Config> again = ParseConfig(text, "run.toml", {});
  ASSERT_TRUE(again.ok()) << again.status() << "\n" << text;
  EXPECT_EQ(ToToml(*again), text);
  EXPECT_EQ(again->train.lr, 0.30000000000000004);
  EXPECT_EQ(again->data.seed, 9007199254740993);
  EXPECT_EQ(again->output.dir, "a \"quoted\" \x01 \xc3\xa9");
  EXPECT_EQ(again->generate.prompt, "\t\n\\");
  EXPECT_EQ(again->data.files, (std::vector<std::string>{"a b", "c\\d"}));
  // No key was forgotten above: every line but the section headings differs from the defaults.
  std::istringstream changed(text), original(defaults);
  std::string one, other;
  while (std::getline(changed, one) && std::getline(original, other)) {
    const bool has_one_value = one.empty() || one[0] == '[' || one.rfind("device", 0) == 0;
    EXPECT_TRUE(has_one_value || one != other) << one;
  }
}

TEST(ConfigKeys, HelpListsEveryKeyOnce) {
  std::set<std::string> names;
  for (const ConfigKey& key : ConfigKeys()) {
    EXPECT_TRUE(names.insert(key.name).second) << key.name;
    EXPECT_FALSE(key.doc.empty()) << key.name;
    EXPECT_THAT(ConfigKeysHelp(), HasSubstr(key.name));
  }
  EXPECT_EQ(names.count("train.micro_batch"), 1u);
  EXPECT_THAT(ConfigKeysHelp(), HasSubstr("chimera"));
}

}  // namespace
}  // namespace lycia
