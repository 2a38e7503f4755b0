#include "launch/data/idx_file.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "launch/data/gzip_file.h"
#include "launch/data/image_limits.h"

namespace lycia {
namespace {

constexpr std::uint32_t kImages = 0x00000803, kLabels = 0x00000801;  // type 8: unsigned byte

std::uint32_t BigEndian(const std::string& bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

struct Array {
  std::array<std::int64_t, 3> extents = {1, 1, 1};
  std::size_t first = 0;  // byte where the values begin
  std::string bytes;
};

StatusOr<Array> ReadArray(const std::string& path, std::uint32_t magic) {
  const std::string_view what = magic == kImages ? "image" : "label";
  LYCIA_ASSIGN_OR_RETURN(std::string bytes, ReadDataFile(path, kMaxImageFileBytes));
  const std::size_t rank = magic & 0xFF, header = 4 + 4 * rank;
  if (bytes.size() < 4) return InvalidArgument("IDX ", what, " file ", path, " has only ", bytes.size(), " bytes; correct data.files");
  if (const std::uint32_t found = BigEndian(bytes, 0); found != magic) {
    const std::string_view order =
        found == kImages || found == kLabels ? "; data.files names images first, then their labels" : "; correct data.files";
    return InvalidArgument("IDX ", what, " file ", path, " begins with ", absl::StrCat(absl::Hex(found, absl::kZeroPad8)), " instead of ",
                           absl::StrCat(absl::Hex(magic, absl::kZeroPad8)), order);
  }
  if (bytes.size() < header)
    return InvalidArgument("IDX ", what, " file ", path, " ends in its header, after ", bytes.size(), " bytes; fetch it again");
  Array array{.first = header, .bytes = std::move(bytes)};
  unsigned __int128 values = 1;
  for (std::size_t axis = 0; axis < rank; ++axis) {
    array.extents[axis] = BigEndian(array.bytes, 4 + 4 * axis);
    values *= static_cast<std::uint64_t>(array.extents[axis]);
  }
  const auto [count, rows, columns] = array.extents;
  if (count < 1 || rows < 1 || columns < 1 || rows > kMaxImageSide || columns > kMaxImageSide) {
    return InvalidArgument("IDX ", what, " file ", path, " says it holds ", count, " of ", rows, " x ", columns,
                           "; at least one, of sides 1 .. ", kMaxImageSide, ", is needed; fetch it again, or correct data.files");
  }
  if (values != array.bytes.size() - header) {  // at most 2^32 * 2^28: no overflow
    return InvalidArgument("IDX ", what, " file ", path, " holds ", array.bytes.size() - header, " values, but its header says ",
                           static_cast<std::uint64_t>(values), "; it is truncated or damaged: fetch it again");
  }
  return array;
}

Status AppendPair(const std::string& image_path, const std::string& label_path, ImageSet& set) {
  LYCIA_ASSIGN_OR_RETURN(const Array images, ReadArray(image_path, kImages));
  LYCIA_ASSIGN_OR_RETURN(const Array labels, ReadArray(label_path, kLabels));
  const auto [count, rows, columns] = images.extents;
  if (labels.extents[0] != count) {
    return InvalidArgument("IDX image file ", image_path, " holds ", count, " images, but ", label_path, " ", labels.extents[0],
                           " labels; data.files must name each image file with its own label file after it");
  }
  if (set.count() > 0 && (set.height != rows || set.width != columns)) {
    return InvalidArgument("IDX image file ", image_path, " holds images of ", rows, " x ", columns, ", the files before it of ",
                           set.height, " x ", set.width, "; all must be of one size");
  }
  set.height = rows, set.width = columns, set.channels = 1;
  const auto values = [](const Array& array) { return std::string_view(array.bytes).substr(array.first); };
  const std::string_view pixels = values(images), classes = values(labels);
  set.pixels.insert(set.pixels.end(), pixels.begin(), pixels.end());
  for (const char label : classes) set.labels.push_back(static_cast<unsigned char>(label));
  return OkStatus();
}

}  // namespace

StatusOr<ImageSet> ReadIdx(std::span<const std::string> files, std::int64_t classes) {
  if (files.empty() || files.size() % 2 != 0) {
    return InvalidArgument("data.files names ", files.size(), " files, but format idx needs pairs: an image file, then its label file");
  }
  ImageSet set;
  for (std::size_t i = 0; i < files.size(); i += 2) {
    const auto before = static_cast<std::size_t>(set.count());
    LYCIA_RETURN_IF_ERROR(AppendPair(files[i], files[i + 1], set));
    for (std::size_t at = before; classes > 0 && at < set.labels.size(); ++at) {
      if (set.labels[at] < classes) continue;
      return InvalidArgument("IDX label file ", files[i + 1], ": label ", set.labels[at], " of image ", at - before,
                             " is not below model.classes = ", classes,
                             "; correct model.classes, or set it to 0 for the largest label + 1");
    }
  }
  set.classes = classes > 0 ? classes : 1 + *std::max_element(set.labels.begin(), set.labels.end());
  return set;
}

}  // namespace lycia
