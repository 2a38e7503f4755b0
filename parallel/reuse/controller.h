// Which layers reuse computation in the next step, and how much: the adaptive rule of Adaptive Deep Reuse (Ning, Guan & Shen, ICDE 2019)
// and of ACRTC (Servais & Atoofian, TECS 2021), made testable. Early in a run errors are tolerated, late they are not.
//
// A layer that reuses replaces the rows of its operand by the means of clusters of alike rows, cells of the width w (kernels/reuse); w = 0
// clusters equal rows only and changes no result. From what a step has shown (r, the share of rows that are left; err, the relative error;
// now and then the cosine between the weight gradients of both ways) the controller decides:
//   dispatch   reuse while the cost model says it is faster; to begin, it must be so even at r / (1 - hysteresis), so that r near the
//              break-even does not change the mode back and forth
//   tighten    err > budget: w *= 0.7; at the least width, dense
//   loosen     err < budget / 4 and a cosine > 0.995 that was measured at this width: w *= 1.2
//   phases     the averaged loss has not improved by 0.1 % in `patience` steps: budget *= 0.5, w *= 0.5 of all layers
//   probes     every probe_every steps one layer, in turn, computes both ways; cosine < 0.98: w *= 0.5, and dense for cooldown_steps
//   the end    in the last final_fraction of the steps, w = 0: exact or dense
// A dense layer hashes its rows every hash_every-th step only, layers in turn. A change of w forgets what was measured before.
//
// Everything is a function of the options, the cost model and the reduced observations (observation.h), computed alike on every rank;
// agreement.h finds a rank that computed otherwise. Host code; a step allocates nothing.
#ifndef LYCIA_PARALLEL_REUSE_CONTROLLER_H_
#define LYCIA_PARALLEL_REUSE_CONTROLLER_H_

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "parallel/reuse/observation.h"
#include "runtime/core/status.h"

namespace lycia::reuse {

struct ControllerOptions {
  std::int64_t layers = 0;
  std::int64_t steps = 0;         // of the whole run
  double budget = 0.2;            // largest err of phase 0
  double first_width = 1;         // w of every layer at first, in the units of its kernel; 0: exact reuse only
  double least_width = 1.0 / 64;  // below it a layer that is still over its budget is dense
  double most_width = 16;
  double hysteresis = 0.05;
  std::int64_t hash_every = 100;      // steps between the measurements of a dense layer
  std::int64_t probe_every = 100;     // steps between probes
  std::int64_t patience = 500;        // steps without improvement until the next phase
  std::int64_t cooldown_steps = 500;  // one epoch
  double final_fraction = 0.1;
  double layer_smoothing = 0.2;  // weight of a new r and err in their averages, while the layer reuses
  double loss_smoothing = 0.02;
};
// InvalidArgument, with the option and its range.
Status Validate(const ControllerOptions& options);

// Predicted times of one layer's step, forward and backward, when a share `kept` of its rows is left. A pure function, the same on every
// rank, of which `reuse` does not fall as `kept` grows.
struct Seconds {
  double dense = 0, reuse = 0;
};
using CostModel = std::function<Seconds(std::int64_t layer, double kept)>;

// What a layer does in a step.
struct LayerOrder {
  bool reuse = false;    // products of clusters; they are measured
  double width = 0;      // w; 0: only equal rows
  bool measure = false;  // dense, but its rows are hashed at `width` and measured
  bool probe = false;    // both ways; what the step uses is the dense one

  friend bool operator==(const LayerOrder&, const LayerOrder&) = default;
};

class Controller {
 public:
  static StatusOr<Controller> Create(const ControllerOptions& options, CostModel cost);

  // For step next_step(): 0 at first, then that after the last Decide.
  std::span<const LayerOrder> orders() const { return orders_; }
  std::int64_t next_step() const { return next_step_; }

  // After step next_step() of the run, with what was seen of it on all ranks: makes the orders of the step after.
  void Decide(const Observation& reduced);

  int phase() const { return phase_; }
  double budget() const { return budget_; }
  bool final_phase() const { return IsFinal(next_step_); }
  bool is_reusing(std::int64_t layer) const { return layers_[static_cast<std::size_t>(layer)].reuse; }
  double kept(std::int64_t layer) const { return layers_[static_cast<std::size_t>(layer)].kept; }    // averaged; 1 where nothing is known
  double error(std::int64_t layer) const { return layers_[static_cast<std::size_t>(layer)].error; }  // averaged

  // All that later decisions depend on beside options and cost model, for checkpoints: Save then Restore gives the same bits, and so the
  // same decisions. InvalidArgument: a state of other sizes or of no controller.
  static std::int64_t StateSize(std::int64_t layers);
  void Save(std::span<double> state) const;  // [StateSize] =
  Status Restore(std::span<const double> state);
  // Of the same numbers: equal on ranks that have decided alike so far.
  std::uint64_t Fingerprint() const;

 private:
  struct Layer {
    bool reuse = false;
    double width = 0;
    bool known = false;  // kept and error are of this width
    double kept = 1, error = 0;
    bool probed = false;  // cosine is of this width
    double cosine = 1;
    std::int64_t dense_until = 0;  // a step; cooldown before it
  };

  Controller(const ControllerOptions& options, CostModel cost);
  bool IsFinal(std::int64_t step) const;
  template <typename Visit>
  void ForEachNumber(const Visit& visit) const;  // of the state, in its order
  void FollowLoss(double loss);
  void FollowLayer(std::int64_t index, const LayerObservation& seen);
  bool FollowProbe(Layer& layer, double cosine);  // whether its width is as before
  void Dispatch(std::int64_t index);
  void BeginFinalPhase();
  void SetWidth(Layer& layer, double width) const;
  void MakeOrders();

  ControllerOptions options_;
  CostModel cost_;
  std::int64_t next_step_ = 0;
  int phase_ = 0;
  double budget_ = 0;
  bool loss_known_ = false;
  double loss_ = 0, best_loss_ = 0;  // averaged
  std::int64_t steps_since_best_ = 0;
  std::vector<Layer> layers_;
  std::vector<LayerOrder> orders_;
};

}  // namespace lycia::reuse

#endif  // LYCIA_PARALLEL_REUSE_CONTROLLER_H_
