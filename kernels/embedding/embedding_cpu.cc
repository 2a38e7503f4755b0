#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_loop.h"
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
  DispatchStored(args.out.dtype, [&]<typename T>() {
    const T* wte = args.wte.as<T>();
    const T* wpe = args.wpe.data == nullptr ? nullptr : args.wpe.as<T>() + args.first_position * size.features;
    T* out = args.out.as<T>();
    const Work work{.count = size.samples * size.tokens, .bytes_each = 3 * size.features * static_cast<std::int64_t>(sizeof(T))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<Arithmetic<T>, decltype(isa)::value>;
        for (std::int64_t i = begin; i < end; ++i) {
          const T* row = wte + tokens[i] * size.features;
          const T* position = wpe == nullptr ? nullptr : wpe + i % size.tokens * size.features;
          T* sum = out + i * size.features;
          ForEachVector<V>(size.features, [&](auto lanes) LYCIA_INLINE {
            lanes.Put(sum, position == nullptr ? lanes.Get(row) : lanes.Get(row) + lanes.Get(position));
          });
        }
      });
    });
  });
}

// Threads take features, not tokens: each sums repeated tokens in their order.
void EmbeddingBackward(Stream& stream, const EmbeddingBackwardArgs& args) {
  const Sizes size = SizesOf(args.tokens, args.dout, args.dwte, args.dwpe, args.first_position);
  const std::int32_t* tokens = args.tokens.as<std::int32_t>();
  if (!TokensInRange(stream, tokens, size)) return;
  DispatchStored(args.dout.dtype, [&]<typename T>() {
    using A = Arithmetic<T>;
    const T* dout = args.dout.as<T>();
    A* dwte = args.dwte.data == nullptr ? nullptr : args.dwte.as<A>();
    A* dwpe = args.dwpe.data == nullptr ? nullptr : args.dwpe.as<A>() + args.first_position * size.features;
    const Work work{.count = size.features,
                    .unit = kElementUnit,
                    .bytes_each = size.samples * size.tokens * static_cast<std::int64_t>(sizeof(T) + 2 * sizeof(A))};
    ForEachPart(stream, work, [&](std::int64_t begin, std::int64_t end, int) {
      ForBestIsa([=](auto isa) LYCIA_INLINE {
        using V = Vector<A, decltype(isa)::value>;
        const auto add = [&](A* row, const T* gradient) LYCIA_INLINE {
          ForEachVector<V>(end - begin,
                           [&](auto lanes) LYCIA_INLINE { lanes.Put(row + begin, lanes.Get(row + begin) + lanes.Get(gradient + begin)); });
        };
        for (std::int64_t i = 0; i < size.samples * size.tokens; ++i) {
          const T* gradient = dout + i * size.features;
          if (dwte != nullptr) add(dwte + tokens[i] * size.features, gradient);
          if (dwpe != nullptr) add(dwpe + i % size.tokens * size.features, gradient);
        }
      });
    });
  });
}

}  // namespace lycia::cpu
