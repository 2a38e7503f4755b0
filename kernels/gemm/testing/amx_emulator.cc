#include "kernels/gemm/testing/amx_emulator.h"

#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace lycia::testing {
namespace {

constexpr int kTiles = 8, kMostRows = 16, kMostRowBytes = 64;

struct State {
  bool configured = false;
  int rows[kTiles] = {}, row_bytes[kTiles] = {};
  std::uint8_t data[kTiles][kMostRows][kMostRowBytes] = {};
};
thread_local State state;

// A VEX instruction of the map 0F 38, taken apart.
struct Instruction {
  int opcode, prefix;  // prefix: 0 none, 1 66, 2 F3, 3 F2
  int reg, rm, vvvv;
  bool memory;
  char* address = nullptr;  // of the first row
  std::int64_t stride = 0;  // the index register, scaled
  int length;
};

std::int64_t Register(const ucontext_t* context, int number) {
  static constexpr int kOrder[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                     REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  return context->uc_mcontext.gregs[kOrder[number]];
}

bool Decode(const ucontext_t* context, Instruction& in) {
  const auto* code = reinterpret_cast<const std::uint8_t*>(context->uc_mcontext.gregs[REG_RIP]);
  if (code[0] != 0xC4 || (code[1] & 0x1F) != 2) return false;
  const int x = (code[1] & 0x40) == 0 ? 8 : 0, b = (code[1] & 0x20) == 0 ? 8 : 0;
  in.prefix = code[2] & 3;
  in.vvvv = ~(code[2] >> 3) & 15;
  in.opcode = code[3];
  const int mod = code[4] >> 6;
  in.reg = (code[4] >> 3) & 7;
  in.rm = code[4] & 7;
  in.memory = mod != 3;
  in.length = 5;
  if (!in.memory) return true;
  std::int64_t address = 0;
  bool wide = mod == 2, relative = false;
  if (in.rm == 4) {
    const int sib = code[in.length++], base = sib & 7, index = ((sib >> 3) & 7) | x;
    if (index != 4) in.stride = Register(context, index) * (std::int64_t{1} << (sib >> 6));
    if (base == 5 && mod == 0) {
      wide = true;
    } else {
      address = Register(context, base | b);
    }
  } else if (in.rm == 5 && mod == 0) {
    wide = relative = true;
  } else {
    address = Register(context, in.rm | b);
  }
  if (wide) {
    std::int32_t displacement = 0;
    std::memcpy(&displacement, code + in.length, 4);
    in.length += 4;
    address += displacement;
  } else if (mod == 1) {
    address += static_cast<std::int8_t>(code[in.length++]);
  }
  if (relative) address += reinterpret_cast<std::int64_t>(code) + in.length;
  in.address = reinterpret_cast<char*>(address);
  return true;
}

float Flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }
float Bf16At(const std::uint8_t* p) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, p, 2);
  return Flushed(std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16));
}

void Multiply(int sum, int a, int b) {
  for (int m = 0; m < state.rows[sum]; ++m) {
    for (int n = 0; n < state.row_bytes[sum] / 4; ++n) {
      float products = 0;
      for (int k = 0; k < state.row_bytes[a] / 4; ++k) {
        for (int half = 0; half < 2; ++half) {
          products = Flushed(std::fma(Bf16At(state.data[a][m] + 4 * k + 2 * half), Bf16At(state.data[b][k] + 4 * n + 2 * half), products));
        }
      }
      float before = 0;
      std::memcpy(&before, state.data[sum][m] + 4 * n, 4);
      const float after = Flushed(Flushed(before) + products);
      std::memcpy(state.data[sum][m] + 4 * n, &after, 4);
    }
  }
}

bool Configure(const char* memory) {
  if (memory[0] != 1) return false;  // palette
  state = {};
  for (int t = 0; t < kTiles; ++t) {
    std::uint16_t row_bytes = 0;
    std::memcpy(&row_bytes, memory + 16 + 2 * t, 2);
    state.row_bytes[t] = row_bytes;
    state.rows[t] = static_cast<std::uint8_t>(memory[48 + t]);
    if (state.rows[t] > kMostRows || state.row_bytes[t] > kMostRowBytes) return false;
  }
  state.configured = true;
  return true;
}

bool Execute(const Instruction& in) {
  if (in.opcode == 0x49 && in.prefix == 0) {
    if (in.memory) return Configure(in.address);
    state = {};
    return true;
  }
  if (!state.configured) return false;
  if (in.opcode == 0x49 && in.prefix == 3 && !in.memory) {
    std::memset(state.data[in.reg], 0, sizeof state.data[in.reg]);
    return true;
  }
  if (in.opcode == 0x4B && in.memory && (in.prefix == 3 || in.prefix == 2)) {
    for (int row = 0; row < state.rows[in.reg]; ++row) {
      char* memory = in.address + row * in.stride;
      const auto bytes = static_cast<std::size_t>(state.row_bytes[in.reg]);
      if (in.prefix == 3) std::memcpy(state.data[in.reg][row], memory, bytes);
      if (in.prefix == 2) std::memcpy(memory, state.data[in.reg][row], bytes);
    }
    return true;
  }
  if (in.opcode == 0x5C && in.prefix == 2 && !in.memory) {
    Multiply(in.reg, in.rm, in.vvvv);
    return true;
  }
  return false;
}

void Handle(int, siginfo_t*, void* context_pointer) {
  auto* context = static_cast<ucontext_t*>(context_pointer);
  Instruction in{};
  if (Decode(context, in) && Execute(in)) {
    context->uc_mcontext.gregs[REG_RIP] += in.length;
    return;
  }
  constexpr char kMessage[] = "amx_emulator: an instruction that it does not know, or a tile without configuration\n";
  (void)!write(2, kMessage, sizeof kMessage - 1);
  signal(SIGILL, SIG_DFL);
}

}  // namespace

void EmulateAmx() {
  struct sigaction action {};
  action.sa_sigaction = Handle;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGILL, &action, nullptr);
}

int ConfiguredTiles() { return state.configured ? 1 : 0; }

}  // namespace lycia::testing
