#include "launch/session_options.h"

#include <cmath>

namespace lycia {
namespace {

std::chrono::milliseconds Milliseconds(double seconds) { return std::chrono::milliseconds(std::llround(seconds * 1e3)); }

}  // namespace

void ReadSessionOptions(const Config& config, SessionOptions& options) {
  options.deadline_seconds = config.watchdog.deadline_seconds;
  options.board_address = config.watchdog.address;
  options.start_patience = Milliseconds(config.watchdog.start_seconds);
  options.cuda = config.parallel.device == "cuda";
  const std::string& transport = config.parallel.transport;
  options.transport = transport == "mpi"    ? Transport::kMpi
                      : transport == "nccl" ? Transport::kNccl
                      : transport == "tcp"  ? Transport::kTcp
                                            : Transport::kAuto;
  options.nccl.serial = config.nccl.serial;
  options.nccl.sums = config.nccl.sums == "rank-order" ? nccl::Sums::kInRankOrder : nccl::Sums::kLibrary;
  options.nccl.operation_patience = Milliseconds(config.nccl.deadline_seconds);
}

}  // namespace lycia
