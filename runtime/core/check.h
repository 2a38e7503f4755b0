// LYCIA_CHECK: our own promise is broken; print where and why, then abort. Never for files, flags, sizes or peers (status.h).
#ifndef LYCIA_RUNTIME_CORE_CHECK_H_
#define LYCIA_RUNTIME_CORE_CHECK_H_

#include <cstdio>
#include <cstdlib>
#include <sstream>

namespace lycia::internal {

// Collects the streamed message and aborts when destroyed.
class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* condition) {
    text_ << file << ":" << line << ": CHECK failed: " << condition << " ";
  }
  [[noreturn]] ~CheckFailure() {
    text_ << "\n";
    std::fputs(text_.str().c_str(), stderr);
    std::abort();
  }
  std::ostream& stream() { return text_; }

 private:
  std::ostringstream text_;
};

}  // namespace lycia::internal

#define LYCIA_CHECK(condition) \
  while (!(condition)) ::lycia::internal::CheckFailure(__FILE__, __LINE__, #condition).stream()
#define LYCIA_CHECK_OP_(a, op, b) LYCIA_CHECK((a)op(b)) << "(" << (a) << " against " << (b) << ") "
#define LYCIA_CHECK_EQ(a, b) LYCIA_CHECK_OP_(a, ==, b)
#define LYCIA_CHECK_NE(a, b) LYCIA_CHECK_OP_(a, !=, b)
#define LYCIA_CHECK_LT(a, b) LYCIA_CHECK_OP_(a, <, b)
#define LYCIA_CHECK_LE(a, b) LYCIA_CHECK_OP_(a, <=, b)
#define LYCIA_CHECK_GE(a, b) LYCIA_CHECK_OP_(a, >=, b)
#define LYCIA_CHECK_GT(a, b) LYCIA_CHECK_OP_(a, >, b)
#define LYCIA_CHECK_OK(expression)                                                               \
  do {                                                                                           \
    if (::absl::Status lycia_check_ = (expression); !lycia_check_.ok())                          \
      ::lycia::internal::CheckFailure(__FILE__, __LINE__, #expression).stream() << lycia_check_; \
  } while (false)

#endif  // LYCIA_RUNTIME_CORE_CHECK_H_
