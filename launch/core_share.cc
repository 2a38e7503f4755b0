#include "launch/core_share.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace lycia {
namespace {

// Of a process; 0: this one. Empty where the system does not say.
std::vector<int> AllowedCores(pid_t process) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  std::vector<int> cores;
  if (::sched_getaffinity(process, sizeof allowed, &allowed) != 0) return {};
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &allowed)) cores.push_back(core);
  }
  return cores;
}

// FNV-1a: the same on every host.
std::int64_t HashOf(const std::string& text) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : text) hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x100000001B3u;
  return static_cast<std::int64_t>(hash);
}

}  // namespace

CpuOptions ShareOf(const ShareArgs& args) {
  const int cores = static_cast<int>(args.cores.size());
  std::vector<int> own;
  if (cores >= args.ranks) {
    const int each = cores / args.ranks, more = cores % args.ranks;
    const int first = args.index * each + std::min(args.index, more), count = each + (args.index < more ? 1 : 0);
    own.assign(args.cores.begin() + first, args.cores.begin() + first + count);
  }
  CpuOptions options;
  options.threads = args.threads > 0 ? args.threads : std::max<int>(1, static_cast<int>(own.size()));
  const int most = static_cast<int>(own.size());
  if (options.threads == most || (args.bound && options.threads < most)) {
    own.resize(static_cast<std::size_t>(options.threads));
    options.cores = std::move(own);
  }
  return options;
}

StatusOr<CpuOptions> ShareCores(Communicator& world, int threads) {
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  std::vector<int> cores = AllowedCores(0);
  const bool bound = cores != AllowedCores(::getppid());
  const std::int64_t mine = HashOf(absl::StrCat(host, ":", absl::StrJoin(cores, ",")));
  std::vector<std::int64_t> all(static_cast<std::size_t>(world.size()));
  LYCIA_RETURN_IF_ERROR(
      world
          .AllGather(
              {.in = ConstTensor(&mine, DType::kI64, {1}), .out = Tensor{all.data(), DType::kI64, {world.size()}}, .tag = Tag::kSetup}, {})
          .Wait());
  return ShareOf({.cores = std::move(cores),
                  .index = static_cast<int>(std::count(all.begin(), all.begin() + world.rank(), mine)),
                  .ranks = static_cast<int>(std::count(all.begin(), all.end(), mine)),
                  .threads = threads,
                  .bound = bound});
}

Status PinRankThread(const CpuOptions& share) { return share.cores.empty() ? OkStatus() : PinThisThread(share.cores[0]); }

}  // namespace lycia
