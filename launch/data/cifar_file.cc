#include "launch/data/cifar_file.h"

#include "launch/data/gzip_file.h"
#include "launch/data/image_limits.h"

namespace lycia {
namespace {

constexpr std::size_t kSide = 32, kPlane = kSide * kSide, kChannels = 3;
constexpr unsigned kCoarseClasses = 20;

struct Format {
  std::string name;
  std::size_t labels;  // of a record; the last one is the class
  unsigned classes;
};

Format FormatOf(Cifar kind) { return kind == Cifar::k10 ? Format{"CIFAR-10", 1, 10} : Format{"CIFAR-100", 2, 100}; }

Status AppendFile(const Format& format, const std::string& path, ImageSet& set) {
  LYCIA_ASSIGN_OR_RETURN(const std::string bytes, ReadDataFile(path, kMaxImageFileBytes));
  const std::size_t record_bytes = format.labels + kPlane * kChannels, records = bytes.size() / record_bytes;
  if (records == 0 || bytes.size() % record_bytes != 0) {
    return InvalidArgument(format.name, " file ", path, " has ", bytes.size(), " bytes, which is not a positive multiple of its records' ",
                           record_bytes, "; fetch it again (the binary version), or correct data.format");
  }
  set.pixels.reserve(set.pixels.size() + records * kPlane * kChannels);
  for (std::size_t i = 0; i < records; ++i) {
    const auto* record = reinterpret_cast<const unsigned char*>(bytes.data()) + i * record_bytes;
    const unsigned label = record[format.labels - 1];
    if (label >= format.classes || (format.labels == 2 && record[0] >= kCoarseClasses)) {
      const bool coarse = label < format.classes;
      return InvalidArgument(format.name, " file ", path, ": ", coarse ? "coarse label " : "label ",
                             unsigned{coarse ? record[0] : record[format.labels - 1]}, " of image ", i, " is not below ",
                             coarse ? kCoarseClasses : format.classes, "; fetch it again, or correct data.format");
    }
    set.labels.push_back(static_cast<std::int32_t>(label));
    const unsigned char* planes = record + format.labels;
    for (std::size_t pixel = 0; pixel < kPlane; ++pixel) {
      for (std::size_t channel = 0; channel < kChannels; ++channel) set.pixels.push_back(planes[channel * kPlane + pixel]);
    }
  }
  return OkStatus();
}

}  // namespace

StatusOr<ImageSet> ReadCifar(Cifar kind, std::span<const std::string> files) {
  const Format format = FormatOf(kind);
  if (files.empty()) return InvalidArgument("data.files is empty; name the .bin files of ", format.name, " in order");
  ImageSet set{.height = kSide, .width = kSide, .channels = kChannels, .classes = format.classes};
  for (const std::string& path : files) LYCIA_RETURN_IF_ERROR(AppendFile(format, path, set));
  return set;
}

}  // namespace lycia
