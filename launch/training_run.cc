#include "launch/training_run.h"

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <optional>
#include <random>
#include <thread>

#include "absl/strings/str_format.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/names.h"
#include "launch/checkpoint/writer.h"
#include "launch/core_share.h"
#include "launch/disk_guard.h"
#include "launch/loss_scale_run.h"
#include "launch/lr_schedule.h"
#include "launch/model_weights.h"
#include "launch/peak.h"
#include "launch/progress.h"
#include "launch/resume.h"
#include "launch/reuse_rates.h"
#include "launch/reuse_run.h"
#include "launch/run_report.h"
#include "launch/trainer.h"
#include "launch/trainer_options.h"
#include "runtime/io/directory.h"
#include "runtime/io/file.h"

namespace lycia {
namespace {

volatile std::sig_atomic_t stop_requested = 0;

// A save that fails is told and tried again at the next one; so many in a row end the run.
constexpr int kMaxFailedSaves = 3;

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

class Run {
 public:
  Run(const Config& config, Session& session, const TrainingData& data)
      : config_(config),
        session_(session),
        data_(data),
        observer_(session, kSpanCapacity),
        checkpoints_(JoinPath(config.output.dir, "checkpoints")) {}

  Status Execute() {
    LYCIA_RETURN_IF_ERROR(SetUp());
    LYCIA_RETURN_IF_ERROR(Restore());
    LYCIA_RETURN_IF_ERROR(OpenOutputs());
    Status status = Loop();
    if (status.ok()) status = Finish();
    if (!status.ok()) writer_->Abort();
    return status;
  }

 private:
  static constexpr std::int64_t kSpanCapacity = 1 << 16;

  bool first() const { return session_.rank() == 0; }
  std::string Path(std::string_view name) const { return JoinPath(config_.output.dir, name); }
  void Show(const std::string& activity) { session_.board->Publish(session_.rank(), activity, step_); }

  Status SetUp() {
    Status status = OkStatus();
    if (first()) status = PrepareOutputFolder(config_.output.dir);
    LYCIA_RETURN_IF_ERROR(AgreeOnInput(*session_.world, status));
    TrainerOptions options = TrainerOptionsOf(config_, session_, observer_);
    LYCIA_ASSIGN_OR_RETURN(options.cpu, ShareCores(*session_.world, static_cast<int>(config_.parallel.threads)));
    share_ = options.cpu;
    if (options.reuse.layers.on) {
      LYCIA_RETURN_IF_ERROR(MeasureReuseRates(session_, options, options.reuse));
    }
    StatusOr<std::unique_ptr<Trainer>> trainer = Trainer::Create(options, *session_.world);
    if (!trainer.ok() && trainer.status().code() != absl::StatusCode::kInvalidArgument) return trainer.status();
    LYCIA_RETURN_IF_ERROR(AgreeOnInput(*session_.world, trainer.status()));
    trainer_ = *std::move(trainer);
    observer_.set_replica(trainer_->mesh().Neighbour(session_.rank(), Axis::kPipeline, 0));
    return OkStatus();
  }

  // Decides on rank 0 which checkpoint to continue from, and loads it everywhere.
  Status Restore() {
    std::int64_t from = -1;
    Status status = OkStatus();
    if (first()) {
      const StatusOr<std::int64_t> step = StepToResume(config_, checkpoints_);
      status = step.status();
      if (step.ok()) from = *step;
    }
    LYCIA_RETURN_IF_ERROR(AgreeOnInput(*session_.world, status));
    LYCIA_RETURN_IF_ERROR(session_.world->Broadcast(Tensor{&from, DType::kI64, {1}}, 0, Tag::kSetup, {}).Wait());
    if (from >= 0) {
      status = LoadStep(from);
      step_ = from;
    } else if (!config_.init.from.empty()) {
      status = LoadModelWeights(config_.init.from, *trainer_);
    }
    LYCIA_RETURN_IF_ERROR(AgreeOnInput(*session_.world, status));
    return trainer_->PublishWeights();
  }

  Status LoadStep(std::int64_t step) {
    LYCIA_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(CheckpointPath(checkpoints_, step), Verify::kSizes));
    LYCIA_RETURN_IF_ERROR(CheckIdentity(checkpoint, IdentityOf(config_, data_)));
    LYCIA_RETURN_IF_ERROR(Annotate(RestoreLossScale(checkpoint.state(), *trainer_), StrCat("cannot resume ", checkpoint.path())));
    LYCIA_RETURN_IF_ERROR(RestoreReuse(checkpoint.state(), *trainer_));
    return LoadCheckpoint(checkpoint, *trainer_);
  }

