// What `lycia doctor` says of the GPUs.
#ifndef LYCIA_LAUNCH_GPU_REPORT_H_
#define LYCIA_LAUNCH_GPU_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

namespace lycia {

struct GpuLine {
  std::string name, value, advice;  // advice is empty where all is well
};
// Bytes of one copy: long enough for it to reach its speed.
inline constexpr std::int64_t kReportCopyBytes = std::int64_t{256} << 20;
// The driver, every GPU, who reads whose memory, and copies in GB/s; one line where there are none.
std::vector<GpuLine> GpuReport(std::int64_t copy_bytes = kReportCopyBytes);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_GPU_REPORT_H_
