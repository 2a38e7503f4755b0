#include "launch/checkpoint/manifest.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>

#include "absl/strings/string_view.h"
#include "launch/checkpoint/names.h"
#include "runtime/io/checksum.h"
#include "runtime/io/json.h"

namespace lycia {
namespace {

using Kind = JsonValue::Kind;
constexpr absl::string_view kFormat = "lycia-checkpoint";
constexpr std::string_view kSealHead = ",\n \"seal\": \"";
constexpr std::string_view kSealTail = "\"\n}\n";
// Ten values a piece: a model of 100 layers on some thousand ranks.
constexpr JsonLimits kLimits{.max_values = 64'000'000};
constexpr DType kDTypes[] = {DType::kU8, DType::kI32, DType::kI64, DType::kBF16, DType::kF16, DType::kF32, DType::kF64};

absl::string_view Absl(std::string_view text) { return {text.data(), text.size()}; }

template <typename T>
StatusOr<T> FindNamed(const std::vector<std::pair<std::string, T>>& list, std::string_view name, const char* kind) {
  for (const auto& [key, value] : list) {
    if (key == name) return value;
  }
  return absl::NotFoundError(absl::StrCat("the checkpoint holds no ", kind, " named ", Absl(name)));
}

// `body` is an object without its closing brace; the checksum of it closes the text.
std::string Seal(std::string body) {
  const std::string checksum = ChecksumOf(body.data(), static_cast<std::int64_t>(body.size()));
  return body.append(kSealHead).append(checksum).append(kSealTail);
}

Status CheckSeal(std::string_view text) {
  const std::size_t seal_bytes = kSealHead.size() + kChecksumDigits + kSealTail.size();
  if (text.size() < seal_bytes) return absl::DataLossError(absl::StrCat(text.size(), " bytes are too few; it is truncated"));
  const std::string_view body = text.substr(0, text.size() - seal_bytes), seal = text.substr(body.size());
  if (seal.substr(0, kSealHead.size()) != kSealHead || seal.substr(kSealHead.size() + kChecksumDigits) != kSealTail) {
    return absl::DataLossError("it does not end with its seal; it is truncated or changed");
  }
  if (seal.substr(kSealHead.size(), kChecksumDigits) != ChecksumOf(body.data(), static_cast<std::int64_t>(body.size()))) {
    return absl::DataLossError("its content does not match its checksum");
  }
  return OkStatus();
}

// A number that reads back as the same bits; JSON has no words for the rest, so they are text.
std::string RealText(double value) {
  if (std::isnan(value)) return "\"nan\"";
  if (std::isinf(value)) return value > 0 ? "\"inf\"" : "\"-inf\"";
  char digits[40];
  std::snprintf(digits, sizeof(digits), "%.17g", value);
  std::string text = digits;
  if (text.find_first_of(".e") == text.npos) text += ".0";  // "-0" would read back as the integer 0
  return text;
}

StatusOr<double> RealOf(const JsonValue& value) {
  if (value.kind == Kind::kReal) return value.real;
  if (value.kind == Kind::kString && value.text == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (value.kind == Kind::kString && value.text == "inf") return std::numeric_limits<double>::infinity();
  if (value.kind == Kind::kString && value.text == "-inf") return -std::numeric_limits<double>::infinity();
  return InvalidArgument("is no real number");
}

template <typename T, typename F>
void AppendNamed(const char* title, const std::vector<std::pair<std::string, T>>& list, F text_of, std::string* out) {
  absl::StrAppend(out, ",\n \"", title, "\": {");
  for (std::size_t i = 0; i < list.size(); ++i) {
    absl::StrAppend(out, i == 0 ? "\n  " : ",\n  ", JsonQuote(list[i].first), ": ", text_of(list[i].second));
  }
  out->append("}");
}

void AppendRanges(const char* title, const std::vector<IndexRange>& ranges, std::string* out) {
  absl::StrAppend(out, ", \"", title, "\": [");
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    absl::StrAppend(out, i == 0 ? "[" : ", [", ranges[i].first, ", ", ranges[i].count, "]");
  }
  out->append("]");
}

// The blocks that pieces of the shard are of, each once.
std::vector<const Block*> DistinctBlocks(const ShardFile& shard) {
  std::vector<const Block*> blocks;
  for (const PieceRecord& piece : shard.pieces) {
    if (!piece.block.rows.empty() && std::none_of(blocks.begin(), blocks.end(), [&](const Block* b) { return *b == piece.block; })) {
      blocks.push_back(&piece.block);
    }
  }
  return blocks;
}

void AppendShard(const ShardFile& shard, std::string* out) {
  absl::StrAppend(out, "{\"file\": ", JsonQuote(shard.file), ", \"bytes\": ", shard.bytes, ", \"checksum\": ", JsonQuote(shard.checksum));
  const std::vector<const Block*> blocks = DistinctBlocks(shard);
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    absl::StrAppend(out, i == 0 ? ", \"blocks\": [\n   " : ",\n   ", "{\"tensor_columns\": ", blocks[i]->tensor_columns);
    AppendRanges("rows", blocks[i]->rows, out);
    AppendRanges("columns", blocks[i]->columns, out);
    out->append(i + 1 == blocks.size() ? "}]" : "}");
  }
  out->append(", \"pieces\": [");
  for (std::size_t i = 0; i < shard.pieces.size(); ++i) {
    const PieceRecord& piece = shard.pieces[i];
    absl::StrAppend(out, i == 0 ? "\n   " : ",\n   ", "{\"name\": ", JsonQuote(piece.name), ", \"dtype\": \"", Absl(Name(piece.dtype)),
                    "\", \"shape\": ", piece.logical_shape.ToString(), ", \"range\": [", piece.begin, ", ", piece.end,
                    "], \"key\": ", JsonQuote(piece.key), ", \"checksum\": ", JsonQuote(piece.checksum));
    const auto block = std::find_if(blocks.begin(), blocks.end(), [&](const Block* b) { return *b == piece.block; });
    if (block != blocks.end()) absl::StrAppend(out, ", \"block\": ", block - blocks.begin());
    out->append("}");
  }
  out->append("]}");
}

StatusOr<TensorSpec> ParseSpec(const JsonValue& entry) {
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* dtype, entry.Get("dtype", Kind::kString));
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* shape, entry.Get("shape", Kind::kArray));
  const auto* found = std::find_if(std::begin(kDTypes), std::end(kDTypes), [&](DType d) { return Name(d) == dtype->text; });
  if (found == std::end(kDTypes)) return InvalidArgument("unknown dtype ", JsonQuote(dtype->text.substr(0, 40)));
  if (shape->items.size() > static_cast<std::size_t>(Shape::kMaxRank)) return InvalidArgument("rank ", shape->items.size());
  TensorSpec spec{*found, {}};
  std::int64_t bytes = SizeOf(spec.dtype);
  for (const JsonValue& dim : shape->items) {
    if (dim.kind != Kind::kInteger || dim.integer < 0 || __builtin_mul_overflow(bytes, dim.integer, &bytes)) {
      return InvalidArgument("its shape is no list of whole numbers >= 0, or overflows 64 bits");
    }
    spec.shape.push_back(dim.integer);
  }
  return spec;
}

