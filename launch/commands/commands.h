// The commands of `lycia`: one function each, one line each in the table of main.cc.
#ifndef LYCIA_LAUNCH_COMMANDS_COMMANDS_H_
#define LYCIA_LAUNCH_COMMANDS_COMMANDS_H_

#include "launch/cli.h"

namespace lycia {

Command TrainCommand();            // train.cc
Command GenerateCommand();         // generate.cc
Command ScheduleCommand();         // schedule.cc
Command ScheduleCompareCommand();  // schedule.cc
Command DoctorCommand();           // doctor.cc
Command EmulateCommand();          // emulate.cc
Command PlanCommand();             // plan.cc
Command BenchKernelsCommand();     // bench_kernels.cc
Command BenchConvCommand();        // bench_conv.cc
Command BenchReuseCommand();       // bench_reuse.cc
Command BenchStepCommand();        // bench_step.cc

}  // namespace lycia

#endif  // LYCIA_LAUNCH_COMMANDS_COMMANDS_H_
