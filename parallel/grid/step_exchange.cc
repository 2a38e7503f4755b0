#include "parallel/grid/step_exchange.h"

#include <algorithm>

#include "kernels/elementwise/elementwise.h"

namespace lycia {
namespace {

Tensor Elements(const Tensor& of, std::int64_t begin, std::int64_t end) {
  char* data = static_cast<char*>(of.data);
  return {data == nullptr ? nullptr : data + begin * SizeOf(of.dtype), of.dtype, {end - begin}};
}

Tensor Flat(const Tensor& of) { return {of.data, of.dtype, {of.elements()}}; }

}  // namespace

StepExchange::StepExchange(const Grid& grid, DType dtype, const std::vector<GridParameter>& parameters) : grid_(&grid), dtype_(dtype) {
  for (const GridParameter& parameter : parameters) {
    if (parameter.exchange != Exchange::kEachStep && parameter.exchange != Exchange::kFused) continue;
    gathered_.push_back(parameters_.empty() || parameters_.back().name != parameter.name);
    if (parameter.exchange == Exchange::kFused) messages_[static_cast<std::size_t>(parameter.group)].members.push_back(parameters_.size());
    parameters_.push_back(parameter);
    offsets_.push_back(parameter.Offsets(grid));
  }
  for (int g = 0; g < kNumGridGroups; ++g) {
    Message& message = messages_[static_cast<std::size_t>(g)];
    message.offsets = {0};
    message.own = grid.position(static_cast<GridGroup>(g));
    for (std::size_t p = 0; p < static_cast<std::size_t>(grid.size(static_cast<GridGroup>(g))); ++p) {
      message.offsets.push_back(message.offsets.back());
      for (const std::size_t i : message.members) message.offsets.back() += offsets_[i][p + 1] - offsets_[i][p];
    }
    staging_elements_ = std::max(staging_elements_, message.offsets.back());
  }
}

void StepExchange::Bind(void* staging, const std::vector<Binding>& bindings) {
  LYCIA_CHECK_EQ(bindings.size(), parameters_.size());
  staging_ = staging;
  bindings_ = bindings;
}

Tensor StepExchange::Staging(DType dtype, std::int64_t begin, std::int64_t end) const {
  return Elements({staging_, dtype, {staging_elements_}}, begin, end);
}

template <typename F>
void StepExchange::ForEachPart(const Message& message, DType dtype, int position, const F& visit) const {
  const std::size_t p = static_cast<std::size_t>(position);
  std::int64_t at = message.offsets[p];
  for (const std::size_t i : message.members) {
    const std::int64_t begin = offsets_[i][p], end = offsets_[i][p + 1];
    visit(i, IndexRange{begin, end - begin}, Staging(dtype, at, at + end - begin));
    at += end - begin;
  }
}

void StepExchange::Gather(Stream& stream) const {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (!gathered_[i]) continue;
    if (parameters_[i].exchange == Exchange::kFused && grid_->size(parameters_[i].group) > 1) continue;
    GatherAlong(stream, grid_->along(parameters_[i].group), Flat(bindings_[i].owned), Flat(bindings_[i].copy), Tag::kWeight, offsets_[i]);
  }
  for (int g = 0; g < kNumGridGroups; ++g) {
    const GridGroup group = static_cast<GridGroup>(g);
    const Message& message = messages_[static_cast<std::size_t>(g)];
    if (message.members.empty() || grid_->size(group) == 1) continue;
    const int own = message.own;
    ForEachPart(message, dtype_, own, [&](std::size_t i, const IndexRange&, const Tensor& place) {
      stream.Copy(place.data, bindings_[i].owned.data, place.bytes());
    });
    const std::size_t p = static_cast<std::size_t>(own);
    GatherAlong(stream, grid_->along(group), Staging(dtype_, message.offsets[p], message.offsets[p + 1]),
                Staging(dtype_, 0, message.offsets.back()),
                Tag::kVector, message.offsets);
    for (int position = 0; position < grid_->size(group); ++position) {
      ForEachPart(message, dtype_, position, [&](std::size_t i, const IndexRange& part, const Tensor& place) {
        stream.Copy(Elements(bindings_[i].copy, part.first, part.first + part.count).data, place.data, place.bytes());
      });
    }
  }
}

void StepExchange::Reduce(Stream& stream) const {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (parameters_[i].exchange == Exchange::kFused && grid_->size(parameters_[i].group) > 1) continue;
    ReduceScatterAlong(stream, grid_->along(parameters_[i].group), Flat(bindings_[i].partial), Flat(bindings_[i].owned_gradient),
                       {.tag = Tag::kGradient, .accumulate = true, .offsets = offsets_[i]});
  }
  for (int g = 0; g < kNumGridGroups; ++g) {
    const GridGroup group = static_cast<GridGroup>(g);
    const Message& message = messages_[static_cast<std::size_t>(g)];
    if (message.members.empty() || grid_->size(group) == 1) continue;
    const DType dtype = bindings_[message.members[0]].partial.dtype;
    for (int position = 0; position < grid_->size(group); ++position) {
      ForEachPart(message, dtype, position, [&](std::size_t i, const IndexRange& part, const Tensor& place) {
        stream.Copy(place.data, Elements(bindings_[i].partial, part.first, part.first + part.count).data, place.bytes());
      });
    }
    const int own = message.own;
    const std::size_t p = static_cast<std::size_t>(own);
    ReduceScatterAlong(stream, grid_->along(group), Staging(dtype, 0, message.offsets.back()),
                       Staging(dtype, message.offsets[p], message.offsets[p + 1]),
                       {.tag = Tag::kVector, .offsets = message.offsets});
    ForEachPart(message, dtype, own, [&](std::size_t i, const IndexRange&, const Tensor& place) {
      AddInPlace(stream, {.x = Flat(bindings_[i].owned_gradient), .y = place});
    });
  }
  for (const Binding& binding : bindings_) stream.Zero(binding.partial.data, binding.partial.bytes());
}

}  // namespace lycia
