// The specification of embedding.h. N is float, double or std::complex<double>.
#ifndef LYCIA_KERNELS_EMBEDDING_EMBEDDING_REF_H_
#define LYCIA_KERNELS_EMBEDDING_EMBEDDING_REF_H_

#include <cstdint>

namespace lycia::reference {

// out[b][t][c] = wte[tokens[b][t]][c] + wpe[first_position + t][c].
template <typename N>
void EmbeddingForward(std::int64_t B, std::int64_t T, std::int64_t C, const std::int32_t* tokens, const N* wte, const N* wpe,
                      std::int64_t first_position, N* out) {
  for (std::int64_t b = 0; b < B; ++b) {
    for (std::int64_t t = 0; t < T; ++t) {
      for (std::int64_t c = 0; c < C; ++c) {
        out[(b * T + t) * C + c] = wte[tokens[b * T + t] * C + c] + wpe[(first_position + t) * C + c];
      }
    }
  }
}

// dwte[tokens[b][t]] += dout[b][t];  dwpe[first_position + t] += dout[b][t].
template <typename N>
void EmbeddingBackward(std::int64_t B, std::int64_t T, std::int64_t C, const std::int32_t* tokens, const N* dout,
                       std::int64_t first_position, N* dwte, N* dwpe) {
  for (std::int64_t b = 0; b < B; ++b) {
    for (std::int64_t t = 0; t < T; ++t) {
      for (std::int64_t c = 0; c < C; ++c) {
        dwte[tokens[b * T + t] * C + c] += dout[(b * T + t) * C + c];
        dwpe[(first_position + t) * C + c] += dout[(b * T + t) * C + c];
      }
    }
  }
}

}  // namespace lycia::reference

#endif  // LYCIA_KERNELS_EMBEDDING_EMBEDDING_REF_H_