  Status OpenOutputs() {
    std::uint64_t nonce = std::random_device{}();
    LYCIA_RETURN_IF_ERROR(session_.world->Broadcast(Tensor{&nonce, DType::kI64, {1}}, 0, Tag::kSetup, {}).Wait());
    std::vector<Piece> pieces = CheckpointPieces(*trainer_);
    LYCIA_ASSIGN_OR_RETURN(staging_, trainer_->device().Allocate(StagingBytes(pieces), MemoryKind::kPinned));
    CheckpointWriter::Options options{.directory = checkpoints_,
                                      .run = absl::StrFormat("%08x", nonce),
                                      .rank = session_.rank(),
                                      .ranks = session_.ranks(),
                                      .keep = static_cast<int>(config_.checkpoint.keep),
                                      .like = State()};
    StatusOr<std::unique_ptr<CheckpointWriter>> writer = CheckpointWriter::Create(options, std::move(pieces), staging_.data());
    Status status = writer.status();
    if (first() && status.ok()) status = OpenFiles();
    LYCIA_RETURN_IF_ERROR(AgreeOnInput(*session_.world, status));
    writer_ = *std::move(writer);
    if (!first()) return OkStatus();
    PrintRunHeader(config_, *trainer_, session_.ranks(), staging_.bytes(), step_);
    // The peak is of one rank's threads; ranks beyond the cores share them.
    const int cores = static_cast<int>(std::thread::hardware_concurrency());
    peak_flops_ =
        MeasureGemmPeak(trainer_->stream(), TrainerPrecision(config_)) * std::max(1, std::min(session_.ranks(), cores / share_.threads));
    return OkStatus();
  }

  // Of rank 0.
  Status OpenFiles() {
    LYCIA_RETURN_IF_ERROR(CreateDirectories(checkpoints_));
    LYCIA_RETURN_IF_ERROR(RemoveStaleAttempts(checkpoints_));
    LYCIA_RETURN_IF_ERROR(WriteFileAtomically(Path("config.toml"), ToToml(config_)));
    if (config_.output.metrics.empty()) return OkStatus();
    LYCIA_ASSIGN_OR_RETURN(metrics_, MetricsWriter::Open(Path(config_.output.metrics), step_, step_ >= config_.train.steps));
    return OkStatus();
  }

  CheckpointState State() const {
    CheckpointState state;
    state.step = step_;
    state.integers = IdentityOf(config_, data_);
    state.integers.emplace_back("samples", step_ * config_.train.batch);
    state.texts = {{"config", ToToml(config_)}, {"layout", StrCat(trainer_->schedule().name, ", ", trainer_->mesh().ToString())}};
    SaveLossScale(*trainer_, state);
    SaveReuse(*trainer_, state);
    return state;
  }

  Status Loop() {
    const LrSchedule lr{
        .lr = config_.train.lr, .min_lr = config_.train.min_lr, .warmup_steps = config_.train.warmup_steps, .steps = config_.train.steps};
    progress_.emplace(ProgressLine::Options{.steps = config_.train.steps, .every = config_.log.every});
    // Not earlier: the checkpoint writer's thread, which would inherit the core, has been started by now.
    LYCIA_RETURN_IF_ERROR(PinRankThread(share_));
    while (step_ < config_.train.steps && !stopped_) {
      const double started = Seconds();
      const double rate = lr.At(step_ + 1);
      observer_.StartStep(step_ + 1);
      observer_.recorder().Enable(step_ + 1 == config_.output.trace_step);
      Show("begins a step");
      LYCIA_RETURN_IF_ERROR(trainer_->TrainStep(step_, data_.training(), rate, StopRequested()));
      observer_.recorder().Enable(false);
      ++step_;
      LYCIA_RETURN_IF_ERROR(AfterStep(rate, Seconds() - started));
    }
    if (first()) progress_->Finish();
    return OkStatus();
  }

  Status AfterStep(double rate, double seconds) {
    const Decision& decision = trainer_->decision();
    if (!decision.finite && !decision.skipped) return NotFiniteError(step_, config_.train, trainer_->optimizer().scaler());
    stopped_ = decision.stop;
    if (first()) {
      const std::int64_t of_step = config_.train.batch * data_.labels_per_sample();
      StepMetrics metrics{.step = step_,
                          .loss = trainer_->loss(),
                          .lr = rate,
                          .grad_norm = decision.gradient_norm,
                          .unit = data_.unit(),
                          .count = step_ * of_step,
                          .per_second = static_cast<double>(of_step) / seconds,
                          .step_seconds = seconds,
                          .mfu_or_peak_share = trainer_->flops_per_step() / seconds / peak_flops_};
      if (const LossScaler* const scaler = trainer_->optimizer().scaler()) {
        metrics.loss_scale = decision.loss_scale;
        metrics.skipped_steps = scaler->state().skipped_steps;
      }
      if (decision.finite) last_loss_ = metrics.loss;
      LYCIA_RETURN_IF_ERROR(metrics_.Write(metrics));
      if (trainer_->reuse() != nullptr) {
        ReuseMetricsOf(*trainer_->reuse(), reuse_metrics_);
        LYCIA_RETURN_IF_ERROR(metrics_.WriteReuse(step_, reuse_metrics_));
      }
      progress_->Step(metrics);
      if (decision.skipped) progress_->Message(SkippedStepText(step_, decision, trainer_->optimizer().loss_scale()));
      TellGraphs();
    }
    if (config_.train.hash_every > 0 && step_ % config_.train.hash_every == 0) LYCIA_RETURN_IF_ERROR(trainer_->CompareReplicas());
    if (config_.train.eval_every > 0 && step_ % config_.train.eval_every == 0 && step_ < config_.train.steps)
      LYCIA_RETURN_IF_ERROR(Evaluate());
    const bool due = config_.checkpoint.every > 0 && step_ % config_.checkpoint.every == 0;
    if (due || stopped_ || step_ == config_.train.steps) LYCIA_RETURN_IF_ERROR(SaveCheckpoint());
    return OkStatus();
  }

