// StepExchange: parameters that every rank of a group uses whole, although each owns only its part. Before the step's first forward the
// owned parts are gathered into working copies; after its last backward the partial gradients are summed into the owned parts.
// All small tensors of a group travel in one message.
#ifndef LYCIA_PARALLEL_GRID_STEP_EXCHANGE_H_
#define LYCIA_PARALLEL_GRID_STEP_EXCHANGE_H_

#include <array>
#include <vector>

#include "parallel/grid/parameter.h"

namespace lycia {

class StepExchange {
 public:
  // Memory of one parameter; [n] are the elements that this rank owns.
  struct Binding {
    Tensor owned;           // [n] weights
    Tensor owned_gradient;  // [n], += by Reduce
    Tensor copy;            // the block's weights, = by Gather
    Tensor partial;         // the block's gradient as the layers left it, zeroed by Reduce
  };

  // Those of `parameters` with Exchange::kEachStep and kFused, in this order on every rank. Further uses of a parameter follow its first;
  // they have its working copy, and gradients of their own.
  // dtype: of weights; their gradients are f32 where that is bf16.
  StepExchange(const Grid& grid, DType dtype, const std::vector<GridParameter>& parameters);
  const std::vector<GridParameter>& parameters() const { return parameters_; }
  std::int64_t staging_bytes() const { return staging_elements_ * SizeOf(ArithmeticDType(dtype_)); }
  void Bind(void* staging, const std::vector<Binding>& bindings);

  void Gather(Stream& stream) const;
  // Their gradients' type is that of the owned part from here on: no axis is partial.
  void Reduce(Stream& stream) const;

 private:
  // The fused tensors of one group: part p of all of them, one after the other, is elements [offsets[p], offsets[p + 1]) of the message.
  struct Message {
    std::vector<std::size_t> members;  // of parameters_
    std::vector<std::int64_t> offsets;
    int own = 0;  // this rank's position
  };
  Tensor Staging(DType dtype, std::int64_t begin, std::int64_t end) const;
  // visit(parameter, its part of position p, that part's place in the message)
  template <typename F>
  void ForEachPart(const Message& message, DType dtype, int position, const F& visit) const;

  const Grid* grid_;
  DType dtype_;
  std::vector<GridParameter> parameters_;
  std::vector<std::vector<std::int64_t>> offsets_;  // of each parameter's owners
  std::vector<bool> gathered_;                      // not a further use
  std::array<Message, kNumGridGroups> messages_;
  std::int64_t staging_elements_ = 0;
  void* staging_ = nullptr;
  std::vector<Binding> bindings_;
};

}  // namespace lycia

#endif  // LYCIA_PARALLEL_GRID_STEP_EXCHANGE_H_
