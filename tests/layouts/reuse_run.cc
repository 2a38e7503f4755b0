#include "tests/layouts/reuse_run.h"

#include <algorithm>
#include <memory>

#include "gtest/gtest.h"

namespace lycia::layouts {

ReuseTraining ReuseTrainingOf(ReusePolicy policy, bool always) {
  const double width = policy == ReusePolicy::kExact ? 0 : 0.5;
  return {.layers = {.on = true, .policy = policy},
          .controller = {.steps = 100, .first_width = width, .hash_every = 1, .probe_every = 2},
          .always = always,
          .rates = {.flops = 1e9, .bytes_per_s = 1e9, .fixed_seconds = 1e-6},
          .calibration_steps = 0};
}

Layout ReuseGpt(const std::string& schedule, int stages, int data, bool reuse) {
  Layout layout{.schedule = schedule, .stages = stages, .data = data, .micro_batches = 4, .samples = 4, .rotary = true, .masked = true};
  layout.dropout = 0;
  if (reuse) layout.reuse = ReuseTrainingOf(ReusePolicy::kExact, /*always=*/true);
  return layout;
}

namespace {

// Looks at every rank's control after every step.
class ReuseWatch final : public RankWatch {
 public:
  explicit ReuseWatch(ReuseSeen* seen) : seen_(seen) {}
  StepObserver* observer() override { return nullptr; }
  void Start(const Trainer&, bool) override {}
  Status Finish(const Trainer& trainer, bool training) override {
    if (!training || trainer.reuse() == nullptr) return OkStatus();
    std::lock_guard<std::mutex> lock(seen_->mutex);
    seen_->states[step_++].push_back(trainer.reuse()->StateText());
    for (const ReuseControl::Row& row : trainer.reuse()->rows()) {
      seen_->reused += row.use == ReuseUse::kReuse;
      if (row.use == ReuseUse::kReuse) seen_->least_ratio = std::min(seen_->least_ratio, *row.unique_ratio);
    }
    return OkStatus();
  }

 private:
  ReuseSeen* const seen_;
  int step_ = 0;
};

}  // namespace

Record TrainAndLook(const Layout& layout, ReuseSeen* seen) {
  const StatusOr<Record> record = RunOnThreads(layout, [seen] { return std::make_unique<ReuseWatch>(seen); });
  EXPECT_TRUE(record.ok()) << layout.Name() << ": " << record.status();
  for (const auto& [step, states] : seen->states) {
    for (const std::string& state : states) EXPECT_EQ(state, states[0]) << layout.Name() << " step " << step;
    EXPECT_EQ(states.size(), static_cast<std::size_t>(layout.ranks()));
  }
  return record.ok() ? *record : Record{std::vector<StepRecord>(kSteps)};
}

}  // namespace lycia::layouts
