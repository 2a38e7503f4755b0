#include "kernels/embedding/embedding.h"

namespace lycia::cpu {
namespace {

struct Sizes {
  std::int64_t samples, tokens, features, vocabulary;
};

// Fails the stream at the first token outside the vocabulary; true if there is none.
bool TokensInRange(Stream& stream, const std::int32_t* tokens, const Sizes& size) {
  for (std::int64_t i = 0; i < size.samples * size.tokens; ++i) {
    if (tokens[i] >= 0 && tokens[i] < size.vocabulary) continue;
    stream.Fail(InvalidArgument("token ", tokens[i], " at sample ", i / size.tokens, ", position ", i % size.tokens,
                                " of the micro-batch is outside the vocabulary of ", size.vocabulary,
                                "; tokenize the data with the model's tokenizer, or raise the model's vocabulary"));
    return false;
  }
  return true;
}

Sizes SizesOf(const ConstTensor& tokens, const ConstTensor& rows, const ConstTensor& wte, const ConstTensor& wpe,
              std::int64_t first_position) {
  LYCIA_CHECK(tokens.shape.rank() == 2 && rows.shape.rank() == 3) << "tokens " << tokens.shape.ToString() << " ";
  const Sizes size{tokens.shape[0], tokens.shape[1], rows.shape.dim(-1), wte.data == nullptr ? INT32_MAX : wte.shape[0]};
  LYCIA_CHECK_EQ(rows.elements(), size.samples * size.tokens * size.features);
  if (wte.data != nullptr) LYCIA_CHECK_EQ(wte.shape[1], size.features);
  if (wpe.data != nullptr) {
    LYCIA_CHECK_EQ(wpe.shape[1], size.features);
    LYCIA_CHECK_GE(wpe.shape[0], first_position + size.tokens);
  }
  return size;
}

}  // namespace

void EmbeddingForward(Stream& stream, const EmbeddingForwardArgs& args) {
  const Sizes size = SizesOf(args.tokens, args.out, args.wte, args.wpe, args.first_position);
  const std::int32_t* tokens = args.tokens.as<std::int32_t>();
  if (!TokensInRange(stream, tokens, size)) return;
  DispatchFloat(args.out.dtype, [&]<typename T>() {
    const T* wte = args.wte.as<T>();
    const T* wpe = args.wpe.data == nullptr ? nullptr : args.wpe.as<T>() + args.first_position * size.features;
    for (std::int64_t i = 0; i < size.samples * size.tokens; ++i) {
      const T* row = wte + tokens[i] * size.features;
      const T* position = wpe == nullptr ? nullptr : wpe + i % size.tokens * size.features;
      T* out = args.out.as<T>() + i * size.features;
      for (std::int64_t c = 0; c < size.features; ++c) out[c] = position == nullptr ? row[c] : row[c] + position[c];
    }
  });
}

void EmbeddingBackward(Stream& stream, const EmbeddingBackwardArgs& args) {
  const Sizes size = SizesOf(args.tokens, args.dout, args.dwte, args.dwpe, args.first_position);
  const std::int32_t* tokens = args.tokens.as<std::int32_t>();
  if (!TokensInRange(stream, tokens, size)) return;
  DispatchFloat(args.dout.dtype, [&]<typename T>() {
    const auto add = [&](T* row, const T* dout) {
      for (std::int64_t c = 0; c < size.features; ++c) row[c] += dout[c];
    };
    for (std::int64_t i = 0; i < size.samples * size.tokens; ++i) {
      const T* dout = args.dout.as<T>() + i * size.features;
      if (args.dwte.data != nullptr) add(args.dwte.as<T>() + tokens[i] * size.features, dout);
      if (args.dwpe.data != nullptr) add(args.dwpe.as<T>() + (args.first_position + i % size.tokens) * size.features, dout);
    }
  });
}

}  // namespace lycia::cpu
