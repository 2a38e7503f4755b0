// Ranks as threads of one process.
#include <mutex>
#include <thread>

#include "runtime/comm/engine.h"
#include "runtime/comm/thread_wire.h"
#include "runtime/comm/transports.h"
#include "runtime/comm/wire_communicator.h"

namespace lycia {

std::vector<std::unique_ptr<Communicator>> OpenThreadWorld(int size) {
  LYCIA_CHECK_GE(size, 1);
  StatusOr<std::shared_ptr<Engine>> engine = Engine::Start([] { return NewThreadWire(); });
  LYCIA_CHECK_OK(engine.status());
  std::vector<std::unique_ptr<Communicator>> world;
  for (int rank = 0; rank < size; ++rank) world.push_back(OpenWireWorld(*engine, "threads", rank, size));
  return world;
}

Status RunThreadRanks(int size, const std::function<Status(Communicator&)>& body) { return RunRanksOf(OpenThreadWorld(size), body); }

Status RunRanksOf(const std::vector<std::unique_ptr<Communicator>>& world, const std::function<Status(Communicator&)>& body) {
  std::mutex mutex;
  Status first;  // in time: what fails afterwards fails because of the abort
  std::vector<std::thread> threads;
  for (const std::unique_ptr<Communicator>& communicator : world) {
    threads.emplace_back([&body, &mutex, &first, &communicator] {
      const Status status = body(*communicator);
      if (status.ok()) return;
      {
        std::lock_guard<std::mutex> lock(mutex);
        if (first.ok()) first = status;
      }
      communicator->Abort(Annotate(status, absl::StrCat("rank ", communicator->rank(), " failed")));
    });
  }
  for (std::thread& thread : threads) thread.join();
  return first;
}

}  // namespace lycia
