// Where the CPU's own kernels are not linked: they have tests of their own.
#include "tests/gpu/kernel_fixture.h"

namespace lycia {

std::vector<DeviceKind> TestedKinds() { return {DeviceKind::kCuda}; }

}  // namespace lycia
