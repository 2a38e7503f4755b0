#include "runtime/comm/counters.h"

namespace lycia {

std::string_view Name(Operation operation) {
  switch (operation) {
    case Operation::kAllGather:
      return "all-gather";
    case Operation::kReduceScatter:
      return "reduce-scatter";
    case Operation::kAllReduce:
      return "all-reduce";
    case Operation::kBroadcast:
      return "broadcast";
    case Operation::kAllToAllV:
      return "all-to-all";
    case Operation::kSend:
      return "send";
    case Operation::kCount:
      break;
  }
  return "?";
}

std::string_view Name(Tag tag) {
  switch (tag) {
    case Tag::kSetup:
      return "setup";
    case Tag::kActivation:
      return "activation";
    case Tag::kGradient:
      return "gradient";
    case Tag::kWeight:
      return "weight";
    case Tag::kOptimizer:
      return "optimizer";
    case Tag::kDecide:
      return "decide";
    case Tag::kMetrics:
      return "metrics";
    case Tag::kCheckpoint:
      return "checkpoint";
    case Tag::kTest:
      return "test";
    case Tag::kNorm:
      return "norm";
    case Tag::kVector:
      return "vector";
    case Tag::kLoss:
      return "loss";
    case Tag::kCount:
      break;
  }
  return "?";
}

Counter Counters::total() const {
  Counter sum;
  for (const auto& by_tag : of) {
    for (const Counter& counter : by_tag) {
      sum.calls += counter.calls;
      sum.bytes += counter.bytes;
    }
  }
  return sum;
}

}  // namespace lycia
