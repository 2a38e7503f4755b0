// Which part of each tensor of a language model one rank of a grid uses and owns (docs/numerics.md has the tensors).
#ifndef LYCIA_MODELS_LAYERS_GRID_GPT_PARAMETERS_H_
#define LYCIA_MODELS_LAYERS_GRID_GPT_PARAMETERS_H_

#include <string>

#include "models/grid_gpt.h"

namespace lycia {

// Matrices. [in, out], rows K, columns N, flat along z.
GridParameter QkvWeight(const GridGptShape& shape, const std::string& prefix);       // whole key/value heads: columns q, k, v of each part
GridParameter QueryWeight(const GridGptShape& shape, const std::string& prefix);     // shared key/value heads: columns q alone
GridParameter KeyValueWeight(const GridGptShape& shape, const std::string& prefix);  // shared: all columns k, v, flat along (z, y)
GridParameter AttentionProjection(const GridGptShape& shape, const std::string& prefix);
GridParameter MlpWeight(const GridGptShape& shape, const std::string& prefix);  // of a gated MLP: this y's columns of the gate, then of up
GridParameter MlpProjection(const GridGptShape& shape, const std::string& prefix);
// [V, C], vocabulary y, features x. `tensor`: wte.weight or lm_head.weight.
GridParameter VocabularyTable(const GridGptShape& shape, const std::string& tensor, int use);
// Where a tied head leaves its summand for the embedding on the same rank.
GridParameter TableHandOver(const GridGptShape& shape);

// Vectors: working copies, gathered and reduced once a step. A Llama has the norms' weights alone.
GridParameter FeatureVector(const GridGptShape& shape, const std::string& name, Initial initial = Initial::kZero);  // [C], features of x
GridParameter QkvBias(const GridGptShape& shape, const std::string& prefix);       // columns of this (y, x)
GridParameter QueryBias(const GridGptShape& shape, const std::string& prefix);     // shared key/value heads: q columns of this (y, x)
GridParameter KeyValueBias(const GridGptShape& shape, const std::string& prefix);  // shared: all columns k, v
GridParameter MlpBias(const GridGptShape& shape, const std::string& prefix);       // hidden units of y
GridParameter PositionTable(const GridGptShape& shape);                            // [context, C], features of x

// The first key/value head that part `part` of the (y, x) parts uses.
std::int64_t FirstKeyHead(const GridGptShape& shape, std::int64_t part);

}  // namespace lycia

#endif  // LYCIA_MODELS_LAYERS_GRID_GPT_PARAMETERS_H_
