// Runs a test once for each instruction set of this machine, so that paths for smaller ones are tested too.
#ifndef LYCIA_KERNELS_TESTING_EVERY_ISA_H_
#define LYCIA_KERNELS_TESTING_EVERY_ISA_H_

#include <initializer_list>

#include "gtest/gtest.h"
#include "kernels/cpu/isa.h"

namespace lycia::testing {

template <typename F>
void ForEveryIsa(const F& f) {
  for (const cpu::Isa isa : {cpu::Isa::kBaseline, cpu::Isa::kAvx2, cpu::Isa::kAvx512}) {
    if (isa > cpu::DetectIsa()) continue;
    SCOPED_TRACE(::testing::Message() << "instruction set " << static_cast<int>(isa));
    cpu::internal::SelectedIsa() = isa;
    f();
  }
  cpu::internal::SelectedIsa() = cpu::DetectIsa();
}

}  // namespace lycia::testing

#endif  // LYCIA_KERNELS_TESTING_EVERY_ISA_H_
