#include "tests/layouts/memory_watch.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/device/testing/count_allocations.h"

namespace lycia::layouts {
namespace {

using schedule::Instruction;
using schedule::Op;

constexpr std::uint64_t kPoison = 0x7FF8DEADDEADDEAD;  // NaN as f64, and as two f32

// The three kinds by hand: slot, where its memory is, and what uses it. A slot lives from a micro-batch's first use to its last.
struct Kind {
  const char* name;
  int Instruction::*slot;
  std::vector<void*> LayerStage::Memory::*memory;
  Area area;
  std::vector<Op> users;
};
const Kind kKinds[] = {
    {"stash",
     &Instruction::stash_slot,
     &LayerStage::Memory::stash,
     Area::kStash,
     {Op::kLoad, Op::kForward, Op::kBackward, Op::kBackwardInput, Op::kBackwardWeight}},
    {"input",
     &Instruction::input_slot,
     &LayerStage::Memory::input,
     Area::kInput,
     {Op::kLoad, Op::kForward, Op::kBackward, Op::kBackwardInput}},
    {"handoff", &Instruction::handoff_slot, &LayerStage::Memory::handoff, Area::kHandoff, {Op::kBackwardInput, Op::kBackwardWeight}},
};

}  // namespace

void MemoryWatch::FindBlocks(const Trainer& trainer) {
  for (const auto& [key, stage] : trainer.stages()) {
    const auto [pipe, s] = key;
    transient_ = static_cast<std::uint64_t*>(stage->memory().transient);
    transient_bytes_ = std::max(transient_bytes_, stage->bytes(Area::kTransient));
    for (int kind = 0; kind < static_cast<int>(std::size(kKinds)); ++kind) {
      const std::vector<void*>& slots = stage->memory().*kKinds[kind].memory;
      const std::int64_t bytes = stage->bytes(kKinds[kind].area);
      for (std::size_t slot = 0; slot < slots.size(); ++slot) {
        block_of_[{kind, pipe, s, static_cast<int>(slot)}] = blocks_.size();
        blocks_.push_back({static_cast<std::uint64_t*>(slots[slot]), bytes,
                           absl::StrCat(kKinds[kind].name, " slot ", slot, " of pipe ", pipe, ", stage ", s),
                           std::vector<bool>(static_cast<std::size_t>(bytes / kLine))});
      }
    }
  }
  for (Block& block : blocks_) Poison(block.words, block.bytes);
  const auto worker = static_cast<std::size_t>(trainer.worker());
  training_ = UsesOf(trainer.schedule().program[worker]);
  evaluation_ = UsesOf(trainer.evaluation_schedule().program[worker]);
}

MemoryWatch::Uses MemoryWatch::UsesOf(const std::vector<Instruction>& program) const {
  Uses uses(program.size());
  std::map<std::pair<std::size_t, int>, std::pair<std::size_t, std::size_t>> last;  // (block, micro-batch) -> instruction, its use
  for (std::size_t i = 0; i < program.size(); ++i) {
    const Instruction& instruction = program[i];
    for (int kind = 0; kind < static_cast<int>(std::size(kKinds)); ++kind) {
      const std::vector<Op>& users = kKinds[kind].users;
      if (std::find(users.begin(), users.end(), instruction.op) == users.end()) continue;
      const std::size_t block = block_of_.at({kind, instruction.pipe, instruction.stage, instruction.*kKinds[kind].slot});
      const auto [entry, fresh] = last.try_emplace({block, instruction.micro_batch});
      entry->second = {i, uses[i].size()};
      uses[i].push_back({block, instruction.micro_batch, fresh, false});
    }
  }
  for (const auto& [key, at] : last) uses[at.first][at.second].last = true;
  return uses;
}

void MemoryWatch::Start(const Trainer& trainer, bool training) {
  if (blocks_.empty()) FindBlocks(trainer);
  uses_ = training ? &training_ : &evaluation_;
  next_ = 0;
  allocations_ = testing::AllocationsOfThisThread();
}

void MemoryWatch::Begin(const Instruction&, const std::string&) {
  for (const Use& use : (*uses_)[next_]) {
    Block& block = blocks_[use.block];
    if (use.first && block.owner >= 0) mistake_ = StrCat(block.name, " is taken by micro-batches ", block.owner, " and ", use.micro_batch);
    if (use.first) block.owner = use.micro_batch;
    if (block.owner != use.micro_batch) mistake_ = StrCat(block.name, " is not micro-batch ", use.micro_batch, "'s");
  }
}

void MemoryWatch::End(const Instruction& instruction) {
  for (const Use& use : (*uses_)[next_]) {
    if (!use.last) continue;
    Block& block = blocks_[use.block];
    Count(block);
    Poison(block.words, block.bytes);
    block.owner = -1;
  }
  if (schedule::IsCompute(instruction.op)) Poison(transient_, transient_bytes_);
  next_ = (next_ + 1) % uses_->size();  // an evaluation may run several times
}

Status MemoryWatch::Finish(const Trainer& trainer, bool training) {
  const std::int64_t allocations = testing::AllocationsOfThisThread() - allocations_;
  if (training && steps_++ > 0 && allocations > 0) return absl::InternalError(StrCat(allocations, " allocations in step ", steps_));
  if (!mistake_.empty()) return absl::InternalError(mistake_);
  if (training) return OkStatus();
  std::int64_t measured = 0;
  for (const Block& block : blocks_) {
    if (block.owner >= 0) return absl::InternalError(StrCat(block.name, " is never freed"));
    const auto lines = std::count(block.written.begin(), block.written.end(), true);
    if (lines * kLine != block.bytes) {
      return absl::InternalError(StrCat(block.name, " has ", block.bytes, " bytes, of which ", lines * kLine, " were ever written"));
    }
    measured += lines * kLine;
  }
  const std::int64_t planned = trainer.memory_plan().bytes("activations") + trainer.memory_plan().bytes("handoffs");
  if (measured == planned) return OkStatus();
  return absl::InternalError(StrCat("measured ", measured, " bytes of activations and handoffs, planned ", planned));
}

void MemoryWatch::Poison(std::uint64_t* words, std::int64_t bytes) { std::fill(words, words + bytes / 8, kPoison); }

void MemoryWatch::Count(Block& block) {
  for (std::size_t line = 0; line < block.written.size(); ++line) {
    const std::uint64_t* words = block.words + line * kLine / 8;
    block.written[line] = block.written[line] || std::any_of(words, words + kLine / 8, [](std::uint64_t word) { return word != kPoison; });
  }
}

}  // namespace lycia::layouts
