#include "launch/share_schedule.h"

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace lycia {
namespace {

using schedule::Schedule;

// Bytes of values and of lists of lists of them, each list behind its length. Writing and reading are one walk.
class Walk {
 public:
  Walk() = default;                                                               // writes
  explicit Walk(std::string bytes) : bytes_(std::move(bytes)), reading_(true) {}  // reads
  const std::string& bytes() const { return bytes_; }

  template <typename T>
  void operator()(T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    char* at = reinterpret_cast<char*>(&value);
    if (reading_) {
      bytes_.copy(at, sizeof(T), position_);
      position_ += sizeof(T);
    } else {
      bytes_.append(at, sizeof(T));
    }
  }
  template <typename T>
  void operator()(std::vector<T>& list) {
    Each(list);
  }
  void operator()(std::string& text) { Each(text); }
  void operator()(schedule::SyncSet& set) { (*this)(set.stages); }

 private:
  template <typename List>
  void Each(List& list) {
    std::uint64_t size = list.size();
    (*this)(size);
    list.resize(static_cast<std::size_t>(size));
    for (auto& element : list) (*this)(element);
  }

  std::string bytes_;
  bool reading_ = false;
  std::size_t position_ = 0;
};

void Visit(Walk& walk, Schedule& schedule) {
  // Names every member, so that a new one is not forgotten here.
  auto& [name, shape, worker_of, pipe_of_micro_batch, program, sync_sets, credits, stash_slots, input_slots, handoff_slots] = schedule;
  walk(name);
  walk(shape);
  walk(worker_of);
  walk(pipe_of_micro_batch);
  walk(program);
  walk(sync_sets);
  walk(credits);
  walk(stash_slots);
  walk(input_slots);
  walk(handoff_slots);
}

}  // namespace

Status ShareSchedule(Communicator& world, Schedule& schedule) {
  Walk write;
  if (world.rank() == 0) Visit(write, schedule);
  std::string bytes = write.bytes();
  auto size = static_cast<std::int64_t>(bytes.size());
  LYCIA_RETURN_IF_ERROR(world.Broadcast(Tensor{&size, DType::kI64, {1}}, 0, Tag::kSetup, {}).Wait());
  bytes.resize(static_cast<std::size_t>(size));
  LYCIA_RETURN_IF_ERROR(world.Broadcast(Tensor{bytes.data(), DType::kU8, {size}}, 0, Tag::kSetup, {}).Wait());
  if (world.rank() == 0) return OkStatus();
  Walk read(std::move(bytes));
  Visit(read, schedule);
  return OkStatus();
}

}  // namespace lycia
