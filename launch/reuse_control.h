// ReuseControl: computation reuse in a run of the trainer: what each layer does in a step, decided from what the steps before have shown
// (parallel/reuse/controller.h), alike on every rank. docs/computation_reuse.md.
#ifndef LYCIA_LAUNCH_REUSE_CONTROL_H_
#define LYCIA_LAUNCH_REUSE_CONTROL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/reuse/cost_model.h"
#include "launch/host_access.h"
#include "parallel/layer/reuse.h"
#include "parallel/reuse/controller.h"
#include "runtime/comm/communicator.h"
#include "runtime/device/arena.h"
#include "runtime/device/device.h"

namespace lycia {

struct ReuseTraining {
  ReuseOptions layers;                    // what the model is planned for
  reuse::ControllerOptions controller;    // layers and steps are filled in
  bool always = false;                    // reuse wherever rows repeat at all, whatever it costs
  ReuseRates rates;                       // of a rank's threads or GPU, the same on all ranks
  std::optional<ReuseRates> patch_rates;  // the same of convolutions and distinct patches; absent: as rates
  // First steps in which layers are timed dense and, every second step, reused: what each takes then is what decisions are made by. The
  // first of those only counts; a layer is tried in the others where so many of its rows repeat that it could pay, within the error budget.
  // Even; 0: by the rates alone.
  std::int64_t calibration_steps = 8;
};

class ReuseControl {
 public:
  // specs: of the whole model, in its order. local: names that this rank's layers have. dtype: of activations.
  static StatusOr<std::unique_ptr<ReuseControl>> Create(const ReuseTraining& training, std::vector<ReuseSpec> specs,
                                                        const std::set<std::string>& local, DType dtype, ArenaPlan& plan);
  Status Bind(const Arena& arena, Device& device);
  // Draws projections on the host, functions of (seed, layer): the same bits on every device.
  Status Initialise(HostAccess& host, std::uint64_t seed);

  const ReuseSlot* slot(const std::string& layer) const;

  // Orders of the step into the slots; nothing is measured yet.
  void BeginStep(Stream& stream);
  // After the step: what all ranks have measured, on its way to the host behind the stream's work. Collective. Internal where ranks have
  // decided otherwise than this one.
  Status EndStep(Stream& stream, Communicator& world);
  // Once the stream is idle: the orders of the next step. skipped: gradients have overflowed (f16's loss scale), so that comparing them
  // says nothing.
  void Decide(double loss, bool skipped);

  // What the last step did, of every layer of the model.
  struct Row {
    std::string layer;
    ReuseUse use = ReuseUse::kDense;
    // U / M over all ranks and micro-batches, and |X - C| / |X|; absent where the step did not look at the layer's rows.
    std::optional<double> unique_ratio, relative_error;
    double width = 0;             // of clusters; 0: equal rows only
    double predicted_saving = 0;  // share of the dense time of this layer's products, by the cost model; negative: reuse is slower
  };
  std::span<const Row> rows() const { return rows_; }

  // All that later decisions depend on, for checkpoints.
  std::vector<double> State() const;
  // InvalidArgument where it is of another model.
  Status Restore(std::span<const double> state);
  // The same as text, 16 hexadecimal digits a number, so that all bits return.
  std::string StateText() const;
  Status RestoreText(std::string_view text);

 private:
  // The best of the calibration steps, summed over ranks; of a layer whose time no host can tell, 0.
  struct Calibrated {
    double dense_seconds = 0, reuse_seconds = 0, unique_ratio = 1;
  };
  struct Layer {
    ReuseSpec spec;
    bool local = false;
    Region projections_region, shifts_region;
    Tensor projections, shifts;  // [H, K], [H]; of kLsh
    ReuseSlot slot;
    Calibrated calibrated;
  };
  bool calibrates() const { return !training_.always && controller_->next_step() < training_.calibration_steps; }
  // What a layer does in the next calibrating step.
  reuse::LayerOrder Trial(std::size_t layer) const;
  void Calibrate(std::size_t layer, const ReuseMeasures& seen);
  ReuseControl(const ReuseTraining& training, DType dtype) : training_(training), dtype_(dtype) {}
  std::int64_t reduced_elements() const { return static_cast<std::int64_t>(layers_.size()) * kReuseMeasures; }
  reuse::Seconds Cost(std::int64_t layer, double kept) const;
  // Every rank's fingerprint, to compare.
  Status CheckAgreement(Communicator& world);

  ReuseTraining training_;
  DType dtype_;
  std::vector<Layer> layers_;
  std::unique_ptr<reuse::Controller> controller_;
  reuse::Observation observation_;
  Region measures_region_;
  Tensor measures_;                          // [layers, kReuseMeasures] f64, on the device
  Buffer reduced_memory_;                    // page-locked
  std::span<const ReuseMeasures> reduced_;   // of all ranks, [layers]
  std::vector<std::uint64_t> fingerprints_;  // of all ranks
  std::vector<Row> rows_;
};

}  // namespace lycia

#endif  // LYCIA_LAUNCH_REUSE_CONTROL_H_
