// Errors of the outside world travel as absl::Status and gain context on the way up; they are printed once, at the top.
// A broken promise of our own code is a LYCIA_CHECK (check.h). There are no exceptions.
#ifndef LYCIA_RUNTIME_CORE_STATUS_H_
#define LYCIA_RUNTIME_CORE_STATUS_H_

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace lycia {

using Status = ::absl::Status;
template <typename T>
using StatusOr = ::absl::StatusOr<T>;

inline Status OkStatus() { return ::absl::OkStatus(); }

namespace internal {
// The distribution's absl::string_view is a type of its own, so std::string_view needs a hand over.
inline absl::string_view ToAbsl(std::string_view part) { return absl::string_view(part.data(), part.size()); }
inline absl::string_view ToAbsl(const std::string& part) { return part; }
inline absl::string_view ToAbsl(const char* part) { return part; }
template <typename T>
const T& ToAbsl(const T& part) {
  return part;
}
}  // namespace internal

// absl::StrCat that also takes std::string_view.
template <typename... Parts>
std::string StrCat(const Parts&... parts) {
  return absl::StrCat(internal::ToAbsl(parts)...);
}

// "context: message" with the code kept; an OK status stays OK.
inline Status Annotate(const Status& status, std::string_view context) {
  if (status.ok()) return status;
  return Status(status.code(), StrCat(context, ": ", status.message()));
}

// A user's mistake: bad flag, key, file content or size. Ends the program with exit code 2 when it reaches main.
template <typename... Parts>
Status InvalidArgument(const Parts&... parts) {
  return ::absl::InvalidArgumentError(StrCat(parts...));
}

}  // namespace lycia

#define LYCIA_STATUS_CONCAT_INNER_(a, b) a##b
#define LYCIA_STATUS_CONCAT_(a, b) LYCIA_STATUS_CONCAT_INNER_(a, b)

#define LYCIA_RETURN_IF_ERROR(expression)                                                       \
  do {                                                                                          \
    if (::absl::Status lycia_status_ = (expression); !lycia_status_.ok()) return lycia_status_; \
  } while (false)

// LYCIA_ASSIGN_OR_RETURN(auto file, OpenFile(path));
#define LYCIA_ASSIGN_OR_RETURN(declaration, expression) \
  LYCIA_ASSIGN_OR_RETURN_IMPL_(LYCIA_STATUS_CONCAT_(lycia_status_or_, __LINE__), declaration, expression)
#define LYCIA_ASSIGN_OR_RETURN_IMPL_(temporary, declaration, expression) \
  auto temporary = (expression);                                         \
  if (!temporary.ok()) return std::move(temporary).status();             \
  declaration = std::move(temporary).value()

#endif  // LYCIA_RUNTIME_CORE_STATUS_H_
