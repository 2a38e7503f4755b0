// IDX files, the format in which MNIST is distributed: a magic number 0, 0, type, rank; the extents as big-endian 32-bit integers; the
// values, the last index fastest. Images are unsigned bytes of rank 3 [count, rows, columns], labels unsigned bytes of rank 1 [count].
#ifndef LYCIA_LAUNCH_DATA_IDX_FILE_H_
#define LYCIA_LAUNCH_DATA_IDX_FILE_H_

#include <cstdint>
#include <span>
#include <string>

#include "launch/data/image_set.h"
#include "runtime/core/status.h"

namespace lycia {

// `files`: images, then their labels, then the next images, ...; each plain or packed by gzip; joined in that order. `classes`: 0 for the
// largest label + 1. InvalidArgument: no or an odd number of files, one that cannot be read, another magic number, a length that does not
// fit the extents, numbers of images and labels that differ, pairs of different image sizes, a label >= classes.
StatusOr<ImageSet> ReadIdx(std::span<const std::string> files, std::int64_t classes = 0);

}  // namespace lycia

#endif  // LYCIA_LAUNCH_DATA_IDX_FILE_H_
