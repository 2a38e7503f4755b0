// lycia doctor [--dir=FOLDER] [--format=text|json]: what this machine and this build offer, and what would make runs slow or fail.
#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "bazel/build_config.h"
#include "kernels/gemm/blas_core.h"
#include "kernels/gemm/gemm_kernels.h"
#include "launch/commands/commands.h"
#include "launch/gpu_report.h"
#include "launch/launcher.h"
#include "runtime/comm/nccl_world.h"
#include "runtime/comm/transports.h"
#include "runtime/device/device.h"
#include "runtime/io/json.h"

namespace lycia {
namespace {

// One line of the report; advice is empty where all is well.
struct Finding {
  std::string section, name, value, advice = {};
};
using Findings = std::vector<Finding>;

// The value of the first "key<blanks>: value" line of a file of /proc; "" without one.
std::string ProcValue(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos || line.compare(0, key.size(), key) != 0) continue;
    if (line.find_first_not_of(" \t", key.size()) != colon) continue;
    const std::size_t start = line.find_first_not_of(" \t", colon + 1);
    return start == std::string::npos ? "" : line.substr(start);
  }
  return "";
}

std::string GiB(double bytes) { return absl::StrFormat("%.1f GiB", bytes / (1 << 30)); }

void Machine(Findings& findings) {
  utsname system{};
  uname(&system);
  findings.push_back({"machine", "host", system.nodename});
  findings.push_back({"machine", "system", StrCat(system.sysname, " ", system.release, " ", system.machine)});
  findings.push_back({"machine", "cpu", ProcValue("/proc/cpuinfo", "model name")});

  const std::string flags = " " + ProcValue("/proc/cpuinfo", "flags") + " ";
  std::string found;
  for (const char* flag : {"avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16"}) {
    if (flags.find(StrCat(" ", flag, " ")) != std::string::npos) found += StrCat(found.empty() ? "" : " ", flag);
  }
  findings.push_back({"machine", "instructions", found.empty() ? "baseline" : found});

  cpu_set_t cores;
  CPU_ZERO(&cores);
  const int usable = sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 0;
  findings.push_back({"machine", "cores", StrCat(usable, " usable of ", sysconf(_SC_NPROCESSORS_ONLN), " online"),
                      usable == 1 ? "one core: ranks take turns, so pipelines show no speed-up here" : ""});
  const std::string total = ProcValue("/proc/meminfo", "MemTotal"), available = ProcValue("/proc/meminfo", "MemAvailable");
  findings.push_back({"machine", "memory", StrCat(total, ", available ", available)});
}

void Gemm(Findings& findings) {
  const cpu::GemmFeatures features = cpu::DetectGemmFeatures();
  findings.push_back({"gemm", "f32", cpu::SelectedKernel(DType::kF32).name});
  findings.push_back(
      {"gemm", "bf16", cpu::SelectedKernel(DType::kBF16).name,
       features.avx512 && !features.avx512_bf16 && !features.amx ? "no bf16 instructions: bf16 is no faster than f32 here" : ""});
  findings.push_back({"gemm", "amx", features.amx ? "permitted" : "not there, or not permitted by the system"});
  findings.push_back({"gemm", "f64", "the BLAS below"});
}

void Blas(Findings& findings) {
  const BlasDescription blas = DescribeBlas();
  findings.push_back({"blas", "library", blas.config});
  findings.push_back({"blas", "core", blas.core,
                      blas.advised.empty() || blas.core == blas.advised
                          ? ""
                          : StrCat("this machine should use ", blas.advised, "; unset OPENBLAS_CORETYPE, or set it to that")});
  findings.push_back(
      {"blas", "threads", StrCat(blas.threads), blas.threads == 1 ? "" : "ranks share the cores; set OPENBLAS_NUM_THREADS=1"});
}

// What `lycia train` without flags would take this process for.
std::string StartedAs() {
  const StatusOr<Launcher> launcher = LauncherOf(Arguments(), ProcessEnvironment(), FindMpi());
  if (!launcher.ok()) return std::string(launcher.status().message());
  if (launcher->kind == Launcher::Kind::kMpi) return "a rank of an MPI job";
  if (launcher->kind == Launcher::Kind::kAlone) return "alone: ranks are threads";
  return StrCat("rank ", launcher->rank, " of ", launcher->ranks, " processes that meet at ", launcher->rendezvous.ToString());
}

void Transports(Findings& findings) {
  findings.push_back({"transports", "threads", "always"});
  findings.push_back({"transports", "tcp", "always"});
  findings.push_back({"transports", "mpi", MpiDescription()});
  if constexpr (kNcclEnabled) {
    findings.push_back({"transports", "nccl", nccl::Version()});
  } else {
    findings.push_back({"transports", "nccl", "not in this build"});
  }
  findings.push_back({"transports", "shared memory", SharedMemoryDescription()});
  findings.push_back({"transports", "started by mpi", StartedByMpi() ? "yes" : "no"});
  findings.push_back({"transports", "started as", StartedAs()});
  std::string launcher;
  for (const char* name :
       {"SLURM_JOB_ID", "SLURM_PROCID", "SLURM_MPI_TYPE", "PMIX_RANK", "PMIX_VERSION", "PMI_RANK", "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LYCIA_RENDEZVOUS"}) {
    if (const char* value = std::getenv(name); value != nullptr) launcher += StrCat(launcher.empty() ? "" : " ", name, "=", value);
  }
  findings.push_back({"transports", "launcher variables", launcher.empty() ? "none" : launcher});
}

