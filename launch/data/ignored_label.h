// What a label says that is not to be predicted.
#ifndef LYCIA_LAUNCH_DATA_IGNORED_LABEL_H_
#define LYCIA_LAUNCH_DATA_IGNORED_LABEL_H_

#include <cstdint>

namespace lycia {

// It adds neither loss nor gradient.
inline constexpr std::int32_t kIgnoredLabel = -1;

}  // namespace lycia

#endif  // LYCIA_LAUNCH_DATA_IGNORED_LABEL_H_
