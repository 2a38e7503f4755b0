// Memory of one LayerStage for a test: slots and transient memory between borders, f64 weights and gradients by name.
#ifndef LYCIA_PARALLEL_PIPELINE_STAGE_MEMORY_FOR_TEST_H_
#define LYCIA_PARALLEL_PIPELINE_STAGE_MEMORY_FOR_TEST_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "parallel/pipeline/layer_stage.h"

namespace lycia {

class StageMemoryForTest {
 public:
  // Binds the stage. All memory but weights and gradients, which are zero, starts as NaN.
  StageMemoryForTest(LayerStage& stage, int slots) {
    LayerStage::Memory memory;
    for (int slot = 0; slot < slots; ++slot) memory.stash.push_back(NewBlock(stage.stash_bytes()));
    memory.transient = NewBlock(stage.transient_bytes());
    for (const ParameterSpec& spec : stage.parameters()) {
      weights_[spec.name].resize(static_cast<std::size_t>(spec.shape.elements()));
      gradients_[NameOf(spec.name, spec.use)].resize(weights_[spec.name].size());
      shapes_[spec.name] = spec.shape;
    }
    memory.weight = [this](const std::string& name) { return Tensor{weights_.at(name).data(), DType::kF64, shapes_.at(name)}; };
    memory.gradient = [this](const std::string& name, int use) {
      return Tensor{gradients_.at(NameOf(name, use)).data(), DType::kF64, shapes_.at(name)};
    };
    stage.Bind(memory);
  }

  std::map<std::string, std::vector<double>>& weights() { return weights_; }
  // By name; of a further use by "name#use".
  std::map<std::string, std::vector<double>>& gradients() { return gradients_; }
  // What another stage of the worker may do between two calls.
  void PoisonTransient() { Fill(blocks_.back()); }
  // Nothing was written before or behind a block.
  bool BordersAreIntact() const {
    for (const std::vector<Line>& block : blocks_) {
      if (!(block[0] == LineOf(kBorder)) || !(block[1] == LineOf(kBorder))) return false;
      if (!(block[block.size() - 1] == LineOf(kBorder)) || !(block[block.size() - 2] == LineOf(kBorder))) return false;
    }
    return true;
  }

 private:
  // Kernels expect tensors to start at cache lines.
  struct alignas(64) Line {
    std::array<std::uint64_t, 8> words{};
    bool operator==(const Line&) const = default;
  };
  static constexpr std::uint64_t kBorder = 0x7FF8ABCDABCDABCD, kNan = 0x7FF8000000000001;  // both are NaN as f64
  static constexpr int kBorderLines = 2;

  static Line LineOf(std::uint64_t word) {
    Line line;
    line.words.fill(word);
    return line;
  }
  static std::string NameOf(const std::string& name, int use) { return use == 0 ? name : name + "#" + std::to_string(use); }
  static void Fill(std::vector<Line>& block) { std::fill(block.begin() + kBorderLines, block.end() - kBorderLines, LineOf(kNan)); }
  void* NewBlock(std::int64_t bytes) {
    blocks_.emplace_back(static_cast<std::size_t>(bytes) / sizeof(Line) + 2 * kBorderLines, LineOf(kBorder));
    Fill(blocks_.back());
    return blocks_.back().data() + kBorderLines;
  }

  std::vector<std::vector<Line>> blocks_;
  std::map<std::string, std::vector<double>> weights_, gradients_;
  std::map<std::string, Shape> shapes_;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_PIPELINE_STAGE_MEMORY_FOR_TEST_H_
