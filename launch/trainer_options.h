// What a configuration means to a trainer.
#ifndef LYCIA_LAUNCH_TRAINER_OPTIONS_H_
#define LYCIA_LAUNCH_TRAINER_OPTIONS_H_

#include "launch/config.h"
#include "launch/session.h"
#include "launch/trainer.h"

namespace lycia {

DType TrainerPrecision(const Config& config);
// The model that a configuration describes; one of images, once its data is open.
Model ModelOf(const ModelConfig& config);

// `config` is resolved; observer and the session's watchdog outlive the trainer.
TrainerOptions TrainerOptionsOf(const Config& config, Session& session, SessionObserver& observer);

// The same of parallel.device = "emulated".
EmulationOptions EmulationOptionsOf(const EmulateConfig& config);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_TRAINER_OPTIONS_H_
