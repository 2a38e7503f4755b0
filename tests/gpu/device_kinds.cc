#include "tests/gpu/kernel_fixture.h"

namespace lycia {

std::vector<DeviceKind> TestedKinds() { return {DeviceKind::kCpu, DeviceKind::kCuda}; }

}  // namespace lycia
