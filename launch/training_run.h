// A training run of one rank, from its configuration to its files: batches, learning rate, evaluation, checkpoints, metrics, pictures.
#ifndef LYCIA_LAUNCH_TRAINING_RUN_H_
#define LYCIA_LAUNCH_TRAINING_RUN_H_

#include "launch/config.h"
#include "launch/session.h"
#include "launch/training_data.h"

namespace lycia {

// Set by the signal handler (SIGTERM, SIGUSR1) of the process; every rank looks once a step.
void RequestStop();
bool StopRequested();

// `config` is resolved for session.ranks(). Collective. InvalidArgument (all ranks agree): input that cannot work. Cancelled: stopped by a
// signal after a checkpoint was written. Only rank 0 prints.
Status RunTraining(const Config& config, Session& session, const TrainingData& data);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_TRAINING_RUN_H_
