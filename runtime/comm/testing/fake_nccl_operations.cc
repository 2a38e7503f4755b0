// Entry points of the fake NCCL: collectives, messages, groups of them. A call only notes what is to be done.
#include <algorithm>
#include <cstring>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "runtime/comm/fold.h"
#include "runtime/comm/testing/fake_nccl_clique.h"
#include "runtime/core/check.h"
#include "runtime/core/status.h"

namespace {

using lycia::DType;
using lycia::StrCat;
using lycia::fake_nccl::Check;
using lycia::fake_nccl::Item;
using lycia::fake_nccl::Meeting;
using lycia::fake_nccl::Misused;
using lycia::fake_nccl::Operand;
using lycia::fake_nccl::Operation;
using lycia::fake_nccl::TheState;

struct Group {
  int depth = 0;
  std::map<ncclComm_t, Operation> of;
  std::vector<ncclComm_t> order;
  ncclResult_t failure = ncclSuccess;
};
thread_local Group group;

std::size_t SizeOf(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8:
      return 1;
    case ncclFloat16:
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
      return 4;
    default:
      return 8;
  }
}

DType TypeOf(ncclDataType_t type) {
  switch (type) {
    case ncclBfloat16:
      return DType::kBF16;
    case ncclFloat16:
      return DType::kF16;
    case ncclFloat32:
      return DType::kF32;
    case ncclFloat64:
      return DType::kF64;
    case ncclInt64:
    case ncclUint64:
      return DType::kI64;
    default:
      LYCIA_CHECK(false) << "a sum of NCCL type " << static_cast<int>(type) << " ";
  }
  return DType::kU8;
}

bool Reachable(const void* data) {
  cudaPointerAttributes attributes{};
  return data == nullptr || (cudaPointerGetAttributes(&attributes, data) == cudaSuccess && attributes.type != cudaMemoryTypeUnregistered);
}

// The sum from the last rank down, into each of `outs`.
void Reduce(const Meeting& meeting, ncclDataType_t type, ncclRedOp_t op, std::size_t offset, std::size_t count,
            std::span<void* const> outs) {
  std::vector<const void*> sources;
  for (std::size_t r = meeting.operands.size(); r-- > 0;) {
    sources.push_back(static_cast<const char*>(meeting.operands[r].in) + offset * SizeOf(type));
  }
  std::vector<char> sum(count * SizeOf(type));
  lycia::LeftFold(TypeOf(type), sources, static_cast<std::int64_t>(count), op == ncclMax ? lycia::Fold::kLargest : lycia::Fold::kSum, false,
                  sum.data());
  for (void* out : outs) std::memcpy(out, sum.data(), sum.size());
}

ncclResult_t Add(ncclComm_t comm, cudaStream_t stream, Item item) {
  if (!Reachable(item.operand.in) || !Reachable(item.operand.out)) {
    std::lock_guard<std::mutex> lock(TheState().mutex);
    return Misused(StrCat(comm->name, ": ", item.what, " in pageable memory"));
  }
  std::lock_guard<std::mutex> lock(TheState().mutex);
  if (group.depth == 0) {
    if (const ncclResult_t checked = Check(comm); checked != ncclSuccess) return checked;
    comm->called.push_back({{std::move(item)}, stream});
    comm->polls = 0;
    return ncclInProgress;
  }
  Operation& operation = group.of[comm];
  if (operation.items.empty()) {
    group.order.push_back(comm);
    if (const ncclResult_t checked = Check(comm); checked != ncclSuccess) return checked;
  }
  operation.stream = stream;
  operation.items.push_back(std::move(item));
  return ncclSuccess;
}

Item Collective(std::string what, Operand operand, std::function<void(Meeting&)> compute) {
  return {.kind = Item::kCollective, .what = std::move(what), .operand = operand, .compute = std::move(compute)};
}

}  // namespace

extern "C" {

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (--group.depth > 0) return ncclSuccess;
  std::lock_guard<std::mutex> lock(TheState().mutex);
  for (ncclComm_t comm : group.order) {
    comm->called.push_back(std::move(group.of[comm]));
    comm->polls = 0;
  }
  const bool any = !group.order.empty();
  group.order.clear();
  group.of.clear();
  return any ? ncclInProgress : ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                           cudaStream_t stream) {
  return Add(comm, stream, Collective(StrCat("all-reduce ", count, " ", static_cast<int>(type)), {in, out}, [=](Meeting& meeting) {
               std::vector<void*> outs;
               for (const Operand& operand : meeting.operands) outs.push_back(operand.out);
               Reduce(meeting, type, op, 0, count, outs);
             }));
}

ncclResult_t ncclReduce(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t op, int root, ncclComm_t comm,
                        cudaStream_t stream) {
  return Add(comm, stream, Collective(StrCat("reduce ", count, " ", static_cast<int>(type), " ", root), {in, out}, [=](Meeting& meeting) {
               void* const outs[] = {meeting.operands[static_cast<std::size_t>(root)].out};
               Reduce(meeting, type, op, 0, count, outs);
             }));
}

ncclResult_t ncclReduceScatter(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                               cudaStream_t stream) {
  return Add(comm, stream, Collective(StrCat("reduce-scatter ", count, " ", static_cast<int>(type)), {in, out}, [=](Meeting& meeting) {
               // In place a shard would be overwritten before others have read it.
               std::vector<std::vector<char>> shards;
               for (std::size_t r = 0; r < meeting.operands.size(); ++r) {
                 shards.emplace_back(count * SizeOf(type));
                 void* const outs[] = {shards.back().data()};
                 Reduce(meeting, type, op, r * count, count, outs);
               }
               for (std::size_t r = 0; r < shards.size(); ++r) std::memcpy(meeting.operands[r].out, shards[r].data(), shards[r].size());
             }));
}

ncclResult_t ncclAllGather(const void* in, void* out, size_t count, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream) {
  return Add(comm, stream, Collective(StrCat("all-gather ", count, " ", static_cast<int>(type)), {in, out}, [=](Meeting& meeting) {
               const std::size_t bytes = count * SizeOf(type);
               for (std::size_t r = 0; r < meeting.operands.size(); ++r) {
                 for (const Operand& to : meeting.operands)
                   std::memmove(static_cast<char*>(to.out) + r * bytes, meeting.operands[r].in, bytes);
               }
             }));
}

ncclResult_t ncclBroadcast(const void* in, void* out, size_t count, ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream) {
  return Add(comm, stream,
             Collective(StrCat("broadcast ", count, " ", static_cast<int>(type), " ", root), {in, out}, [=](Meeting& meeting) {
               const void* from = meeting.operands[static_cast<std::size_t>(root)].in;
               for (const Operand& to : meeting.operands) std::memmove(to.out, from, count * SizeOf(type));
             }));
}

ncclResult_t ncclSend(const void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return Add(comm, stream, {.kind = Item::kSend, .what = "send", .operand = {data, nullptr}, .peer = peer, .bytes = count * SizeOf(type)});
}

ncclResult_t ncclRecv(void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return Add(comm, stream,
             {.kind = Item::kReceive, .what = "receive", .operand = {nullptr, data}, .peer = peer, .bytes = count * SizeOf(type)});
}

}  // extern "C"