  // Once, where the first steps were to decide.
  void TellGraphs() {
    const GraphTrial* graphs = trainer_->graphs();
    if (graphs == nullptr || graphs_told_ || config_.parallel.cuda_graphs != "auto" || !graphs->decided()) return;
    graphs_told_ = true;
    progress_->Message(StrCat("step ", step_, ": CUDA graphs ", graphs->ToString()));
  }

  Status SaveCheckpoint() {
    LYCIA_RETURN_IF_ERROR(EndOfSave());  // of the one before
    return writer_->Save(State(), trainer_->stream());
  }

  // Tells how the last save ended; only the last of a run must succeed.
  Status EndOfSave() {
    DiskGuard guard(session_, "checkpoint", step_);
    const Status saved = writer_->Wait(&guard);
    if (saved.ok()) return OkStatus();
    if (writer_->failures_in_a_row() >= kMaxFailedSaves) return Annotate(saved, StrCat(kMaxFailedSaves, " checkpoints in a row failed"));
    std::fprintf(stderr, "\nlycia: rank %d: checkpoint not written (training goes on): %s\n", session_.rank(),
                 std::string(saved.message()).c_str());
    return OkStatus();
  }

  Status Evaluate() {
    const std::int64_t per_batch = trainer_->samples_per_step();
    const std::int64_t all = (data_.held_out_samples() + per_batch - 1) / per_batch;
    const std::int64_t batches = config_.train.eval_batches > 0 ? std::min(config_.train.eval_batches, all) : all;
    const std::int64_t labels = data_.held_out_labels(batches * per_batch);
    if (labels == 0) return OkStatus();
    LYCIA_ASSIGN_OR_RETURN(const Trainer::Evaluation sum, trainer_->Evaluate(data_.held_out(), batches));
    held_out_ = {.step = step_,
                 .loss = sum.loss / static_cast<double>(labels),
                 .accuracy = sum.hits / static_cast<double>(labels),
                 .unit = data_.unit(),
                 .count = labels};
    if (!first()) return OkStatus();
    progress_->Message(absl::StrFormat("step %d: held-out loss %.4f %s, accuracy %.2f %% (of %d %s)", step_, held_out_->loss,
                                       data_.loss_unit(), 100 * held_out_->accuracy, labels, data_.unit()));
    return metrics_.WriteEvaluation(*held_out_);
  }

  Status Finish() {
    Show("last checkpoint");
    DiskGuard guard(session_, "last checkpoint", step_);
    LYCIA_RETURN_IF_ERROR(writer_->Wait(&guard));
    // A barrier under the watchdog: rank 0 comes last, once all shards are committed.
    std::int64_t arrived = 1;
    const Tensor arrivals{&arrived, DType::kI64, {1}};
    LYCIA_RETURN_IF_ERROR(
        session_.world->AllReduce({.in = arrivals, .out = arrivals, .tag = Tag::kCheckpoint}, {}).Wait(session_.watchdog));
    if (stopped_ && step_ < config_.train.steps) {
      return absl::CancelledError(
          StrCat("stopped by a signal after step ", step_, "; checkpoint in ", checkpoints_, ", continue with --resume"));
    }
    Show("evaluation");
    LYCIA_RETURN_IF_ERROR(Evaluate());
    LYCIA_ASSIGN_OR_RETURN(const std::vector<RankSpans> spans,
                           GatherSpans(*session_.world, observer_.recorder().recorded(), session_.watchdog));
    Status report = OkStatus();
    if (first()) {
      Show("report");
      report = WriteReport({.config = config_,
                            .data = data_,
                            .trainer = *trainer_,
                            .spans = spans,
                            .checkpoints = checkpoints_,
                            .step = step_,
                            .training_loss = last_loss_,
                            .held_out = held_out_});
    }
    return report;
  }

  const Config& config_;
  Session& session_;
  const TrainingData& data_;
  SessionObserver observer_;
  std::string checkpoints_;
  std::unique_ptr<Trainer> trainer_;
  Buffer staging_;
  std::unique_ptr<CheckpointWriter> writer_;
  MetricsWriter metrics_;
  std::optional<ProgressLine> progress_;
  std::int64_t step_ = 0;  // done
  bool stopped_ = false, graphs_told_ = false;
  CpuOptions share_;
  double peak_flops_ = NAN, last_loss_ = NAN;
  std::optional<EvaluationMetrics> held_out_;
  std::vector<ReuseMetrics> reuse_metrics_;
};

}  // namespace

void RequestStop() { stop_requested = 1; }
bool StopRequested() { return stop_requested != 0; }

Status RunTraining(const Config& config, Session& session, const TrainingData& data) { return Run(config, session, data).Execute(); }

}  // namespace lycia
