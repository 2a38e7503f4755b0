// Memory of one LayerStage for a test: slots and transient memory between borders, weights and gradients by name.
#ifndef LYCIA_PARALLEL_PIPELINE_STAGE_MEMORY_FOR_TEST_H_
#define LYCIA_PARALLEL_PIPELINE_STAGE_MEMORY_FOR_TEST_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "parallel/pipeline/layer_stage.h"

namespace lycia {

// Number: double, float or BFloat16, as the stage was planned. Gradient: of gradients, states and observations.
template <typename Number, typename Gradient = Arithmetic<Number>>
class StageMemoryOf {
 public:
  // Binds the stage. All memory but weights and gradients, which are zero, starts as NaN. samples: of the global batch, for states.
  // reuse: what steps do about repeated rows; absent: nothing.
  StageMemoryOf(LayerStage& stage, int slots, std::int64_t samples = 0, std::function<const ReuseSlot*(const std::string&)> reuse = {}) {
    LayerStage::Memory memory;
    memory.reuse = std::move(reuse);
    for (int slot = 0; slot < slots; ++slot) {
      memory.stash.push_back(NewBlock(stage, Area::kStash));
      memory.input.push_back(NewBlock(stage, Area::kInput));
      memory.handoff.push_back(NewBlock(stage, Area::kHandoff));
    }
    memory.transient = NewBlock(stage, Area::kTransient);
    for (const ParameterSpec& spec : stage.parameters()) {
      weights_[spec.name].resize(static_cast<std::size_t>(spec.shape.elements()));
      gradients_[NameOf(spec.name, spec.use)].resize(weights_[spec.name].size());
      shapes_[spec.name] = spec.shape;
    }
    memory.weight = [this](const std::string& name) { return Tensor{weights_.at(name).data(), DTypeOf<Number>::value, shapes_.at(name)}; };
    memory.gradient = [this](const std::string& name, int use) {
      return Tensor{gradients_.at(NameOf(name, use)).data(), DTypeOf<Gradient>::value, shapes_.at(name)};
    };
    if (stage.packed_bytes() > 0) {
      packed_.resize(static_cast<std::size_t>(stage.packed_bytes()) / sizeof(Line) + 1, LineOf(kNan));
      memory.packed = packed_.data();
    }
    for (const StateSpec& spec : samples > 0 ? stage.states() : std::vector<StateSpec>()) {
      const auto elements = static_cast<std::size_t>(spec.shape.elements());
      states_[spec.name].assign(elements, spec.initial == Initial::kOne ? 1 : 0);
      observations_[spec.name].assign(elements * static_cast<std::size_t>(samples / spec.samples),
                                      std::numeric_limits<Gradient>::quiet_NaN());
      shapes_[spec.name] = spec.shape;
    }
    if (samples > 0) {
      memory.state = [this](const std::string& name) { return Tensor{states_.at(name).data(), DTypeOf<Gradient>::value, shapes_.at(name)}; };
      memory.observations = [this](const std::string& name) {
        std::vector<Gradient>& rows = observations_.at(name);
        const auto of_row = static_cast<std::int64_t>(states_.at(name).size());
        return Tensor{rows.data(), DTypeOf<Gradient>::value, {static_cast<std::int64_t>(rows.size()) / of_row, of_row}};
      };
    }
    stage.Bind(memory);
  }

  std::map<std::string, std::vector<Number>>& weights() { return weights_; }
  // By name; of a further use by "name#use".
  std::map<std::string, std::vector<Gradient>>& gradients() { return gradients_; }
  // Of one dimension, by name.
  std::map<std::string, std::vector<Gradient>>& states() { return states_; }
  std::map<std::string, std::vector<Gradient>>& observations() { return observations_; }
  // What others may do with a slot that is free, and with transient memory between any two calls.
  void Poison(Area area, int slot = 0) { Fill(blocks_[static_cast<std::size_t>(area)][static_cast<std::size_t>(slot)]); }
  // Nothing was written before or behind a block.
  bool BordersAreIntact() const {
    return std::all_of(blocks_.begin(), blocks_.end(),
                       [](const auto& of_area) { return std::all_of(of_area.begin(), of_area.end(), IsIntact); });
  }

 private:
  // Kernels expect tensors to start at cache lines.
  struct alignas(64) Line {
    std::array<std::uint64_t, 8> words{};
    bool operator==(const Line&) const = default;
  };
  static constexpr std::uint64_t kBorder = 0x7FF8ABCD7FF8ABCD, kNan = 0x7FF800017FF80001;  // NaN as f64, and each half as f32
  static constexpr int kBorderLines = 2;

  static Line LineOf(std::uint64_t word) {
    Line line;
    line.words.fill(word);
    return line;
  }
  static std::string NameOf(const std::string& name, int use) { return use == 0 ? name : name + "#" + std::to_string(use); }
  static void Fill(std::vector<Line>& block) { std::fill(block.begin() + kBorderLines, block.end() - kBorderLines, LineOf(kNan)); }
  static bool IsIntact(const std::vector<Line>& block) {
    const Line border = LineOf(kBorder);
    return block[0] == border && block[1] == border && block[block.size() - 1] == border && block[block.size() - 2] == border;
  }
  void* NewBlock(const LayerStage& stage, Area area) {
    std::vector<std::vector<Line>>& blocks = blocks_[static_cast<std::size_t>(area)];
    blocks.emplace_back(static_cast<std::size_t>(stage.bytes(area)) / sizeof(Line) + 2 * kBorderLines, LineOf(kBorder));
    Fill(blocks.back());
    return blocks.back().data() + kBorderLines;
  }

  std::array<std::vector<std::vector<Line>>, kNumAreas> blocks_;
  std::map<std::string, std::vector<Number>> weights_;
  std::map<std::string, std::vector<Gradient>> gradients_, states_, observations_;
  std::vector<Line> packed_;
  std::map<std::string, Shape> shapes_;
};
using StageMemoryForTest = StageMemoryOf<double>;

}  // namespace lycia

#endif  // LYCIA_PARALLEL_PIPELINE_STAGE_MEMORY_FOR_TEST_H_
