// What every device checks of a convolution's operands before it begins: shapes, numbers of elements, types (conv.h). CHECK-fails.
#ifndef LYCIA_KERNELS_CONV_CONV_CHECK_H_
#define LYCIA_KERNELS_CONV_CONV_CHECK_H_

#include "kernels/conv/conv.h"

namespace lycia {

// A packed weight stands in for the weight where its data is not null.
void CheckConvForward(const ConvForwardArgs& args);
void CheckConvBackwardInput(const ConvBackwardInputArgs& args);
void CheckConvBackwardWeight(const ConvBackwardWeightArgs& args);
void CheckPackConvWeight(const PackConvWeightArgs& args);
// Of what is to be packed.
void CheckConvToPack(DType dtype, const ConvShape& shape);

}  // namespace lycia

#endif  // LYCIA_KERNELS_CONV_CONV_CHECK_H_
