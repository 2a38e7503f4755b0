// Transfers: what a layer brings from other ranks for a computation and what it sends back, under way while other layers compute.
//
// A layer that computes with a weight it does not hold declares a transfer for it. The stage knows the order in which its calls use them:
// when one begins, the stage starts the next, which is then under way while this one's layer computes. What the weight gradient sends back
// is waited for when its place is needed again, at the latest at the end of the stage's call. There are two places, used in turn, so
// at most two neighbours in that order are in memory at once.
//
// Every operation has its own event, and all of them are started by the calling thread in an order that depends on nothing but the
// stage's layers: the same on all ranks.
#ifndef LYCIA_PARALLEL_LAYER_TRANSFER_H_
#define LYCIA_PARALLEL_LAYER_TRANSFER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "runtime/core/tensor.h"
#include "runtime/device/device.h"

namespace lycia {

class Layer;
struct LayerContext;

struct TransferHandle {
  int index = -1;
  bool operator==(const TransferHandle&) const = default;
};

struct TransferSpec {
  std::int64_t bytes = 0;  // of its place
  bool forward = false;    // fetched for Forward
  bool backward = false;   // fetched for BackwardInput
  bool into_kept = false;  // Forward's fetch fills kept tensors instead of the place; not with `backward`
  bool returns = false;    // BackwardWeight makes something in the place and sends it
  bool overlap = true;     // false: the stage does not fetch ahead, and the layer waits for what it sends
};

// Memory of one transfer, and the operations that are under way in it.
class TransferPlace {
 public:
  // Elements from an offset in bytes.
  Tensor View(const TensorSpec& spec, std::int64_t offset) const;
  // Later work of the stream may use the place. Waits even where the stream has failed: nothing may write to memory that is given up.
  void Await(Stream& stream);
  // The same but for operations of this queue, which end before those put on it later.
  void AwaitOthers(Stream& stream, const void* queue);
  // An operation has been started on a queue (a communicator) that runs its operations in the order of their calls.
  void Put(const Event& event, const void* queue);

 private:
  friend class Transfers;
  struct UnderWay {
    Event event;
    const void* queue;
  };
  // What one transfer sends back and what the next but one fetches: at most two weights each.
  static constexpr std::size_t kMost = 4;

  char* memory_ = nullptr;
  std::array<UnderWay, kMost> under_way_{};
  std::size_t count_ = 0;
};

// One use of a transfer in a call of a stage.
struct TransferStep {
  int layer = 0, transfer = 0;
  bool fetches = false;
  bool returns = false;
  bool early = false;       // may be fetched when the step before begins
  std::int64_t bytes = 0;   // of memory in its place
  std::int64_t offset = 0;  // of the place
};

// The transfers of one stage while it runs a call.
class Transfers {
 public:
  struct Call {
    std::span<const TransferStep> steps;
    std::span<const std::unique_ptr<Layer>> layers;
    std::span<const LayerContext> contexts;  // of each layer
    char* memory = nullptr;                  // of all places
  };
  void Start(const Call& call);
  // What a layer calls once for each step of its own: starts the next step's fetch, then waits for this one's. Broken promise: another step
  // is next.
  TransferPlace& Begin(const LayerContext& context, TransferHandle transfer);
  // Waits for all that is under way.
  void End(Stream& stream);

 private:
  void StartStep(std::size_t index);

  Call call_;
  std::size_t next_ = 0, started_ = 0;  // steps that have begun; whose fetch has started
  std::array<TransferPlace, 2> places_;
};

// Waits even where the stream has failed.
void AwaitAlways(Stream& stream, const Event& event);

}  // namespace lycia

#endif  // LYCIA_PARALLEL_LAYER_TRANSFER_H_