StatusOr<std::vector<IndexRange>> ParseRanges(const JsonValue& block, const char* name) {
  std::vector<IndexRange> ranges;
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* list, block.Get(name, Kind::kArray));
  for (const JsonValue& range : list->items) {
    if (range.items.size() != 2 || range.items[0].kind != Kind::kInteger || range.items[1].kind != Kind::kInteger) {
      return InvalidArgument("a block's ", name, " are no pairs of whole numbers");
    }
    ranges.push_back({range.items[0].integer, range.items[1].integer});
  }
  if (ranges.empty()) return InvalidArgument("a block has no ", name);
  return ranges;
}

StatusOr<std::vector<Block>> ParseBlocks(const JsonValue& shard) {
  std::vector<Block> blocks;
  if (shard.Find("blocks") == nullptr) return blocks;
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* list, shard.Get("blocks", Kind::kArray));
  for (const JsonValue& entry : list->items) {
    LYCIA_ASSIGN_OR_RETURN(const JsonValue* tensor_columns, entry.Get("tensor_columns", Kind::kInteger));
    Block block{.tensor_columns = tensor_columns->integer};
    LYCIA_ASSIGN_OR_RETURN(block.rows, ParseRanges(entry, "rows"));
    LYCIA_ASSIGN_OR_RETURN(block.columns, ParseRanges(entry, "columns"));
    blocks.push_back(std::move(block));
  }
  return blocks;
}

StatusOr<PieceRecord> ParsePiece(const JsonValue& entry, const std::vector<Block>& blocks) {
  PieceRecord piece;
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* name, entry.Get("name", Kind::kString));
  StatusOr<TensorSpec> spec = ParseSpec(entry);
  if (!spec.ok()) return Annotate(spec.status(), absl::StrCat("tensor ", JsonQuote(name->text)));
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* range, entry.Get("range", Kind::kArray));
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* key, entry.Get("key", Kind::kString));
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* checksum, entry.Get("checksum", Kind::kString));
  if (range->items.size() != 2 || range->items[0].kind != Kind::kInteger || range->items[1].kind != Kind::kInteger) {
    return InvalidArgument("tensor ", JsonQuote(name->text), ": its range is not two whole numbers");
  }
  piece = {name->text, spec->dtype, spec->shape, range->items[0].integer, range->items[1].integer, key->text, checksum->text};
  if (const JsonValue* block = entry.Find("block"); block != nullptr) {
    if (block->kind != Kind::kInteger || block->integer < 0 || block->integer >= static_cast<std::int64_t>(blocks.size())) {
      return InvalidArgument("tensor ", JsonQuote(name->text), ": its block is none of the shard's ", blocks.size());
    }
    piece.block = blocks[static_cast<std::size_t>(block->integer)];
  }
  return piece;
}

