// The binary version of CIFAR-10 and CIFAR-100: records of labels and 32 x 32 pixels as planes of red, green, blue.
#ifndef LYCIA_LAUNCH_DATA_CIFAR_FILE_H_
#define LYCIA_LAUNCH_DATA_CIFAR_FILE_H_

#include <cstdint>
#include <span>
#include <string>

#include "launch/data/image_set.h"
#include "runtime/core/status.h"

namespace lycia {

enum class Cifar : std::uint8_t {
  k10,   // records of label, pixels: 3,073 bytes
  k100,  // records of coarse label, fine label, pixels: 3,074 bytes; the fine label is the class
};

// The files' images in order, channels last; each file plain or packed by gzip. InvalidArgument: no files, one that cannot be read, a
// length that is not a whole number of records, a label that the set does not have.
StatusOr<ImageSet> ReadCifar(Cifar kind, std::span<const std::string> files);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_DATA_CIFAR_FILE_H_
