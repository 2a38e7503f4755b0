#include "launch/config_keys.h"

#include <algorithm>

#include "parallel/schedule/generators.h"

namespace lycia::internal {
namespace {

#define AT(member) (+[](Config& config) { return &config.member; })

Valid Between(double least, double most) { return {.least = least, .most = most}; }
Valid AtLeast(double least) { return {.least = least, .most = kSizeLimit}; }
Valid Seed() { return {.least = 0}; }
Valid Above(double least) { return {.least = least, .above_least = true}; }
Valid OneOf(std::vector<std::string> words) { return {.one_of = std::move(words)}; }
Valid Any() { return {}; }
// A beta or a probability: [0, 1).
Valid Share() { return {.least = 0, .most = 1, .below_most = true}; }

std::vector<std::string> ScheduleNames() {
  std::vector<std::string> names;
  for (const schedule::Generator& generator : schedule::Generators()) names.push_back(generator.name);
  if (std::find(names.begin(), names.end(), "auto") == names.end()) names.push_back("auto");
  return names;
}

std::vector<Key> MakeKeys() {
  return {
      {"model.kind", AT(model.kind), OneOf({"gpt", "llama", "cnn", "vgg16", "resnet18", "resnet50"}),
       "architecture: gpt and llama (docs/llama.md) read text, the others images (models/image_model.h)"},
      {"model.layers", AT(model.layers), Between(1, 10000), "transformer blocks"},
      {"model.heads", AT(model.heads), Between(1, 10000), "attention heads; divides hidden"},
      {"model.kv_heads", AT(model.kv_heads), Between(0, 10000),
       "key/value heads, each used by heads / kv_heads heads; divides heads; 0: as many as heads"},
      {"model.hidden", AT(model.hidden), Between(1, 1 << 20), "features of a token"},
      {"model.context", AT(model.context), Between(1, 1 << 24), "tokens of a sequence"},
      {"model.vocab", AT(model.vocab), Between(0, 1 << 24), "size of the vocabulary; 0: from the data (256 bytes)"},
      {"model.ffn", AT(model.ffn), Between(0, 1 << 24), "features inside the feed-forward layer; 0: 4 * hidden, of a llama 8/3 * hidden"},
      {"model.tied", AT(model.tied), Any(), "the output head shares the token embedding's weights"},
      {"model.position", AT(model.position), OneOf({"auto", "learned", "rotary"}),
       "learned: a table added to the embedding; rotary: queries and keys turned in every block; auto: rotary of a llama"},
      {"model.rope_base", AT(model.rope_base), Between(1, 1e9), "base of the rotary angles"},
      {"model.norm_eps", AT(model.norm_eps), Above(0), "added to the variance, or mean square, of a norm's row"},
      {"model.dropout", AT(model.dropout), Share(), "probability of dropping an element"},
      {"model.init_std", AT(model.init_std), Above(0), "standard deviation of initial weights"},

      {"model.height", AT(model.height), Between(0, 1 << 14), "pixels of an image; 0: from the data (generated: 32), as the two below"},
      {"model.width", AT(model.width), Between(0, 1 << 14), "pixels"},
      {"model.channels", AT(model.channels), Between(0, 4), "channels of an image; generated: 0 means 3"},
      {"model.classes", AT(model.classes), Between(0, 1 << 20), "classes of images; 0: from the data (generated: 10)"},
      {"model.norm_samples", AT(model.norm_samples), Between(0, 1 << 20),
       "samples of a batch norm's statistics; divides micro_batch; 0: micro_batch. The same on two layouts: the same numbers"},
      {"model.norm_momentum", AT(model.norm_momentum), Between(0, 1), "weight of new statistics in a batch norm's running ones"},

      {"data.format", AT(data.format), OneOf({"text", "idx", "cifar10", "cifar100", "generated"}),
       "text for gpt and llama; for images IDX (MNIST), CIFAR's binary form, or made by the program"},
      {"data.files", AT(data.files), Any(),
       "text: read as bytes, joined by newlines; idx: images, labels, images, labels (also .gz); cifar: .bin files"},
      {"data.held_out", AT(data.held_out), Share(), "fraction at the end of the text or images that is never trained on"},
      {"data.fold", AT(data.fold), Between(0, 1 << 20),
       "for cross-validation: 0: the end is held out; k: the k-th part of the same size before it"},
      {"data.images", AT(data.images), Between(1, 1 << 30), "number of generated images"},
      {"data.shift", AT(data.shift), Between(0, 1 << 14), "training images are moved by up to so many pixels, zeros coming in"},
      {"data.mirror", AT(data.mirror), Any(), "half of the training images, by chance, are mirrored"},
      {"data.seed", AT(data.seed), Seed(), "of the choice of samples"},

      {"train.steps", AT(train.steps), AtLeast(1), "optimizer steps"},
      {"train.batch", AT(train.batch), Between(1, 1 << 30), "samples (sequences, images) of a step, over all replicas"},
      {"train.micro_batch", AT(train.micro_batch), Between(1, 1 << 30), "samples of a micro-batch"},
      {"train.seed", AT(train.seed), Seed(), "of initialisation and dropout"},
      {"train.precision", AT(train.precision), OneOf({"bf16", "f16", "f32", "f64"}),
       "type of weights and activations; with bf16 and f16 all sums, states and master weights are f32; f16: on GPUs only"},
      {"train.tf32", AT(train.tf32), Any(),
       "f32 on GPUs: matrix products on tensor cores, their operands rounded to 10 bits of fraction"},
      {"train.lr", AT(train.lr), AtLeast(0), "learning rate after warm-up"},
      {"train.min_lr", AT(train.min_lr), AtLeast(0), "learning rate at the last step (cosine)"},
      {"train.warmup_steps", AT(train.warmup_steps), AtLeast(0), "steps of linear warm-up"},
      {"train.weight_decay", AT(train.weight_decay), AtLeast(0), "decoupled decay of matrices"},
      {"train.beta1", AT(train.beta1), Share(), "AdamW's average of gradients"},
      {"train.beta2", AT(train.beta2), Share(), "AdamW's average of squared gradients"},
      {"train.eps", AT(train.eps), Above(0), "AdamW's epsilon"},
      {"train.clip", AT(train.clip), AtLeast(0), "largest global gradient norm; 0: off"},
      {"train.eval_every", AT(train.eval_every), AtLeast(0), "steps between evaluations; 0: only at the end"},
      {"train.eval_batches", AT(train.eval_batches), AtLeast(0), "global batches of an evaluation; 0: all that is held out"},
      {"train.recompute", AT(train.recompute), OneOf({"none", "layers", "stage"}), "what backward computes again instead of keeping it"},
      {"train.packed_weights", AT(train.packed_weights), OneOf({"auto", "on", "off"}),
       "hold weights packed for both passes, made once a step (twice their memory more, same numbers); auto: where micro-batches share "
       "them"},
      {"train.update", AT(train.update), OneOf({"decided", "eager"}),
       "when the optimizer steps: at the end, or each stage as soon as its gradient is there (needs clip = 0)"},
      {"train.loss_scale", AT(train.loss_scale), AtLeast(0),
       "f16: the loss is multiplied by it, so that small gradients do not vanish; 0: dynamic"},
      {"train.loss_scale_initial", AT(train.loss_scale_initial), Above(0), "f16: the dynamic loss scale of the first step"},
      {"train.loss_scale_growth_interval", AT(train.loss_scale_growth_interval), AtLeast(1),
       "f16: good steps in a row until the dynamic loss scale is doubled; an overflow skips the step and halves it"},
      {"train.loss_scale_min", AT(train.loss_scale_min), Above(0), "f16: an overflow at this dynamic loss scale ends the run"},
      {"train.hash_every", AT(train.hash_every), AtLeast(0), "steps between comparisons of the replicas' weights; 0: never"},

      {"parallel.schedule", AT(parallel.schedule), OneOf(ScheduleNames()), "pipeline schedule; auto: the fastest at parallel.cost"},
      {"parallel.schedule_file", AT(parallel.schedule_file), Any(),
       "CSV of a schedule to train with instead, one row a worker (lycia schedule --format=csv); \"\": none"},
      {"parallel.gradient_sync", AT(parallel.gradient_sync), OneOf({"lazy", "eager", "eager-opt"}),
       "when gradients are summed over replicas: after all compute, as soon as they are there, or that where a bubble follows"},
      {"parallel.stages", AT(parallel.stages), Between(1, 10000), "workers of one replica; each has chunks stages of each pipe"},
      {"parallel.data", AT(parallel.data), Between(0, 1 << 20), "data-parallel replicas; 0: ranks / (stages x y z)"},
      {"parallel.x", AT(parallel.x), Between(1, 4096), "tensor grid: cuts features (`lycia plan grid` finds x, y and z)"},
      {"parallel.y", AT(parallel.y), Between(1, 4096), "tensor grid: cuts heads, hidden units and vocabulary (1 y 1: Megatron's)"},
      {"parallel.z", AT(parallel.z), Between(1, 4096), "tensor grid: cuts the samples of a micro-batch (1 1 z: fully sharded)"},
      {"parallel.cache_inputs", AT(parallel.cache_inputs), Any(), "grid: keep gathered activations for the backward, else gather again"},
      {"parallel.cache_weights", AT(parallel.cache_weights), Any(), "grid: keep gathered weights for the backward, else gather again"},
      {"parallel.cache_output_gradients", AT(parallel.cache_output_gradients), Any(),
       "grid: keep gathered gradients between the halves of a split backward, else gather again"},
      {"parallel.overlap", AT(parallel.overlap), Any(),
       "grid: gather weights ahead and send gradients while computing; false: wait for each collective (same numbers)"},
      {"parallel.weights_each_step", AT(parallel.weights_each_step), Any(),
       "grid: gather weights and reduce their gradients once a step instead of for every micro-batch"},
      {"parallel.pipes", AT(parallel.pipes), Between(0, 10000), "pipelines; 0: what the schedule uses (chimera 2, one-directional ones 1)"},
      {"parallel.chunks", AT(parallel.chunks), Between(0, 10000),
       "stages of a worker and pipe; 0: what the schedule uses (interleaved: 2)"},
      {"parallel.order", AT(parallel.order), Any(), "axes of the mesh, slowest first; \"\": \"data,context,expert,pipeline,z,x,y\""},
      {"parallel.partition", AT(parallel.partition), Between(0, 10000),
       "blocks (of models of images: layers) of each stage in order, e.g. [2, 1, 1]; \"auto\": by cost"},
      {"parallel.threads", AT(parallel.threads), Between(0, 4096), "threads of a rank; 0: its share of the cores that it may run on"},
      {"parallel.device", AT(parallel.device), OneOf({"cpu", "cuda", "emulated"}),
       "where to compute; cuda: the ranks of a host take its GPUs in turn; emulated: [emulate] says how long it takes"},
      {"parallel.transport", AT(parallel.transport), OneOf({"auto", "mpi", "nccl", "tcp"}),
       "how ranks reach each other; auto: as they were started, GPUs of processes by NCCL; mpi, tcp: also GPUs, through page-locked "
       "memory; nccl: GPUs, also of threads"},
      {"parallel.cuda_graphs", AT(parallel.cuda_graphs), OneOf({"auto", "on", "off"}),
       "cuda: enqueue a stage's call as one graph (same numbers; not with dropout, a grid or reuse); auto: measured in the first steps"},

      {"parallel.cost", AT(parallel.cost), Any(),
       "ms of a stage's F=, B= or I= and W=, to plan by; stages apart by ';' (a traced step prints them); \"\": by FLOPs"},
      {"parallel.latency", AT(parallel.latency), Between(0, 1e5), "with cost: ms from a message's departure to its arrival"},
      {"parallel.transmit", AT(parallel.transmit), Between(0, 1e5), "with cost: ms of a message on its sender's one link"},
      {"parallel.sync", AT(parallel.sync), Between(0, 1e5), "with cost: ms of one gradient sum"},
      {"parallel.update", AT(parallel.update), Between(0, 1e5), "with cost: ms of the optimizer's step"},
      {"parallel.max_activations", AT(parallel.max_activations), Between(0, 1 << 20),
       "most activations that a worker may keep, in stages of D; 0: what the schedule wants"},

      {"reuse.mode", AT(reuse.mode), OneOf({"off", "exact", "quantized", "lsh"}),
       "compute equal rows once; quantized, lsh: alike ones too, by their mean (also --reuse); a controller decides where it pays"},
      {"reuse.layers", AT(reuse.layers), Any(), "layers, or beginnings of their names, e.g. [\"h.0.attn\", \"conv1\"]; []: all that can"},
      {"reuse.width", AT(reuse.width), Above(0), "of clusters at first: quantized: the step of rounding; lsh: cells of projections"},
      {"reuse.budget", AT(reuse.budget), Between(0, 1), "largest relative error of a layer's rows at first; halved in each phase"},
      {"reuse.dispatch", AT(reuse.dispatch), OneOf({"cost", "always"}),
       "reuse where it is predicted to be faster, or wherever rows repeat"},
      {"reuse.hash_every", AT(reuse.hash_every), AtLeast(1), "steps between looks for repeated rows in a dense layer"},
      {"reuse.probe_every", AT(reuse.probe_every), AtLeast(1), "steps between comparisons of one layer's gradient with the dense one"},
      {"reuse.patience", AT(reuse.patience), AtLeast(1), "steps without a better loss until the next phase: budgets and widths are halved"},
      {"reuse.cooldown", AT(reuse.cooldown), AtLeast(0), "steps that a layer is dense after a comparison that was bad"},
      {"reuse.final_fraction", AT(reuse.final_fraction), Between(0, 1), "of the run's steps, at its end: only equal rows, or none"},

      {"checkpoint.every", AT(checkpoint.every), AtLeast(0), "steps between checkpoints; 0: only at the end and on SIGTERM or SIGUSR1"},
      {"checkpoint.keep", AT(checkpoint.keep), AtLeast(1), "newest checkpoints that are kept"},
      {"checkpoint.resume", AT(checkpoint.resume), Any(), "continue from the newest good checkpoint of output.dir (also --resume)"},
      {"init.from", AT(init.from), Any(), "safetensors file with initial weights (GPT-2 names); \"\": random"},

      {"output.dir", AT(output.dir), Any(), "folder of everything that the run writes"},
      {"output.metrics", AT(output.metrics), Any(), "file of metrics inside it; \"\": none"},
      {"output.trace_step", AT(output.trace_step), AtLeast(0), "step (from 1) that is recorded as a trace and a picture; 0: none"},

      {"watchdog.deadline_seconds", AT(watchdog.deadline_seconds), Between(0, 1e7), "longest wait before a hang is diagnosed; 0: off"},
      {"watchdog.address", AT(watchdog.address), Any(),
       "address on which the first host's board listens for other hosts; \"\": that of its host name"},
      {"watchdog.start_seconds", AT(watchdog.start_seconds), Between(0.001, 1e7),
       "longest wait of processes for one another at the start, and for NCCL's communicators"},
      {"nccl.sums", AT(nccl.sums), OneOf({"library", "rank-order"}),
       "as NCCL makes them: repeatable; or with the bits of every other transport"},
      {"nccl.serial", AT(nccl.serial), Any(), "collectives of a rank one after the other: to try when a run hangs"},
      {"nccl.deadline_seconds", AT(nccl.deadline_seconds), Between(0, 1e7),
       "longest time of one operation, after which the run is ended; 0: as long as the watchdog allows"},
      {"log.every", AT(log.every), AtLeast(1), "steps between plain progress lines"},

      {"generate.tokens", AT(generate.tokens), AtLeast(0), "tokens of a sample"},
      {"generate.temperature", AT(generate.temperature), AtLeast(0), "0: always the likeliest token"},
      {"generate.top_k", AT(generate.top_k), AtLeast(0), "draw among the k likeliest tokens; 0: all"},
      {"generate.prompt", AT(generate.prompt), Any(), "text that the sample continues"},

      {"emulate.clock", AT(emulate.clock), OneOf({"logical", "wall"}),
       "time of an emulated device: exact and without waiting, or the host's"},
      {"emulate.cost", AT(emulate.cost), Any(), "ms of a stage's F=, B= or I= and W=; different stages: one list each, between ';'"},
      {"emulate.latency", AT(emulate.latency), Between(0, 1e6), "ms from a message's departure to its arrival"},
      {"emulate.bandwidth", AT(emulate.bandwidth), AtLeast(0), "bytes a second of a worker's link; 0: infinite"},
      {"emulate.sync", AT(emulate.sync), Between(0, 1e6), "ms of one gradient sum"},
      {"emulate.update", AT(emulate.update), Between(0, 1e6), "ms of the optimizer's step"},
  };
}

#undef AT

}  // namespace

std::span<const Key> Keys() {
  static const std::vector<Key>& keys = *new std::vector<Key>(MakeKeys());  // constant; never destroyed
  return keys;
}

const Key* FindKey(std::string_view name) {
  for (const Key& key : Keys()) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

std::vector<std::string> KeyNames() {
  std::vector<std::string> names;
  for (const Key& key : Keys()) names.push_back(key.name);
  return names;
}

}  // namespace lycia::internal
