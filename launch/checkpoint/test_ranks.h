// Ranks that save and load made-up tensors: what every byte must be is a pure function of step, tensor and position.
#ifndef LYCIA_LAUNCH_CHECKPOINT_TEST_RANKS_H_
#define LYCIA_LAUNCH_CHECKPOINT_TEST_RANKS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/writer.h"
#include "runtime/device/device.h"

namespace lycia {

struct TestTensor {
  std::string name;
  TensorSpec spec;
};

// All dtypes, ranks 0 to 4, an empty tensor, sizes that nothing divides; `scale` multiplies the largest.
std::vector<TestTensor> TestTensors(std::int64_t scale = 1);

CheckpointState TestState(std::int64_t step);

// The pieces of one of `ranks` ranks; `split` seeds the random, uneven cuts (some parts are empty). Their memory begins as garbage.
class TestRank {
 public:
  struct Place {
    int rank = 0, ranks = 1;
    std::uint64_t split = 0;
  };
  TestRank(const std::vector<TestTensor>& tensors, const Place& place);
  explicit TestRank(std::vector<Piece> pieces);

  const std::vector<Piece>& pieces() const { return pieces_; }
  void Fill(std::int64_t step);
  void Clear();
  // Empty if every byte is that of `step`, and zero where a block is padding; else the first that is not.
  std::string Difference(std::int64_t step) const;

 private:
  template <typename F>
  void ForEachByte(F visit) const;
  std::vector<Piece> pieces_;
  std::vector<std::vector<unsigned char>> storage_;
};

// All ranks of a run in one process, each with its writer.
class TestRun {
 public:
  struct Options {
    std::string directory, run = "run";
    int ranks = 1, keep = 2;
    std::uint64_t split = 0;
    std::int64_t scale = 1;
    std::int64_t peer_timeout_ns = 60'000'000'000;
    std::function<std::vector<Piece>(int rank)> pieces = nullptr;  // in place of random cuts
  };
  explicit TestRun(const Options& options);

  // Every rank's Save of `step`; returns when all have copied.
  Status Begin(std::int64_t step);
  // Every rank's Wait, rank by rank.
  std::vector<Status> Wait();
  // Begin, Wait; the first failure.
  Status Save(std::int64_t step);
  CheckpointWriter& writer(int rank) { return *writers_[static_cast<std::size_t>(rank)]; }

 private:
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::vector<TestRank> ranks_;
  std::vector<std::vector<char>> staging_;
  std::vector<std::unique_ptr<CheckpointWriter>> writers_;
};

// Names in a folder, sorted; none where it is missing.
std::vector<std::string> NamesIn(const std::string& directory);

// Loads the checkpoint into that rank's pieces; empty if they hold exactly the bytes of its step.
std::string LoadDifference(const Checkpoint& checkpoint, TestRank loaded);
// Loads the checkpoint on `ranks` ranks cut by `split`; empty if each holds exactly the bytes of its step.
std::string LoadDifference(const Checkpoint& checkpoint, int ranks, std::uint64_t split, std::int64_t scale = 1);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_CHECKPOINT_TEST_RANKS_H_