StatusOr<ShardFile> ParseShard(const JsonValue& entry) {
  ShardFile shard;
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* file, entry.Get("file", Kind::kString));
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* bytes, entry.Get("bytes", Kind::kInteger));
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* checksum, entry.Get("checksum", Kind::kString));
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* pieces, entry.Get("pieces", Kind::kArray));
  shard = {file->text, bytes->integer, checksum->text, {}};
  LYCIA_ASSIGN_OR_RETURN(const std::vector<Block> blocks, ParseBlocks(entry));
  for (const JsonValue& piece : pieces->items) {
    LYCIA_ASSIGN_OR_RETURN(PieceRecord record, ParsePiece(piece, blocks));
    shard.pieces.push_back(std::move(record));
  }
  return shard;
}

Status ParseState(const JsonValue& root, CheckpointState* state) {
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* step, root.Get("step", Kind::kInteger));
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* integers, root.Get("integers", Kind::kObject));
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* reals, root.Get("reals", Kind::kObject));
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* texts, root.Get("texts", Kind::kObject));
  state->step = step->integer;
  for (std::size_t i = 0; i < integers->keys.size(); ++i) {
    LYCIA_ASSIGN_OR_RETURN(const JsonValue* value, integers->Get(integers->keys[i], Kind::kInteger));
    state->integers.emplace_back(integers->keys[i], value->integer);
  }
  for (std::size_t i = 0; i < reals->keys.size(); ++i) {
    const StatusOr<double> value = RealOf(reals->items[i]);
    if (!value.ok()) return Annotate(value.status(), reals->keys[i]);
    state->reals.emplace_back(reals->keys[i], *value);
  }
  for (std::size_t i = 0; i < texts->keys.size(); ++i) {
    LYCIA_ASSIGN_OR_RETURN(const JsonValue* value, texts->Get(texts->keys[i], Kind::kString));
    state->texts.emplace_back(texts->keys[i], value->text);
  }
  return OkStatus();
}

}  // namespace

StatusOr<std::int64_t> CheckpointState::Integer(std::string_view name) const { return FindNamed(integers, name, "integer"); }
StatusOr<double> CheckpointState::Real(std::string_view name) const { return FindNamed(reals, name, "real number"); }
StatusOr<std::string> CheckpointState::Text(std::string_view name) const { return FindNamed(texts, name, "text"); }

std::string ManifestText(const Manifest& manifest) {
  const bool has_blocks =
      std::any_of(manifest.shards.begin(), manifest.shards.end(), [](const ShardFile& s) { return !DistinctBlocks(s).empty(); });
  std::string text = absl::StrCat("{\n \"format\": \"", kFormat, "\",\n \"version\": ", has_blocks ? kManifestVersion : 1);
  absl::StrAppend(&text, ",\n \"step\": ", manifest.state.step);
  AppendNamed(
      "integers", manifest.state.integers, [](std::int64_t v) { return absl::StrCat(v); }, &text);
  AppendNamed("reals", manifest.state.reals, RealText, &text);
  AppendNamed(
      "texts", manifest.state.texts, [](const std::string& v) { return JsonQuote(v); }, &text);
  text += ",\n \"shards\": [";
  for (std::size_t i = 0; i < manifest.shards.size(); ++i) {
    text += i == 0 ? "\n  " : ",\n  ";
    AppendShard(manifest.shards[i], &text);
  }
  return Seal(text + "]");
}

StatusOr<Manifest> ParseManifest(std::string_view text) {
  LYCIA_RETURN_IF_ERROR(CheckSeal(text));
  LYCIA_ASSIGN_OR_RETURN(const JsonValue root, ParseJson(text, kLimits));
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* format, root.Get("format", Kind::kString));
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* version, root.Get("version", Kind::kInteger));
  if (Absl(format->text) != kFormat) return InvalidArgument("format ", JsonQuote(format->text.substr(0, 40)), " is not ", kFormat);
  if (version->integer < 1 || version->integer > kManifestVersion) {
    return InvalidArgument("version ", version->integer, " is none of 1 to ", kManifestVersion, "; use the program that wrote it");
  }
  Manifest manifest;
  LYCIA_RETURN_IF_ERROR(ParseState(root, &manifest.state));
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* shards, root.Get("shards", Kind::kArray));
  for (const JsonValue& entry : shards->items) {
    LYCIA_ASSIGN_OR_RETURN(ShardFile shard, ParseShard(entry));
    const std::string name = ShardFileName(static_cast<int>(manifest.shards.size()), static_cast<int>(shards->items.size()));
    if (shard.file != name) return InvalidArgument("shard file ", JsonQuote(shard.file.substr(0, 100)), " stands where ", name, " must");
    manifest.shards.push_back(std::move(shard));
  }
  return manifest;
}

std::string ShardTableText(const ShardFile& shard) {
  std::string text = "{\n \"shard\": ";
  AppendShard(shard, &text);
  return Seal(std::move(text));
}

StatusOr<ShardFile> ParseShardTable(std::string_view text) {
  LYCIA_RETURN_IF_ERROR(CheckSeal(text));
  LYCIA_ASSIGN_OR_RETURN(const JsonValue root, ParseJson(text, kLimits));
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* shard, root.Get("shard", Kind::kObject));
  return ParseShard(*shard);
}

}  // namespace lycia
