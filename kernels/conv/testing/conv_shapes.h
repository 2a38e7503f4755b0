// Shapes over which convolutions are tested on every device.
#ifndef LYCIA_KERNELS_CONV_TESTING_CONV_SHAPES_H_
#define LYCIA_KERNELS_CONV_TESTING_CONV_SHAPES_H_

#include <vector>

#include "kernels/conv/conv_shape.h"

namespace lycia::testing {

// stride x padding x dilation x groups x channels 1, 3, 16, 65 and whole vectors, on images of odd sizes.
std::vector<ConvShape> ConvShapes();

}  // namespace lycia::testing

#endif  // LYCIA_KERNELS_CONV_TESTING_CONV_SHAPES_H_
