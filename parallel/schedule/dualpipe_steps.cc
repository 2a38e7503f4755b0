#include "parallel/schedule/dualpipe_steps.h"

#include <cstddef>
#include <utility>

#include "parallel/schedule/generators.h"

namespace lycia::schedule {
namespace {

// Writes a program, counting the micro-batches of each lane.
class Writer {
 public:
  explicit Writer(const std::array<Lane, 2>& lanes) : lanes_(lanes) {}

  void F(int lane) { Add(Op::kForward, lane, forwards_[lane]++); }
  void B(int lane) { Add(Op::kBackward, lane, backwards_[lane]++); }
  void I(int lane) {
    Add(Op::kBackwardInput, lane, backwards_[lane]++);
    inputs_.push_back(program_.back());
  }
  // The weight gradient of the oldest I, of either lane.
  void W() {
    program_.push_back(inputs_[weights_++]);
    program_.back().op = Op::kBackwardWeight;
  }
  void FB(int forward_lane, int backward_lane) {
    F(forward_lane);
    program_.back().paired_with_next = true;
    B(backward_lane);
  }
  std::vector<Instruction> Take() { return std::move(program_); }

 private:
  void Add(Op op, int lane, int i) {
    program_.push_back(Compute(op, lanes_[lane].pipe, lanes_[lane].stage, lanes_[lane].first_micro_batch + i));
  }

  const std::array<Lane, 2> lanes_;
  std::array<int, 2> forwards_ = {};   // [lane] done
  std::array<int, 2> backwards_ = {};  // [lane] done, full or input
  std::vector<Instruction> inputs_;    // every I so far
  std::size_t weights_ = 0;            // W done
  std::vector<Instruction> program_;
};

}  // namespace

std::vector<Instruction> DualPipeSteps(const DualPipeStepsArgs& args) {
  const int outer = args.distance + 1;   // this worker and those before it
  const int inner = args.depth - outer;  // those behind it, until the lanes meet
  const int pairs = args.micro_batches - 2 * args.depth + outer;

  Writer w(args.lanes);
  for (int i = 0; i < 2 * inner; ++i) w.F(0);             // 1: fill lane 0
  for (int i = 0; i < outer; ++i) w.F(0), w.F(1);         // 2: fill lane 1
  for (int i = 0; i < inner; ++i) w.I(1), w.W(), w.F(1);  // 3: first gradients of lane 1, split, for nothing else is there yet
  for (int i = 0; i < pairs; ++i) {                       // 4: the steady state
    const bool meeting = i == 0 && inner == 0;            // apart, where the lanes meet: B(1) can go on sooner
    if (meeting) w.F(0), w.B(1);
    if (!meeting) w.FB(0, 1);
    w.FB(1, 0);
  }
  for (int i = 0; i < inner; ++i) w.B(1), w.FB(1, 0);  // 5: lane 0 has no forwards left
  for (int k = 0; k < 2 * outer; ++k) {                // 6: nor lane 1; the second half of the backwards is split
    const int lane = 1 - k % 2;
    k < outer ? w.B(lane) : w.I(lane);
  }
  for (int i = 0; i < inner; ++i) w.W(), w.I(0);  // 7: weight gradients fill the waits
  for (int i = 0; i < outer; ++i) w.W();          // 8
  return w.Take();
}

}  // namespace lycia::schedule
