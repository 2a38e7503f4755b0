// Config: everything that a training run is told, from a TOML file with strict keys and from --set section.key=value.
//
// Every mistake is InvalidArgument with one line: file:line, key, what is wrong, what would work (exit code 2). The keys, their meaning and
// defaults are one table (config_keys.cc), which `lycia train --help` prints (ConfigKeys).
#ifndef LYCIA_LAUNCH_CONFIG_H_
#define LYCIA_LAUNCH_CONFIG_H_

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/status.h"

namespace lycia {

struct ModelConfig {
  std::string kind = "gpt";  // gpt | llama | one of images
  std::int64_t layers = 4;
  std::int64_t heads = 4;
  std::int64_t kv_heads = 0;   // key/value heads, fewer: grouped queries; 0: as many as heads
  std::int64_t hidden = 128;   // C
  std::int64_t context = 128;  // T, tokens of a sequence
  std::int64_t vocab = 0;      // 0: from the data (256 bytes)
  std::int64_t ffn = 0;        // 0: 4 * hidden; of a llama 8/3 of it, up to a multiple of 256
  bool tied = true;            // the head is the token embedding
  double dropout = 0.0;
  double init_std = 0.02;
  std::string position = "auto";  // learned | rotary; auto: a llama's are rotary, a gpt's learned
  double rope_base = 10000;       // of rotary angles
  double norm_eps = 1e-5;
  // Of models of images; 0: from the data.
  std::int64_t height = 0, width = 0, channels = 0;
  std::int64_t classes = 0;
  std::int64_t norm_samples = 0;  // of a batch norm's statistics; 0: train.micro_batch
  double norm_momentum = 0.1;
  // Of the training images, not keys.
  std::array<double, 4> image_mean{}, image_deviation = {1, 1, 1, 1};

