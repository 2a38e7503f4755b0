// lycia: the one program. Commands are one line each in the table below.
#include <unistd.h>

#include <array>
#include <cstdio>
#include <string>
#include <vector>

#include "kernels/gemm/blas_core.h"
#include "kernels/gemm/gemm_kernels.h"
#include "launch/cli.h"
#include "launch/commands/commands.h"
#include "launch/launcher.h"

int main(int argc, char** argv) {
  // Before anything else: the BLAS reads its kernel choice while it is loaded, so this may start the program anew.
  if (const lycia::Status status = lycia::EnsureBlasEnvironment(argv, environ); !status.ok()) {
    std::fprintf(stderr, "lycia: %s\n", std::string(status.message()).c_str());
  }
  // Before threads start: they inherit the permission to use AMX tiles.
  lycia::cpu::RequestTilePermission();
  const std::array<lycia::Command, 11> commands = {lycia::TrainCommand(),        lycia::ScheduleCommand(),  lycia::ScheduleCompareCommand(),
                                                   lycia::EmulateCommand(),      lycia::PlanCommand(),      lycia::GenerateCommand(),
                                                   lycia::BenchKernelsCommand(), lycia::BenchConvCommand(), lycia::BenchReuseCommand(),
                                                   lycia::BenchStepCommand(),    lycia::DoctorCommand()};
  const std::vector<std::string> words(argv + 1, argv + argc);
  return lycia::RunCommand(commands, words, lycia::ToldRank(words, lycia::ProcessEnvironment()));
}
