// The bootstrap over files of a shared folder. A file appears whole: it is written under another name and renamed.
//
// How an earlier job's files are told apart, even under the same job name: every rank draws a random number and writes it ("hello.r").
// Rank 0 writes the numbers it has seen beside its own ("round"), again whenever one changes. A rank takes a round only if it holds the
// number it drew itself, and answers with both ("ready.r"); rank 0 is content once every answer holds its own number. From there on file
// names begin with rank 0's number, and rank 0 deletes all others.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <sstream>
#include <utility>

#include "absl/strings/str_format.h"
#include "runtime/comm/bootstrap.h"

namespace lycia {
namespace {

using Clock = std::chrono::steady_clock;

std::string RandomNumber() {
  std::random_device device;
  return absl::StrFormat("%08x%08x%08x%08x", device(), device(), device(), device());
}

void Nap() {
  constexpr timespec kNap{0, 5'000'000};
  ::nanosleep(&kNap, nullptr);
}

class FileBootstrap final : public Bootstrap {
 public:
  FileBootstrap(std::string folder, const BootstrapOptions& options) : folder_(std::move(folder)), options_(options) {}

  int rank() const override { return options_.rank; }
  int size() const override { return options_.size; }

  Status Open() {
    if (::mkdir(folder_.c_str(), 0700) != 0 && errno != EEXIST) return Failure("cannot make", folder_);
    return rank() == 0 ? Lead() : Follow();
  }

  StatusOr<std::vector<std::string>> Exchange(std::string_view what, std::string_view mine) override {
    const Clock::time_point deadline = Clock::now() + options_.patience;
    ++exchange_;
    LYCIA_RETURN_IF_ERROR(Write(ValueName(exchange_, rank()), mine));
    std::vector<std::string> values(static_cast<std::size_t>(size()));
    std::vector<int> missing;
    for (int r = 0; r < size(); ++r) missing.push_back(r);
    while (true) {
      std::erase_if(missing, [&](int r) {
        std::optional<std::string> value = Read(ValueName(exchange_, r));
        if (value) values[static_cast<std::size_t>(r)] = *std::move(value);
        return value.has_value();
      });
      if (missing.empty()) break;
      if (Clock::now() > deadline) return Missing(what, missing);
      Nap();
    }
    // All have read what was told before this.
    if (exchange_ > 1) ::unlink(Path(ValueName(exchange_ - 1, rank())).c_str());
    return values;
  }

 private:
  Status Lead() {
    const Clock::time_point deadline = Clock::now() + options_.patience;
    session_ = RandomNumber();
    std::vector<std::string> numbers(static_cast<std::size_t>(size())), written;
    while (true) {
      std::vector<int> missing;
      std::string round = StrCat(session_, "\n", size(), "\n");
      for (int r = 1; r < size(); ++r) {
        std::string& number = numbers[static_cast<std::size_t>(r)];
        number = Read(StrCat("hello.", r)).value_or("-");
        round += number + "\n";
        if (Read(StrCat("ready.", r)).value_or("") != StrCat(session_, " ", number)) missing.push_back(r);
      }
      if (missing.empty()) break;
      if (written != numbers) LYCIA_RETURN_IF_ERROR(Write("round", round));
      written = numbers;
      if (Clock::now() > deadline) return Missing("meeting", missing);
      Nap();
    }
    return DeleteAllBut(session_);
  }

  Status Follow() {
    const Clock::time_point deadline = Clock::now() + options_.patience;
    const std::string mine = RandomNumber();
    LYCIA_RETURN_IF_ERROR(Write(StrCat("hello.", rank()), mine));
    while (true) {
      std::istringstream round(Read("round").value_or(""));
      const std::vector<std::string> lines{std::istream_iterator<std::string>(round), {}};
      const std::size_t at = static_cast<std::size_t>(rank()) + 1;  // after the session and the size
      if (at < lines.size() && lines[at] == mine) {
        if (lines[1] != StrCat(size())) {
          return InvalidArgument("rank ", rank(), " was told of ", size(), " ranks and rank 0 of ", lines[1],
                                 ": start all ranks with the same number");
        }
        session_ = lines[0];
        return Write(StrCat("ready.", rank()), StrCat(session_, " ", mine));
      }
      if (Clock::now() > deadline) {
        const int leader = 0;
        return Missing("meeting", {&leader, 1});
      }
      Nap();
    }
  }

  std::string ValueName(int exchange, int r) const { return StrCat(session_, ".", exchange, ".", r); }
  std::string Path(const std::string& name) const { return StrCat(folder_, "/", name); }

  Status Missing(std::string_view what, std::span<const int> ranks) const {
    return absl::DeadlineExceededError(StrCat("rank ", rank(), " of ", size(), " waited ", options_.patience.count(), " ms in ", folder_,
                                              " (", what, ") for ", RankList(ranks), "; did they start, and do they see the same folder?"));
  }

  Status Failure(std::string_view what, const std::string& path) const {
    return absl::UnavailableError(StrCat(what, " ", path, ": ", std::strerror(errno)));
  }

  std::optional<std::string> Read(const std::string& name) const {
    std::ifstream file(Path(name), std::ios::binary);
    if (!file) return std::nullopt;
    return std::string(std::istreambuf_iterator<char>(file), {});
  }

  Status Write(const std::string& name, std::string_view value) const {
    const std::string path = Path(name), draft = Path(StrCat(".", name, ".", rank(), ".", ::getpid()));
    const int file = ::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) return Failure("cannot write", draft);
    std::size_t written = 0;
    while (written < value.size()) {
      const ssize_t some = ::write(file, value.data() + written, value.size() - written);
      if (some < 0 && errno == EINTR) continue;
      if (some < 0) {
        const Status failed = Failure("cannot write", draft);
        ::close(file);
        ::unlink(draft.c_str());
        return failed;
      }
      written += static_cast<std::size_t>(some);
    }
    ::close(file);
    return ::rename(draft.c_str(), path.c_str()) == 0 ? OkStatus() : Failure("cannot rename", draft);
  }

  // The drafts of this session's files too, which are on their way to their names.
  Status DeleteAllBut(const std::string& session) const {
    DIR* folder = ::opendir(folder_.c_str());
    if (folder == nullptr) return Failure("cannot read", folder_);
    while (const dirent* entry = ::readdir(folder)) {
      const std::string name = entry->d_name;
      const std::string bare = name[0] == '.' ? name.substr(1) : name;
      const bool ours = bare.find('.') != std::string::npos && bare.size() > 1;  // never the folder itself
      if ((ours || name == "round") && bare.compare(0, session.size(), session) != 0) ::unlink(Path(name).c_str());
    }
    ::closedir(folder);
    return OkStatus();
  }

  const std::string folder_;
  const BootstrapOptions options_;
  std::string session_;  // rank 0's number
  int exchange_ = 0;
};

}  // namespace

StatusOr<std::unique_ptr<Bootstrap>> OpenFileBootstrap(const std::string& folder, const BootstrapOptions& options) {
  LYCIA_RETURN_IF_ERROR(CheckJobName(options.job));
  auto bootstrap = std::make_unique<FileBootstrap>(StrCat(folder, "/lycia-", options.job), options);
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::UnavailableError(StrCat("cannot make ", folder, ": ", std::strerror(errno)));
  }
  LYCIA_RETURN_IF_ERROR(bootstrap->Open());
  return std::unique_ptr<Bootstrap>(std::move(bootstrap));
}

}  // namespace lycia
