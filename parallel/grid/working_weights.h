// WorkingWeights: what layers see of the parameters that a rank of a tensor grid stores.
//
// The store (parallel/optimizer/parameter_store.h) holds this rank's flat part of every parameter, which is what is summed over replicas,
// stepped and saved. A layer sees that part itself where it gathers the rest (Exchange::kEachUse); else a working copy of the block,
// gathered before a step's first forward, and a partial gradient of it, summed over the grid into the stored part once the step's last
// backward has added to it.
//
// All parts of one parameter are stored in one size, so that every rank of the grid has the same flat buffers: that of the largest part,
// where the rest is one element of zero.
#ifndef LYCIA_PARALLEL_GRID_WORKING_WEIGHTS_H_
#define LYCIA_PARALLEL_GRID_WORKING_WEIGHTS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "parallel/grid/parameter.h"
#include "parallel/grid/step_exchange.h"
#include "runtime/device/arena.h"

namespace lycia {

// What the store holds of a parameter, and the type of its gradient once it is summed over the grid. Internal error where it never is.
StatusOr<ParameterSpec> StoredSpec(const GridParameter& parameter, const Grid& grid);
// Elements of any rank's stored part.
std::int64_t StoredElements(const GridParameter& parameter, const Grid& grid);

class WorkingWeights {
 public:
  // The store's tensors, by the names of the parameters.
  struct StoreTensors {
    std::function<Tensor(const std::string& name)> weight;
    std::function<Tensor(const std::string& name, int use)> gradient;
  };
  // parameters: those of this rank's layers; one that several layers use alike may come several times. group_of: the parameter group, whose
  // gradients are summed at once, of a name. grid outlives this. dtype: of weights; gradients are f32 where that is bf16.
  WorkingWeights(const Grid& grid, DType dtype, const std::vector<GridParameter>& parameters,
                 const std::function<int(const std::string& name)>& group_of, ArenaPlan& plan);
  void Bind(const Arena& arena, const StoreTensors& stored);

  // As a layer sees it (GridParameter::LayerSpec).
  Tensor weight(const std::string& name) const;
  Tensor gradient(const std::string& name, int use) const;
  const GridParameter& parameter(const std::string& name) const;  // of its first use here

  // Before the step's first forward. Collective over the grid. Partial gradients are zero then: a step leaves them so.
  void GatherCopies(Stream& stream) const;
  // After the step's last backward of a group: its partial gradients are added to the stored ones. Collective over the grid.
  void ReducePartials(Stream& stream, int group) const;

 private:
  struct Entry {
    GridParameter parameter;
    Region copy_region, partial_region;
    Tensor stored, stored_gradient;  // this rank's elements, without the rest
    Tensor copy, partial;            // where the layer sees other memory than the store's
  };
  // A block that no other rank has a part of needs no copy.
  bool IsExchanged(const GridParameter& parameter) const;
  Entry& FirstUse(const std::string& name);

  const Grid* grid_;
  DType dtype_;
  std::map<std::pair<std::string, int>, Entry> entries_;    // by name and use
  std::map<int, std::unique_ptr<StepExchange>> exchanges_;  // by group
  Region staging_;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_GRID_WORKING_WEIGHTS_H_
