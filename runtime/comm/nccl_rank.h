// What all communicators and channels of one rank over NCCL share.
#ifndef LYCIA_RUNTIME_COMM_NCCL_RANK_H_
#define LYCIA_RUNTIME_COMM_NCCL_RANK_H_

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/comm/engine.h"
#include "runtime/comm/nccl_issuer.h"
#include "runtime/comm/nccl_world.h"
#include "runtime/device/device.h"

namespace lycia::nccl {

// The ranks of a process that end together.
class Family {
 public:
  void Add(Engine* engine);
  void Remove(Engine* engine);
  void Abort(const Status& why);

 private:
  std::mutex mutex_;
  std::vector<Engine*> engines_;
};

struct RankState {
  RankState(const Options& o, std::shared_ptr<Communicator> c, std::shared_ptr<Family> f)
      : options(o), control(std::move(c)), family(std::move(f)), issuer(o.serial, o.operation_patience, [this](const Status& why) {
          family->Abort(why);
          control->Abort(why);
        }) {}
  ~RankState();
  Status Open();

  // Makes a lane's NCCL communicator by `call`, on the issuing thread, and waits until all its ranks have made it. Calling thread.
  // `parent` (may be null): another lane that must be settled as well.
  Status Create(Lane* lane, Lane* parent, const std::function<Status()>& call);
  // A lane with its stream (the common one of a serial world) and events, without a communicator.
  StatusOr<std::unique_ptr<Lane>> NewLane(std::string name, int rank, int size, bool collective);
  void Abort(const Status& why);
  bool ok() const { return !issuer.failed(); }

  const Options options;
  const std::shared_ptr<Communicator> control;  // the world of the host's messages, which fails with this one
  const std::shared_ptr<Family> family;
  std::unique_ptr<Device> device;
  std::unique_ptr<Stream> common_stream;  // of a serial world
  std::shared_ptr<Engine> engine;
  Issuer issuer;
  int next_name = 1;
};

}  // namespace lycia::nccl

#endif  // LYCIA_RUNTIME_COMM_NCCL_RANK_H_
