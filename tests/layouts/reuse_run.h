// A small GPT in which rows repeat, trained with computation reuse, and what every rank's control did.
#ifndef LYCIA_TESTS_LAYOUTS_REUSE_RUN_H_
#define LYCIA_TESTS_LAYOUTS_REUSE_RUN_H_

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "tests/layouts/layout_run.h"

namespace lycia::layouts {

// always: wherever rows repeat; else by rates that make up a machine.
ReuseTraining ReuseTrainingOf(ReusePolicy policy, bool always);

// Rotary positions and no dropout, so that equal tokens have equal rows. reuse: exact, always.
Layout ReuseGpt(const std::string& schedule, int stages, int data, bool reuse);

struct ReuseSeen {
  std::mutex mutex;
  std::map<int, std::vector<std::string>> states;  // by step: of all ranks
  int reused = 0;                                  // layers that computed one row a cluster, over steps and ranks
  double least_ratio = 1;
};

// A failure of the test where a rank has decided otherwise than another.
Record TrainAndLook(const Layout& layout, ReuseSeen* seen);

}  // namespace lycia::layouts

#endif  // LYCIA_TESTS_LAYOUTS_REUSE_RUN_H_