  bool reads_text() const { return kind == "gpt" || kind == "llama"; }  // else images
  bool rotary() const { return position == "rotary" || (position == "auto" && kind == "llama"); }
  std::int64_t ffn_or_default() const;
};

struct DataConfig {
  std::string format = "text";  // text | idx | cifar10 | cifar100 | generated
  std::vector<std::string> files;
  double held_out = 0.1;        // fraction at the end of the text or images, never trained on
  std::int64_t fold = 0;        // k > 0: the k-th part of that size before the end is held out
  std::int64_t images = 10000;  // generated
  std::int64_t shift = 0;       // augmentation of images
  bool mirror = false;
  std::int64_t seed = 1;
};

struct TrainConfig {
  std::int64_t steps = 200;
  std::int64_t batch = 16;       // samples of a step, over all replicas
  std::int64_t micro_batch = 1;  // samples of a micro-batch
  std::int64_t seed = 1;         // initialisation and dropout
  std::string precision = "f32";
  bool tf32 = false;
  double lr = 1e-3;
  double min_lr = 1e-4;
  std::int64_t warmup_steps = 20;
  double weight_decay = 0.1;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double clip = 1.0;                    // of the global gradient norm; 0: off
  std::int64_t eval_every = 0;          // steps; 0: only at the end
  std::int64_t eval_batches = 0;        // global batches of held-out text; 0: all of it
  std::string recompute = "none";       // none | layers | stage
  std::string packed_weights = "auto";  // auto | on | off
  // Of f16. loss_scale > 0: always this one; 0: dynamic, as the next three say.
  double loss_scale = 0;
  double loss_scale_initial = 65536;
  std::int64_t loss_scale_growth_interval = 2000;  // steps without an overflow until it is doubled
  double loss_scale_min = 1;                       // an overflow at this scale ends the run
  std::string update = "decided";                  // decided | eager: each stage as soon as its gradient is there; needs clip = 0
  std::int64_t hash_every = 0;                     // compare the replicas' weights every k steps; 0: never
};

struct ParallelConfig {
  std::string schedule = "1f1b";
  std::string schedule_file;                // CSV of a schedule to train with instead; "": none
  std::string schedule_csv;                 // its text, read by ResolveConfig; not a key
  std::string gradient_sync = "eager-opt";  // lazy | eager | eager-opt
  std::int64_t stages = 1;                  // D, workers of a replica; with c chunks the model is cut into c D stages
  std::int64_t data = 0;                    // W, replicas; 0: ranks / (stages x y z)
  std::int64_t x = 1, y = 1, z = 1;         // the tensor grid
  // What a rank of the grid keeps gathered until the backward; the rest is gathered again.
  bool cache_inputs = true, cache_weights = false, cache_output_gradients = true;
  bool overlap = true;                  // collectives of the grid under way while others compute; same numbers without
  bool weights_each_step = false;       // weights are gathered and their gradients reduced once a step, not for every micro-batch
  std::int64_t pipes = 0;               // 0: what the schedule uses (chimera 2, one-directional ones 1)
  std::int64_t chunks = 0;              // stages of a worker and pipe; 0: what the schedule uses
  std::string order = "";               // axes of the mesh from slowest to fastest; "": the mesh's own
  std::vector<std::int64_t> partition;  // layers of each stage; empty ("auto"): by cost
  std::string device = "cpu";           // cpu | cuda | emulated
  std::string transport = "auto";       // auto | mpi | nccl | tcp
  std::string cuda_graphs = "auto";     // auto | on | off
  std::int64_t threads = 0;             // of a rank; 0: its even share of the cores that the launcher gives
  // What schedules are planned for; times in milliseconds.
  std::string cost;                  // of compute, as for schedule::ParseCosts: one list, or one a stage; "": all by FLOPs
  double latency = 0;                // of a message
  double transmit = 0;               // of a message on its sender's link
  double sync = 0;                   // one gradient sum
  double update = 0;                 // the optimizer's step
  std::int64_t max_activations = 0;  // most that a worker may keep, in stages of D; 0: no limit
};

// What an emulated device takes; times in milliseconds.
struct EmulateConfig {
  std::string clock = "logical";   // logical | wall
  std::string cost = "F=10,B=20";  // of compute, as for schedule::ParseCosts: one list, or one a stage
  double latency = 0;              // of a message
  double bandwidth = 0;            // bytes a second of a worker's link; 0: infinite
  double sync = 0;                 // one gradient sum
  double update = 0;               // the optimizer's step
};

// Computation reuse (docs/computation_reuse.md).
struct ReuseConfig {
  std::string mode = "off";         // off | exact | quantized | lsh
  std::vector<std::string> layers;  // names or their beginnings; empty: all that can
  double width = 0.5;               // of clusters at first: quantized: the step of rounding; lsh: the cells of projections
  double budget = 0.2;              // largest relative error of a layer's rows at first
  std::string dispatch = "cost";    // cost | always: reuse where it is predicted to be faster, or wherever rows repeat
  std::int64_t hash_every = 100;    // steps between looks at a dense layer
  std::int64_t probe_every = 100;   // steps between comparisons of a layer's gradient with the dense one
  std::int64_t patience = 500;      // steps without a better loss until budgets and widths are halved
  std::int64_t cooldown = 500;      // steps that a layer is dense after a bad probe
  double final_fraction = 0.1;      // of the run's steps, at the end: exact or dense
};

struct CheckpointConfig {
  std::int64_t every = 0;  // steps; 0: only at the end and on SIGTERM or SIGUSR1
  std::int64_t keep = 2;   // newest k
  bool resume = false;     // --resume: continue from the newest good checkpoint of output.dir
};

struct InitConfig {
  std::string from;  // safetensors file; "": random
};

struct OutputConfig {
  std::string dir = "run";
  std::string metrics = "metrics.jsonl";  // in dir; "": none
  std::int64_t trace_step = 0;            // this step (from 1) is recorded to trace.json and the step's picture; 0: none
};

struct WatchdogConfig {
  double deadline_seconds = 60;  // of one wait; 0: off
  double start_seconds = 300;    // of processes for one another, until their world is open
  std::string address;           // where the first host's board listens for other hosts; "": the address of its host name
};

// Ranks on GPUs over NCCL (runtime/comm/nccl_world.h).
struct NcclConfig {
  std::string sums = "library";  // library | rank-order
  bool serial = false;
  double deadline_seconds = 0;  // of an operation that has started; 0: only the watchdog's
};

struct LogConfig {
  std::int64_t every = 10;  // steps between plain progress lines
};

struct GenerateConfig {
  std::int64_t tokens = 200;
  double temperature = 0.8;
  std::int64_t top_k = 0;  // 0: all
  std::string prompt = "\n";
};

struct Config {
  ModelConfig model;
  DataConfig data;
  TrainConfig train;
  ParallelConfig parallel;
  ReuseConfig reuse;
  CheckpointConfig checkpoint;
  InitConfig init;
  OutputConfig output;
  WatchdogConfig watchdog;
  NcclConfig nccl;
  LogConfig log;
  GenerateConfig generate;
  EmulateConfig emulate;
};

// One line of the table, for help.
struct ConfigKey {
  std::string name;           // "train.lr"
  std::string type;           // "an integer", "a list of strings", ..., as messages say it
  std::string default_value;  // as TOML
  std::string doc;
};
std::vector<ConfigKey> ConfigKeys();
std::string ConfigKeysHelp();  // the table as text

// Reads `path`, then the overrides "section.key=value" in their order (value in TOML syntax; a bare word is a string).
// Types and the validity of each single key are checked here; what needs several keys, in ResolveConfig.
StatusOr<Config> LoadConfig(const std::string& path, std::span<const std::string> overrides);
// The same from text; `name` stands for the file in messages.
StatusOr<Config> ParseConfig(std::string_view text, std::string_view name, std::span<const std::string> overrides);

// Fills in what 0 leaves open (vocab, ffn, data, pipes, chunks), reads the schedule file, and checks the keys against each other and
// against the number of ranks. Text shorter than a batch is found by TextData::Open, an unwritable folder by PrepareOutputFolder.
Status ResolveConfig(int ranks, Config& config);

// Micro-batches of one replica in one step (N of the schedule); after ResolveConfig.
std::int64_t MicroBatchesPerReplica(const Config& config);

// Makes the folder (and its parents) and proves that a file can be written there.
Status PrepareOutputFolder(const std::string& dir);

// The whole configuration as TOML; ParseConfig reads it back to an equal Config.
std::string ToToml(const Config& config);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_CONFIG_H_
