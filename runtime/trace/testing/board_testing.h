// What the tests of boards share: patience, and processes of their own.
#ifndef LYCIA_RUNTIME_TRACE_TESTING_BOARD_TESTING_H_
#define LYCIA_RUNTIME_TRACE_TESTING_BOARD_TESTING_H_

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <memory>
#include <thread>

#include "gtest/gtest.h"
#include "runtime/trace/board.h"

namespace lycia::testing {

inline void Sleep(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

// True once `done` is, within ten seconds.
inline bool Eventually(const std::function<bool()>& done) {
  for (int i = 0; i < 1000; ++i) {
    if (done()) return true;
    Sleep(10);
  }
  return false;
}

inline std::unique_ptr<Board> OpenBoard(const BoardOptions& options) {
  StatusOr<std::unique_ptr<Board>> board = Board::Open(options);
  EXPECT_TRUE(board.ok()) << board.status();
  return board.ok() ? std::move(*board) : nullptr;
}

// Runs `body` in a process of its own and kills it at the end. Made before this process has threads.
class Child {
 public:
  explicit Child(const std::function<void()>& body) : pid_(fork()) {
    if (pid_ != 0) return;
    body();
    for (;;) pause();
  }
  ~Child() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

}  // namespace lycia::testing

#endif  // LYCIA_RUNTIME_TRACE_TESTING_BOARD_TESTING_H_
