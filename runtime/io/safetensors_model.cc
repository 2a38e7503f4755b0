#include <sys/stat.h>

#include <algorithm>
#include <memory>

#include "runtime/io/directory.h"
#include "runtime/io/json.h"
#include "runtime/io/safetensors.h"

namespace lycia {
namespace {

constexpr std::int64_t kMaxIndexBytes = 100'000'000;
constexpr const char* kSingleName = "model.safetensors";
constexpr const char* kIndexName = "model.safetensors.index.json";

bool Exists(const std::string& path, bool directory) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0 && (S_ISDIR(info.st_mode) != 0) == directory;
}

}  // namespace

StatusOr<SafetensorsModel> SafetensorsModel::Open(const std::string& path) {
  SafetensorsModel model;
  model.path_ = path;
  std::string file = path;
  if (Exists(path, /*directory=*/true)) {
    file = JoinPath(path, kSingleName);
    if (!Exists(file, false)) file = JoinPath(path, kIndexName);
    if (!Exists(file, false)) return absl::NotFoundError(absl::StrCat(path, " holds neither ", kSingleName, " nor ", kIndexName));
  }
  if (file.size() > 5 && file.compare(file.size() - 5, 5, ".json") == 0) {
    const Status added = model.AddIndex(file);
    if (!added.ok()) return Annotate(added, absl::StrCat("safetensors index ", file));
  } else {
    LYCIA_ASSIGN_OR_RETURN(SafetensorsFile opened, SafetensorsFile::Open(file));
    model.files_.push_back(std::make_unique<SafetensorsFile>(std::move(opened)));
    const SafetensorsFile& single = *model.files_.back();
    for (const TensorView& tensor : single.tensors()) model.Add(tensor.name, single, tensor);
  }
  std::sort(model.names_.begin(), model.names_.end());
  return model;
}

Status SafetensorsModel::AddIndex(const std::string& path) {
  LYCIA_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxIndexBytes));
  LYCIA_ASSIGN_OR_RETURN(const JsonValue root, ParseJson(text));
  LYCIA_ASSIGN_OR_RETURN(const JsonValue* map, root.Get("weight_map", JsonValue::Kind::kObject));
  absl::flat_hash_map<std::string, const SafetensorsFile*> opened;
  for (std::size_t i = 0; i < map->keys.size(); ++i) {
    const std::string &name = map->keys[i], &file_name = map->items[i].text;
    if (map->items[i].kind != JsonValue::Kind::kString || !IsBasename(file_name)) {
      return InvalidArgument("tensor ", JsonQuote(name.substr(0, 200)), ": its file must be the name of a file beside the index");
    }
    const SafetensorsFile*& file = opened[file_name];
    if (file == nullptr) {
      SafetensorsFile::Options options;
      options.symlinks = Symlinks::kRefuse;
      LYCIA_ASSIGN_OR_RETURN(SafetensorsFile part, SafetensorsFile::Open(JoinPath(ParentDirectory(path), file_name), options));
      files_.push_back(std::make_unique<SafetensorsFile>(std::move(part)));
      file = files_.back().get();
    }
    const TensorView* tensor = file->Find(name);
    if (tensor == nullptr) return InvalidArgument("tensor ", JsonQuote(name.substr(0, 200)), " is not in ", file->path());
    Add(name, *file, *tensor);
  }
  return OkStatus();
}

void SafetensorsModel::Add(const std::string& name, const SafetensorsFile& file, const TensorView& tensor) {
  LYCIA_CHECK(entries_.emplace(name, Entry{&file, &tensor}).second) << name;  // both sources of names are unique
  names_.push_back(name);
}

StatusOr<SafetensorsModel::Entry> SafetensorsModel::Find(std::string_view name) const {
  const auto found = entries_.find(absl::string_view(name.data(), name.size()));
  if (found != entries_.end()) return found->second;
  return absl::NotFoundError(absl::StrCat("tensor ", absl::string_view(name.data(), name.size()), " is not in ", path_));
}

}  // namespace lycia