void Devices(Findings& findings) {
  findings.push_back({"devices", "cpu", "always"});
  const StatusOr<std::unique_ptr<Device>> gpu = NewCudaDevice(0);
  findings.push_back({"devices", "cuda", gpu.ok() ? (*gpu)->name() : std::string(gpu.status().message())});
  for (const GpuLine& line : GpuReport()) findings.push_back({"gpus", line.name, line.value, line.advice});
}

std::string Limit(int resource) {
  rlimit limit{};
  getrlimit(static_cast<__rlimit_resource>(resource), &limit);
  return limit.rlim_cur == RLIM_INFINITY ? "unlimited" : StrCat(limit.rlim_cur);
}

void Limits(Findings& findings) {
  struct statvfs shared {};
  const bool present = statvfs("/dev/shm", &shared) == 0;
  const double free = present ? static_cast<double>(shared.f_bavail) * static_cast<double>(shared.f_frsize) : 0;
  std::string advice;
  if (!present) advice = "missing: processes of one host cannot share a board; mount a tmpfs there";
  if (present && free < 64.0 * (1 << 20)) advice = "MPI and the board want 64 MiB or more; mount it larger (docker run --shm-size=1g)";
  findings.push_back({"limits", "/dev/shm", present ? GiB(free) + " free" : "missing", advice});
  findings.push_back({"limits", "open files", Limit(RLIMIT_NOFILE)});
  findings.push_back({"limits", "processes", Limit(RLIMIT_NPROC)});
  findings.push_back({"limits", "locked memory", Limit(RLIMIT_MEMLOCK)});
  findings.push_back({"limits", "core files", Limit(RLIMIT_CORE)});
}

// Milliseconds of writing 4 KiB and waiting until it is on disk: the median of five; negative, with errno, when it fails.
double SyncMilliseconds(const std::string& path) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file < 0) return -1;
  std::array<double, 5> times{};
  const std::string block(4096, 'x');
  bool written = true;
  for (double& time : times) {
    const auto start = std::chrono::steady_clock::now();
    written = written && write(file, block.data(), block.size()) == static_cast<ssize_t>(block.size()) && fsync(file) == 0;
    time = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  }
  const int reason = errno;
  close(file);
  unlink(path.c_str());
  errno = reason;
  std::sort(times.begin(), times.end());
  return written ? times[2] : -1;
}

void Folder(const std::string& dir, Findings& findings) {
  struct statvfs about {};
  if (statvfs(dir.c_str(), &about) == 0) {
    findings.push_back({"folder", "free", GiB(static_cast<double>(about.f_bavail) * static_cast<double>(about.f_frsize))});
  }
  const double ms = SyncMilliseconds(StrCat(dir, "/.lycia_doctor_", getpid()));
  if (ms < 0) {
    findings.push_back({"folder", "fsync", StrCat(dir, ": ", std::strerror(errno)),
                        "checkpoints cannot be written here; choose another folder with --dir and output.dir"});
    return;
  }
  findings.push_back({"folder", "fsync", absl::StrFormat("%.2f ms for 4 KiB in %s", ms, dir),
                      ms > 100 ? "slow to reach the disk: checkpoints will take their time; a local disk is better" : ""});
}

std::string Text(const Findings& findings) {
  std::string text, section;
  for (const Finding& finding : findings) {
    if (finding.section != section) text += StrCat(section.empty() ? "" : "\n", finding.section, "\n");
    section = finding.section;
    text += absl::StrFormat("  %-20s %s\n", finding.name, finding.value);
    if (!finding.advice.empty()) text += absl::StrFormat("  %-20s ! %s\n", "", finding.advice);
  }
  return text;
}

// {"machine": {"host": "...", ...}, ..., "advice": ["machine cores: ...", ...]}
std::string Json(const Findings& findings) {
  std::string text = "{", section, advice;
  for (const Finding& finding : findings) {
    if (finding.section != section) text += StrCat(section.empty() ? "" : "},", "\n", JsonQuote(finding.section), ": {");
    text += StrCat(finding.section == section ? ", " : "", JsonQuote(finding.name), ": ", JsonQuote(finding.value));
    section = finding.section;
    if (finding.advice.empty()) continue;
    advice += StrCat(advice.empty() ? "" : ", ", JsonQuote(StrCat(finding.section, " ", finding.name, ": ", finding.advice)));
  }
  return StrCat(text, "},\n\"advice\": [", advice, "]\n}\n");
}

Status Doctor(const Arguments& arguments) {
  const std::string format = arguments.Get("format", "text");
  if (format != "text" && format != "json") return InvalidArgument("--format=", format, " must be text or json");
  Findings findings;
  Machine(findings);
  Gemm(findings);
  Blas(findings);
  Transports(findings);
  Devices(findings);
  Limits(findings);
  Folder(arguments.Get("dir", "."), findings);
  std::fputs((format == "json" ? Json(findings) : Text(findings)).c_str(), stdout);
  return OkStatus();
}

}  // namespace

Command DoctorCommand() {
  return {.spec = {.name = "doctor",
                   .summary = "describes this machine and this build, and what to mend",
                   .flags = {{.name = "dir", .value = "FOLDER", .doc = "where runs will be written (default .)"},
                             {.name = "format", .value = "FORMAT", .doc = "text or json (default text)"}}},
          .run = Doctor};
}

}  // namespace lycia
