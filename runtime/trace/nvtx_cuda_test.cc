// The ranges reach a tool: one that is linked in, as NVTX lets a program do, and writes down what it is told.
#include "runtime/trace/nvtx_cuda.h"

#define NVTX_NO_IMPL  // types alone: nvtx_cuda.cc brings the rest
#include <nvtx3/nvToolsExt.h>

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace lycia {
namespace {

std::vector<std::string>& Told() {
  static auto* told = new std::vector<std::string>;
  return *told;
}

int NVTX_API OnPush(const char* text) {
  Told().push_back(text);
  return 0;
}
int NVTX_API OnPop() {
  Told().push_back("end");
  return 0;
}

int NVTX_API Attach(NvtxGetExportTableFunc_t get_export_table) {
  const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(get_export_table(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable table = nullptr;
  unsigned int size = 0;
  if (callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &table, &size) == 0) return 0;
  *table[NVTX_CBID_CORE_RangePushA] = reinterpret_cast<NvtxFunctionPointer>(OnPush);
  *table[NVTX_CBID_CORE_RangePop] = reinterpret_cast<NvtxFunctionPointer>(OnPop);
  return 1;
}

TEST(Nvtx, RangesNestAndCarryTheirText) {
  cuda::BeginNvtxRange("2F0");
  cuda::BeginNvtxRange("SEND 2F0");
  cuda::EndNvtxRange();
  cuda::EndNvtxRange();
  EXPECT_EQ(Told(), (std::vector<std::string>{"2F0", "SEND 2F0", "end", "end"}));
}

}  // namespace
}  // namespace lycia

// What NVTX looks for before it looks for a tool's library.
extern "C" {
NvtxInitializeInjectionNvtxFunc_t InitializeInjectionNvtx2_fnptr = lycia::Attach;
}
