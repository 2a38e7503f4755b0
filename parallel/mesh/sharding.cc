#include "parallel/mesh/sharding.h"

namespace lycia {
namespace {

constexpr std::array<Axis, 3> kAxes = {Axis::kX, Axis::kY, Axis::kZ};

template <typename... Parts>
Status TypeError(const Parts&... parts) {
  return absl::InternalError(StrCat("sharding: ", parts...));
}

}  // namespace

std::string_view Name(Spread spread) {
  switch (spread) {
    case Spread::kReplicate:
      return "copy";
    case Spread::kRows:
      return "rows";
    case Spread::kColumns:
      return "columns";
    case Spread::kFlat:
      return "flat";
    case Spread::kPartial:
      return "partial";
  }
  return "?";
}

Sharding Sharding::With(Axis axis, Spread spread) const {
  Sharding result = *this;
  (axis == Axis::kX ? result.x : axis == Axis::kY ? result.y : result.z) = spread;
  return result;
}

Sharding Sharding::Transposed() const {
  Sharding result = *this;
  for (const Axis axis : kAxes) {
    if (along(axis) == Spread::kRows) result = result.With(axis, Spread::kColumns);
    if (along(axis) == Spread::kColumns) result = result.With(axis, Spread::kRows);
  }
  return result;
}

std::string Sharding::ToString() const { return StrCat("x ", Name(x), ", y ", Name(y), ", z ", Name(z)); }

StatusOr<Sharding> Gathered(const Sharding& of, Axis along) {
  const Spread spread = of.along(along);
  if (spread == Spread::kReplicate || spread == Spread::kPartial)
    return TypeError("gather along ", Name(along), " of (", of.ToString(), "), which is no shard there");
  return of.With(along, Spread::kReplicate);
}

StatusOr<Sharding> Reduced(const Sharding& of, Axis along, Spread into) {
  if (of.along(along) != Spread::kPartial)
    return TypeError("reduce-scatter along ", Name(along), " of (", of.ToString(), "), which is no summand there");
  return of.With(along, into);
}

StatusOr<Sharding> Selected(const Sharding& of, Axis along, Spread part) {
  if (of.along(along) != Spread::kReplicate)
    return TypeError("taking a part along ", Name(along), " of (", of.ToString(), "), which is no copy there");
  return of.With(along, part);
}

StatusOr<Sharding> Product(const Sharding& left, const Sharding& right) {
  Sharding result;
  for (const Axis axis : kAxes) {
    const Spread l = left.along(axis), r = right.along(axis);
    if (l == Spread::kColumns && r == Spread::kRows) {
      result = result.With(axis, Spread::kPartial);
    } else if (l == Spread::kRows && r == Spread::kReplicate) {
      result = result.With(axis, Spread::kRows);
    } else if (l == Spread::kReplicate && (r == Spread::kColumns || r == Spread::kReplicate)) {
      result = result.With(axis, r);
    } else {
      return TypeError("product of (", left.ToString(), ") and (", right.ToString(), "): ", Name(l), " times ", Name(r), " along ",
                       Name(axis), " is nothing");
    }
  }
  return result;
}

Status MayUpdate(const Sharding& gradient, const std::string& name) {
  for (const Axis axis : kAxes) {
    if (gradient.along(axis) == Spread::kPartial)
      return TypeError("the gradient of ", name, " is (", gradient.ToString(), "): its summands along ", Name(axis),
                       " must be added before the optimizer's step");
  }
  return OkStatus();
}

}  // namespace lycia
