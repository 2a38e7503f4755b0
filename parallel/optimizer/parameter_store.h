// ParameterStore: the weights and gradients that one rank holds, one flat buffer a group.
#ifndef LYCIA_PARALLEL_OPTIMIZER_PARAMETER_STORE_H_
#define LYCIA_PARALLEL_OPTIMIZER_PARAMETER_STORE_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "parallel/optimizer/parameter_groups.h"
#include "runtime/core/tensor.h"
#include "runtime/device/arena.h"

namespace lycia {

class ParameterStore {
 public:
  // local_groups: indices into groups.groups that this rank is a member of. local_uses: every (name, use) that a layer on this rank
  // declares; the last use of a name accumulates straight into the flat gradient buffer (the head's, of a table that the embedding uses
  // first: all of it is written in every step), each earlier one into a buffer of its own. groups must outlive the store. Without gradients
  // (generation) only weights exist. dtype: of weights, bf16, f32 or f64; gradients are f32 where that is bf16.
  ParameterStore(const ParameterGroups& groups, std::vector<int> local_groups, const std::vector<ParameterSpec>& local_uses, DType dtype,
                 bool gradients, ArenaPlan& plan);
  void Bind(const Arena& arena);

  const ParameterGroups& groups() const { return *groups_; }
  const std::vector<int>& local_groups() const { return local_groups_; }
  bool holds(int group) const { return flat_.contains(group); }

  Tensor weight(const std::string& name) const;
  Tensor gradient(const std::string& name, int use) const;
  Tensor flat_weights(int group) const { return flat_.at(group).weights; }
  Tensor flat_gradients(int group) const { return flat_.at(group).gradients; }

  // All gradient buffers mean zero, before the first backward of a step: those whose mark somebody holds are marked, the others are zeroed.
  void ZeroGradients(Stream& stream);
  // Whether a gradient is still to be zeroed, or overwritten by the first that adds to it, who then takes the mark away (layer.h).
  // After Bind.
  bool* fresh(const std::string& name, int use);
  // Zeroes what nobody has written and adds the buffers of earlier uses into the group's flat gradients, before its sum over ranks. On the
  // CPU it leaves them zero, so that of a table of which a step has touched a few rows, the others are read once and never written.
  void AddUses(Stream& stream, int group);

 private:
  struct Flat {
    Region weight_region, gradient_region;
    Tensor weights, gradients;
  };
  struct EarlierUse {
    int group = 0;
    Region region;
    Tensor gradient;
    const PlacedParameter* parameter = nullptr;
  };
  struct Location {
    int group = 0;
    const PlacedParameter* parameter = nullptr;
    int last_use = -1;  // among the local ones
  };
  DType gradient_dtype() const { return ArithmeticDType(dtype_); }
  static Tensor Slice(const Tensor& flat, const PlacedParameter& parameter);

  const ParameterGroups* groups_;
  std::vector<int> local_groups_;
  DType dtype_;
  bool gradients_;
  std::map<int, Flat> flat_;
  std::map<std::string, Location> locations_;
  std::map<std::pair<std::string, int>, EarlierUse> earlier_;
  // One gradient buffer, or its place in a flat one.
  struct Sum {
    int group = 0;
    Tensor gradient;
    bool marked = false;  // somebody holds the mark
    bool fresh = false;   // the mark
    bool zero = false;    // AddUses has left it so
  };
  std::map<std::pair<std::string, int>, Sum> sums_;  // of (name, use)
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_OPTIMIZER_PARAMETER_STORE_H_
