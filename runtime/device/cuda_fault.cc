#include "runtime/device/cuda_fault.h"

#include "runtime/core/check.h"

namespace lycia::cuda {

Status FaultStatus(Fault fault, const FaultWord& word) {
  if (word.happened == 0) return OkStatus();
  switch (fault) {
    case Fault::kToken:
      return InvalidArgument("token ", word.value, " at place ", word.place, " of the micro-batch is outside the vocabulary of ",
                             word.limit, "; tokenize the data with the model's tokenizer, or raise the model's vocabulary");
    case Fault::kLabel:
      return InvalidArgument("label ", word.value, " at place ", word.place, " of the micro-batch is outside [-1, ", word.limit,
                             "); tokenize the data with the model's tokenizer, or raise the model's vocabulary");
    case Fault::kPosition:
      return InvalidArgument("position ", word.value, " at place ", word.place, " of the micro-batch is outside the rotary table of ",
                             word.limit, " positions; raise the model's context");
  }
  return OkStatus();
}

}  // namespace lycia::cuda
