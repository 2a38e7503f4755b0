// MemoryWatch: measures what a rank's slots hold while it trains, and makes every wrong assumption about their lifetimes show.
//
// Who uses a slot, from when to when, is read off the programs anew. A slot's memory is filled with NaN before its first use and again
// right after its last, transient memory after every instruction: a tensor that is read outside its lifetime ruins the numbers. Before a
// slot is freed, the cache lines that were written are counted. At the end they must be all that the memory plan has: what was measured is
// what was planned, no byte less.
#ifndef LYCIA_TESTS_LAYOUTS_MEMORY_WATCH_H_
#define LYCIA_TESTS_LAYOUTS_MEMORY_WATCH_H_

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "tests/layouts/layout_run.h"

namespace lycia::layouts {

class MemoryWatch final : public RankWatch, private StepObserver {
 public:
  StepObserver* observer() override { return this; }
  void Start(const Trainer& trainer, bool training) override;
  // Internal where a slot was used twice at once, or allocations happened after the first step. After the evaluation also where the
  // measured bytes of all slots are not the planned ones, which are then used up.
  Status Finish(const Trainer& trainer, bool training) override;

 private:
  static constexpr std::int64_t kLine = 64;
  // One slot's memory.
  struct Block {
    std::uint64_t* words = nullptr;
    std::int64_t bytes = 0;
    std::string name;
    std::vector<bool> written;  // [line]
    int owner = -1;             // micro-batch
  };
  // What begins and ends with one instruction.
  struct Use {
    std::size_t block = 0;
    int micro_batch = 0;
    bool first = false, last = false;
  };
  using Uses = std::vector<std::vector<Use>>;  // [instruction]

  void FindBlocks(const Trainer& trainer);
  Uses UsesOf(const std::vector<schedule::Instruction>& program) const;
  void Begin(const schedule::Instruction& instruction, const std::string& text) override;
  void End(const schedule::Instruction& instruction) override;
  static void Poison(std::uint64_t* words, std::int64_t bytes);
  static void Count(Block& block);

  std::vector<Block> blocks_;
  std::map<std::tuple<int, int, int, int>, std::size_t> block_of_;  // (kind, pipe, stage, slot)
  std::uint64_t* transient_ = nullptr;
  std::int64_t transient_bytes_ = 0;
  Uses training_, evaluation_;
  const Uses* uses_ = nullptr;  // of the program that runs
  std::size_t next_ = 0;        // instruction
  std::string mistake_;
  std::int64_t allocations_ = 0;
  int steps_ = 0;
};

}  // namespace lycia::layouts

#endif  // LYCIA_TESTS_LAYOUTS_MEMORY_WATCH_H_
