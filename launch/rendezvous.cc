#include "launch/rendezvous.h"

#include <charconv>
#include <cstdint>
#include <cstdlib>

namespace lycia {
namespace {

constexpr std::string_view kTcp = "tcp://", kFile = "file:";
// Ports for jobs of Slurm that have reserved none: below those that systems give to outgoing connections.
constexpr std::int64_t kFirstPort = 15'000, kPorts = 16'000;

bool StartsWith(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }

StatusOr<std::int64_t> ParseNumber(std::string_view name, std::string_view text, std::int64_t least, std::int64_t most) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) {
    return InvalidArgument(name, "=", text, " must be an integer from ", least, " to ", most);
  }
  return value;
}

StatusOr<Rendezvous> ParseTcp(std::string_view text) {
  const std::string_view place = text.substr(kTcp.size());
  const std::size_t colon = place.rfind(':');
  std::string_view host = place.substr(0, colon == std::string_view::npos ? 0 : colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    host = "";  // an address of IPv6 whose end looks like a port
  }
  if (host.empty() || host.find_first_of("/ []") != std::string_view::npos) {
    return InvalidArgument("rendezvous ", text, " must name a host and a port, like tcp://node1:29500 or tcp://[::1]:29500");
  }
  StatusOr<int> port = ParsePort("port", place.substr(colon + 1));
  if (!port.ok()) return Annotate(port.status(), StrCat("rendezvous ", text));
  return Rendezvous{.host = std::string(host), .port = *port};
}

}  // namespace

Environment ProcessEnvironment() {
  return [](const char* name) -> const char* { return std::getenv(name); };
}

std::string Rendezvous::ToString() const {
  if (!folder.empty()) return StrCat(kFile, folder);
  const bool bracketed = host.find(':') != std::string::npos;
  return StrCat(kTcp, bracketed ? "[" : "", host, bracketed ? "]" : "", ":", port);
}

StatusOr<int> ParsePort(std::string_view name, std::string_view text) {
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t port, ParseNumber(name, text, 1, 65535));
  return static_cast<int>(port);
}

StatusOr<Rendezvous> ParseRendezvous(std::string_view text) {
  if (StartsWith(text, kTcp)) return ParseTcp(text);
  if (!StartsWith(text, kFile)) {
    return InvalidArgument("rendezvous ", text, " must be tcp://HOST:PORT, where rank 0 runs, or file:FOLDER, which all ranks see");
  }
  const std::string_view folder = text.substr(kFile.size());
  if (folder.empty()) return InvalidArgument("rendezvous ", text, " names no folder; write for example file:/shared/lycia");
  return Rendezvous{.folder = std::string(folder)};
}

StatusOr<std::string> FirstHost(std::string_view list) {
  std::string host;
  for (std::size_t at = 0; at < list.size() && list[at] != ','; ++at) {
    if (list[at] != '[') {
      host += list[at];
      continue;
    }
    const std::size_t end = list.find(']', at), first = list.find_first_of("-,]", at);
    if (end == std::string_view::npos || first == at + 1) return InvalidArgument("'", list, "' is no list of hosts like node[1-4,7]");
    host += list.substr(at + 1, first - at - 1);
    at = end;
  }
  if (host.empty()) return InvalidArgument("'", list, "' is no list of hosts like node[1-4,7]");
  return host;
}

StatusOr<Rendezvous> SlurmRendezvous(const Environment& environment) {
  const auto text = [&](const char* name) {
    const char* value = environment(name);
    return std::string_view(value == nullptr ? "" : value);
  };
  Rendezvous rendezvous{.host = std::string(text("MASTER_ADDR"))};
  if (rendezvous.host.empty()) {
    StatusOr<std::string> host = FirstHost(text("SLURM_STEP_NODELIST"));
    if (!host.ok()) return Annotate(host.status(), "SLURM_STEP_NODELIST");
    rendezvous.host = *host;
  }
  if (!text("MASTER_PORT").empty()) {
    LYCIA_ASSIGN_OR_RETURN(rendezvous.port, ParsePort("MASTER_PORT", text("MASTER_PORT")));
    return rendezvous;
  }
  if (const std::string_view reserved = text("SLURM_STEP_RESV_PORTS"); !reserved.empty()) {
    LYCIA_ASSIGN_OR_RETURN(rendezvous.port, ParsePort("SLURM_STEP_RESV_PORTS", reserved.substr(0, reserved.find_first_of("-,"))));
    return rendezvous;
  }
  constexpr std::int64_t kMost = std::int64_t{1} << 32;
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t job, ParseNumber("SLURM_JOB_ID", text("SLURM_JOB_ID"), 0, kMost));
  LYCIA_ASSIGN_OR_RETURN(const std::int64_t step, ParseNumber("SLURM_STEP_ID", text("SLURM_STEP_ID"), 0, kMost));
  constexpr std::int64_t kStepsOfAJob = 7;  // that seldom run at once beside others
  rendezvous.port = static_cast<int>(kFirstPort + (kStepsOfAJob * job + step) % kPorts);
  return rendezvous;
}

}  // namespace lycia
